/* A thread that does one thing again and again while this process leads, with connections of its own.
 *
 *   chore_start ─▶ (wait interval ─▶ leads? work(…) : nothing) … ─▶ chore_free joins
 */
#ifndef SCHEDULER_CHORE_H
#define SCHEDULER_CHORE_H

#include <stdatomic.h>
#include <stdint.h>
#include "base/err.h"
#include "base/halt.h"
#include "queue/redis.h"
#include "store/db.h"

struct chore;

struct chore_config {
    const char *name; /* borrowed, for logs */
    const char *postgres_url;
    const struct redis_address *redis; /* NULL: none is needed */
    int64_t every_ms;
    struct halt *halt;          /* borrowed; ends the thread */
    const atomic_bool *leading; /* borrowed; false: the turn is skipped */
    /* On the chore's thread. redis is NULL when the config's is. An error is logged once until it goes well
     * again. */
    int (*work)(void *arg, struct db *db, struct redis *redis, struct err *e);
    void *arg;
};

int chore_start(struct chore **out, const struct chore_config *config, struct err *e);
void chore_free(struct chore *c); /* after halt_request; NULL is fine */

#endif
