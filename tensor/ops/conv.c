/* Convolution over one or two spatial dimensions, channels last. Conv, its gradients, and ConvBias, which is
 * Conv, Add and an activation in one. Where conv_lines.c does not fit, patches are gathered a block of output
 * elements at a time and multiplied with the kernel as a matrix [kh·kw·channels, filters]. */
#include "tensor/ops/families.h"

#include <string.h>
#include "tensor/ops/conv.h"
#include "tensor/ops/conv_turn.h"

enum { CONV_GROUP = WINDOW_N_ATTRS, CONV_N_ATTRS };

#define CONV_ATTRS                                                                                           \
    WINDOW_ATTRS(4096),                                                                                      \
    {                                                                                                        \
        .name = "group", .type = ATTR_INT, .fallback = {.i = 1}, .min = 1, .max = 65536                      \
    }

/* Blocks stay in the second-level cache, and have rows enough that the sums' comings and goings do not count.
 */
static int64_t block_rows(int64_t k)
{
    int64_t rows = 49152 / k / 24 * 24;
    return rows < 24 ? 24 : rows > 384 ? 384 : rows;
}

static bool conv_of(struct conv *c, const struct shape *x, const struct shape *kernel,
                    const struct node *node)
{
    struct shape spatial = *kernel;
    int64_t group = node->attr[CONV_GROUP].i;
    spatial.rank = kernel->rank - 2;
    if (kernel->rank != x->rank || !window_of(&c->w, x, &spatial, node)) return false;
    struct window *w = &c->w;
    w->group = group;
    w->depth = kernel->dim[kernel->rank - 2];
    c->filters = kernel->dim[kernel->rank - 1];
    if (w->depth * group != w->c || c->filters % group != 0) return false;
    c->n = c->filters / group;
    c->k = w->kh * w->kw * w->depth;
    c->rows = w->n * w->oh * w->ow;
    c->block = block_rows(c->k);
    c->pointwise = c->k == w->c && w->sh == 1 && w->sw == 1 && group == 1;
    return true;
}

/* ---- Conv(x [batch, (h,) w, c], kernel [(kh,) kw, c/group, filters]) ---- */

static const struct op_attr conv_attrs[] = {CONV_ATTRS};

static int infer_conv(struct op_shapes *s, struct err *e)
{
    struct conv c;
    const struct shape *x = &s->in[0].shape;
    if (s->in[0].dtype != DTYPE_F32 || x->rank < 3 || x->rank > 4)
        return op_refuse(s, 0, e, "f32 [batch, width, channels] or [batch, height, width, channels]");
    if (s->in[1].dtype != DTYPE_F32 || !conv_of(&c, x, &s->in[1].shape, s->node))
        return op_refuse(s, 1, e,
                         "an f32 kernel [size…, channels/group, filters] that fits into the padded input");
    s->out[0] = (struct typed_shape){DTYPE_F32, window_output(&c.w, c.filters)};
    return 0;
}

static double flops_product(const struct conv *c)
{
    return 2.0 * (double)c->rows * (double)c->k * (double)c->filters;
}

static double flops_conv(const struct op_shapes *s)
{
    struct conv c;
    return conv_of(&c, &s->in[0].shape, &s->in[1].shape, s->node) ? flops_product(&c) : 0;
}

