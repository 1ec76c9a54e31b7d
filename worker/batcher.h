/* Predict requests waiting in a worker: a queue per model version, taken as batches of rows.
 *
 *   inbox thread ── put ──▶ version A: ▢▢▢   version B: ▢   ── take ──▶ predict threads
 *                                 └── versions take turns, one batch at a time ──┘
 *
 * A free thread takes what is there at once: nothing waits for company, batches grow only while all threads
 * are busy. Any thread. */
#ifndef WORKER_BATCHER_H
#define WORKER_BATCHER_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/err.h"
#include "queue/message.h"

/* One request: a single allocation with its record's copy behind it. */
struct work {
    struct work *next;
    struct message message; /* points into this allocation */
    size_t bytes;           /* of the allocation */
    int64_t arrived_us;     /* monotonic */
};

/* m's record is copied, m may go. NULL when memory is out. */
struct work *work_create(const struct message *m);
void work_free(struct work *w); /* NULL is fine */
void work_free_list(struct work *first);

struct batcher;

/* Refuses beyond so many requests or bytes waiting, and half of either for one version. */
struct batcher *batcher_create(size_t waiting_max, size_t bytes_max);
void batcher_free(struct batcher *b); /* frees what waits; no thread may be inside */

/* Takes w over on success. ERR_OVERLOAD: full, w stays the caller's. A taker that blocks is not woken: what
 * arrives together is put first and announced by one batcher_wake, so that it is computed together. */
int batcher_put(struct batcher *b, struct work *w, struct err *e);
void batcher_wake(struct batcher *b);

/* Blocks until some version has work; *batch is the caller's: requests of one version in order of arrival,
 * together at most rows_max rows, or a single larger one. *expired (may come along with an empty batch) gets
 * those whose deadline has passed. false: closed, nothing was taken. */
bool batcher_take(struct batcher *b, int64_t rows_max, struct work **batch, struct work **expired);

void batcher_close(struct batcher *b); /* wakes every taker with false */
size_t batcher_waiting(struct batcher *b);

#endif
