/* Helpers of the cases, and those of dense networks. */
#include "cases.h"

#include <stdio.h>
#include "net.h"

int case_op(struct at *t, const char *name, const char *op, const int *in, int n_in, const struct attr *attrs,
            int n_attrs)
{
    int values[NODE_MAX_OUTPUTS];
    must(graph_op(t->g, name, op, in, n_in, attrs, n_attrs, values, &t->e), &t->e);
    return values[0];
}

int case_param(struct at *t, const char *name, struct shape s)
{
    struct param_spec spec = {.shape = s, .init = {INIT_RANDOM_UNIFORM, 1}, .trainable = true};
    int value;
    must(graph_param(t->g, name, &spec, &value, &t->e), &t->e);
    return value;
}

int case_state(struct at *t, const char *name, struct shape s)
{
    struct param_spec spec = {.shape = s, .init = {INIT_CONSTANT, 0.75}};
    int value;
    must(graph_param(t->g, name, &spec, &value, &t->e), &t->e);
    return value;
}

int case_input(struct at *t, const char *name, enum dtype dtype, struct shape s)
{
    int value;
    must(graph_input(t->g, name, dtype, &s, &value, &t->e), &t->e);
    return value;
}

struct shape case_batch_of(int64_t n)
{
    return shape_of(2, (int64_t[]){SHAPE_BATCH, n});
}

int case_shifted(struct at *t, const char *name, struct shape s)
{
    char shift[GRAPH_NAME_MAX], sum[GRAPH_NAME_MAX];
    snprintf(shift, sizeof shift, "%s-shift", name);
    snprintf(sum, sizeof sum, "%s-shifted", name);
    int x = case_input(t, name, DTYPE_F32, s);
    return case_op(t, sum, "Add", (int[]){x, case_param(t, shift, shape_of(1, &s.dim[s.rank - 1]))}, 2, NULL,
                   0);
}

static int node(struct at *t, const char *name, const char *op, const int *in, int n_in, struct attr *attr)
{
    return case_op(t, name, op, in, n_in, attr, attr ? 1 : 0);
}

#define UNARY(FN, OP)                                                                                        \
    static int FN(struct at *t)                                                                              \
    {                                                                                                        \
        return node(t, "y", OP, &t->x, 1, NULL);                                                             \
    }
UNARY(relu, "Relu")
UNARY(tanh_, "Tanh")
UNARY(sigmoid, "Sigmoid")
UNARY(gelu, "Gelu")
UNARY(silu, "Silu")
UNARY(softmax, "Softmax")
UNARY(identity, "Identity")
UNARY(dropout, "Dropout")
UNARY(leaky, "LeakyRelu")

/* A slope below zero cannot be told from y, so this one differentiates by x. */
static int leaky_negative(struct at *t)
{
    struct attr alpha = {"alpha", {.f = -0.3}};
    return node(t, "y", "LeakyRelu", &t->x, 1, &alpha);
}

static int product(struct at *t)
{
    int w = case_param(t, "w", shape_of(2, (int64_t[]){t->n, t->n % 5 + 2}));
    return node(t, "y", "MatMul", (int[]){t->x, w}, 2, NULL);
}

static int dense_of(struct at *t, const char *act)
{
    int64_t units = t->n % 7 + 1;
    int w = case_param(t, "w", shape_of(2, (int64_t[]){t->n, units})),
        b = case_param(t, "b", shape_of(1, &units));
    int y = node(t, "product", "MatMul", (int[]){t->x, w}, 2, NULL);
    y = node(t, "biased", "Add", (int[]){y, b}, 2, NULL);
    return act ? node(t, "y", act, &y, 1, NULL) : y;
}

#define DENSE(FN, ACT)                                                                                       \
    static int FN(struct at *t)                                                                              \
    {                                                                                                        \
        return dense_of(t, ACT);                                                                             \
    }
DENSE(dense, NULL)
DENSE(dense_relu, "Relu")
DENSE(dense_tanh, "Tanh")
DENSE(dense_gelu, "Gelu")

/* The relu's gradient goes through the second product alone. */
static int dense_pair(struct at *t)
{
    int y = dense_of(t, "Relu");
    int w = case_param(t, "w2", shape_of(2, (int64_t[]){t->n % 7 + 1, t->n % 9 + 1}));
    return node(t, "y2", "MatMul", (int[]){y, w}, 2, NULL);
}

