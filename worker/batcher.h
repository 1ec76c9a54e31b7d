/* Predict requests waiting in a serving thread: a queue per model version, taken as batches of rows.
 *
 *   put ──▶ version A: ▢▢▢   version B: ▢      ready ── in turns (worker/turns.h), a batch at a time ──▶ take
 *           version C: ▢ (held until its due time, or until a batch of rows is there) ──┘
 *
 * While others wait for their turn, a batch is no longer than BATCHER_TURN_US of computing, by what the last
 * ones of its version took; but a whole request.
 *
 * By default nothing waits for company: a batch is what is there when it is taken. A request that allows it
 * (max_queue_delay_us, a setting of its model) holds its version back, never longer than it says and never
 * longer than half of what is left until its deadline. Times are clock_mono_us's; the caller says what time
 * it is. One thread. */
#ifndef WORKER_BATCHER_H
#define WORKER_BATCHER_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/err.h"
#include "worker/work.h"

enum { BATCHER_TURN_US = 4000 };

struct batcher;

/* Refuses beyond so many requests or bytes waiting, and half of either for one version. rows_max: of a batch,
 * whatever its requests allow. */
struct batcher *batcher_create(size_t waiting_max, size_t bytes_max, int64_t rows_max);
void batcher_free(struct batcher *b); /* frees what waits */

/* Takes w over on success. ERR_OVERLOAD: full, w stays the caller's. */
int batcher_put(struct batcher *b, struct work *w, struct err *e);

/* *batch is the caller's: requests of one version in order of arrival, together at most rows_max rows and at
 * most the max_batch_rows of each of them, or a single larger one. *expired (may come along with an empty
 * batch) gets those whose deadline has passed or, by what the last batches took, would pass on the way, and
 * those that have waited for most of their time and would hold up what waits behind them.
 * false: nothing is ready at now_us, and batcher_due_us tells when. */
bool batcher_take(struct batcher *b, int64_t now_us, struct work **batch, struct work **expired);

/* What a batch of that version took to compute. Forgotten when nothing of it waits. */
void batcher_took(struct batcher *b, const char *version_id, int64_t rows, int64_t us);

/* When to take: 0 for now, INT64_MAX when nothing waits. */
int64_t batcher_due_us(const struct batcher *b);

/* The request of `from` with that id, or the first one of `from` whatever its id: the caller's; NULL when
 * none waits. */
struct work *batcher_withdraw(struct batcher *b, const void *from, uint64_t request_id);
struct work *batcher_withdraw_any(struct batcher *b, const void *from);

size_t batcher_waiting(const struct batcher *b);

#endif
