/* Layers written in graph operators. */
#include "tensor/layer_impl.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *layer, *op;
} activations[] = {
    {"linear", NULL}, {"relu", "Relu"},       {"leaky_relu", "LeakyRelu"},
    {"tanh", "Tanh"}, {"sigmoid", "Sigmoid"}, {"softmax", "Softmax"},
    {"gelu", "Gelu"}, {"silu", "Silu"},
};

enum { N_ACTIVATIONS = sizeof activations / sizeof activations[0] };

static int activation_index(const char *name)
{
    for (int i = 0; i < N_ACTIVATIONS; i++)
        if (strcmp(activations[i].layer, name) == 0) return i;
    return -1;
}

bool layer_activation_known(const char *name)
{
    return activation_index(name) >= 0;
}

static int join(char out[GRAPH_NAME_MAX], const char *layer, const char *between, const char *part,
                struct err *e)
{
    int n = snprintf(out, GRAPH_NAME_MAX, "%s%s%s", layer, between, part);
    if (n > 0 && n < GRAPH_NAME_MAX) return 0;
    return err_set(e, ERR_INVALID, "name", "the layer name '%.30s…' is too long; expected at most 64 bytes",
                   layer);
}

int layer__part(char out[GRAPH_NAME_MAX], const char *layer, const char *part, struct err *e)
{
    return join(out, layer, "/", part, e);
}

int layer__suffix(char out[GRAPH_NAME_MAX], const char *name, const char *suffix, struct err *e)
{
    return join(out, name, "", suffix, e);
}

int layer__op(struct graph *g, const char *name, const char *op, const int *inputs, int n,
              const struct attr *attrs, int n_attrs, int *y, struct err *e)
{
    int values[NODE_MAX_OUTPUTS], rc = graph_op(g, name, op, inputs, n, attrs, n_attrs, values, e);
    if (rc == 0) *y = values[0];
    return rc;
}

int layer_activation(struct graph *g, const char *name, int x, const char *activation, int *y, struct err *e)
{
    int i = activation_index(activation);
    if (i < 0)
        return err_set(e, ERR_INVALID, "activation", "layer '%s': unknown activation '%.40s'", name,
                       activation);
    if (!activations[i].op) {
        *y = x;
        return 0;
    }
    return layer__op(g, name, activations[i].op, &x, 1, NULL, 0, y, e);
}

int layer__param(struct graph *g, const char *layer, const char *part, const struct param_spec *spec,
                 int *value, struct err *e)
{
    char name[GRAPH_NAME_MAX];
    int rc = layer__part(name, layer, part, e);
    return rc ? rc : graph_param(g, name, spec, value, e);
}

int layer__finish(struct graph *g, const char *name, const struct init_spec *bias, const char *activation,
                  int *y, struct err *e)
{
    const struct shape *s = &graph_value(g, *y)->shape;
    bool linear = strcmp(activation, "linear") == 0;
    char part[GRAPH_NAME_MAX];
    int rc, b;
    if (!layer_activation_known(activation))
        return err_set(e, ERR_INVALID, "activation", "layer '%s': unknown activation '%.40s'", name,
                       activation);
    if (bias) {
        struct param_spec spec = {
            .shape = shape_of(1, &s->dim[s->rank - 1]), .init = *bias, .trainable = true};
        if ((rc = layer__param(g, name, "bias", &spec, &b, e)) ||
            (rc = layer__part(part, name, "biased", e)) ||
            (rc = layer__op(g, linear ? name : part, "Add", (int[]){*y, b}, 2, NULL, 0, y, e)))
            return rc;
    }
    return layer_activation(g, name, *y, activation, y, e);
}

struct layer_dense layer_dense_defaults(int64_t units, const char *activation)
{
    return (struct layer_dense){.units = units,
                                .activation = activation,
                                .bias = true,
                                .kernel_init = {.kind = INIT_GLOROT_UNIFORM},
                                .bias_init = {.kind = INIT_ZEROS}};
}

/* x·kernel, under the layer's own name when nothing follows it. */
static int add_product(struct graph *g, const char *name, int x, const struct layer_dense *d, bool last,
                       int *y, struct err *e)
{
    const struct shape *in = &graph_value(g, x)->shape;
    struct param_spec spec = {.init = d->kernel_init, .trainable = true, .decay = true, .l2 = d->l2};
    char part[GRAPH_NAME_MAX];
    int kernel, rc;
    if (in->rank < 1 || in->dim[in->rank - 1] == SHAPE_BATCH)
        return err_set(e, ERR_INVALID, name, "Dense '%s' needs an input with at least one feature", name);
    spec.shape = shape_of(2, (int64_t[]){in->dim[in->rank - 1], d->units});
    if ((rc = layer__param(g, name, "kernel", &spec, &kernel, e)) ||
        (rc = layer__part(part, name, "matmul", e)))
        return rc;
    return layer__op(g, last ? name : part, "MatMul", (int[]){x, kernel}, 2, NULL, 0, y, e);
}

int layer_dense(struct graph *g, const char *name, int x, const struct layer_dense *d, int *y, struct err *e)
{
    const char *act = d->activation ? d->activation : "linear";
    int rc;
    if (!layer_activation_known(act))
        return err_set(e, ERR_INVALID, "activation", "layer '%s': unknown activation '%.40s'", name, act);
    if ((rc = add_product(g, name, x, d, !d->bias && strcmp(act, "linear") == 0, y, e))) return rc;
    return layer__finish(g, name, d->bias ? &d->bias_init : NULL, act, y, e);
}

int layer_dropout(struct graph *g, const char *name, int x, double rate, int *y, struct err *e)
{
    struct attr attr = {"rate", {.f = rate}};
    return layer__op(g, name, "Dropout", &x, 1, &attr, 1, y, e);
}

int layer_flatten(struct graph *g, const char *name, int x, int *y, struct err *e)
{
    return layer__op(g, name, "Flatten", &x, 1, NULL, 0, y, e);
}

int layer_reshape(struct graph *g, const char *name, int x, const struct shape *row, int *y, struct err *e)
{
    struct attr attr = {"shape", {.ints = {.rank = row->rank + 1, .dim = {SHAPE_BATCH}}}};
    if (row->rank < 0 || row->rank >= TENSOR_MAX_RANK)
        return err_set(e, ERR_INVALID, "shape", "layer '%s': expected at most %d dimensions", name,
                       TENSOR_MAX_RANK - 1);
    for (int i = 0; i < row->rank; i++) attr.value.ints.dim[i + 1] = row->dim[i];
    return layer__op(g, name, "Reshape", &x, 1, &attr, 1, y, e);
}
