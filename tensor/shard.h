/* One thread's part of a run: memory of its own, and the walk over the nodes for some rows of a step. Inside
 * tensor. */
#ifndef TENSOR_SHARD_H
#define TENSOR_SHARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "tensor/op.h"
#include "tensor/params.h"
#include "tensor/plan_impl.h"

struct shard {
    const struct plan *plan; /* borrowed */
    unsigned char *arena;    /* owned; so are the others */
    float *grads;            /* of params' layout; training only */
    uint8_t *marks;          /* of the rows of tables' gradients, as plan->mark_at says; training only */
    struct view *view;       /* per value */
    struct op_call *call;    /* per node */
    int64_t first, rows;     /* of the step, that the views are shaped for; 0, 0 at first */
    bool adds;               /* the gradients hold those of earlier parts of the step */
};

/* params: whose weights it reads; NULL in inference. packed: where those lie that the plan has packed; NULL
 * when it has none. Both are borrowed. On failure shard_dispose is still the caller's. */
int shard_init(struct shard *s, const struct plan *p, struct params *params, const float *packed,
               struct err *e);
void shard_dispose(struct shard *s);

/* Aims the shard at rows [first, first + rows) of feeds, which hold the whole step. 1 ≤ rows ≤ part_rows. */
void shard_aim(struct shard *s, const void *const *feeds, int64_t first, int64_t rows);
/* The key of what random nodes draw. */
void shard_seed(struct shard *s, uint64_t seed, uint64_t step);
/* Which rows of a step's share of the gradients those are that the shard is aimed at: `share` of them, and
 * with adds not the first, so that theirs go on from the sums so far. At first: all of them. */
void shard_part(struct shard *s, double share, bool adds);
/* Walks the nodes. ERR_INVALID for values that cannot be, such as labels out of range. */
int shard_execute(struct shard *s, struct err *e);
/* After a training step: moves the state that nodes keep. */
void shard_keep(struct shard *s);

#endif
