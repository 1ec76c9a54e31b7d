/* Counted before delivered: replies wait until Redis has what they cost, many behind one command.
 *
 *   biller_put ──▶ waiting ──HSET of the totals is on its way──▶ sent ──acknowledged──▶ deliver
 *                     └── Redis is away: delivered at once, the totals follow when it is back ──▶
 *
 * So an answer that was given is lost to the bill only when Redis is away and the worker dies before it is
 * back. Everything runs on the loop's thread. */
#ifndef WORKER_BILLER_H
#define WORKER_BILLER_H

#include <stdbool.h>
#include "base/loop.h"
#include "queue/redis.h"
#include "worker/reply.h"

struct biller;

/* deliver takes the reply over. inc and shard name the totals (queue/usage.h). */
struct biller *biller_create(struct loop *loop, const struct redis_address *redis, const char *inc, int shard,
                             void (*deliver)(void *arg, struct reply *r), void *arg);
void biller_free(struct biller *b); /* delivers what waits */

void biller_put(struct biller *b, struct reply *first); /* takes the list over */
void biller_republish(struct biller *b);                /* all totals go out again */

/* Calls done once, when nothing is on its way any more: now or later. */
void biller_finish(struct biller *b, void (*done)(void *arg), void *arg);

#endif
