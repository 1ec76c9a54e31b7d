/* Losses: means over the batch, each fused with what precedes it, with gradients of the textbook form
 * prediction − target. */
#include "tensor/ops/families.h"

#include <math.h>

static const struct shape scalar = {.rank = 0};

/* Gradients take (dloss, a, b), dloss a scalar, and have a's shape. */
static int infer_grad(struct op_shapes *s, struct err *e)
{
    if (s->in[0].shape.rank != 0) return op_refuse(s, 0, e, "the scalar gradient of the loss");
    s->out[0] = s->in[1];
    return 0;
}

static double flops_grad(const struct op_shapes *s)
{
    return 3 * op_flops_one(s);
}

/* prediction and target of one shape → scalar */
static int infer_pair(struct op_shapes *s, struct err *e)
{
    int rc = op_same_shape(s, e);
    s->out[0] = (struct typed_shape){DTYPE_F32, scalar};
    return rc;
}

static double flops_pair(const struct op_shapes *s)
{
    return 3.0 * (double)shape_row_count(&s->in[0].shape);
}

/* The target's gradient is the negative of the prediction's where the loss depends on their difference. */
static int negate(struct op_grad *d, int from, int to, struct err *e)
{
    struct attr minus = {"factor", {.f = -1}};
    return grad_op(d, "Scale", &d->dx[from], 1, &minus, 1, &d->dx[to], e);
}

/* ---- MeanSquaredError(prediction, target) ---- */

static int forward_mse(const struct op_call *c, struct err *e)
{
    const float *p = c->in[0]->data, *t = c->in[1]->data;
    size_t n = view_count(c->in[0]);
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)p[i] - (double)t[i];
        sum += d * d;
    }
    *(float *)c->out[0]->data = (float)(sum / (double)n);
    (void)e;
    return 0;
}

static void reference_mse(const struct op_ref *r)
{
    size_t n = ref_count(&r->in[0]);
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double d = r->in[0].data[i] - r->in[1].data[i];
        sum += d * d;
    }
    r->out[0].data[0] = sum / (double)n;
}

static int backward_mse(struct op_grad *d, struct err *e)
{
    int rc = grad_op(d, "MeanSquaredErrorGrad", (int[]){d->dy[0], d->node.input[0], d->node.input[1]}, 3,
                     NULL, 0, &d->dx[0], e);
    return rc || !d->want[1] ? rc : negate(d, 0, 1, e);
}

const struct op op_mse = {.name = "MeanSquaredError",
                          .min_inputs = 2,
                          .max_inputs = 2,
                          .outputs = 1,
                          .infer = infer_pair,
                          .forward = forward_mse,
                          .reference = reference_mse,
                          .backward = backward_mse,
                          .flops = flops_pair};

static int forward_mse_grad(const struct op_call *c, struct err *e)
{
    const struct kernels *k = c->backend->kernels;
    size_t n = view_count(c->in[1]);
    float factor = *(const float *)c->in[0]->data * 2.0f / (float)n;
    k->sub(c->in[1]->data, c->in[2]->data, c->out[0]->data, n);
    k->scale(factor, c->out[0]->data, c->out[0]->data, n);
    (void)e;
    return 0;
}

static void reference_mse_grad(const struct op_ref *r)
{
    size_t n = ref_count(&r->in[1]);
    for (size_t i = 0; i < n; i++)
        r->out[0].data[i] = r->in[0].data[0] * 2 * (r->in[1].data[i] - r->in[2].data[i]) / (double)n;
}

const struct op op_mse_grad = {.name = "MeanSquaredErrorGrad",
                               .internal = true,
                               .min_inputs = 3,
                               .max_inputs = 3,
                               .outputs = 1,
                               .infer = infer_grad,
                               .forward = forward_mse_grad,
                               .reference = reference_mse_grad,
                               .no_gradient = true,
                               .flops = flops_grad};

/* ---- SoftmaxCrossEntropy(logits [..., n], labels i32 [...]) → loss, probabilities ---- */

