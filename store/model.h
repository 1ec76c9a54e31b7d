/* Models (a name, its newest version number and its settings), immutable versions, movable aliases. A model
 * appears with its first version. */
#ifndef STORE_MODEL_H
#define STORE_MODEL_H

#include <stdbool.h>
#include <stdint.h>
#include "base/crypto.h"
#include "base/ids.h"
#include "base/json.h"
#include "store/alias_watch.h"
#include "store/blob.h"
#include "store/db.h"

struct alias {
    char name[STORE_NAME_MAX];
    char model[STORE_NAME_MAX];
    int64_t version;
    int64_t previous;        /* the version that it pointed at before; 0: none to go back to */
    int64_t canary;          /* the version that gets a share of its calls; 0: none */
    int64_t canary_ppm;      /* that share, in millionths: 1 to 999,999 */
    int64_t shadow;          /* the version that is called beside it, unseen; 0: none */
    int64_t shadow_ppm;      /* for that share of its calls, in millionths: 1 to 1,000,000 */
    double shadow_tolerance; /* numbers of two answers that differ by more are different */
    struct alias_limits limits;
    struct alias_ended ended; /* the last rollback */
    int64_t etag;             /* grows with each change */
    int64_t updated_at_us;
};

enum { MODEL_BATCH_ROWS_MAX = 4096, MODEL_QUEUE_DELAY_MAX_US = 100000, MODEL_POLICY_VERSIONS_MAX = 100 };

/* How a worker puts a model's calls together. */
struct model_batching {
    int64_t max_batch_rows; /* a batch has at most so many rows; 0: as many as the worker computes at once */
    int64_t max_queue_delay_us; /* a call waits at most so long for company; -1: not set, which is as 0, not
                                   at all */
};

/* Which versions answer calls. Whatever an alias points at (its version, its canary, its shadow, the one
 * before) always does. */
struct version_policy {
    enum version_policy_kind { VERSIONS_ALL, VERSIONS_LATEST, VERSIONS_SPECIFIC } kind;
    int64_t num_versions;                        /* LATEST: the newest so many */
    int64_t versions[MODEL_POLICY_VERSIONS_MAX]; /* SPECIFIC: these, ascending */
    int n_versions;
};

struct model_settings {
    struct model_batching batching;
    struct version_policy policy;
};

struct model {
    char id[ID_MAX]; /* "mdl_…" */
    char name[STORE_NAME_MAX];
    int64_t latest_version;
    int64_t created_at_us;
    int64_t etag; /* of the settings; grows with each change */
    struct model_settings settings;
    struct alias *aliases; /* in the arena, by name */
    int n_aliases;
};

int model_find(struct db *db, const char *name, struct arena *a, struct model *out,
               struct err *e); /* ERR_NOT_FOUND */

/* Replaces the settings. expected_etag: -1 for any, else the etag that the model must have now
 * (ERR_CONFLICT). Settings that are there already change nothing, whatever the etag: no new one, no audit
 * row. ERR_NOT_FOUND: field "model". ERR_INVALID: a value out of its bounds, or a version that does not
 * exist; field is its path.
 */
int model_set(struct db *db, const char *name, const struct model_settings *to, int64_t expected_etag,
              const struct actor *by, struct arena *a, struct model *out, struct err *e);
/* The members "batching" and "version_policy", as the API and the audit trail show them, into an open object.
 */
void model_settings_write(struct json_writer *w, const struct model_settings *s);
/* As model_find, and keeps others from changing the model until the transaction ends: for changes that depend
 * on what is there. */
int model_lock(struct db *db, const char *name, struct arena *a, struct model *out, struct err *e);

struct model_list {
    struct model *items; /* in the arena */
    int n;
    bool has_more;
};
int model_list(struct db *db, const struct page *p, struct arena *a, struct model_list *out,
               struct err *e); /* ids: mdl_… */

#endif
