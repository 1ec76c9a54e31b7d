/* Softmax over the last dimension, and its gradient. */
#include "tensor/ops/families.h"

#include <math.h>

static int infer(struct op_shapes *s, struct err *e)
{
    const struct shape *x = &s->in[0].shape;
    if (x->rank < 1 || x->dim[x->rank - 1] == SHAPE_BATCH) return op_refuse(s, 0, e, "f32 [..., n]");
    return op_same_shape(s, e);
}

static int forward(const struct op_call *c, struct err *e)
{
    size_t rows, cols;
    (void)e;
    op_split_rows(&c->in[0]->shape, &rows, &cols);
    c->backend->kernels->softmax(1, c->in[0]->data, c->out[0]->data, rows, cols);
    return 0;
}

void softmax_reference(const double *x, double *y, size_t cols)
{
    double max = x[0], sum = 0;
    for (size_t j = 1; j < cols; j++) max = x[j] > max ? x[j] : max;
    for (size_t j = 0; j < cols; j++) sum += y[j] = exp(x[j] - max);
    for (size_t j = 0; j < cols; j++) y[j] /= sum;
}

static void reference(const struct op_ref *r)
{
    size_t rows, cols;
    op_split_rows(&r->in[0].shape, &rows, &cols);
    for (size_t i = 0; i < rows; i++)
        softmax_reference(r->in[0].data + i * cols, r->out[0].data + i * cols, cols);
}

static int backward(struct op_grad *d, struct err *e)
{
    return grad_op(d, "SoftmaxGrad", (int[]){d->dy[0], d->node.output[0]}, 2, NULL, 0, &d->dx[0], e);
}

static double flops(const struct op_shapes *s)
{
    return 13 * op_flops_one(s);
}

const struct op op_softmax = {.name = "Softmax",
                              .min_inputs = 1,
                              .max_inputs = 1,
                              .outputs = 1,
                              .infer = infer,
                              .forward = forward,
                              .reference = reference,
                              .backward = backward,
                              .flops = flops,
                              .in_place = 1};

/* ---- SoftmaxGrad(dy, y) ---- */

static int forward_grad(const struct op_call *c, struct err *e)
{
    size_t rows, cols;
    (void)e;
    op_split_rows(&c->in[0]->shape, &rows, &cols);
    c->backend->kernels->softmax_grad(1, c->in[1]->data, c->in[0]->data, c->out[0]->data, rows, cols);
    return 0;
}

static void reference_grad(const struct op_ref *r)
{
    size_t rows, cols;
    op_split_rows(&r->in[0].shape, &rows, &cols);
    for (size_t i = 0; i < rows; i++) {
        const double *dy = r->in[0].data + i * cols, *y = r->in[1].data + i * cols;
        double dot = 0;
        for (size_t j = 0; j < cols; j++) dot += dy[j] * y[j];
        for (size_t j = 0; j < cols; j++) r->out[0].data[i * cols + j] = y[j] * (dy[j] - dot);
    }
}

static double flops_grad(const struct op_shapes *s)
{
    return 4 * op_flops_one(s);
}

const struct op op_softmax_grad = {.name = "SoftmaxGrad",
                                   .internal = true,
                                   .min_inputs = 2,
                                   .max_inputs = 2,
                                   .outputs = 1,
                                   .infer = op_same_shape,
                                   .forward = forward_grad,
                                   .reference = reference_grad,
                                   .no_gradient = true,
                                   .flops = flops_grad,
                                   .in_place = 3};