static int infer_softmax(struct op_shapes *s, struct err *e)
{
    const struct shape *x = &s->in[0].shape;
    if (s->in[0].dtype != DTYPE_F32 || x->rank < 1 || x->dim[x->rank - 1] == SHAPE_BATCH)
        return op_refuse(s, 0, e, "f32 logits [..., classes]");
    struct shape labels = *x;
    labels.dim[--labels.rank] = 0;
    if (s->in[1].dtype != DTYPE_I32 || !shape_equal(&s->in[1].shape, &labels))
        return op_refuse(s, 1, e, "i32 labels with the logits' shape less its last dimension");
    s->out[0] = (struct typed_shape){DTYPE_F32, scalar};
    s->out[1] = s->in[0];
    return 0;
}

static int forward_softmax(const struct op_call *c, struct err *e)
{
    const int32_t *label = c->in[1]->data;
    float *p = c->out[1]->data;
    size_t rows, cols;
    double sum = 0;
    op_split_rows(&c->in[0]->shape, &rows, &cols);
    c->backend->kernels->softmax(c->in[0]->data, p, rows, cols);
    for (size_t i = 0; i < rows; i++) {
        if (label[i] < 0 || (size_t)label[i] >= cols)
            return err_set(e, ERR_INVALID, "labels", "label %d in row %zu; expected 0 to %zu", label[i], i,
                           cols - 1);
        /* A probability that underflowed counts as the least normal float, not as an infinite loss; NaN stays
         * NaN. */
        float q = p[i * cols + (size_t)label[i]];
        sum -= (double)logf(q < 1.17549435e-38f ? 1.17549435e-38f : q);
    }
    *(float *)c->out[0]->data = (float)(sum / (double)rows);
    return 0;
}

static void reference_softmax(const struct op_ref *r)
{
    size_t rows, cols;
    double sum = 0;
    op_split_rows(&r->in[0].shape, &rows, &cols);
    for (size_t i = 0; i < rows; i++) {
        softmax_reference(r->in[0].data + i * cols, r->out[1].data + i * cols, cols);
        sum -= log(r->out[1].data[i * cols + (size_t)r->in[1].data[i]]);
    }
    r->out[0].data[0] = sum / (double)rows;
}

static int backward_softmax(struct op_grad *d, struct err *e)
{
    if (d->dy[1] >= 0)
        return err_set(e, ERR_UNSUPPORTED, d->node.name,
                       "'%s': its probabilities are for reading; use Softmax for what the loss depends on",
                       d->node.name);
    return grad_op(d, "SoftmaxCrossEntropyGrad", (int[]){d->dy[0], d->node.output[1], d->node.input[1]}, 3,
                   NULL, 0, &d->dx[0], e);
}

static double flops_softmax(const struct op_shapes *s)
{
    return 14.0 * (double)shape_row_count(&s->in[0].shape);
}

const struct op op_softmax_xent = {.name = "SoftmaxCrossEntropy",
                                   .min_inputs = 2,
                                   .max_inputs = 2,
                                   .outputs = 2,
                                   .infer = infer_softmax,
                                   .forward = forward_softmax,
                                   .reference = reference_softmax,
                                   .backward = backward_softmax,
                                   .flops = flops_softmax};

/* (dloss, probabilities, labels) → (p − onehot)·dloss / rows. The labels' range was checked by the forward
 * node. */
static int forward_softmax_grad(const struct op_call *c, struct err *e)
{
    const int32_t *label = c->in[2]->data;
    float *dx = c->out[0]->data;
    size_t rows, cols;
    op_split_rows(&c->in[1]->shape, &rows, &cols);
    float factor = *(const float *)c->in[0]->data / (float)rows;
    c->backend->kernels->scale(factor, c->in[1]->data, dx, rows * cols);
    for (size_t i = 0; i < rows; i++) dx[i * cols + (size_t)label[i]] -= factor;
    (void)e;
    return 0;
}