static size_t patch_bytes(const struct conv *c)
{
    return c->pointwise ? 0 : (size_t)c->block * (size_t)c->k * sizeof(float);
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Which of the two ways is taken depends on the backend too. */
static size_t workspace_conv(const struct op_shapes *s)
{
    struct conv c;
    if (!conv_of(&c, &s->in[0].shape, &s->in[1].shape, s->node)) return 0;
    return larger(patch_bytes(&c), conv_lines_bytes(&c));
}

/* y's block of rows = patches · kernel, for one group. */
static void multiply(const struct op_call *call, const struct conv *c, int64_t g, const float *patches,
                     int64_t rows, float *y, const struct gemm_tail *tail)
{
    struct gemm_tail t = tail ? *tail : (struct gemm_tail){0};
    if (t.bias) t.bias += g * c->n;
    if (call->packed) {
        call->backend->kernels->gemm_packed(&(struct gemm_packed){.m = rows,
                                                                  .n = c->n,
                                                                  .k = c->k,
                                                                  .a = patches,
                                                                  .lda = c->k,
                                                                  .packed = call->packed,
                                                                  .c = y,
                                                                  .ldc = c->filters,
                                                                  .tail = t});
        return;
    }
    op_gemm(call,
            &(struct gemm){.m = rows,
                           .n = c->n,
                           .k = c->k,
                           .a = patches,
                           .lda = c->k,
                           .b = (const float *)call->in[1]->data + g * c->n,
                           .ldb = c->filters,
                           .c = y + g * c->n,
                           .ldc = c->filters},
            tail ? &t : NULL);
}

static void convolve(const struct op_call *call, const struct gemm_tail *tail)
{
    const float *x = call->in[0]->data;
    float *y = call->out[0]->data;
    struct conv c;
    if (!conv_of(&c, &call->in[0]->shape, &call->in[1]->shape, call->node)) return;
    if (c.pointwise) {
        multiply(call, &c, 0, x, c.rows, y, tail);
        return;
    }
    if (conv_lines_fit(&c, call->backend->kernels)) {
        conv_lines(call->backend->kernels, &c, x, call->in[1]->data, call->packed, y, tail, call->work);
        return;
    }
    for (int64_t row = 0; row < c.rows; row += c.block) {
        int64_t end = row + c.block < c.rows ? row + c.block : c.rows;
        for (int64_t g = 0; g < c.w.group; g++) {
            window_gather(&c.w, g, x, row, end, call->work);
            multiply(call, &c, g, call->work, end - row, y + row * c.filters, tail);
        }
    }
}

static int forward_conv(const struct op_call *c, struct err *e)
{
    (void)e;
    convolve(c, NULL);
    return 0;
}

/* Calls `each` for every product of the convolution: x, kernel and y element. */
static void each_product(const struct conv *c, double *x, double *w, double *y,
                         void (*each)(double *x, double *w, double *y))
{
    const struct window *v = &c->w;
    for (int64_t row = 0; row < c->rows; row++)
        for (int64_t k = 0; k < v->kh * v->kw; k++) {
            int64_t image = row / (v->oh * v->ow), oy = row / v->ow % v->oh, ox = row % v->ow;
            int64_t tap = window_tap(v, image, oy, ox, k / v->kw, k % v->kw);
            if (tap < 0) continue;
            for (int64_t f = 0; f < c->filters; f++)
                for (int64_t d = 0; d < v->depth; d++)
                    each(x + tap + f / c->n * v->depth + d, w + (k * v->depth + d) * c->filters + f,
                         y + row * c->filters + f);
        }
}

static void add_to_y(double *x, double *w, double *y)
{
    *y += *x * *w;
}

static void reference_conv(const struct op_ref *r)
{
    struct conv c;
    if (!conv_of(&c, &r->in[0].shape, &r->in[1].shape, r->node)) return;
    memset(r->out[0].data, 0, ref_count(&r->out[0]) * sizeof(double));
    each_product(&c, r->in[0].data, r->in[1].data, r->out[0].data, add_to_y);
}

/* The gradients by x and kernel, given the one behind bias and activation. */
static int backward_products(struct op_grad *d, int dz, struct err *e)
{
    struct attr attrs[CONV_N_ATTRS + 1] = {{"strides", d->node.attr[WINDOW_STRIDES]},
                                           {"pads", d->node.attr[WINDOW_PADS]},
                                           {"dilations", d->node.attr[WINDOW_DILATIONS]},
                                           {"group", d->node.attr[CONV_GROUP]}};
    int rc = 0;
    attrs[CONV_N_ATTRS] = (struct attr){"shape", {.ints = graph_value(d->graph, d->node.input[0])->shape}};
    if (d->want[0])
        rc = grad_op(d, "ConvGradX", (int[]){dz, d->node.input[1]}, 2, attrs, CONV_N_ATTRS + 1, &d->dx[0], e);
    attrs[CONV_N_ATTRS].value.ints = graph_value(d->graph, d->node.input[1])->shape;
    if (rc == 0 && d->want[1])
        rc = grad_op(d, "ConvGradW", (int[]){d->node.input[0], dz}, 2, attrs, CONV_N_ATTRS + 1, &d->dx[1], e);
    return rc;
}

static int backward_conv(struct op_grad *d, struct err *e)
{
    return backward_products(d, d->dy[0], e);
}

/* One group's kernel is not a matrix of its own, so that only ungrouped kernels are packed. */
static bool packs(const struct node *n)
{
    return n->attr[CONV_GROUP].i == 1;
}

const struct op op_conv = {.name = "Conv",
                           .min_inputs = 2,
                           .max_inputs = 2,
                           .outputs = 1,
                           .attrs = conv_attrs,
                           .n_attrs = CONV_N_ATTRS,
                           .infer = infer_conv,
                           .forward = forward_conv,
                           .reference = reference_conv,
                           .backward = backward_conv,
                           .flops = flops_conv,
                           .workspace = workspace_conv,
                           .pack_input = 1,
                           .packs = packs};

/* ---- ConvBias(x, kernel, bias) ---- */

static const struct op_attr bias_attrs[] = {
    CONV_ATTRS,
    {.name = "act", .type = ATTR_INT, .min = 0, .max = ACT_COUNT - 1},
    {.name = "alpha", .type = ATTR_FLOAT, .min = -1e6, .max = 1e6},
};

static int infer_bias(struct op_shapes *s, struct err *e)
{
    int rc = infer_conv(s, e);
    const struct shape *w = &s->in[1].shape, *b = &s->in[2].shape;
    if (rc) return rc;
    if (s->in[2].dtype != DTYPE_F32 || b->rank != 1 || b->dim[0] != w->dim[w->rank - 1])
        return op_refuse(s, 2, e, "an f32 bias [filters]");
    return 0;
}

static int forward_bias(const struct op_call *c, struct err *e)
{
    (void)e;
    convolve(c, &(struct gemm_tail){.bias = c->in[2]->data,
                                    .act = (enum act)c->node->attr[CONV_N_ATTRS].i,
                                    .alpha = (float)c->node->attr[CONV_N_ATTRS + 1].f});
    return 0;
}

static void reference_bias(const struct op_ref *r)
{
    size_t filters = ref_count(&r->in[2]);
    reference_conv(r);
    for (size_t i = 0; i < ref_count(&r->out[0]); i++)
        r->out[0].data[i] =
            activation_reference((enum act)r->node->attr[CONV_N_ATTRS].i, r->node->attr[CONV_N_ATTRS + 1].f,
                                 r->out[0].data[i] + r->in[2].data[i % filters]);
}

static int backward_bias(struct op_grad *d, struct err *e)
{
    int rc = 0, dz = d->dy[0];
    struct attr attrs[] = {{"act", d->node.attr[CONV_N_ATTRS]}, {"alpha", d->node.attr[CONV_N_ATTRS + 1]}};
    bool gated = attrs[0].value.i == ACT_RELU && pool_gate_gradient(d->graph, d->dy[0], d->node.output[0]);
    if (attrs[0].value.i != ACT_LINEAR && !gated)
        rc = grad_op(d, "ActivateGrad", (int[]){d->dy[0], d->node.output[0]}, 2, attrs, 2, &dz, e);
    if (rc == 0 && d->want[2]) {
        struct attr shape = {"shape", {.ints = graph_value(d->graph, d->node.input[2])->shape}};
        rc = grad_op(d, "ReduceTo", &dz, 1, &shape, 1, &d->dx[2], e);
    }
    return rc ? rc : backward_products(d, dz, e);
}

static double flops_bias(const struct op_shapes *s)
{
    return flops_conv(s) + 2 * op_flops_one(s);
}

const struct op op_conv_bias = {.name = "ConvBias",
                                .internal = true,
                                .min_inputs = 3,
                                .max_inputs = 3,
                                .outputs = 1,
                                .attrs = bias_attrs,
                                .n_attrs = CONV_N_ATTRS + 2,
                                .infer = infer_bias,
                                .forward = forward_bias,
                                .reference = reference_bias,
                                .backward = backward_bias,
                                .flops = flops_bias,
                                .workspace = workspace_conv,
                                .pack_input = 1,
                                .packs = packs};

/* ---- ConvGradX(dy, kernel) → the gradient by x, whose shape is an attribute ---- */

static const struct op_attr grad_attrs[] = {
    CONV_ATTRS, {.name = "shape", .type = ATTR_INTS, .required = true, .min = -1, .max = INT32_MAX}};

static int infer_grad(struct op_shapes *s, struct err *e)
{
    (void)e;
    s->out[0] = (struct typed_shape){DTYPE_F32, s->node->attr[CONV_N_ATTRS].ints};
    return 0;
}

static size_t packed_bytes(const struct conv *c)
{
    return kernels_packed_most(c->n, c->k) * sizeof(float);
}

static size_t workspace_grad_x(const struct op_shapes *s)
{
    struct conv c;
    if (!conv_of(&c, &s->out[0].shape, &s->in[1].shape, s->node)) return 0;
    if (c.pointwise) return packed_bytes(&c);
    size_t lines = larger(conv_lines_grad_x_bytes(&c), conv_turn_bytes(&c));
    return larger(packed_bytes(&c) + patch_bytes(&c), lines);
}

/* Patches of the gradient are dy · kernelᵀ; each is added where its patch was read. */
static int forward_grad_x(const struct op_call *call, struct err *e)
{
    const struct kernels *k = call->backend->kernels;
    const float *dy = call->in[0]->data, *w = call->in[1]->data;
    float *dx = call->out[0]->data, *packed = call->work;
    struct conv c;
    (void)e;
    if (!conv_of(&c, &call->out[0]->shape, &call->in[1]->shape, call->node)) return 0;
    if (conv_turn_fits(&c, call->backend)) {
        conv_turn_grad_x(k, &c, dy, w, dx, call->work);
        return 0;
    }
    if (conv_lines_fit_grad_x(&c, k)) {
        conv_lines_grad_x(k, &c, dy, w, dx, call->work);
        return 0;
    }
    float *patches = c.pointwise ? dx : packed + packed_bytes(&c) / sizeof(float);
    int64_t block = c.pointwise ? c.rows : c.block;
    if (!c.pointwise) memset(dx, 0, view_count(call->out[0]) * sizeof *dx);
    for (int64_t g = 0; g < c.w.group; g++) {
        k->pack(w + g * c.n, c.filters, true, c.n, c.k, packed);
        for (int64_t row = 0; row < c.rows; row += block) {
            int64_t end = row + block < c.rows ? row + block : c.rows;
            k->gemm_packed(&(struct gemm_packed){.m = end - row,
                                                 .n = c.k,
                                                 .k = c.n,
                                                 .a = dy + row * c.filters + g * c.n,
                                                 .lda = c.filters,
                                                 .packed = packed,
                                                 .c = patches,
                                                 .ldc = c.k});
            if (!c.pointwise) window_scatter(&c.w, g, k, patches, row, end, dx);
        }
    }
    return 0;
}

static void add_to_x(double *x, double *w, double *y)
{
    *x += *w * *y;
}

static void reference_grad_x(const struct op_ref *r)
{
    struct conv c;
    if (!conv_of(&c, &r->out[0].shape, &r->in[1].shape, r->node)) return;
    memset(r->out[0].data, 0, ref_count(&r->out[0]) * sizeof(double));
    each_product(&c, r->out[0].data, r->in[1].data, r->in[0].data, add_to_x);
}

static double flops_grad_x(const struct op_shapes *s)
{
    struct conv c;
    return conv_of(&c, &s->out[0].shape, &s->in[1].shape, s->node) ? flops_product(&c) : 0;
}

const struct op op_conv_grad_x = {.name = "ConvGradX",
                                  .internal = true,
                                  .min_inputs = 2,
                                  .max_inputs = 2,
                                  .outputs = 1,
                                  .attrs = grad_attrs,
                                  .n_attrs = CONV_N_ATTRS + 1,
                                  .infer = infer_grad,
                                  .forward = forward_grad_x,
                                  .reference = reference_grad_x,
                                  .no_gradient = true,
                                  .flops = flops_grad_x,
                                  .workspace = workspace_grad_x};

/* ---- ConvGradW(x, dy) → the gradient by the kernel, whose shape is an attribute ---- */

static size_t workspace_grad_w(const struct op_shapes *s)
{
    struct conv c;
    if (!conv_of(&c, &s->in[0].shape, &s->out[0].shape, s->node)) return 0;
    return larger(patch_bytes(&c), conv_lines_grad_w_bytes(&c));
}

static int forward_grad_w(const struct op_call *call, struct err *e)
{
    const float *x = call->in[0]->data, *dy = call->in[1]->data;
    float *dw = call->out[0]->data;
    struct conv c;
    (void)e;
    if (!conv_of(&c, &call->in[0]->shape, &call->out[0]->shape, call->node)) return 0;
    if (conv_lines_fit(&c, call->backend->kernels)) {
        conv_lines_grad_w(call->backend->kernels, &c, x, dy, dw, call->work);
        return 0;
    }
    int64_t block = c.pointwise ? c.rows : c.block;
    for (int64_t row = 0; row < c.rows; row += block) {
        int64_t end = row + block < c.rows ? row + block : c.rows;
        for (int64_t g = 0; g < c.w.group; g++) {
            if (!c.pointwise) window_gather(&c.w, g, x, row, end, call->work);
            op_gemm(call,
                    &(struct gemm){.trans_a = true,
                                   .m = c.k,
                                   .n = c.n,
                                   .k = end - row,
                                   .a = c.pointwise ? x : call->work,
                                   .lda = c.k,
                                   .b = dy + row * c.filters + g * c.n,
                                   .ldb = c.filters,
                                   .beta = row > 0 ? 1.0f : 0.0f,
                                   .c = dw + g * c.n,
                                   .ldc = c.filters},
                    NULL);
        }
    }
    return 0;
}

static void add_to_w(double *x, double *w, double *y)
{
    *w += *x * *y;
}

static void reference_grad_w(const struct op_ref *r)
{
    struct conv c;
    if (!conv_of(&c, &r->in[0].shape, &r->out[0].shape, r->node)) return;
    memset(r->out[0].data, 0, ref_count(&r->out[0]) * sizeof(double));
    each_product(&c, r->in[0].data, r->out[0].data, r->in[1].data, add_to_w);
}

static double flops_grad_w(const struct op_shapes *s)
{
    struct conv c;
    return conv_of(&c, &s->in[0].shape, &s->out[0].shape, s->node) ? flops_product(&c) : 0;
}

const struct op op_conv_grad_w = {.name = "ConvGradW",
                                  .internal = true,
                                  .min_inputs = 2,
                                  .max_inputs = 2,
                                  .outputs = 1,
                                  .attrs = grad_attrs,
                                  .n_attrs = CONV_N_ATTRS + 1,
                                  .infer = infer_grad,
                                  .forward = forward_grad_w,
                                  .reference = reference_grad_w,
                                  .no_gradient = true,
                                  .flops = flops_grad_w,
                                  .workspace = workspace_grad_w};
