/* Transpose, Concat and Slice: elements move, none is computed. The batch stays the first dimension. */
#include "tensor/ops/families.h"

#include <string.h>

/* ---- Transpose(x), attribute perm: dimension i of the output is perm[i] of x ---- */

static const struct op_attr transpose_attrs[] = {
    {.name = "perm", .type = ATTR_INTS, .required = true, .min = 0, .max = TENSOR_MAX_RANK - 1}};

static int infer_transpose(struct op_shapes *s, struct err *e)
{
    const struct shape *x = &s->in[0].shape, *perm = &s->node->attr[0].ints;
    bool fits = perm->rank == x->rank && (!shape_batched(x) || perm->dim[0] == 0);
    unsigned used = 0;
    for (int i = 0; fits && i < perm->rank; i++) {
        fits = perm->dim[i] < x->rank && !(used >> perm->dim[i] & 1);
        used |= 1u << perm->dim[i];
    }
    if (!fits) return op_refuse(s, 0, e, "the dimensions that perm names, each once, the batch first");
    s->out[0] = (struct typed_shape){s->in[0].dtype, {.rank = x->rank}};
    for (int i = 0; i < x->rank; i++) s->out[0].shape.dim[i] = x->dim[perm->dim[i]];
    return 0;
}

/* Where the output's element i (row-major) lies in x. */
static size_t source_of(size_t i, const struct shape *out, const struct shape *x, const struct shape *perm)
{
    size_t at = 0;
    for (int d = out->rank - 1; d >= 0; d--) {
        size_t step = 1;
        for (int64_t j = perm->dim[d] + 1; j < x->rank; j++) step *= (size_t)x->dim[j];
        at += i % (size_t)out->dim[d] * step;
        i /= (size_t)out->dim[d];
    }
    return at;
}

static int forward_transpose(const struct op_call *c, struct err *e)
{
    const struct shape *out = &c->out[0]->shape, *x = &c->in[0]->shape, *perm = &c->node->attr[0].ints;
    const float *from = c->in[0]->data;
    float *to = c->out[0]->data;
    size_t n = view_count(c->out[0]), run = out->rank > 0 ? (size_t)out->dim[out->rank - 1] : 1;
    size_t step = run > 1 ? source_of(1, out, x, perm) : 1;
    (void)e;
    for (size_t i = 0; i < n; i += run) {
        const float *line = from + source_of(i, out, x, perm);
        if (step == 1)
            memcpy(to + i, line, run * sizeof *to);
        else
            for (size_t j = 0; j < run; j++) memcpy(to + i + j, line + j * step, sizeof *to);
    }
    return 0;
}

static void reference_transpose(const struct op_ref *r)
{
    for (size_t i = 0; i < ref_count(&r->out[0]); i++)
        r->out[0].data[i] =
            r->in[0].data[source_of(i, &r->out[0].shape, &r->in[0].shape, &r->node->attr[0].ints)];
}

static int backward_transpose(struct op_grad *d, struct err *e)
{
    struct attr back = {"perm", {.ints = d->node.attr[0].ints}};
    for (int i = 0; i < back.value.ints.rank; i++) back.value.ints.dim[d->node.attr[0].ints.dim[i]] = i;
    return grad_op(d, "Transpose", &d->dy[0], 1, &back, 1, &d->dx[0], e);
}

const struct op op_transpose = {.name = "Transpose",
                                .min_inputs = 1,
                                .max_inputs = 1,
                                .outputs = 1,
                                .attrs = transpose_attrs,
                                .n_attrs = 1,
                                .infer = infer_transpose,
                                .forward = forward_transpose,
                                .reference = reference_transpose,
                                .backward = backward_transpose,
                                .flops = op_flops_none};

/* ---- along one axis: how often, and how many elements at a time ---- */

/* The axis counted from the front; -1 when there is none such or it is the batch. */
static int axis_of(int64_t axis, const struct shape *x)
{
    if (axis < 0) axis += x->rank;
    return axis < 0 || axis >= x->rank || x->dim[axis] == SHAPE_BATCH ? -1 : (int)axis;
}

/* Elements from one step along the axis to the next. */
static size_t step_of(const struct shape *x, int axis)
{
    size_t n = 1;
    for (int i = axis + 1; i < x->rank; i++) n *= (size_t)x->dim[i];
    return n;
}

/* ---- Concat(x, …), attribute axis ---- */