static void reference_softmax_grad(const struct op_ref *r)
{
    size_t rows, cols;
    op_split_rows(&r->in[1].shape, &rows, &cols);
    for (size_t i = 0; i < rows * cols; i++) {
        double hot = i % cols == (size_t)r->in[2].data[i / cols] ? 1 : 0;
        r->out[0].data[i] = (r->in[1].data[i] - hot) * r->in[0].data[0] / (double)rows;
    }
}

const struct op op_softmax_xent_grad = {.name = "SoftmaxCrossEntropyGrad",
                                        .internal = true,
                                        .min_inputs = 3,
                                        .max_inputs = 3,
                                        .outputs = 1,
                                        .infer = infer_grad,
                                        .forward = forward_softmax_grad,
                                        .reference = reference_softmax_grad,
                                        .no_gradient = true,
                                        .flops = flops_grad,
                                        .in_place = 2};

/* ---- SigmoidCrossEntropy(logits, targets in [0, 1]) ---- */

static double binary_loss(double x, double t)
{
    return (x > 0 ? x : 0) - x * t + log1p(exp(-fabs(x)));
}

static int forward_sigmoid(const struct op_call *c, struct err *e)
{
    const float *x = c->in[0]->data, *t = c->in[1]->data;
    size_t n = view_count(c->in[0]);
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += binary_loss((double)x[i], (double)t[i]);
    *(float *)c->out[0]->data = (float)(sum / (double)n);
    (void)e;
    return 0;
}

static void reference_sigmoid(const struct op_ref *r)
{
    size_t n = ref_count(&r->in[0]);
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += binary_loss(r->in[0].data[i], r->in[1].data[i]);
    r->out[0].data[0] = sum / (double)n;
}

static int backward_sigmoid(struct op_grad *d, struct err *e)
{
    if (d->want[1])
        return err_set(e, ERR_UNSUPPORTED, d->node.name, "'%s': targets of this loss have no gradient",
                       d->node.name);
    return grad_op(d, "SigmoidCrossEntropyGrad", (int[]){d->dy[0], d->node.input[0], d->node.input[1]}, 3,
                   NULL, 0, &d->dx[0], e);
}

static double flops_sigmoid(const struct op_shapes *s)
{
    return 25.0 * (double)shape_row_count(&s->in[0].shape);
}

const struct op op_sigmoid_xent = {.name = "SigmoidCrossEntropy",
                                   .min_inputs = 2,
                                   .max_inputs = 2,
                                   .outputs = 1,
                                   .infer = infer_pair,
                                   .forward = forward_sigmoid,
                                   .reference = reference_sigmoid,
                                   .backward = backward_sigmoid,
                                   .flops = flops_sigmoid};

/* (dloss, logits, targets) → (σ(x) − t)·dloss / n */
static int forward_sigmoid_grad(const struct op_call *c, struct err *e)
{
    const struct kernels *k = c->backend->kernels;
    size_t n = view_count(c->in[1]);
    float *dx = c->out[0]->data;
    k->activate(ACT_SIGMOID, 0, c->in[1]->data, dx, n);
    k->sub(dx, c->in[2]->data, dx, n);
    k->scale(*(const float *)c->in[0]->data / (float)n, dx, dx, n);
    (void)e;
    return 0;
}

static void reference_sigmoid_grad(const struct op_ref *r)
{
    size_t n = ref_count(&r->in[1]);
    for (size_t i = 0; i < n; i++)
        r->out[0].data[i] =
            (1 / (1 + exp(-r->in[1].data[i])) - r->in[2].data[i]) * r->in[0].data[0] / (double)n;
}

const struct op op_sigmoid_xent_grad = {.name = "SigmoidCrossEntropyGrad",
                                        .internal = true,
                                        .min_inputs = 3,
                                        .max_inputs = 3,
                                        .outputs = 1,
                                        .infer = infer_grad,
                                        .forward = forward_sigmoid_grad,
                                        .reference = reference_sigmoid_grad,
                                        .no_gradient = true,
                                        .flops = flops_grad,
                                        .in_place = 2};
