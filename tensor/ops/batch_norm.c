/* Batch normalisation (Ioffe & Szegedy 2015) over all dimensions but the last. In the graph as it is stored
 * it normalises by the batch's own moments, as training does, and every training step moves the running
 * moments, two parameters that are not trainable, towards them. Inference plans put BatchNormInfer in its
 * place, which normalises by the running moments, row by row. */
#include "tensor/ops/families.h"

#include <math.h>
#include <string.h>

enum { X, SCALE, BIAS, MEAN, VARIANCE };

static const struct op_attr norm_attrs[] = {
    {.name = "epsilon", .type = ATTR_FLOAT, .fallback = {.f = 1e-5}, .min = 1e-12, .max = 1e6},
    {.name = "momentum", .type = ATTR_FLOAT, .fallback = {.f = 0.9}, .min = 0, .max = 1},
};

static int infer(struct op_shapes *s, struct err *e)
{
    const struct shape *x = &s->in[X].shape;
    if (s->in[X].dtype != DTYPE_F32 || x->rank < 2) return op_refuse(s, X, e, "f32 [..., channels]");
    for (int i = SCALE; i <= VARIANCE; i++)
        if (s->in[i].dtype != DTYPE_F32 || s->in[i].shape.rank != 1 ||
            s->in[i].shape.dim[0] != x->dim[x->rank - 1])
            return op_refuse(s, i, e, "f32 [channels]");
    s->out[0] = s->in[X];
    s->out[1] = s->out[2] = s->in[MEAN];
    return 0;
}

/* factor = scale / √(variance + epsilon) */
static void factors(const struct op_call *c, const float *variance, float *factor)
{
    const float *scale = c->in[SCALE]->data, epsilon = (float)c->node->attr[0].f;
    for (size_t i = 0; i < view_count(c->in[SCALE]); i++) factor[i] = scale[i] / sqrtf(variance[i] + epsilon);
}

static size_t workspace(const struct op_shapes *s)
{
    return shape_row_count(&s->in[SCALE].shape) * sizeof(float);
}

static int forward(const struct op_call *c, struct err *e)
{
    const struct kernels *k = c->backend->kernels;
    float *mean = c->out[1]->data, *variance = c->out[2]->data;
    size_t rows, cols;
    (void)e;
    op_split_rows(&c->in[X]->shape, &rows, &cols);
    k->column_moments(c->in[X]->data, mean, variance, rows, cols);
    factors(c, variance, c->work);
    k->column_affine(c->in[X]->data, mean, c->work, c->in[BIAS]->data, c->out[0]->data, rows, cols);
    return 0;
}

/* What one step leaves behind: running = momentum·running + (1 − momentum)·batch. */
static void keep(const struct op_call *c)
{
    float momentum = (float)c->node->attr[1].f;
    for (int m = 0; m < 2; m++) {
        float *running = c->in[MEAN + m]->data;
        const float *batch = c->out[1 + m]->data;
        for (size_t i = 0; i < view_count(c->in[MEAN]); i++)
            running[i] = momentum * running[i] + (1.0f - momentum) * batch[i];
    }
}

static void reference_affine(const struct op_ref *r, const double *mean, const double *variance)
{
    size_t cols = ref_count(&r->in[SCALE]);
    for (size_t i = 0; i < ref_count(&r->in[X]); i++) {
        size_t j = i % cols;
        r->out[0].data[i] =
            (r->in[X].data[i] - mean[j]) / sqrt(variance[j] + r->node->attr[0].f) * r->in[SCALE].data[j] +
            r->in[BIAS].data[j];
    }
}

static void reference(const struct op_ref *r)
{
    size_t n = ref_count(&r->in[X]), cols = ref_count(&r->in[SCALE]);
    double *mean = r->out[1].data, *variance = r->out[2].data, each = (double)cols / (double)n;
    memset(mean, 0, cols * sizeof *mean);
    memset(variance, 0, cols * sizeof *variance);
    for (size_t i = 0; i < n; i++) mean[i % cols] += r->in[X].data[i] * each;
    for (size_t i = 0; i < n; i++) {
        double d = r->in[X].data[i] - mean[i % cols];
        variance[i % cols] += d * d * each;
    }
    reference_affine(r, mean, variance);
}

static int backward(struct op_grad *d, struct err *e)
{
    struct attr epsilon = {"epsilon", d->node.attr[0]};
    int inputs[] = {d->dy[0], d->node.input[X], d->node.input[SCALE], d->node.output[1], d->node.output[2]};
    if (d->dy[1] >= 0 || d->dy[2] >= 0)
        return err_set(e, ERR_UNSUPPORTED, d->node.name, "'%s': the batch's moments have no gradient",
                       d->node.name);
    int rc = grad_op(d, "BatchNormGrad", inputs, 5, &epsilon, 1, &d->dx[X], e);
    d->dx[SCALE] = d->dx[X] + 1;
    d->dx[BIAS] = d->dx[X] + 2;
    return rc;
}

