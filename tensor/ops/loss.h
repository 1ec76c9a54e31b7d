/* What the losses share: loss.c (numbers), loss_entropy.c (classes). */
#ifndef TENSOR_OPS_LOSS_H
#define TENSOR_OPS_LOSS_H

#include "tensor/ops/families.h"

static inline struct shape loss_shape(void)
{
    return (struct shape){.rank = 0};
}

/* Gradients take (dloss, a, …), dloss a scalar, and have a's shape. */
int loss_infer_grad(struct op_shapes *s, struct err *e);
double loss_flops_grad(const struct op_shapes *s);

#endif
