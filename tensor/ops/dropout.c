/* Dropout while training (Srivastava et al. 2014), inverted: what stays is scaled by 1/(1 − rate). Inference
 * plans drop it. The mask is never stored: its numbers are keyed by seed, step, node and element, so that the
 * gradient, which is the same operation on dy with the same key, draws them again. */
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
    (void)e;
    c->backend->kernels->dropout(&c->rng, threshold(rate), (float)(1 / (1 - rate)), c->in[0]->data,
                                 c->out[0]->data, view_count(c->in[0]));
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