static const struct op_attr concat_attrs[] = {{.name = "axis",
                                               .type = ATTR_INT,
                                               .fallback = {.i = -1},
                                               .min = -TENSOR_MAX_RANK,
                                               .max = TENSOR_MAX_RANK - 1}};

static int infer_concat(struct op_shapes *s, struct err *e)
{
    const struct shape *x = &s->in[0].shape;
    int axis = axis_of(s->node->attr[0].i, x);
    if (axis < 0) return op_refuse(s, 0, e, "the dimension that axis names, not the batch");
    s->out[0] = s->in[0];
    for (int i = 1; i < s->node->n_inputs; i++) {
        struct shape other = s->in[i].shape;
        if (other.rank == x->rank) other.dim[axis] = x->dim[axis];
        if (s->in[i].dtype != s->in[0].dtype || !shape_equal(&other, x))
            return op_refuse(s, i, e, "the shape of input 0 but for the axis");
        s->out[0].shape.dim[axis] += s->in[i].shape.dim[axis];
    }
    return 0;
}

static int forward_concat(const struct op_call *c, struct err *e)
{
    int axis = axis_of(c->node->attr[0].i, &c->in[0]->shape);
    size_t step = step_of(&c->out[0]->shape, axis), whole = (size_t)c->out[0]->shape.dim[axis] * step;
    size_t times = view_count(c->out[0]) / whole, at = 0;
    (void)e;
    for (int i = 0; i < c->node->n_inputs; i++) {
        size_t part = (size_t)c->in[i]->shape.dim[axis] * step;
        const float *x = c->in[i]->data;
        float *y = (float *)c->out[0]->data + at;
        for (size_t t = 0; t < times; t++) memcpy(y + t * whole, x + t * part, part * sizeof *y);
        at += part;
    }
    return 0;
}

static void reference_concat(const struct op_ref *r)
{
    int axis = axis_of(r->node->attr[0].i, &r->in[0].shape);
    size_t step = step_of(&r->out[0].shape, axis), whole = (size_t)r->out[0].shape.dim[axis] * step;
    for (size_t i = 0; i < ref_count(&r->out[0]); i++) {
        size_t at = i % whole;
        int from = 0;
        while (at >= (size_t)r->in[from].shape.dim[axis] * step)
            at -= (size_t)r->in[from++].shape.dim[axis] * step;
        r->out[0].data[i] = r->in[from].data[i / whole * (size_t)r->in[from].shape.dim[axis] * step + at];
    }
}

static int backward_concat(struct op_grad *d, struct err *e)
{
    int axis = axis_of(d->node.attr[0].i, &graph_value(d->graph, d->node.input[0])->shape), rc = 0;
    int64_t at = 0;
    for (int i = 0; rc == 0 && i < d->node.n_inputs; i++) {
        int64_t end = at + graph_value(d->graph, d->node.input[i])->shape.dim[axis];
        struct attr part[] = {{"axis", {.i = axis}}, {"start", {.i = at}}, {"end", {.i = end}}};
        if (d->want[i]) rc = grad_op(d, "Slice", &d->dy[0], 1, part, 3, &d->dx[i], e);
        at = end;
    }
    return rc;
}

const struct op op_concat = {.name = "Concat",
                             .min_inputs = 1,
                             .max_inputs = NODE_MAX_INPUTS,
                             .outputs = 1,
                             .attrs = concat_attrs,
                             .n_attrs = 1,
                             .infer = infer_concat,
                             .forward = forward_concat,
                             .reference = reference_concat,
                             .backward = backward_concat,
                             .flops = op_flops_none};

/* ---- Slice(x): start … end − 1 of one axis; negative numbers count from the end ---- */

#define SLICE_ATTRS                                                                                          \
    {.name = "axis",                                                                                         \
     .type = ATTR_INT,                                                                                       \
     .required = true,                                                                                       \
     .min = -TENSOR_MAX_RANK,                                                                                \
     .max = TENSOR_MAX_RANK - 1},                                                                            \
        {.name = "start", .type = ATTR_INT, .required = true, .min = -INT32_MAX, .max = INT32_MAX},          \
    {                                                                                                        \
        .name = "end", .type = ATTR_INT, .required = true, .min = -INT32_MAX, .max = INT32_MAX               \
    }

static const struct op_attr slice_attrs[] = {SLICE_ATTRS};

/* Elements are cut out of x [times, whole]: `part` of them from `at` on. */
struct cut {
    int axis;
    int64_t start, end;
    size_t times, whole, at, part;
};

