/* Batches of a training run, made while the network computes, or by the threads that compute it.
 *
 *     loader_begin(order) → loader_next → (step) → loader_next → (step) → …      once per epoch
 *
 * A batch is rows of a dataset in some order, gathered, preprocessed and augmented by the caller's `fill`
 * into buffers of the loader. How, depends on the threads that the job was granted and the run uses:
 *   - all of them: loader_next has the run's threads fill the rows that each will compute next. Nobody waits
 *     for anybody, and the rows are in that core's cache;
 *   - not all (the network needs the whole batch at once, or is too small): one of the others fills the next
 *     batch while the run computes this one, in a second set of buffers.
 * Never are more threads busy than were granted, and fill sees the same calls but for where they are cut, so
 * that the batches are the same bits if fill computes each row by its own numbers. */
#ifndef LEARN_LOADER_H
#define LEARN_LOADER_H

#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "tensor/run.h"

enum { LOADER_MAX_STREAMS = 4 };

struct loader;

/* Some rows of one batch, for fill. */
struct loader_part {
    const uint32_t *rows; /* n of them, as they stand in the order; borrowed */
    size_t n;
    int64_t epoch;
    size_t at; /* of rows[0] in the order */
    void
        *data[LOADER_MAX_STREAMS]; /* where the part's rows go, n × row_bytes[i]; 64-byte aligned per batch */
};

/* 0 or an error of the caller's choosing. Called on several threads at once, for different parts. */
typedef int (*loader_fill)(void *ctx, const struct loader_part *part, struct err *e);

struct loader_config {
    loader_fill fill;
    void *ctx;                            /* borrowed, for fill */
    int n_streams;                        /* inputs of the network: features, targets, … */
    size_t row_bytes[LOADER_MAX_STREAMS]; /* of each stream */
    size_t batch;                         /* most rows of a batch; ≥ 1 */
    struct run *run;                      /* borrowed: whose threads fill */
    int threads;                          /* granted to the job; 0 and 1: the caller's alone */
};

/* What the loader will allocate for c; SIZE_MAX when that is too much for any machine. */
size_t loader_bytes(const struct loader_config *c);

/* ERR_NOMEM; ERR_UNAVAILABLE when the thread cannot be started. */
int loader_create(struct loader **out, const struct loader_config *c, struct err *e);
void loader_free(struct loader *l); /* joins its thread; NULL is fine */

/* Starts a pass over order[0..n), borrowed until the pass ends, from its row `from` on (a multiple of batch).
 * May be called before the last pass is through. */
void loader_begin(struct loader *l, const uint32_t *order, size_t n, size_t from, int64_t epoch);

/* A batch, valid until the next call on l. rows 0: the pass is through. */
struct loader_batch {
    const uint32_t *rows; /* into the order */
    size_t n;
    void *data[LOADER_MAX_STREAMS];
};
int loader_next(struct loader *l, struct loader_batch *out, struct err *e);

#endif
