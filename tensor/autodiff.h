/* Reverse-mode differentiation: appends to a graph the nodes that compute the gradient of its loss by its
 * parameters. */
#ifndef TENSOR_AUTODIFF_H
#define TENSOR_AUTODIFF_H

#include "base/err.h"
#include "tensor/graph.h"

/* grad[i] becomes the value id of the gradient by parameter i, of the parameter's shape, each produced by a
 * node of its own (never another parameter's gradient, never an alias); -1 for parameters that are not
 * trainable. A trainable parameter that the loss does not depend on has a gradient of zeros. ERR_INVALID when
 * the graph has no loss, or its loss depends on no trainable parameter. */
int autodiff(struct graph *g, int *grad, struct err *e);

#endif
