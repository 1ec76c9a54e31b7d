/* Add, Sub, Mul with a second operand that may repeat (a bias), and what their gradients need: Scale,
 * ReduceTo, Fill, Identity. */
#include "tensor/ops/families.h"

#include <string.h>

/* b's shape must be the end of a's: [batch, n] + [n], or the same. */
static int infer_binary(struct op_shapes *s, struct err *e)
{
    const struct shape *a = &s->in[0].shape, *b = &s->in[1].shape;
    for (int i = 0; i < 2; i++)
        if (s->in[i].dtype != DTYPE_F32) return op_refuse(s, i, e, "f32");
    int skip = a->rank - b->rank;
    bool fits = skip >= 0;
    for (int i = 0; fits && i < b->rank; i++) fits = a->dim[skip + i] == b->dim[i];
    if (!fits) return op_refuse(s, 1, e, "the last dimensions of input 0");
    s->out[0] = s->in[0];
    return 0;
}

static int forward_binary(const struct op_call *c, struct err *e)
{
    const struct kernels *k = c->backend->kernels;
    void (*fn)(const float *, const float *, float *, size_t) = c->node->op == &op_add   ? k->add
                                                                : c->node->op == &op_sub ? k->sub
                                                                                         : k->mul;
    size_t n = view_count(c->in[0]), period = view_count(c->in[1]);
    const float *a = c->in[0]->data;
    float *y = c->out[0]->data;
    for (size_t at = 0; at < n; at += period) fn(a + at, c->in[1]->data, y + at, period);
    (void)e;
    return 0;
}

static void reference_binary(const struct op_ref *r)
{
    size_t n = ref_count(&r->in[0]), period = ref_count(&r->in[1]);
    for (size_t i = 0; i < n; i++) {
        double a = r->in[0].data[i], b = r->in[1].data[i % period];
        r->out[0].data[i] = r->node->op == &op_add ? a + b : r->node->op == &op_sub ? a - b : a * b;
    }
}

/* Sums the gradient of input `i` over the repetitions of that input. */
static int reduce_to_input(struct op_grad *d, int i, int dy, struct err *e)
{
    const struct value *v = graph_value(d->graph, d->node.input[i]);
    d->dx[i] = dy;
    if (shape_equal(&v->shape, &graph_value(d->graph, dy)->shape)) return 0;
    struct attr shape = {"shape", {.ints = v->shape}};
    return grad_op(d, "ReduceTo", &dy, 1, &shape, 1, &d->dx[i], e);
}

static int backward_add(struct op_grad *d, struct err *e)
{
    d->dx[0] = d->dy[0];
    return d->want[1] ? reduce_to_input(d, 1, d->dy[0], e) : 0;
}

static int backward_sub(struct op_grad *d, struct err *e)
{
    struct attr minus = {"factor", {.f = -1}};
    int neg, rc;
    d->dx[0] = d->dy[0];
    if (!d->want[1]) return 0;
    rc = grad_op(d, "Scale", &d->dy[0], 1, &minus, 1, &neg, e);
    return rc ? rc : reduce_to_input(d, 1, neg, e);
}

static int backward_mul(struct op_grad *d, struct err *e)
{
    int rc = 0, db;
    if (d->want[0]) rc = grad_op(d, "Mul", (int[]){d->dy[0], d->node.input[1]}, 2, NULL, 0, &d->dx[0], e);
    if (rc || !d->want[1]) return rc;
    rc = grad_op(d, "Mul", (int[]){d->dy[0], d->node.input[0]}, 2, NULL, 0, &db, e);
    return rc ? rc : reduce_to_input(d, 1, db, e);
}

#define BINARY(NAME, BACKWARD, ROWS)                                                                         \
    {                                                                                                        \
        .name = (NAME), .rows = (ROWS), .min_inputs = 2, .max_inputs = 2, .outputs = 1,                      \
        .infer = infer_binary, .forward = forward_binary, .reference = reference_binary,                     \
        .backward = (BACKWARD), .flops = op_flops_one, .in_place = 1                                         \
    }

const struct op op_add = BINARY("Add", backward_add, OP_ROWS_AFFINE);
const struct op op_sub = BINARY("Sub", backward_sub, OP_ROWS_AFFINE);
const struct op op_mul = BINARY("Mul", backward_mul, OP_ROWS_APART);

/* ---- Scale(x) = factor·x ---- */

static const struct op_attr scale_attrs[] = {
    {.name = "factor", .type = ATTR_FLOAT, .required = true, .min = -1e30, .max = 1e30}};

static int forward_scale(const struct op_call *c, struct err *e)
{
    (void)e;
    c->backend->kernels->scale((float)c->node->attr[0].f, c->in[0]->data, c->out[0]->data,
                               view_count(c->in[0]));
    return 0;
}

static void reference_scale(const struct op_ref *r)
{
    for (size_t i = 0; i < ref_count(&r->in[0]); i++)
        r->out[0].data[i] = r->node->attr[0].f * r->in[0].data[i];
}

static int backward_scale(struct op_grad *d, struct err *e)
{
    struct attr factor = {"factor", d->node.attr[0]};
    return grad_op(d, "Scale", &d->dy[0], 1, &factor, 1, &d->dx[0], e);
}

