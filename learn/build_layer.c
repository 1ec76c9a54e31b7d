/* Writes layers into a graph: those that take rows of any kind, and the table that finds each kind's. */
#include "learn/build.h"

#include <stdio.h>

#include "tensor/layer.h"

struct init_spec build_init(const char *name, double value)
{
    int kind = init_of(name);
    return (struct init_spec){.kind = kind < 0 ? INIT_GLOROT_UNIFORM : (enum init_kind)kind, .a = value};
}

const char *build_activation_name(const struct layer_spec *l)
{
    return activation_name(l->activation == ACTIVATION_LEAKY_RELU ? ACTIVATION_LINEAR : l->activation);
}

static int leaky_relu(struct building *b, const char *name, double slope, struct err *e)
{
    struct attr attr = {"alpha", {.f = slope}};
    int values[NODE_MAX_OUTPUTS];
    int rc = graph_op(b->g, name, "LeakyRelu", &b->x, 1, &attr, 1, values, e);
    if (!rc) b->x = values[0];
    return rc;
}

int build_slope(struct building *b, const struct layer_spec *l, struct err *e)
{
    char name[GRAPH_NAME_MAX]; /* a layer's name is shorter than a node's by more than the suffix */
    if (l->activation != ACTIVATION_LEAKY_RELU) return 0;
    snprintf(name, sizeof name, "%s/leaky_relu", l->name);
    return leaky_relu(b, name, l->slope, e);
}

static int build_activation(struct building *b, const struct layer_spec *l, struct err *e)
{
    if (l->activation == ACTIVATION_LEAKY_RELU) return leaky_relu(b, l->name, l->slope, e);
    return layer_activation(b->g, l->name, b->x, activation_name(l->activation), &b->x, e);
}

static int build_dense(struct building *b, const struct layer_spec *l, struct err *e)
{
    struct layer_dense d = layer_dense_defaults(l->units, build_activation_name(l));
    d.bias = l->bias;
    d.l2 = l->l2;
    d.kernel_init = build_init(l->kernel_init, l->init_value);
    d.bias_init = build_init(l->bias_init, l->init_value);
    int rc = layer_dense(b->g, l->name, b->x, &d, &b->x, e);
    return rc ? rc : build_slope(b, l, e);
}

static int build_dropout(struct building *b, const struct layer_spec *l, struct err *e)
{
    return l->rate > 0 ? layer_dropout(b->g, l->name, b->x, l->rate, &b->x, e) : 0;
}

static int build_flatten(struct building *b, const struct layer_spec *l, struct err *e)
{
    b->lengths = -1;
    return l->in.rank > 1 ? layer_flatten(b->g, l->name, b->x, &b->x, e) : 0;
}

static int build_reshape(struct building *b, const struct layer_spec *l, struct err *e)
{
    struct shape row = shape_of(l->out.rank, l->out.dim);
    b->lengths = -1;
    return layer_reshape(b->g, l->name, b->x, &row, &b->x, e);
}

static int build_norm(struct building *b, const struct layer_spec *l, struct err *e)
{
    if (l->kind == KIND_LAYER_NORMALIZATION)
        return layer_layer_norm(b->g, l->name, b->x, l->epsilon, &b->x, e);
    return layer_batch_norm(b->g, l->name, b->x, l->momentum, l->epsilon, &b->x, e);
}

static int build_nothing(struct building *b, const struct layer_spec *l, struct err *e)
{
    (void)b;
    (void)l;
    (void)e;
    return 0;
}

typedef int build_fn(struct building *b, const struct layer_spec *l, struct err *e);

static build_fn *const builders[] = {
    [KIND_DENSE] = build_dense,
    [KIND_DROPOUT] = build_dropout,
    [KIND_FLATTEN] = build_flatten,
    [KIND_RESHAPE] = build_reshape,
    [KIND_ACTIVATION] = build_activation,
    [KIND_RELU] = build_activation,
    [KIND_LEAKY_RELU] = build_activation,
    [KIND_SOFTMAX] = build_activation,
    [KIND_INPUT] = build_nothing,
    [KIND_CONV1D] = build_conv,
    [KIND_CONV2D] = build_conv,
    [KIND_MAX_POOLING1D] = build_pool,
    [KIND_MAX_POOLING2D] = build_pool,
    [KIND_AVERAGE_POOLING1D] = build_pool,
    [KIND_AVERAGE_POOLING2D] = build_pool,
    [KIND_GLOBAL_MAX_POOLING1D] = build_global_pool,
    [KIND_GLOBAL_MAX_POOLING2D] = build_global_pool,
    [KIND_GLOBAL_AVERAGE_POOLING1D] = build_global_pool,
    [KIND_GLOBAL_AVERAGE_POOLING2D] = build_global_pool,
    [KIND_BATCH_NORMALIZATION] = build_norm,
    [KIND_LAYER_NORMALIZATION] = build_norm,
    [KIND_EMBEDDING] = build_embedding,
    [KIND_SIMPLE_RNN] = build_recurrent,
    [KIND_GRU] = build_recurrent,
    [KIND_LSTM] = build_recurrent,
    [KIND_POSITION_EMBEDDING] = build_positions,
    [KIND_SINE_POSITION_ENCODING] = build_positions,
    [KIND_MULTI_HEAD_ATTENTION] = build_attention,
    [KIND_TRANSFORMER_ENCODER] = build_transformer,
    [KIND_TRANSFORMER_DECODER] = build_transformer,
    [KIND_TOKEN_AND_POSITION_EMBEDDING] = build_nothing, /* parsing has made two layers of it */
    [KIND_RESIDUAL] = build_residual,
};

_Static_assert(sizeof builders / sizeof builders[0] == KIND_COUNT, "every kind of layer can be built");

struct building build_begin(struct graph *g, int x)
{
    return (struct building){.g = g, .x = x, .lengths = -1, .memory = -1, .memory_lengths = -1};
}

int build_layers(struct building *b, const struct layer_spec *layers, size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        int rc = builders[layers[i].kind](b, &layers[i], e);
        if (!rc) continue;
        if (!layers[i].n_layers) err_under(e, layers[i].path); /* a composite's own layers say theirs */
        return rc;
    }
    return 0;
}
