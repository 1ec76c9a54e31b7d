/* Who holds which model version, who is alive, and who is busy, as one loop knows it; and its links to them.
 *
 *   pick ──known, linked──▶ a port │ unknown ──SMEMBERS──▶ on_ready │ nobody ──PLACE to the scheduler──▶
 * tnr:placed, or a look every 100 ms ──▶ on_ready
 *
 * A worker's heartbeat says at which ports its serving threads listen; each port is dialled once and again
 * when the link breaks. A worker without a heartbeat for HOLDERS_LOST_MS beyond its life is lost. Loop thread
 * only. */
#ifndef GATEWAY_PREDICT_HOLDERS_H
#define GATEWAY_PREDICT_HOLDERS_H

#include <stdint.h>
#include <stdbool.h>
#include "base/ids.h"
#include "base/loop.h"
#include "queue/link.h"
#include "queue/placement.h"
#include "queue/redis_async.h"

enum {
    HOLDERS_POLL_MS = 500,
    HOLDERS_LOST_MS = 1200,
    HOLDERS_RECHECK_MS = 100,
    HOLDERS_FRESH_MS = 2000,
    HOLDERS_PLACE_EVERY_MS = 1000
};

/* A serving thread of a worker. */
struct port {
    struct worker *worker;
    char address[LINK_ADDRESS_MAX];
    struct link *link; /* NULL: not dialled now */
    int outstanding;   /* requests of this loop that it has; the road counts */
};

struct worker {
    char inc[ID_MAX];
    struct holders *owner;
    struct port *ports; /* owned; none before its first heartbeat was read, and the same ones from then on */
    size_t ports_len;
    bool lost;
    int64_t missing_since_ms; /* no heartbeat since; 0: it has one */
    int64_t seen_ms;
    struct worker *next;
};

struct holders_config {
    uint8_t key[LINK_KEY_LEN];
    void (*on_ready)(void *arg, const char *version_id); /* a holder may be there now: pick again */
    void (*on_lost)(void *arg, struct port *port);       /* its requests go elsewhere */
    void (*on_record)(void *arg, struct port *port, const char *data, size_t len);
    void *arg;
};

struct holders;
struct holders *holders_create(struct loop *loop, struct redis_async *redis,
                               const struct holders_config *config);
void holders_free(struct holders *h); /* after redis is freed */

/* The less loaded port of two living holders, or NULL: then whatever can be done about it is under way, if
 * the version is wanted. */
struct port *holders_pick(struct holders *h, const char *version_id);
/* One request more (or less) waits for a holder of the version. */
void holders_want(struct holders *h, const char *tenant_id, const char *version_id, uint64_t bytes);
void holders_unwant(struct holders *h, const char *version_id);
void holders_forget(struct holders *h, const char *version_id,
                    const char *inc);         /* it said that it does not hold it */
bool holders_linked(const struct holders *h); /* to some worker's serving thread */
bool holders_known(struct holders *h,
                   const char *version_id); /* some living worker holds it; asks when it does not know */

/* Asks now who is alive, instead of at the next poll: Redis has just become reachable. */
void holders_poll(struct holders *h);

void holders_placed(struct holders *h, const struct placement_change *change);

#endif