const struct op op_scale = {.name = "Scale",
                            .internal = true,
                            .rows = OP_ROWS_AFFINE,
                            .min_inputs = 1,
                            .max_inputs = 1,
                            .outputs = 1,
                            .attrs = scale_attrs,
                            .n_attrs = 1,
                            .infer = op_same_shape,
                            .forward = forward_scale,
                            .reference = reference_scale,
                            .backward = backward_scale,
                            .flops = op_flops_one,
                            .in_place = 1};

/* ---- ReduceTo(x): the sum over all dimensions before the last ones, which are `shape` ---- */

static const struct op_attr shape_attrs[] = {
    {.name = "shape", .type = ATTR_INTS, .required = true, .min = -1, .max = INT32_MAX}};

static int infer_reduce(struct op_shapes *s, struct err *e)
{
    const struct shape *to = &s->node->attr[0].ints, *x = &s->in[0].shape;
    int skip = x->rank - to->rank;
    for (int i = 0; i < to->rank; i++)
        if (skip < 0 || x->dim[skip + i] != to->dim[i])
            return op_refuse(s, 0, e, "last dimensions as the attribute says");
    s->out[0] = (struct typed_shape){DTYPE_F32, *to};
    return 0;
}

static int forward_reduce(const struct op_call *c, struct err *e)
{
    size_t cols = view_count(c->out[0]);
    (void)e;
    c->backend->kernels->sum_rows(c->in[0]->data, c->out[0]->data, view_count(c->in[0]) / cols, cols,
                                  c->adds);
    return 0;
}

static void reference_reduce(const struct op_ref *r)
{
    size_t n = ref_count(&r->in[0]), cols = ref_count(&r->out[0]);
    memset(r->out[0].data, 0, cols * sizeof(double));
    for (size_t i = 0; i < n; i++) r->out[0].data[i % cols] += r->in[0].data[i];
}

static double flops_reduce(const struct op_shapes *s)
{
    return (double)shape_row_count(&s->in[0].shape);
}

const struct op op_reduce_to = {.name = "ReduceTo",
                                .internal = true,
                                .min_inputs = 1,
                                .max_inputs = 1,
                                .outputs = 1,
                                .attrs = shape_attrs,
                                .n_attrs = 1,
                                .infer = infer_reduce,
                                .forward = forward_reduce,
                                .reference = reference_reduce,
                                .no_gradient = true,
                                .flops = flops_reduce,
                                .adds = true};

/* ---- Fill() = value everywhere ---- */

static const struct op_attr fill_attrs[] = {
    {.name = "shape", .type = ATTR_INTS, .required = true, .min = -1, .max = INT32_MAX},
    {.name = "value", .type = ATTR_FLOAT, .min = -1e30, .max = 1e30},
};

static int infer_fill(struct op_shapes *s, struct err *e)
{
    (void)e;
    s->out[0] = (struct typed_shape){DTYPE_F32, s->node->attr[0].ints};
    return 0;
}

static int forward_fill(const struct op_call *c, struct err *e)
{
    (void)e;
    c->backend->kernels->fill((float)c->node->attr[1].f, c->out[0]->data, view_count(c->out[0]));
    return 0;
}

static void reference_fill(const struct op_ref *r)
{
    for (size_t i = 0; i < ref_count(&r->out[0]); i++) r->out[0].data[i] = r->node->attr[1].f;
}

const struct op op_fill = {.name = "Fill",
                           .internal = true,
                           .outputs = 1,
                           .attrs = fill_attrs,
                           .n_attrs = 2,
                           .infer = infer_fill,
                           .forward = forward_fill,
                           .reference = reference_fill,
                           .no_gradient = true,
                           .flops = op_flops_none};

/* ---- LossShare(): what the gradients begin with, the loss's by itself. A part of the rows whose mean the
 * loss is counts by its share. ---- */

static int infer_share(struct op_shapes *s, struct err *e)
{
    (void)e;
    s->out[0] = (struct typed_shape){DTYPE_F32, {.rank = 0}};
    return 0;
}

static int forward_share(const struct op_call *c, struct err *e)
{
    (void)e;
    *(float *)c->out[0]->data = (float)c->share;
    return 0;
}

static void reference_share(const struct op_ref *r)
{
    r->out[0].data[0] = 1;
}

const struct op op_loss_share = {.name = "LossShare",
                                 .internal = true,
                                 .outputs = 1,
                                 .infer = infer_share,
                                 .forward = forward_share,
                                 .reference = reference_share,
                                 .no_gradient = true,
                                 .flops = op_flops_none};

/* ---- Identity(x): a copy ---- */

static int forward_identity(const struct op_call *c, struct err *e)
{
    (void)e;
    const float *x = c->in[0]->data;
    float *y = c->out[0]->data;
    if (c->adds)
        c->backend->kernels->add(x, y, y, view_count(c->in[0]));
    else
        memmove(y, x, view_count(c->in[0]) * sizeof(float));
    return 0;
}

static void reference_identity(const struct op_ref *r)
{
    memcpy(r->out[0].data, r->in[0].data, ref_count(&r->in[0]) * sizeof(double));
}

static int backward_identity(struct op_grad *d, struct err *e)
{
    (void)e;
    d->dx[0] = d->dy[0];
    return 0;
}

const struct op op_identity = {.name = "Identity",
                               .rows = OP_ROWS_AFFINE,
                               .min_inputs = 1,
                               .max_inputs = 1,
                               .outputs = 1,
                               .infer = op_same_shape,
                               .forward = forward_identity,
                               .reference = reference_identity,
                               .backward = backward_identity,
                               .flops = op_flops_none,
                               .adds = true,
                               .in_place = 1};