/* Gradients of two products and of a sum meet at a relu. */
static int dense_fork(struct at *t)
{
    int64_t units = t->n % 7 + 1;
    int y = dense_of(t, "Relu");
    int left = node(t, "left", "MatMul",
                    (int[]){y, case_param(t, "wl", shape_of(2, (int64_t[]){units, units}))}, 2, NULL);
    int right = node(t, "right", "MatMul",
                     (int[]){y, case_param(t, "wr", shape_of(2, (int64_t[]){units, units}))}, 2, NULL);
    int sum = node(t, "sum", "Add", (int[]){left, right}, 2, NULL);
    return node(t, "residual", "Add", (int[]){sum, y}, 2, NULL);
}

/* One product reads the sum of two relus: its gradient reaches both of them as it is. */
static int dense_join(struct at *t)
{
    int64_t units = t->n % 7 + 1;
    int a = dense_of(t, "Relu"), b = node(t, "other", "Relu", &t->x, 1, NULL);
    int w = case_param(t, "wo", shape_of(2, (int64_t[]){t->n, units}));
    b = node(t, "projected", "MatMul", (int[]){b, w}, 2, NULL);
    b = node(t, "biased2", "Add", (int[]){b, case_param(t, "b2", shape_of(1, &units))}, 2, NULL);
    b = node(t, "relu2", "Relu", &b, 1, NULL);
    int sum = node(t, "joined", "Add", (int[]){a, b}, 2, NULL);
    return node(t, "head", "MatMul", (int[]){sum, case_param(t, "wh", shape_of(2, (int64_t[]){units, 3}))}, 2,
                NULL);
}

static int add_twice(struct at *t)
{
    int y = node(t, "a", "Add", (int[]){t->x, t->x}, 2, NULL);
    return node(t, "b", "Add", (int[]){y, case_param(t, "p", shape_of(1, &t->n))}, 2, NULL);
}

static int sub(struct at *t)
{
    int other = case_input(t, "other", DTYPE_F32, case_batch_of(t->n));
    int y = node(t, "a", "Sub", (int[]){other, t->x}, 2, NULL);
    return node(t, "b", "Sub", (int[]){y, case_param(t, "p", shape_of(1, &t->n))}, 2, NULL);
}

static int mul(struct at *t)
{
    int y = node(t, "a", "Mul", (int[]){t->x, case_param(t, "p", shape_of(1, &t->n))}, 2, NULL);
    return node(t, "b", "Mul", (int[]){y, t->x}, 2, NULL);
}

/* The parameter's own gradient is the other parameter's, and an alias: both must get memory of their own. */
static int reshape(struct at *t)
{
    struct attr up = {"shape", {.ints = shape_of(3, (int64_t[]){SHAPE_BATCH, 1, t->n})}};
    struct attr flat = {"shape", {.ints = shape_of(1, &t->n)}};
    int row = case_param(t, "p", shape_of(2, (int64_t[]){1, t->n})),
        twin = case_param(t, "q", shape_of(1, &t->n));
    row = node(t, "flat", "Reshape", &row, 1, &flat);
    row = node(t, "both", "Add", (int[]){row, twin}, 2, NULL);
    int y = node(t, "a", "Add", (int[]){t->x, row}, 2, NULL);
    y = node(t, "b", "Reshape", &y, 1, &up);
    y = node(t, "c", "Tanh", &y, 1, NULL);
    return node(t, "d", "Flatten", &y, 1, NULL);
}

/* One value is the gradient of two parameters: each must still find it in its own place. */
static int twins(struct at *t)
{
    int p = case_param(t, "p", shape_of(1, &t->n)), q = case_param(t, "q", shape_of(1, &t->n));
    int both = node(t, "both", "Add", (int[]){p, q}, 2, NULL);
    return node(t, "y", "Add", (int[]){t->x, both}, 2, NULL);
}

static int mse(struct at *t)
{
    return node(t, "y", "MeanSquaredError", (int[]){t->x, case_input(t, "t", DTYPE_F32, case_batch_of(t->n))},
                2, NULL);
}

