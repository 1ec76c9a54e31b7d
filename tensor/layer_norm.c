/* Normalising layers, with Keras's parameters and names. */
#include "tensor/layer_impl.h"

/* A parameter of x's last dimension. */
static int channel_param(struct graph *g, const char *name, const char *part, int x, enum init_kind init,
                         bool trainable, int *value, struct err *e)
{
    const struct shape *s = &graph_value(g, x)->shape;
    if (s->rank < 2)
        return err_set(e, ERR_INVALID, name, "layer '%s' needs an input [batch, ..., features]", name);
    struct param_spec spec = {
        .shape = shape_of(1, &s->dim[s->rank - 1]), .init = {.kind = init}, .trainable = trainable};
    return layer__param(g, name, part, &spec, value, e);
}

int layer_batch_norm(struct graph *g, const char *name, int x, double momentum, double epsilon, int *y,
                     struct err *e)
{
    int in[5] = {x}, rc;
    struct attr attrs[] = {{"momentum", {.f = momentum}}, {"epsilon", {.f = epsilon}}};
    if ((rc = channel_param(g, name, "gamma", x, INIT_ONES, true, &in[1], e)) ||
        (rc = channel_param(g, name, "beta", x, INIT_ZEROS, true, &in[2], e)) ||
        (rc = channel_param(g, name, "moving_mean", x, INIT_ZEROS, false, &in[3], e)) ||
        (rc = channel_param(g, name, "moving_variance", x, INIT_ONES, false, &in[4], e)))
        return rc;
    return layer__op(g, name, "BatchNormalization", in, 5, attrs, 2, y, e);
}

int layer_layer_norm(struct graph *g, const char *name, int x, double epsilon, int *y, struct err *e)
{
    int in[3] = {x}, rc;
    struct attr attr = {"epsilon", {.f = epsilon}};
    if ((rc = channel_param(g, name, "gamma", x, INIT_ONES, true, &in[1], e)) ||
        (rc = channel_param(g, name, "beta", x, INIT_ZEROS, true, &in[2], e)))
        return rc;
    return layer__op(g, name, "LayerNormalization", in, 3, &attr, 1, y, e);
}
