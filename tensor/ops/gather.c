/* Gather: rows of a table by their numbers, as an embedding does, and its gradient, which adds each row's
 * gradient where the row came from, in the order of the batch. */
#include "tensor/ops/families.h"

#include <string.h>

static int infer(struct op_shapes *s, struct err *e)
{
    const struct shape *table = &s->in[0].shape, *ids = &s->in[1].shape;
    if (s->in[0].dtype != DTYPE_F32 || table->rank != 2 || shape_batched(table))
        return op_refuse(s, 0, e, "an f32 table [rows, width]");
    if (s->in[1].dtype != DTYPE_I32 || ids->rank >= TENSOR_MAX_RANK)
        return op_refuse(s, 1, e, "i32 row numbers of at most five dimensions");
    s->out[0] = (struct typed_shape){DTYPE_F32, *ids};
    s->out[0].shape.dim[s->out[0].shape.rank++] = table->dim[1];
    return 0;
}

static int forward(const struct op_call *c, struct err *e)
{
    const float *table = c->in[0]->data;
    const int32_t *id = c->in[1]->data;
    int64_t rows = c->in[0]->shape.dim[0];
    size_t width = (size_t)c->in[0]->shape.dim[1], n = view_count(c->in[1]);
    float *y = c->out[0]->data;
    for (size_t i = 0; i < n; i++) {
        if (id[i] < 0 || id[i] >= rows)
            return err_set(e, ERR_INVALID, c->node->name, "'%s': number %d at place %zu; expected 0 to %lld",
                           c->node->name, id[i], i, (long long)rows - 1);
        memcpy(y + i * width, table + (size_t)id[i] * width, width * sizeof *y);
    }
    return 0;
}

static void reference(const struct op_ref *r)
{
    size_t width = (size_t)r->in[0].shape.dim[1];
    for (size_t i = 0; i < ref_count(&r->out[0]); i++)
        r->out[0].data[i] = r->in[0].data[(size_t)r->in[1].data[i / width] * width + i % width];
}

static int backward(struct op_grad *d, struct err *e)
{
    struct attr shape = {"shape", {.ints = graph_value(d->graph, d->node.input[0])->shape}};
    return grad_op(d, "GatherGrad", (int[]){d->dy[0], d->node.input[1]}, 2, &shape, 1, &d->dx[0], e);
}

const struct op op_gather = {.name = "Gather",
                             .min_inputs = 2,
                             .max_inputs = 2,
                             .outputs = 1,
                             .infer = infer,
                             .forward = forward,
                             .reference = reference,
                             .backward = backward,
                             .flops = op_flops_none};

/* ---- GatherGrad(dy, ids) → the table's gradient; the forward node has checked the numbers ---- */

static const struct op_attr attrs[] = {
    {.name = "shape", .type = ATTR_INTS, .required = true, .min = 1, .max = INT32_MAX}};

static int infer_grad(struct op_shapes *s, struct err *e)
{
    (void)e;
    s->out[0] = (struct typed_shape){DTYPE_F32, s->node->attr[0].ints};
    return 0;
}

/* A step reaches few rows of a large table: those that the last one reached are cleared. */
static void clear(float *dw, uint8_t *marks, size_t rows, size_t width)
{
    if (!marks) memset(dw, 0, rows * width * sizeof *dw);
    for (size_t i = 0; marks && i < rows; i++) {
        if (!marks[i]) continue;
        memset(dw + i * width, 0, width * sizeof *dw);
        marks[i] = 0;
    }
}

static int forward_grad(const struct op_call *c, struct err *e)
{
    const float *dy = c->in[0]->data;
    const int32_t *id = c->in[1]->data;
    size_t width = (size_t)c->out[0]->shape.dim[1], n = view_count(c->in[1]);
    float *dw = c->out[0]->data;
    (void)e;
    if (!c->adds) clear(dw, c->marks, (size_t)c->out[0]->shape.dim[0], width);
    for (size_t i = 0; i < n; i++) {
        float *row = dw + (size_t)id[i] * width;
        if (c->marks) c->marks[id[i]] = 1;
        c->backend->kernels->add(row, dy + i * width, row, width);
    }
    return 0;
}

static void reference_grad(const struct op_ref *r)
{
    size_t width = (size_t)r->out[0].shape.dim[1];
    memset(r->out[0].data, 0, ref_count(&r->out[0]) * sizeof(double));
    for (size_t i = 0; i < ref_count(&r->in[0]); i++)
        r->out[0].data[(size_t)r->in[1].data[i / width] * width + i % width] += r->in[0].data[i];
}

static double flops_grad(const struct op_shapes *s)
{
    return (double)shape_row_count(&s->in[0].shape);
}

const struct op op_gather_grad = {.name = "GatherGrad",
                                  .internal = true,
                                  .min_inputs = 2,
                                  .max_inputs = 2,
                                  .outputs = 1,
                                  .attrs = attrs,
                                  .n_attrs = 1,
                                  .infer = infer_grad,
                                  .forward = forward_grad,
                                  .reference = reference_grad,
                                  .no_gradient = true,
                                  .flops = flops_grad,
                                  .adds = true,
                                  .marks = true};
