/* Relu, LeakyRelu, Tanh, Sigmoid, Gelu (exact, by the error function), Silu, and the gradient that they
 * share. */
#include "tensor/ops/families.h"

#include <math.h>

bool activation_grad_from_output(enum act act, double alpha)
{
    return act == ACT_LINEAR || act == ACT_RELU || act == ACT_TANH || act == ACT_SIGMOID ||
           (act == ACT_LEAKY_RELU && alpha > 0);
}

static const struct op *const entries[ACT_COUNT] = {
    [ACT_RELU] = &op_relu, [ACT_LEAKY_RELU] = &op_leaky_relu,
    [ACT_TANH] = &op_tanh, [ACT_SIGMOID] = &op_sigmoid,
    [ACT_GELU] = &op_gelu, [ACT_SILU] = &op_silu,
};

bool activation_of(const struct op *op, enum act *act)
{
    for (int a = 0; a < ACT_COUNT; a++)
        if (entries[a] == op && op) {
            *act = (enum act)a;
            return true;
        }
    return false;
}

static double normal_cdf(double x)
{
    return 0.5 * erfc(-x * 0.70710678118654752440);
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

double activation_reference(enum act act, double alpha, double x)
{
    switch (act) {
    case ACT_RELU:
        return x > 0 ? x : 0;
    case ACT_LEAKY_RELU:
        return x > 0 ? x : alpha * x;
    case ACT_TANH:
        return tanh(x);
    case ACT_SIGMOID:
        return sigmoid(x);
    case ACT_GELU:
        return x * normal_cdf(x);
    case ACT_SILU:
        return x * sigmoid(x);
    case ACT_LINEAR:
    case ACT_COUNT:
        break;
    }
    return x;
}

/* ref as in kernels->activate_grad. */
static double slope_reference(enum act act, double alpha, double ref)
{
    switch (act) {
    case ACT_RELU:
        return ref > 0 ? 1 : 0;
    case ACT_LEAKY_RELU:
        return ref > 0 ? 1 : alpha;
    case ACT_TANH:
        return 1 - ref * ref;
    case ACT_SIGMOID:
        return ref * (1 - ref);
    case ACT_GELU:
        return normal_cdf(ref) + ref * exp(-0.5 * ref * ref) * 0.39894228040143267794;
    case ACT_SILU:
        return sigmoid(ref) * (1 + ref * (1 - sigmoid(ref)));
    case ACT_LINEAR:
    case ACT_COUNT:
        break;
    }
    return 1;
}

static double alpha_of(const struct node *n)
{
    return n->op == &op_leaky_relu ? n->attr[0].f : 0;
}

static enum act act_of(const struct node *n)
{
    enum act act = ACT_LINEAR;
    activation_of(n->op, &act);
    return act;
}

static int forward(const struct op_call *c, struct err *e)
{
    (void)e;
    c->backend->kernels->activate(act_of(c->node), (float)alpha_of(c->node), c->in[0]->data, c->out[0]->data,
                                  view_count(c->in[0]));
    return 0;
}

static void reference(const struct op_ref *r)
{
    for (size_t i = 0; i < ref_count(&r->in[0]); i++)
        r->out[0].data[i] = activation_reference(act_of(r->node), alpha_of(r->node), r->in[0].data[i]);
}

static int backward(struct op_grad *d, struct err *e)
{
    enum act act = act_of(&d->node);
    double alpha = alpha_of(&d->node);
    int ref = activation_grad_from_output(act, alpha) ? d->node.output[0] : d->node.input[0];
    struct attr attrs[] = {{"act", {.i = act}}, {"alpha", {.f = alpha}}};
    return grad_op(d, "ActivateGrad", (int[]){d->dy[0], ref}, 2, attrs, 2, &d->dx[0], e);
}

/* A transcendental function counts as ten operations. */
static double flops(const struct op_shapes *s)
{
    return (s->node->op == &op_relu || s->node->op == &op_leaky_relu ? 1 : 10) * op_flops_one(s);
}

static const struct op_attr leaky_attrs[] = {
    {.name = "alpha", .type = ATTR_FLOAT, .fallback = {.f = 0.01}, .min = -1e6, .max = 1e6}};

#define ACTIVATION(NAME, ...)                                                                                \
    {                                                                                                        \
        .name = NAME, .min_inputs = 1, .max_inputs = 1, .outputs = 1, .infer = op_same_shape,                \
        .forward = forward, .reference = reference, .backward = backward, .flops = flops, .in_place = 1,     \
        __VA_ARGS__                                                                                          \
    }

const struct op op_relu = ACTIVATION("Relu", .attrs = NULL);
const struct op op_leaky_relu = ACTIVATION("LeakyRelu", .attrs = leaky_attrs, .n_attrs = 1);
const struct op op_tanh = ACTIVATION("Tanh", .attrs = NULL);
const struct op op_sigmoid = ACTIVATION("Sigmoid", .attrs = NULL);
const struct op op_gelu = ACTIVATION("Gelu", .attrs = NULL);
const struct op op_silu = ACTIVATION("Silu", .attrs = NULL);

/* ---- ActivateGrad(dy, ref) ---- */

static const struct op_attr grad_attrs[] = {
    {.name = "act", .type = ATTR_INT, .min = 0, .max = ACT_COUNT - 1},
    {.name = "alpha", .type = ATTR_FLOAT, .min = -1e6, .max = 1e6},
};

static int forward_grad(const struct op_call *c, struct err *e)
{
    (void)e;
    c->backend->kernels->activate_grad((enum act)c->node->attr[0].i, (float)c->node->attr[1].f,
                                       c->in[1]->data, c->in[0]->data, c->out[0]->data, view_count(c->in[0]));
    return 0;
}

static void reference_grad(const struct op_ref *r)
{
    for (size_t i = 0; i < ref_count(&r->in[0]); i++)
        r->out[0].data[i] = r->in[0].data[i] * slope_reference((enum act)r->node->attr[0].i,
                                                               r->node->attr[1].f, r->in[1].data[i]);
}

static double flops_grad(const struct op_shapes *s)
{
    return (s->node->attr[0].i == ACT_GELU || s->node->attr[0].i == ACT_SILU ? 12 : 3) * op_flops_one(s);
}

const struct op op_activate_grad = {.name = "ActivateGrad",
                                    .internal = true,
                                    .min_inputs = 2,
                                    .max_inputs = 2,
                                    .outputs = 1,
                                    .attrs = grad_attrs,
                                    .n_attrs = 2,
                                    .infer = op_same_shape,
                                    .forward = forward_grad,
                                    .reference = reference_grad,
                                    .no_gradient = true,
                                    .flops = flops_grad,
                                    .in_place = 3};
