/* What the files of the layers share. */
#ifndef TENSOR_LAYER_IMPL_H
#define TENSOR_LAYER_IMPL_H

#include "tensor/layer.h"

/* "layer/part" into out; ERR_INVALID when that is too long for a name. */
int layer__part(char out[GRAPH_NAME_MAX], const char *layer, const char *part, struct err *e);

/* "layer/part_norm": the same for a name that goes on. */
int layer__suffix(char out[GRAPH_NAME_MAX], const char *name, const char *suffix, struct err *e);

/* Appends an operator and gives its first output. */
int layer__op(struct graph *g, const char *name, const char *op, const int *inputs, int n,
              const struct attr *attrs, int n_attrs, int *y, struct err *e);

/* Appends the parameter layer/part. */
int layer__param(struct graph *g, const char *layer, const char *part, const struct param_spec *spec,
                 int *value, struct err *e);

/* y = activation(y + layer/bias [last dimension]); the last node gets the layer's own name. bias NULL: none;
 * then the product must have the name already when the activation is linear. */
int layer__finish(struct graph *g, const char *name, const struct init_spec *bias, const char *activation,
                  int *y, struct err *e);

/* ERR_INVALID unless x is f32 [batch, steps, features]. */
int layer__check_steps(const struct graph *g, const char *name, int x, struct err *e);

#endif