static bool cut_of(struct cut *c, const struct shape *x, const struct node *n)
{
    if ((c->axis = axis_of(n->attr[0].i, x)) < 0) return false;
    int64_t size = x->dim[c->axis];
    c->start = n->attr[1].i + (n->attr[1].i < 0 ? size : 0);
    c->end = n->attr[2].i + (n->attr[2].i < 0 ? size : 0);
    if (c->end > size) c->end = size;
    if (c->start < 0 || c->start >= c->end) return false;
    size_t step = step_of(x, c->axis);
    c->whole = (size_t)size * step;
    c->times = shape_row_count(x) / c->whole;
    c->at = (size_t)c->start * step;
    c->part = (size_t)(c->end - c->start) * step;
    return true;
}

static int infer_slice(struct op_shapes *s, struct err *e)
{
    struct cut c;
    if (!cut_of(&c, &s->in[0].shape, s->node))
        return op_refuse(s, 0, e, "something between start and end of the axis, which is not the batch");
    s->out[0] = s->in[0];
    s->out[0].shape.dim[c.axis] = c.end - c.start;
    return 0;
}

static int forward_slice(const struct op_call *call, struct err *e)
{
    const float *x = call->in[0]->data;
    float *y = call->out[0]->data;
    struct cut c;
    (void)e;
    if (!cut_of(&c, &call->in[0]->shape, call->node)) return 0;
    for (size_t t = 0; t < c.times; t++) memcpy(y + t * c.part, x + t * c.whole + c.at, c.part * sizeof *y);
    return 0;
}

static void reference_slice(const struct op_ref *r)
{
    struct cut c;
    if (!cut_of(&c, &r->in[0].shape, r->node)) return;
    for (size_t i = 0; i < c.times * c.part; i++)
        r->out[0].data[i] = r->in[0].data[i / c.part * c.whole + c.at + i % c.part];
}

static int backward_slice(struct op_grad *d, struct err *e)
{
    struct attr attrs[] = {{"axis", d->node.attr[0]},
                           {"start", d->node.attr[1]},
                           {"end", d->node.attr[2]},
                           {"shape", {.ints = graph_value(d->graph, d->node.input[0])->shape}}};
    return grad_op(d, "SliceGrad", &d->dy[0], 1, attrs, 4, &d->dx[0], e);
}

const struct op op_slice = {.name = "Slice",
                            .min_inputs = 1,
                            .max_inputs = 1,
                            .outputs = 1,
                            .attrs = slice_attrs,
                            .n_attrs = 3,
                            .infer = infer_slice,
                            .forward = forward_slice,
                            .reference = reference_slice,
                            .backward = backward_slice,
                            .flops = op_flops_none};

/* ---- SliceGrad(dy): zeros of x's shape with dy where the slice was ---- */

static const struct op_attr slice_grad_attrs[] = {
    SLICE_ATTRS, {.name = "shape", .type = ATTR_INTS, .required = true, .min = -1, .max = INT32_MAX}};

static int infer_slice_grad(struct op_shapes *s, struct err *e)
{
    (void)e;
    s->out[0] = (struct typed_shape){DTYPE_F32, s->node->attr[3].ints};
    return 0;
}

static int forward_slice_grad(const struct op_call *call, struct err *e)
{
    const float *dy = call->in[0]->data;
    float *dx = call->out[0]->data;
    struct cut c;
    (void)e;
    if (!cut_of(&c, &call->out[0]->shape, call->node)) return 0;
    memset(dx, 0, view_count(call->out[0]) * sizeof *dx);
    for (size_t t = 0; t < c.times; t++)
        memcpy(dx + t * c.whole + c.at, dy + t * c.part, c.part * sizeof *dx);
    return 0;
}

static void reference_slice_grad(const struct op_ref *r)
{
    struct cut c;
    if (!cut_of(&c, &r->out[0].shape, r->node)) return;
    memset(r->out[0].data, 0, ref_count(&r->out[0]) * sizeof(double));
    for (size_t i = 0; i < c.times * c.part; i++)
        r->out[0].data[i / c.part * c.whole + c.at + i % c.part] = r->in[0].data[i];
}

const struct op op_slice_grad = {.name = "SliceGrad",
                                 .internal = true,
                                 .min_inputs = 1,
                                 .max_inputs = 1,
                                 .outputs = 1,
                                 .attrs = slice_grad_attrs,
                                 .n_attrs = 4,
                                 .infer = infer_slice_grad,
                                 .forward = forward_slice_grad,
                                 .reference = reference_slice_grad,
                                 .no_gradient = true,
                                 .flops = op_flops_none};
