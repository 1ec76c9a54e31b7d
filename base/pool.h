/* Threads for work that blocks: libpq, files, hashing of big things.
 *
 *   loop ── pool_submit ──▶ bounded queue ──▶ a pool thread runs work(arg, thread state) ──▶ loop_post(done,
 * arg)
 *
 * The queue is bounded: a full pool refuses at once, and the caller answers 503. */
#ifndef BASE_POOL_H
#define BASE_POOL_H

#include <stddef.h>
#include "base/err.h"
#include "base/loop.h"

struct pool;

/* Per-thread state (a database connection, say): made on the thread before its first work, freed at its end.
 */
typedef void *(*pool_thread_init)(void *ctx);
typedef void (*pool_thread_free)(void *state);
typedef void (*pool_work)(void *arg, void *thread_state);

int pool_create(struct pool **out, const char *name, int threads, size_t queue_max, pool_thread_init init,
                pool_thread_free fini, void *ctx, struct err *e);
/* ERR_OVERLOAD when the queue is full or the pool is stopping. done may be NULL; with done, loop must be
 * given. */
int pool_submit(struct pool *p, pool_work work, void *arg, struct loop *loop, loop_fn done);
size_t pool_waiting(struct pool *p);
void pool_free(struct pool *p); /* runs what is queued, then joins */

#endif
