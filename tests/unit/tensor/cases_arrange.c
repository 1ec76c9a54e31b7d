/* Cases of normalisations, of tables, and of what moves elements about. */
#include "cases.h"

#include "net.h"

static int deep(struct at *t, int64_t a, int64_t b, int64_t c)
{
    return case_shifted(t, "deep", shape_of(4, (int64_t[]){SHAPE_BATCH, a, b, c}));
}

/* Squared, so that the gradient of a mean is not the same everywhere. */
static int square(struct at *t, int x)
{
    return case_op(t, "square", "Mul", (int[]){x, x}, 2, NULL, 0);
}

static int batch_norm_of(struct at *t, int x)
{
    const struct shape *s = &graph_value(t->g, x)->shape;
    struct shape c = shape_of(1, &s->dim[s->rank - 1]);
    struct attr epsilon = {"epsilon", {.f = 1}}; /* mild, so that gradients do not cancel away */
    int in[] = {x, case_param(t, "scale", c), case_param(t, "bias", c), case_state(t, "mean", c),
                case_state(t, "variance", c)};
    return case_op(t, "y", "BatchNormalization", in, 5, &epsilon, 1);
}

static int batch_norm(struct at *t)
{
    return batch_norm_of(t, square(t, deep(t, 2, 3, t->n)));
}

/* More rows than are summed in one go. */
static int batch_norm_long(struct at *t)
{
    return batch_norm_of(t, square(t, deep(t, 21, 13, t->n % 3 + 1)));
}

static int layer_norm(struct at *t)
{
    struct shape c = shape_of(1, &t->n);
    struct attr epsilon = {"epsilon", {.f = 1}}; /* mild, so that gradients do not cancel away */
    int in[] = {square(t, deep(t, 2, 2, t->n)), case_param(t, "scale", c), case_param(t, "bias", c)};
    return case_op(t, "y", "LayerNormalization", in, 3, &epsilon, 1);
}

static int gather(struct at *t)
{
    int ids = case_input(t, "ids", DTYPE_I32, shape_of(2, (int64_t[]){SHAPE_BATCH, 7}));
    int table = case_param(t, "table", shape_of(2, (int64_t[]){t->n, t->n % 9 + 1}));
    return case_op(t, "y", "Gather", (int[]){table, ids}, 2, NULL, 0);
}

static int transpose_of(struct at *t, int64_t a, int64_t b, int64_t c)
{
    struct attr perm = {"perm", {.ints = shape_of(4, (int64_t[]){0, a, b, c})}};
    int x = deep(t, 2, 3, t->n);
    int y = case_op(t, "turned", "Transpose", &x, 1, &perm, 1);
    return case_op(t, "y", "Tanh", &y, 1, NULL, 0);
}

static int transpose_inner(struct at *t)
{
    return transpose_of(t, 3, 1, 2);
}

static int transpose_outer(struct at *t)
{
    return transpose_of(t, 2, 1, 3);
}

static int concat(struct at *t)
{
    struct attr axis = {"axis", {.i = 2}};
    int a = deep(t, 2, 3, t->n);
    int b = case_shifted(t, "other", shape_of(4, (int64_t[]){SHAPE_BATCH, 2, 1, t->n}));
    int y = case_op(t, "joined", "Concat", (int[]){a, b, a}, 3, &axis, 1);
    return case_op(t, "y", "Tanh", &y, 1, NULL, 0);
}

static int concat_last(struct at *t)
{
    int y = case_op(t, "joined", "Concat", (int[]){t->x, case_shifted(t, "b", case_batch_of(3))}, 2, NULL, 0);
    return case_op(t, "y", "Sigmoid", &y, 1, NULL, 0);
}

static int slice_of(struct at *t, int x, int64_t axis, int64_t start, int64_t end)
{
    struct attr attrs[] = {{"axis", {.i = axis}}, {"start", {.i = start}}, {"end", {.i = end}}};
    return case_op(t, "y", "Slice", &x, 1, attrs, 3);
}

static int slice(struct at *t)
{
    return slice_of(t, deep(t, 5, 2, t->n), 1, 1, -1);
}

static int slice_last(struct at *t)
{
    return slice_of(t, t->x, -1, -1, 1000);
}

static int residual(struct at *t)
{
    int w = case_param(t, "w", shape_of(2, (int64_t[]){t->n, t->n}));
    int y = case_op(t, "a", "MatMul", (int[]){t->x, w}, 2, NULL, 0);
    y = case_op(t, "b", "Relu", &y, 1, NULL, 0);
    return case_op(t, "y", "Add", (int[]){y, t->x}, 2, NULL, 0);
}

const struct op_case cases_arrange[] = {
    {"batch_norm", batch_norm},
    {"batch_norm_long", batch_norm_long},
    {"layer_norm", layer_norm},
    {"gather", gather},
    {"transpose_inner", transpose_inner},
    {"transpose_outer", transpose_outer},
    {"concat", concat},
    {"concat_last", concat_last},
    {"slice", slice},
    {"slice_last", slice_last},
    {"residual", residual},
    {NULL, NULL},
};
