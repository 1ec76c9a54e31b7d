/* A graph compiled for one purpose: passes applied, gradients added, every intermediate given its place in
 * one arena.
 *
 *     graph ──copy──▶ prune ▸ drop dropout (infer) ▸ fuse ▸ differentiate (train) ▸ place ──▶ plan ──▶ runs
 * (tensor/run.h)
 *
 * A plan is immutable while runs use it and may be shared by any number of threads, each with its own run.
 * All bytes are known once it is compiled, before anything big is allocated. */
#ifndef TENSOR_PLAN_H
#define TENSOR_PLAN_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/err.h"
#include "tensor/backend.h"
#include "tensor/graph.h"
#include "tensor/optim.h"
#include "tensor/params.h"

enum plan_mode { PLAN_TRAIN, PLAN_INFER };

struct plan_options {
    enum plan_mode mode;
    int64_t max_batch;             /* most rows of a run; ≥ 1 */
    const struct backend *backend; /* NULL: backend_auto() */
    int threads;             /* PLAN_TRAIN: at most so many, see plan_threads; 0 and 1: the caller's alone */
    size_t limit_bytes;      /* refuse with ERR_TOO_LARGE, saying both numbers, above this; 0 for no limit */
    bool keep_outputs;       /* PLAN_TRAIN: compute the graph's outputs too, for metrics while training */
    struct optim_spec optim; /* PLAN_TRAIN */
    int64_t thread_flops;    /* a thread is worth having for so many a step; 0: a sound default */
    int64_t part_rows;       /* PLAN_TRAIN: a thread computes at most so many rows at a time; 0: as many as
                                suit the caches */
    bool no_alias;           /* give each intermediate its own place (tests, debugging) */
    bool poison;             /* fill arena and gradients with NaN before each run (tests, debugging) */
};

/* What one run needs, in bytes. total is what limit_bytes is compared with. */
struct plan_bytes {
    size_t params; /* PLAN_TRAIN: the weights */
    size_t grads;  /* PLAN_TRAIN: of all threads */
    size_t optim;  /* PLAN_TRAIN: optimiser slots */
    size_t packed; /* weights in the kernels' layout: PLAN_INFER, shared by all runs of the plan; PLAN_TRAIN,
                      of one run, where it computes in parts */
    size_t arena;  /* intermediates and workspace of one run, all its threads */
    size_t total;
};

struct plan;

/* ERR_INVALID for what cannot be compiled (no output; no loss; a loss that depends on no parameter),
 * ERR_TOO_LARGE over the limit. g may be freed afterwards. */
int plan_create(struct plan **out, const struct graph *g, const struct plan_options *o, struct err *e);
void plan_free(struct plan *p); /* after its runs */

const struct plan_bytes *plan_bytes(const struct plan *p);
size_t plan_own_bytes(const struct plan *p); /* of the plan itself, without weights and runs */
int64_t plan_max_batch(const struct plan *p);
int64_t plan_flops(const struct plan *p, int64_t rows); /* of one step or one forward pass */

/* How many threads a run of it has: options.threads, or fewer where the largest step has fewer rows, or too
 * little work for so many; and one where an operator needs the whole batch at once. Decided when the plan is
 * made, by its graph and options alone. */
int plan_threads(const struct plan *p);
/* Most rows that a thread computes at a time, forward and backward, before it goes on to the next ones of its
 * share and adds their gradients up. A step of one thread and one part is computed in one go. */
int64_t plan_part_rows(const struct plan *p);
/* The operator that keeps the plan to one thread and one part ("BatchNormalization"); NULL when none does. */
const char *plan_whole_batch(const struct plan *p);

/* PLAN_INFER: copies and packs the weights, once per load. Needed before the first run; may be repeated
 * between runs (validation while training). params must come from the plan's graph, ERR_INVALID otherwise. */
int plan_load(struct plan *p, const struct params *params, struct err *e);

/* Inputs that runs must be fed: those of the graph that the plan still needs (inference needs no labels).
 * Shapes may begin with SHAPE_BATCH. */
int plan_input_count(const struct plan *p);
const struct value *plan_input(const struct plan *p, int index);
int plan_input_find(const struct plan *p, const char *name); /* index or -1 */

/* The graph's outputs, in its order (PLAN_TRAIN without keep_outputs: none). */
int plan_output_count(const struct plan *p);
const char *plan_output_name(const struct plan *p, int index);
const struct value *plan_output(const struct plan *p, int index);
int plan_output_find(const struct plan *p, const char *name); /* index or -1 */

#endif
