/* One thread's part of a run: memory of its own, and the walk over the nodes for some rows of a step. Inside
 * tensor. */
#ifndef TENSOR_SHARD_H
#define TENSOR_SHARD_H

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
    struct view *view;       /* per value */
    struct op_call *call;    /* per node */
    int64_t first, rows;     /* of the step, that the views are shaped for; 0, 0 at first */
};

/* params: whose weights it reads; NULL in inference. On failure shard_dispose is still the caller's. */
int shard_init(struct shard *s, const struct plan *p, struct params *params, struct err *e);
void shard_dispose(struct shard *s);

/* Aims the shard at rows [first, first + rows) of feeds, which hold the whole step. 1 ≤ rows ≤ shard_rows. */
void shard_aim(struct shard *s, const void *const *feeds, int64_t first, int64_t rows);
/* The key of what random nodes draw. */
void shard_seed(struct shard *s, uint64_t seed, uint64_t step);
/* Walks the nodes. ERR_INVALID for values that cannot be, such as labels out of range. */
int shard_execute(struct shard *s, struct err *e);
/* After a training step: moves the state that nodes keep. */
void shard_keep(struct shard *s);

#endif
