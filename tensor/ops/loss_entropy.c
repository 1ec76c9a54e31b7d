/* Losses of classes: cross-entropies over logits, fused with their softmax or sigmoid, so that gradients have
 * the textbook form prediction − target. Labels may be smoothed (Szegedy et al. 2016), and elements may be
 * weighted: the loss is the mean of weight·loss, so a weight of 0 leaves an element out of the sum, not out
 * of the count. */
#include "tensor/ops/loss.h"

#include <math.h>

/* What q becomes: (1 − smoothing)·q + smoothing / classes. */
static const struct op_attr smoothing_attrs[] = {
    {.name = "label_smoothing", .type = ATTR_FLOAT, .fallback = {.f = 0}, .min = 0, .max = 1}};

/* weights, input 2 when there is one: f32, one a label */
static int check_weights(const struct op_shapes *s, struct err *e)
{
    if (s->node->n_inputs > 2 &&
        (s->in[2].dtype != DTYPE_F32 || !shape_equal(&s->in[2].shape, &s->in[1].shape)))
        return op_refuse(s, 2, e, "f32 weights with the shape of input 1");
    return 0;
}

/* Appends the gradient: (dloss, a, labels[, weights]). */
static int add_grad(struct op_grad *d, const char *op, int a, struct err *e)
{
    struct attr smoothing = {"label_smoothing", d->node.attr[0]};
    if (d->want[1] || (d->node.n_inputs > 2 && d->want[2]))
        return err_set(e, ERR_UNSUPPORTED, d->node.name,
                       "'%s': the targets and weights of this loss have no gradient", d->node.name);
    return grad_op(d, op, (int[]){d->dy[0], a, d->node.input[1], d->node.input[2]}, d->node.n_inputs + 1,
                   &smoothing, 1, &d->dx[0], e);
}

/* ---- SoftmaxCrossEntropy(logits [..., n], labels i32 [...][, weights [...]]) → loss, probabilities ---- */

static int infer_softmax(struct op_shapes *s, struct err *e)
{
    const struct shape *x = &s->in[0].shape;
    if (s->in[0].dtype != DTYPE_F32 || x->rank < 1 || x->dim[x->rank - 1] == SHAPE_BATCH)
        return op_refuse(s, 0, e, "f32 logits [..., classes]");
    struct shape labels = *x;
    labels.dim[--labels.rank] = 0;
    if (s->in[1].dtype != DTYPE_I32 || !shape_equal(&s->in[1].shape, &labels))
        return op_refuse(s, 1, e, "i32 labels with the logits' shape less its last dimension");
    s->out[0] = (struct typed_shape){DTYPE_F32, loss_shape()};
    s->out[1] = s->in[0];
    return check_weights(s, e);
}

/* A probability that underflowed counts as the least normal float, not as an infinite loss; NaN stays NaN. */
static double log_of(float p)
{
    return (double)logf(p < 1.17549435e-38f ? 1.17549435e-38f : p);
}

/* −Σ q·log p of one row. */
static double row_loss(const float *p, size_t label, size_t cols, double smoothing)
{
    double loss = -(1 - smoothing) * log_of(p[label]), even = 0;
    if (smoothing == 0) return loss;
    for (size_t j = 0; j < cols; j++) even += log_of(p[j]);
    return loss - smoothing / (double)cols * even;
}

static int forward_softmax(const struct op_call *c, struct err *e)
{
    const int32_t *label = c->in[1]->data;
    const float *weight = c->node->n_inputs > 2 ? c->in[2]->data : NULL;
    float *p = c->out[1]->data;
    double smoothing = c->node->attr[0].f, sum = 0;
    size_t rows, cols;
    op_split_rows(&c->in[0]->shape, &rows, &cols);
    c->backend->kernels->softmax(1, c->in[0]->data, p, rows, cols);
    for (size_t i = 0; i < rows; i++) {
        if (label[i] < 0 || (size_t)label[i] >= cols)
            return err_set(e, ERR_INVALID, "labels", "label %d in row %zu; expected 0 to %zu", label[i], i,
                           cols - 1);
        double loss = row_loss(p + i * cols, (size_t)label[i], cols, smoothing);
        sum += weight ? (double)weight[i] * loss : loss;
    }
    *(float *)c->out[0]->data = (float)(sum / (double)rows);
    return 0;
}

/* The smoothed truth of class j. */
static double truth(double label, size_t j, size_t cols, double smoothing)
{
    return smoothing / (double)cols + (j == (size_t)label ? 1 - smoothing : 0);
}

