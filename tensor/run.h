/* Carries a plan out; no allocation after run_create.
 *
 *   training:   run_create(plan, params) → run_step, run_step, …      params is updated in place
 *   inference:  plan_load once → run_create(plan, NULL) per thread → run_forward, run_output, …
 *
 * A training run has plan_threads threads, the caller's and others of its own, which live as long as it. A
 * step's rows are cut into as many shards, in order; each thread takes one through the whole network, with an
 * arena and gradients of its own. Then the gradients are added up in the shards' order, and each thread moves
 * its part of the weights. All calls for a run come from one thread at a time.
 *
 * Training is bit-identical for the same seed, batches, CPU and number of threads, interrupted or not; across
 * numbers of threads it agrees but for rounding, dropout included. In inference a row's answer does not
 * depend on how many or which other rows it is computed with. */
#ifndef TENSOR_RUN_H
#define TENSOR_RUN_H

#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "tensor/params.h"
#include "tensor/plan.h"
#include "tensor/tensor.h"

struct run;

/* plan and params are borrowed and outlive the run. params: for PLAN_TRAIN, of the same graph; NULL for
 * PLAN_INFER. */
int run_create(struct run **out, const struct plan *plan, struct params *params, struct err *e);
void run_free(struct run *r);

/* feeds[i]: the data of plan_input(i), rows × its row, borrowed until the call returns. 1 ≤ rows ≤ max_batch.
 */
struct step {
    const void *const *feeds;
    int64_t rows;
    uint64_t seed;  /* with index, keys dropout */
    uint64_t index; /* counts steps from 0 over the whole training, across resumptions */
    double rate;    /* learning rate of this step */
};

/* One step: forward, backward, update. *loss is the mean over the rows, before the update, without the L2
 * penalty; it may be NaN or infinite, which is the caller's to judge. ERR_INVALID for labels out of range. */
int run_step(struct run *r, const struct step *s, float *loss, struct err *e);

/* Forward and backward without the update: *loss and run_grads. */
int run_gradients(struct run *r, const struct step *s, float *loss, struct err *e);

/* The update alone, with the gradients as they are in run_grads: run_step is run_gradients and this. */
void run_update(struct run *r, const struct step *s);

/* plan_threads of its plan. */
int run_threads(const struct run *r);

/* Work on rows that is not the network's, such as reading them, shared among the run's threads: part is
 * called once per shard of a step of that many rows, on the thread that will compute them. The first error in
 * the shards' order comes back. */
typedef int (*run_part)(void *ctx, int64_t first, int64_t rows, struct err *e);
int run_share(struct run *r, int64_t rows, run_part part, void *ctx, struct err *e);

/* PLAN_INFER. A batch whose intermediates would not fit a core's cache is computed in parts. Outputs stay
 * valid until the next call (one that is an input under another shape: as long as the feed). */
int run_forward(struct run *r, const void *const *feeds, int64_t rows, struct err *e);

/* The last call's result, with the rows it had; index as in plan_output. */
struct view run_output(const struct run *r, int index);

/* For checkpoints and tests: the last gradients, to be read, and the optimiser's slots, all of params'
 * layout. A resumed run is given its slots' bytes back before the first step. */
float *run_grads(struct run *r);
int run_slot_count(const struct run *r);
const char *run_slot_name(const struct run *r, int slot);
float *run_slot(struct run *r, int slot);

double run_grad_norm(const struct run *r); /* of the last step, before clipping; 0 without clip_norm */

#endif