static double flops(const struct op_shapes *s)
{
    return 6 * op_flops_one(s);
}

const struct op op_batch_norm = {.name = "BatchNormalization",
                                 .rows = OP_ROWS_TOGETHER,
                                 .min_inputs = 5,
                                 .max_inputs = 5,
                                 .outputs = 3,
                                 .attrs = norm_attrs,
                                 .n_attrs = 2,
                                 .infer = infer,
                                 .forward = forward,
                                 .reference = reference,
                                 .backward = backward,
                                 .flops = flops,
                                 .workspace = workspace,
                                 .keep = keep,
                                 .state = 1u << MEAN | 1u << VARIANCE,
                                 .in_place = 1u << X};

/* ---- BatchNormInfer(x, scale, bias, mean, variance) ---- */

static int forward_infer(const struct op_call *c, struct err *e)
{
    size_t rows, cols;
    (void)e;
    op_split_rows(&c->in[X]->shape, &rows, &cols);
    factors(c, c->in[VARIANCE]->data, c->work);
    c->backend->kernels->column_affine(c->in[X]->data, c->in[MEAN]->data, c->work, c->in[BIAS]->data,
                                       c->out[0]->data, rows, cols);
    return 0;
}

static void reference_infer(const struct op_ref *r)
{
    reference_affine(r, r->in[MEAN].data, r->in[VARIANCE].data);
}

static double flops_infer(const struct op_shapes *s)
{
    return 2 * op_flops_one(s);
}

const struct op op_batch_norm_infer = {.name = "BatchNormInfer",
                                       .internal = true,
                                       .min_inputs = 5,
                                       .max_inputs = 5,
                                       .outputs = 1,
                                       .attrs = norm_attrs,
                                       .n_attrs = 2,
                                       .infer = infer,
                                       .forward = forward_infer,
                                       .reference = reference_infer,
                                       .no_gradient = true,
                                       .flops = flops_infer,
                                       .workspace = workspace,
                                       .in_place = 1u << X};

/* ---- BatchNormGrad(dy, x, scale, mean, variance) → dx, dscale, dbias ---- */

static int infer_grad(struct op_shapes *s, struct err *e)
{
    (void)e;
    s->out[0] = s->in[0];
    s->out[1] = s->out[2] = s->in[2];
    return 0;
}

static size_t workspace_grad(const struct op_shapes *s)
{
    return shape_row_count(&s->in[2].shape) * sizeof(float);
}

static int forward_grad(const struct op_call *c, struct err *e)
{
    const float *variance = c->in[4]->data;
    float *rstd = c->work;
    size_t rows, cols;
    (void)e;
    op_split_rows(&c->in[0]->shape, &rows, &cols);
    for (size_t i = 0; i < cols; i++) rstd[i] = 1.0f / sqrtf(variance[i] + (float)c->node->attr[0].f);
    c->backend->kernels->batch_norm_grad(&(struct batch_norm_grad){.dy = c->in[0]->data,
                                                                   .x = c->in[1]->data,
                                                                   .scale = c->in[2]->data,
                                                                   .mean = c->in[3]->data,
                                                                   .rstd = rstd,
                                                                   .dx = c->out[0]->data,
                                                                   .dscale = c->out[1]->data,
                                                                   .dbias = c->out[2]->data},
                                         rows, cols);
    return 0;
}

static void reference_grad(const struct op_ref *r)
{
    size_t n = ref_count(&r->in[0]), cols = ref_count(&r->in[2]), rows = n / cols;
    for (size_t j = 0; j < cols; j++) {
        double rstd = 1 / sqrt(r->in[4].data[j] + r->node->attr[0].f), sum = 0, dot = 0;
        for (size_t i = j; i < n; i += cols) {
            sum += r->in[0].data[i];
            dot += r->in[0].data[i] * (r->in[1].data[i] - r->in[3].data[j]) * rstd;
        }
        r->out[1].data[j] = dot;
        r->out[2].data[j] = sum;
        for (size_t i = j; i < n; i += cols) {
            double xhat = (r->in[1].data[i] - r->in[3].data[j]) * rstd;
            r->out[0].data[i] =
                r->in[2].data[j] * rstd * (r->in[0].data[i] - sum / (double)rows - xhat * dot / (double)rows);
        }
    }
}

static double flops_grad(const struct op_shapes *s)
{
    return 10 * op_flops_one(s);
}

const struct op op_batch_norm_grad = {.name = "BatchNormGrad",
                                      .internal = true,
                                      .min_inputs = 5,
                                      .max_inputs = 5,
                                      .outputs = 3,
                                      .attrs = norm_attrs,
                                      .n_attrs = 2,
                                      .infer = infer_grad,
                                      .forward = forward_grad,
                                      .reference = reference_grad,
                                      .no_gradient = true,
                                      .flops = flops_grad,
                                      .workspace = workspace_grad,
                                      .in_place = 1};
