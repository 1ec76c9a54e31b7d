/* Aliases that go back by themselves: the limits that a tenant sets, what became of the last rollout, and the
 * watching scheduler's view across tenants. store/alias.h sets the limits.
 *
 *   alias_watched (what is on trial now) ──the scheduler counts and judges──▶ alias_end (once, under the
 * etag: the trial ends, with its reason in the row and in the audit trail)
 */
#ifndef STORE_ALIAS_WATCH_H
#define STORE_ALIAS_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include "base/ids.h"
#include "store/db.h"

/* When a version on trial is taken back. Zeroed: never (window_s 0). */
struct alias_limits {
    int64_t window_s;         /* the span of time that is looked at; 0: nothing is watched */
    int64_t min_requests;     /* fewer in the window say nothing */
    int64_t error_ppm;        /* more failed calls, in millionths; -1: no limit */
    int64_t latency_us;       /* p99 above it; -1: no limit */
    int64_t disagreement_ppm; /* more answers of a shadow that differ, in millionths; -1: no limit */
};

enum { ALIAS_REASON_MAX = 24, ALIAS_MESSAGE_MAX = 256 };

/* How the last trial ended against its maker's will, or was ended by alias_roll_back. */
struct alias_ended {
    int64_t at_us;                 /* 0: never */
    char reason[ALIAS_REASON_MAX]; /* "error_rate", "latency", "disagreement", "requested" */
    char arm[ALIAS_REASON_MAX];    /* "canary", "shadow", "primary": which version it was */
    int64_t version;               /* that was taken back */
    char message[ALIAS_MESSAGE_MAX];
};

enum { ALIAS_NAME_MAX = STORE_NAME_MAX };

/* An alias with limits and something on trial: a canary, a shadow, or a version that it was moved to within
 * its window. */
struct alias_watched {
    char tenant_id[ID_MAX], model_id[ID_MAX];
    char model[ALIAS_NAME_MAX], name[ALIAS_NAME_MAX];
    int64_t version, canary, shadow; /* canary, shadow: 0 for none */
    int64_t previous;                /* of an alias moved within its window; else 0 */
    int64_t etag;
    int64_t age_ms; /* since its last change, by Postgres's clock */
    struct alias_limits limits;
};

/* System. Everything that is on trial now, in the arena. */
int alias_watched(struct db *db, struct arena *a, struct alias_watched **out, int *n, struct err *e);

/* What is to end, and why. */
struct alias_end {
    const struct alias_watched *alias;
    const char *arm, *reason, *message; /* as struct alias_ended */
    const char *numbers;                /* a JSON object's text for the audit trail */
};
/* System. Ends the arm's trial: "canary" and "shadow" are taken off, "primary" goes back to the version
 * before. The row and the audit trail ("alias.rolled_back") say why. *done is false, and nothing changes,
 * when the alias has another etag by now: somebody was faster. */
int alias_end(struct db *db, const struct alias_end *what, const struct actor *by, bool *done, struct err *e);

#endif