static void reference_softmax(const struct op_ref *r)
{
    size_t rows, cols;
    double sum = 0;
    op_split_rows(&r->in[0].shape, &rows, &cols);
    for (size_t i = 0; i < rows; i++) {
        double *p = r->out[1].data + i * cols, loss = 0;
        softmax_reference(r->in[0].data + i * cols, p, cols);
        for (size_t j = 0; j < cols; j++) {
            double q = truth(r->in[1].data[i], j, cols, r->node->attr[0].f);
            if (q > 0) loss -= q * log(p[j]);
        }
        sum += r->node->n_inputs > 2 ? r->in[2].data[i] * loss : loss;
    }
    r->out[0].data[0] = sum / (double)rows;
}

static int backward_softmax(struct op_grad *d, struct err *e)
{
    if (d->dy[1] >= 0)
        return err_set(e, ERR_UNSUPPORTED, d->node.name,
                       "'%s': its probabilities are for reading; use Softmax for what the loss depends on",
                       d->node.name);
    return add_grad(d, "SoftmaxCrossEntropyGrad", d->node.output[1], e);
}

static double flops_softmax(const struct op_shapes *s)
{
    double smooth = s->node->attr[0].f > 0 ? 10 : 0;
    return (14.0 + smooth) * (double)shape_row_count(&s->in[0].shape);
}

const struct op op_softmax_xent = {.name = "SoftmaxCrossEntropy",
                                   .rows = OP_ROWS_MEAN,
                                   .min_inputs = 2,
                                   .max_inputs = 3,
                                   .outputs = 2,
                                   .attrs = smoothing_attrs,
                                   .n_attrs = 1,
                                   .infer = infer_softmax,
                                   .forward = forward_softmax,
                                   .reference = reference_softmax,
                                   .backward = backward_softmax,
                                   .flops = flops_softmax};

/* (dloss, probabilities, labels[, weights]) → weight·(p − q)·dloss / rows. The labels' range was checked by
 * the forward node. */
static int forward_softmax_grad(const struct op_call *c, struct err *e)
{
    const struct kernels *k = c->backend->kernels;
    const float *p = c->in[1]->data, *weight = c->node->n_inputs > 3 ? c->in[3]->data : NULL;
    const int32_t *label = c->in[2]->data;
    float *dx = c->out[0]->data;
    size_t rows, cols;
    op_split_rows(&c->in[1]->shape, &rows, &cols);
    float mean = *(const float *)c->in[0]->data / (float)rows, smoothing = (float)c->node->attr[0].f;
    if (!weight) k->scale(mean, p, dx, rows * cols);
    for (size_t i = 0; i < rows; i++) {
        float factor = weight ? mean * weight[i] : mean, even = factor * smoothing / (float)cols;
        float *row = dx + i * cols;
        if (weight) k->scale(factor, p + i * cols, row, cols);
        for (size_t j = 0; smoothing > 0 && j < cols; j++) row[j] -= even;
        row[label[i]] -= factor * (1 - smoothing);
    }
    (void)e;
    return 0;
}

static void reference_softmax_grad(const struct op_ref *r)
{
    size_t rows, cols;
    op_split_rows(&r->in[1].shape, &rows, &cols);
    for (size_t i = 0; i < rows * cols; i++) {
        double q = truth(r->in[2].data[i / cols], i % cols, cols, r->node->attr[0].f);
        double weight = r->node->n_inputs > 3 ? r->in[3].data[i / cols] : 1;
        r->out[0].data[i] = weight * (r->in[1].data[i] - q) * r->in[0].data[0] / (double)rows;
    }
}

const struct op op_softmax_xent_grad = {.name = "SoftmaxCrossEntropyGrad",
                                        .internal = true,
                                        .min_inputs = 3,
                                        .max_inputs = 4,
                                        .outputs = 1,
                                        .attrs = smoothing_attrs,
                                        .n_attrs = 1,
                                        .infer = loss_infer_grad,
                                        .forward = forward_softmax_grad,
                                        .reference = reference_softmax_grad,
                                        .no_gradient = true,
                                        .flops = loss_flops_grad,
                                        .in_place = 2};

/* ---- SigmoidCrossEntropy(logits, targets in [0, 1][, weights]) ---- */

