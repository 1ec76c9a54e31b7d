/* Who holds which model version, who is alive, and who is busy, as one loop knows it.
 *
 *   pick ──known and alive──▶ a worker │ unknown ──SMEMBERS──▶ on_ready │ nobody ──PLACE to the scheduler──▶
 * tnr:placed, or a look every 100 ms ──▶ on_ready
 *
 * A worker without a heartbeat for HOLDERS_LOST_MS beyond its life is lost. Loop thread only. */
#ifndef GATEWAY_PREDICT_HOLDERS_H
#define GATEWAY_PREDICT_HOLDERS_H

#include <stdint.h>
#include <stdbool.h>
#include "base/ids.h"
#include "base/loop.h"
#include "queue/inbox.h"
#include "queue/placement.h"
#include "queue/redis_async.h"

enum {
    HOLDERS_POLL_MS = 500,
    HOLDERS_LOST_MS = 1200,
    HOLDERS_RECHECK_MS = 100,
    HOLDERS_FRESH_MS = 2000,
    HOLDERS_PLACE_EVERY_MS = 1000
};

struct worker {
    char inc[ID_MAX];
    char inbox[INBOX_KEY_MAX];
    int outstanding; /* requests of this loop that it has; the road counts */
    bool lost;
    int64_t missing_since_ms; /* no heartbeat since; 0: it has one */
    int64_t expire_sent_ms;   /* when its inbox was last given a life time */
    int64_t seen_ms;
    struct worker *next;
};

struct holders_config {
    const char *inc; /* the gateway's; borrowed */
    int loop_index;
    void (*on_ready)(void *arg, const char *version_id); /* a holder may be there now: pick again */
    void (*on_lost)(void *arg, struct worker *w);        /* its requests go elsewhere */
    void (*on_amnesia)(void *arg); /* Redis lost its memory: what is in inboxes is gone */
    void *arg;
};

struct holders;
struct holders *holders_create(struct loop *loop, struct redis_async *redis,
                               const struct holders_config *config);
void holders_free(struct holders *h); /* after redis is freed */

/* The less loaded of two living holders, or NULL: then whatever can be done about it is under way, if the
 * version is wanted. */
struct worker *holders_pick(struct holders *h, const char *version_id);
/* One request more (or less) waits for a holder of the version. */
void holders_want(struct holders *h, const char *tenant_id, const char *version_id, uint64_t bytes);
void holders_unwant(struct holders *h, const char *version_id);
void holders_forget(struct holders *h, const char *version_id,
                    const char *inc); /* it said that it does not hold it */
bool holders_known(struct holders *h,
                   const char *version_id); /* some living worker holds it; asks when it does not know */

/* Asks now who is alive, instead of at the next poll: Redis has just become reachable. */
void holders_poll(struct holders *h);

void holders_placed(struct holders *h, const struct placement_change *change);

#endif
