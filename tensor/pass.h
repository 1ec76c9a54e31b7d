/* Rewrites of a copy of the graph on its way to a plan. */
#ifndef TENSOR_PASS_H
#define TENSOR_PASS_H

#include <stdbool.h>
#include "base/err.h"
#include "tensor/graph.h"

/* The part of g that its outputs (with outputs) and its loss (with loss) need, with MatMul or Conv +
 * Add(bias) + activation as one node, and, for inference (train false), without Dropout and with the running
 * moments of BatchNormalization. Inputs, parameters and outputs keep their order and number; inputs that
 * nothing needs stay, as values that no node reads. */
int pass_lower(struct graph **out, const struct graph *g, bool train, bool outputs, bool loss, struct err *e);

#endif
