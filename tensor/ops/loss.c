/* Losses of numbers: means over the batch of a function of prediction − target. */
#include "tensor/ops/loss.h"

#include <math.h>

int loss_infer_grad(struct op_shapes *s, struct err *e)
{
    if (s->in[0].shape.rank != 0) return op_refuse(s, 0, e, "the scalar gradient of the loss");
    s->out[0] = s->in[1];
    return 0;
}

double loss_flops_grad(const struct op_shapes *s)
{
    return 3 * op_flops_one(s);
}

/* prediction and target of one shape → scalar */
static int infer_pair(struct op_shapes *s, struct err *e)
{
    int rc = op_same_shape(s, e);
    s->out[0] = (struct typed_shape){DTYPE_F32, loss_shape()};
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
                          .rows = OP_ROWS_MEAN,
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
                               .infer = loss_infer_grad,
                               .forward = forward_mse_grad,
                               .reference = reference_mse_grad,
                               .no_gradient = true,
                               .flops = loss_flops_grad};

/* ---- MeanAbsoluteError(prediction, target), and Huber with delta: squares up to there, lines beyond (Huber
 * 1964) ---- */

static const struct op_attr huber_attrs[] = {
    {.name = "delta", .type = ATTR_FLOAT, .fallback = {.f = 1}, .min = 1e-30, .max = 1e30}};

/* Of an absolute error: no squares at all. */
static double delta_of(const struct node *n)
{
    return n->op->n_attrs ? n->attr[0].f : 0;
}

static double value_of(double delta, double d)
{
    double a = fabs(d);
    if (delta == 0) return a;
    return a <= delta ? 0.5 * d * d : delta * (a - 0.5 * delta);
}

static double slope_of(double delta, double d)
{
    if (fabs(d) <= delta) return d; /* with delta 0: the corner, whose slope counts as 0 */
    double most = delta == 0 ? 1 : delta;
    return d > 0 ? most : d < 0 ? -most : d; /* NaN stays NaN */
}

static int forward_robust(const struct op_call *c, struct err *e)
{
    const float *p = c->in[0]->data, *t = c->in[1]->data;
    size_t n = view_count(c->in[0]);
    double delta = delta_of(c->node), sum = 0;
    for (size_t i = 0; i < n; i++) sum += value_of(delta, (double)p[i] - (double)t[i]);
    *(float *)c->out[0]->data = (float)(sum / (double)n);
    (void)e;
    return 0;
}

static void reference_robust(const struct op_ref *r)
{
    size_t n = ref_count(&r->in[0]);
    double delta = delta_of(r->node), sum = 0;
    for (size_t i = 0; i < n; i++) sum += value_of(delta, r->in[0].data[i] - r->in[1].data[i]);
    r->out[0].data[0] = sum / (double)n;
}

static int backward_robust(struct op_grad *d, struct err *e)
{
    bool huber = d->node.op == &op_huber;
    struct attr delta = {"delta", d->node.attr[0]};
    int rc = grad_op(d, huber ? "HuberGrad" : "MeanAbsoluteErrorGrad",
                     (int[]){d->dy[0], d->node.input[0], d->node.input[1]}, 3, &delta, huber, &d->dx[0], e);
    return rc || !d->want[1] ? rc : negate(d, 0, 1, e);
}

static int forward_robust_grad(const struct op_call *c, struct err *e)
{
    const float *p = c->in[1]->data, *t = c->in[2]->data;
    float *dx = c->out[0]->data;
    size_t n = view_count(c->in[1]);
    double delta = delta_of(c->node), factor = (double)*(const float *)c->in[0]->data / (double)n;
    for (size_t i = 0; i < n; i++) dx[i] = (float)(factor * slope_of(delta, (double)p[i] - (double)t[i]));
    (void)e;
    return 0;
}

static void reference_robust_grad(const struct op_ref *r)
{
    size_t n = ref_count(&r->in[1]);
    double delta = delta_of(r->node);
    for (size_t i = 0; i < n; i++)
        r->out[0].data[i] =
            r->in[0].data[0] * slope_of(delta, r->in[1].data[i] - r->in[2].data[i]) / (double)n;
}

#define ROBUST(NAME, ...)                                                                                    \
    {                                                                                                        \
        .name = (NAME), .rows = OP_ROWS_MEAN, .min_inputs = 2, .max_inputs = 2, .outputs = 1,                \
        .infer = infer_pair, .forward = forward_robust, .reference = reference_robust,                       \
        .backward = backward_robust, .flops = flops_pair, __VA_ARGS__                                        \
    }
#define ROBUST_GRAD(NAME, ...)                                                                               \
    {                                                                                                        \
        .name = (NAME), .internal = true, .min_inputs = 3, .max_inputs = 3, .outputs = 1,                    \
        .infer = loss_infer_grad, .forward = forward_robust_grad, .reference = reference_robust_grad,        \
        .no_gradient = true, .flops = loss_flops_grad, .in_place = 2, __VA_ARGS__                            \
    }

const struct op op_mae = ROBUST("MeanAbsoluteError", .attrs = NULL);
const struct op op_mae_grad = ROBUST_GRAD("MeanAbsoluteErrorGrad", .attrs = NULL);
const struct op op_huber = ROBUST("Huber", .attrs = huber_attrs, .n_attrs = 1);
const struct op op_huber_grad = ROBUST_GRAD("HuberGrad", .attrs = huber_attrs, .n_attrs = 1);