static int infer_sigmoid(struct op_shapes *s, struct err *e)
{
    if (s->in[0].dtype != DTYPE_F32) return op_refuse(s, 0, e, "f32 logits");
    if (s->in[1].dtype != DTYPE_F32 || !shape_equal(&s->in[0].shape, &s->in[1].shape))
        return op_refuse(s, 1, e, "f32 targets with the logits' shape");
    s->out[0] = (struct typed_shape){DTYPE_F32, loss_shape()};
    return check_weights(s, e);
}

static double binary_loss(double x, double t)
{
    return (x > 0 ? x : 0) - x * t + log1p(exp(-fabs(x)));
}

static double smoothed(double t, double smoothing)
{
    return t * (1 - smoothing) + smoothing / 2;
}

static int forward_sigmoid(const struct op_call *c, struct err *e)
{
    const float *x = c->in[0]->data, *t = c->in[1]->data;
    const float *weight = c->node->n_inputs > 2 ? c->in[2]->data : NULL;
    size_t n = view_count(c->in[0]);
    double smoothing = c->node->attr[0].f, sum = 0;
    for (size_t i = 0; i < n; i++) {
        double loss = binary_loss((double)x[i], smoothed((double)t[i], smoothing));
        sum += weight ? (double)weight[i] * loss : loss;
    }
    *(float *)c->out[0]->data = (float)(sum / (double)n);
    (void)e;
    return 0;
}

static void reference_sigmoid(const struct op_ref *r)
{
    size_t n = ref_count(&r->in[0]);
    double smoothing = r->node->attr[0].f, sum = 0;
    for (size_t i = 0; i < n; i++) {
        double loss = binary_loss(r->in[0].data[i], smoothed(r->in[1].data[i], smoothing));
        sum += r->node->n_inputs > 2 ? r->in[2].data[i] * loss : loss;
    }
    r->out[0].data[0] = sum / (double)n;
}

static int backward_sigmoid(struct op_grad *d, struct err *e)
{
    return add_grad(d, "SigmoidCrossEntropyGrad", d->node.input[0], e);
}

static double flops_sigmoid(const struct op_shapes *s)
{
    return 25.0 * (double)shape_row_count(&s->in[0].shape);
}

const struct op op_sigmoid_xent = {.name = "SigmoidCrossEntropy",
                                   .rows = OP_ROWS_MEAN,
                                   .min_inputs = 2,
                                   .max_inputs = 3,
                                   .outputs = 1,
                                   .attrs = smoothing_attrs,
                                   .n_attrs = 1,
                                   .infer = infer_sigmoid,
                                   .forward = forward_sigmoid,
                                   .reference = reference_sigmoid,
                                   .backward = backward_sigmoid,
                                   .flops = flops_sigmoid};

/* (dloss, logits, targets[, weights]) → weight·(σ(x) − t)·dloss / n */
static int forward_sigmoid_grad(const struct op_call *c, struct err *e)
{
    const float *t = c->in[2]->data, *weight = c->node->n_inputs > 3 ? c->in[3]->data : NULL;
    size_t n = view_count(c->in[1]);
    float *dx = c->out[0]->data, smoothing = (float)c->node->attr[0].f;
    float mean = *(const float *)c->in[0]->data / (float)n;
    c->backend->kernels->activate(ACT_SIGMOID, 0, c->in[1]->data, dx, n);
    for (size_t i = 0; i < n; i++) {
        float q = t[i] * (1 - smoothing) + smoothing * 0.5f;
        dx[i] = (weight ? mean * weight[i] : mean) * (dx[i] - q);
    }
    (void)e;
    return 0;
}

static void reference_sigmoid_grad(const struct op_ref *r)
{
    size_t n = ref_count(&r->in[1]);
    for (size_t i = 0; i < n; i++) {
        double q = smoothed(r->in[2].data[i], r->node->attr[0].f);
        double weight = r->node->n_inputs > 3 ? r->in[3].data[i] : 1;
        r->out[0].data[i] = weight * (1 / (1 + exp(-r->in[1].data[i])) - q) * r->in[0].data[0] / (double)n;
    }
}

const struct op op_sigmoid_xent_grad = {.name = "SigmoidCrossEntropyGrad",
                                        .internal = true,
                                        .min_inputs = 3,
                                        .max_inputs = 4,
                                        .outputs = 1,
                                        .attrs = smoothing_attrs,
                                        .n_attrs = 1,
                                        .infer = loss_infer_grad,
                                        .forward = forward_sigmoid_grad,
                                        .reference = reference_sigmoid_grad,
                                        .no_gradient = true,
                                        .flops = loss_flops_grad,
                                        .in_place = 2};
