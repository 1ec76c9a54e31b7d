/* Which workers hold which model version, loaded and warm: the sets tnr:place:<version>, and the channel
 * tnr:placed that tells of each change. Why the last attempt to load one failed: tnr:loadfail:<version>. */
#ifndef QUEUE_PLACEMENT_H
#define QUEUE_PLACEMENT_H

#include <stddef.h>
#include <stdbool.h>
#include "base/err.h"
#include "base/ids.h"
#include "queue/redis.h"

/* A set that nobody announces to for PLACEMENT_LIFE_MS is forgotten: a worker that still holds the version is
 * asked for it by the scheduler then, and says so again. */
enum {
    PLACEMENT_KEY_MAX = 64,
    PLACEMENT_HOLDERS_MAX = 64,
    PLACEMENT_LIFE_MS = 24 * 3600 * 1000,
    PLACEMENT_FAIL_MS = 5000
};
#define PLACEMENT_CHANNEL "tnr:placed"

void placement_key(char out[PLACEMENT_KEY_MAX], const char *version_id);

/* Blocking; set and message in one transaction. Announcing twice is harmless. */
int placement_announce(struct redis *r, const char *version_id, const char *inc, struct err *e);
int placement_withdraw(struct redis *r, const char *version_id, const char *inc, struct err *e);
/* Announces n versions in one round trip. */
int placement_announce_all(struct redis *r, const char (*version_ids)[ID_MAX], size_t n, const char *inc,
                           struct err *e);

/* A worker could not load the version, and will not try again for as long as this is remembered. Blocking. */
int placement_fail(struct redis *r, const char *version_id, const struct err *why, struct err *e);
/* The newest such failure, in *why; its code is 0 when there was none. Blocking. */
int placement_failure(struct redis *r, const char *version_id, struct err *why, struct err *e);

/* Whether another worker, or another try, would change nothing: the version itself is at fault. */
bool placement_failure_is_final(int code);
/* Why, in words for the version's tenant; borrowed from why, or lasting. */
const char *placement_failure_told(const struct err *why);

/* Holders as the set has them, the dead included; at most PLACEMENT_HOLDERS_MAX. */
int placement_holders(struct redis *r, const char *version_id, char (*incs)[ID_MAX], size_t *n,
                      struct err *e);

/* A message of the channel: "<version_id> <inc> up|down". */
struct placement_change {
    char version_id[ID_MAX], inc[ID_MAX];
    bool up;
};
int placement_parse(struct placement_change *out, const char *text, size_t len, struct err *e);

#endif
