/* Flatten and Reshape: the same memory under another shape. */
#include "tensor/ops/families.h"

#include <string.h>

/* The planner gives input and output one place, so there is nothing to do. */
static int forward(const struct op_call *c, struct err *e)
{
    (void)c;
    (void)e;
    return 0;
}

static void reference(const struct op_ref *r)
{
    memcpy(r->out[0].data, r->in[0].data, ref_count(&r->in[0]) * sizeof(double));
}

static int backward(struct op_grad *d, struct err *e)
{
    struct attr shape = {"shape", {.ints = graph_value(d->graph, d->node.input[0])->shape}};
    return grad_op(d, "Reshape", &d->dy[0], 1, &shape, 1, &d->dx[0], e);
}

static int infer_flatten(struct op_shapes *s, struct err *e)
{
    const struct shape *x = &s->in[0].shape;
    if (x->rank < 1) return op_refuse(s, 0, e, "at least one dimension");
    s->out[0].dtype = s->in[0].dtype;
    s->out[0].shape = shape_of(2, (int64_t[]){x->dim[0], (int64_t)shape_row_count(x)});
    if (!shape_batched(x)) s->out[0].shape.dim[1] /= x->dim[0];
    return 0;
}

const struct op op_flatten = {.name = "Flatten",
                              .min_inputs = 1,
                              .max_inputs = 1,
                              .outputs = 1,
                              .infer = infer_flatten,
                              .forward = forward,
                              .reference = reference,
                              .backward = backward,
                              .flops = op_flops_none,
                              .alias = true};

/* shape begins with -1 exactly when the input has a batch dimension. */
static const struct op_attr reshape_attrs[] = {
    {.name = "shape", .type = ATTR_INTS, .required = true, .min = -1, .max = INT32_MAX}};

static int infer_reshape(struct op_shapes *s, struct err *e)
{
    const struct shape *x = &s->in[0].shape, *to = &s->node->attr[0].ints;
    size_t n;
    bool fits = shape_batched(x) == shape_batched(to) && shape_count(to, 1, &n) && n == shape_row_count(x);
    for (int i = 1; i < to->rank; i++) fits = fits && to->dim[i] >= 1;
    if (!fits) return op_refuse(s, 0, e, "as many elements a row as the attribute shape has");
    s->out[0] = (struct typed_shape){s->in[0].dtype, *to};
    return 0;
}

const struct op op_reshape = {.name = "Reshape",
                              .min_inputs = 1,
                              .max_inputs = 1,
                              .outputs = 1,
                              .attrs = reshape_attrs,
                              .n_attrs = 1,
                              .infer = infer_reshape,
                              .forward = forward,
                              .reference = reference,
                              .backward = backward,
                              .flops = op_flops_none,
                              .alias = true};
