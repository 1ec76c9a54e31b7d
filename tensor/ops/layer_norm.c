/* Layer normalisation (Ba, Kiros & Hinton 2016) over the last dimension; each row's mean and reciprocal
 * deviation are kept for the gradient. */
#include "tensor/ops/families.h"

#include <math.h>
#include <string.h>

static const struct op_attr attrs[] = {
    {.name = "epsilon", .type = ATTR_FLOAT, .fallback = {.f = 1e-5}, .min = 1e-12, .max = 1e6}};

static int infer(struct op_shapes *s, struct err *e)
{
    const struct shape *x = &s->in[0].shape;
    if (s->in[0].dtype != DTYPE_F32 || x->rank < 2) return op_refuse(s, 0, e, "f32 [..., features]");
    for (int i = 1; i <= 2; i++)
        if (s->in[i].dtype != DTYPE_F32 || s->in[i].shape.rank != 1 ||
            s->in[i].shape.dim[0] != x->dim[x->rank - 1])
            return op_refuse(s, i, e, "f32 [features]");
    s->out[0] = s->in[0];
    s->out[1] = s->in[0];
    s->out[1].shape.dim[--s->out[1].shape.rank] = 0;
    s->out[2] = s->out[1];
    return 0;
}

static int forward(const struct op_call *c, struct err *e)
{
    size_t rows, cols;
    (void)e;
    op_split_rows(&c->in[0]->shape, &rows, &cols);
    c->backend->kernels->layer_norm(&(struct layer_norm){.x = c->in[0]->data,
                                                         .scale = c->in[1]->data,
                                                         .bias = c->in[2]->data,
                                                         .epsilon = (float)c->node->attr[0].f,
                                                         .y = c->out[0]->data,
                                                         .mean = c->out[1]->data,
                                                         .rstd = c->out[2]->data},
                                    rows, cols);
    return 0;
}

static void reference(const struct op_ref *r)
{
    size_t rows, cols;
    op_split_rows(&r->in[0].shape, &rows, &cols);
    for (size_t i = 0; i < rows; i++) {
        const double *x = r->in[0].data + i * cols;
        double mean = 0, spread = 0;
        for (size_t j = 0; j < cols; j++) mean += x[j] / (double)cols;
        for (size_t j = 0; j < cols; j++) spread += (x[j] - mean) * (x[j] - mean) / (double)cols;
        double rstd = 1 / sqrt(spread + r->node->attr[0].f);
        for (size_t j = 0; j < cols; j++)
            r->out[0].data[i * cols + j] = (x[j] - mean) * rstd * r->in[1].data[j] + r->in[2].data[j];
        r->out[1].data[i] = mean;
        r->out[2].data[i] = rstd;
    }
}

static int backward(struct op_grad *d, struct err *e)
{
    int inputs[] = {d->dy[0], d->node.input[0], d->node.input[1], d->node.output[1], d->node.output[2]};
    if (d->dy[1] >= 0 || d->dy[2] >= 0)
        return err_set(e, ERR_UNSUPPORTED, d->node.name, "'%s': the rows' moments have no gradient",
                       d->node.name);
    int rc = grad_op(d, "LayerNormGrad", inputs, 5, NULL, 0, &d->dx[0], e);
    d->dx[1] = d->dx[0] + 1;
    d->dx[2] = d->dx[0] + 2;
    return rc;
}

static double flops(const struct op_shapes *s)
{
    return 7 * op_flops_one(s);
}

const struct op op_layer_norm = {.name = "LayerNormalization",
                                 .min_inputs = 3,
                                 .max_inputs = 3,
                                 .outputs = 3,
                                 .attrs = attrs,
                                 .n_attrs = 1,
                                 .infer = infer,
                                 .forward = forward,
                                 .reference = reference,
                                 .backward = backward,
                                 .flops = flops,
                                 .in_place = 1};

/* ---- LayerNormGrad(dy, x, scale, mean, rstd) → dx, dscale, dbias ---- */

static int infer_grad(struct op_shapes *s, struct err *e)
{
    (void)e;
    s->out[0] = s->in[0];
    s->out[1] = s->out[2] = s->in[2];
    return 0;
}

static int forward_grad(const struct op_call *c, struct err *e)
{
    size_t rows, cols;
    (void)e;
    op_split_rows(&c->in[0]->shape, &rows, &cols);
    c->backend->kernels->layer_norm_grad(&(struct layer_norm_grad){.dy = c->in[0]->data,
                                                                   .x = c->in[1]->data,
                                                                   .scale = c->in[2]->data,
                                                                   .mean = c->in[3]->data,
                                                                   .rstd = c->in[4]->data,
                                                                   .dx = c->out[0]->data,
                                                                   .dscale = c->out[1]->data,
                                                                   .dbias = c->out[2]->data},
                                         rows, cols);
    return 0;
}

static void reference_grad(const struct op_ref *r)
{
    size_t rows, cols;
    op_split_rows(&r->in[0].shape, &rows, &cols);
    memset(r->out[1].data, 0, cols * sizeof(double));
    memset(r->out[2].data, 0, cols * sizeof(double));
    for (size_t i = 0; i < rows; i++) {
        const double *dy = r->in[0].data + i * cols, *x = r->in[1].data + i * cols, *scale = r->in[2].data;
        double mean = r->in[3].data[i], rstd = r->in[4].data[i], sum = 0, dot = 0;
        for (size_t j = 0; j < cols; j++) {
            double xhat = (x[j] - mean) * rstd;
            sum += dy[j] * scale[j] / (double)cols;
            dot += dy[j] * scale[j] * xhat / (double)cols;
            r->out[1].data[j] += dy[j] * xhat;
            r->out[2].data[j] += dy[j];
        }
        for (size_t j = 0; j < cols; j++)
            r->out[0].data[i * cols + j] = rstd * (dy[j] * scale[j] - sum - (x[j] - mean) * rstd * dot);
    }
}

static double flops_grad(const struct op_shapes *s)
{
    return 14 * op_flops_one(s);
}

const struct op op_layer_norm_grad = {.name = "LayerNormGrad",
                                      .internal = true,
                                      .min_inputs = 5,
                                      .max_inputs = 5,
                                      .outputs = 3,
                                      .infer = infer_grad,
                                      .forward = forward_grad,
                                      .reference = reference_grad,
                                      .no_gradient = true,
                                      .flops = flops_grad,
                                      .in_place = 1};
