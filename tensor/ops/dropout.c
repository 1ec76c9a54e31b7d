/* Dropout while training (Srivastava et al. 2014), inverted: what stays is scaled by 1/(1 − rate). Inference
 * plans drop it. The mask is never stored: its numbers are keyed by seed, step, node and the element's place
 * in the whole batch, so that the gradient, which is the same operation on dy with the same key, draws them
 * again, and so that it does not matter how many threads share the batch. */
#include "tensor/ops/families.h"

static const struct op_attr attrs[] = {
    {.name = "rate", .type = ATTR_FLOAT, .fallback = {.f = 0.5}, .min = 0, .max = 0.999999}};

static uint32_t threshold(double rate)
{
    return (uint32_t)(rate * 0x1p32);
}

static int forward(const struct op_call *c, struct err *e)
{
    double rate = c->node->attr[0].f;
    const float *x = c->in[0]->data;
    float *y = c->out[0]->data, scale = (float)(1 / (1 - rate));
    size_t n = view_count(c->in[0]), at = 0;
    uint64_t first = c->first_row ? (uint64_t)c->first_row * (n / (size_t)c->in[0]->shape.dim[0]) : 0;
    (void)e;
    for (; at < n && (first + at) % 4 != 0; at++) /* the kernel begins with a whole block of numbers */
        y[at] = rng_u32(&c->rng, first + at) >= threshold(rate) ? x[at] * scale : 0.0f;
    c->backend->kernels->dropout(&c->rng, (first + at) / 4, threshold(rate), scale, x + at, y + at, n - at);
    return 0;
}

static void reference(const struct op_ref *r)
{
    double rate = r->node->attr[0].f;
    for (size_t i = 0; i < ref_count(&r->in[0]); i++)
        r->out[0].data[i] = rng_u32(&r->rng, i) >= threshold(rate) ? r->in[0].data[i] / (1 - rate) : 0;
}

static int backward(struct op_grad *d, struct err *e)
{
    struct attr rate = {"rate", d->node.attr[0]};
    return grad_op(d, "Dropout", &d->dy[0], 1, &rate, 1, &d->dx[0], e);
}

/* Philox takes about twenty integer operations a number. */
static double flops(const struct op_shapes *s)
{
    return 20 * op_flops_one(s);
}

const struct op op_dropout = {.name = "Dropout",
                              .min_inputs = 1,
                              .max_inputs = 1,
                              .outputs = 1,
                              .attrs = attrs,
                              .n_attrs = 1,
                              .infer = op_same_shape,
                              .forward = forward,
                              .reference = reference,
                              .backward = backward,
                              .flops = flops,
                              .in_place = 1,
                              .random = true};