static int mse_both(struct at *t)
{
    int other = node(t, "o", "Sigmoid", &t->x, 1, NULL);
    return node(t, "y", "MeanSquaredError", (int[]){other, t->x}, 2, NULL);
}

static int softmax_loss(struct at *t)
{
    int label = case_input(t, "label", DTYPE_I32, shape_of(1, (int64_t[]){SHAPE_BATCH}));
    return node(t, "y", "SoftmaxCrossEntropy", (int[]){t->x, label}, 2, NULL);
}

static int sigmoid_loss(struct at *t)
{
    return node(t, "y", "SigmoidCrossEntropy",
                (int[]){t->x, case_input(t, "t", DTYPE_F32, case_batch_of(t->n))}, 2, NULL);
}

/* Labels smoothed, elements weighted, either alone and both. */
static int softmax_softened(struct at *t, bool weighted, bool smooth)
{
    struct shape rows = shape_of(1, (int64_t[]){SHAPE_BATCH});
    struct attr smoothing = {"label_smoothing", {.f = 0.3}};
    int in[3] = {t->x, case_input(t, "label", DTYPE_I32, rows)};
    if (weighted) in[2] = case_input(t, "w", DTYPE_F32, rows);
    return node(t, "y", "SoftmaxCrossEntropy", in, weighted ? 3 : 2, smooth ? &smoothing : NULL);
}

static int softmax_smooth(struct at *t)
{
    return softmax_softened(t, false, true);
}

static int softmax_weighted(struct at *t)
{
    return softmax_softened(t, true, false);
}

static int softmax_both(struct at *t)
{
    return softmax_softened(t, true, true);
}

static int sigmoid_both(struct at *t)
{
    struct attr smoothing = {"label_smoothing", {.f = 0.2}};
    int target = case_input(t, "t", DTYPE_F32, case_batch_of(t->n)),
        weight = case_input(t, "w", DTYPE_F32, case_batch_of(t->n));
    return node(t, "y", "SigmoidCrossEntropy", (int[]){t->x, target, weight}, 3, &smoothing);
}

static int mae(struct at *t)
{
    int other = node(t, "o", "Tanh", &t->x, 1, NULL);
    int target = case_input(t, "t", DTYPE_F32, case_batch_of(t->n));
    target = node(t, "both", "Add", (int[]){target, other}, 2, NULL);
    return node(t, "y", "MeanAbsoluteError", (int[]){t->x, target}, 2, NULL);
}

/* Some errors are squared and some are not. */
static int huber(struct at *t)
{
    struct attr delta = {"delta", {.f = 0.6}};
    return node(t, "y", "Huber", (int[]){t->x, case_input(t, "t", DTYPE_F32, case_batch_of(t->n))}, 2,
                &delta);
}

/* A parameter that nothing depends on has a gradient of zeros. */
static int unused(struct at *t)
{
    case_param(t, "idle", shape_of(1, &t->n));
    return t->x;
}

const struct op_case cases_basic[] = {
    {"twins", twins},
    {"relu", relu},
    {"tanh", tanh_},
    {"sigmoid", sigmoid},
    {"gelu", gelu},
    {"silu", silu},
    {"softmax", softmax},
    {"identity", identity},
    {"dropout", dropout},
    {"leaky", leaky},
    {"leaky_negative", leaky_negative},
    {"product", product},
    {"dense", dense},
    {"dense_relu", dense_relu},
    {"dense_tanh", dense_tanh},
    {"dense_gelu", dense_gelu},
    {"dense_pair", dense_pair},
    {"dense_fork", dense_fork},
    {"dense_join", dense_join},
    {"add_twice", add_twice},
    {"sub", sub},
    {"mul", mul},
    {"reshape", reshape},
    {"mse", mse},
    {"mse_both", mse_both},
    {"softmax_loss", softmax_loss},
    {"sigmoid_loss", sigmoid_loss},
    {"softmax_smooth", softmax_smooth},
    {"softmax_weighted", softmax_weighted},
    {"softmax_both", softmax_both},
    {"sigmoid_both", sigmoid_both},
    {"mae", mae},
    {"huber", huber},
    {"unused", unused},
    {NULL, NULL},
};
