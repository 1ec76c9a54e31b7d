/* MaxPool and AveragePool over one or two spatial dimensions, channels last. Padding takes no part: neither
 * in a maximum nor in the number that an average divides by. A kernel as large as the input makes them
 * global. */
#include "tensor/ops/families.h"

#include <math.h>
#include <string.h>
#include "tensor/graph_impl.h"
#include "tensor/ops/window.h"

enum { POOL_KERNEL = WINDOW_N_ATTRS, POOL_N_ATTRS };

/* Dilations are all 1: a spread window could lie in the padding alone. */
#define POOL_ATTRS                                                                                           \
    WINDOW_ATTRS(1),                                                                                         \
    {                                                                                                        \
        .name = "kernel_shape", .type = ATTR_INTS, .required = true, .min = 1, .max = INT32_MAX              \
    }

static const struct op_attr pool_attrs[] = {POOL_ATTRS};

static bool pool_of(struct window *w, const struct shape *x, const struct node *n)
{
    return n->attr[POOL_KERNEL].ints.rank == x->rank - 2 && window_of(w, x, &n->attr[POOL_KERNEL].ints, n);
}

static int infer_pool(struct op_shapes *s, struct err *e)
{
    struct window w;
    const struct shape *x = &s->in[0].shape;
    if (s->in[0].dtype != DTYPE_F32 || x->rank < 3 || x->rank > 4 || !pool_of(&w, x, s->node))
        return op_refuse(s, 0, e,
                         "f32 [batch, width, channels] or [batch, height, width, channels] that the kernel "
                         "fits into, with pads shorter than it");
    s->out[0] = (struct typed_shape){DTYPE_F32, window_output(&w, w.c)};
    return 0;
}

/* The part of the window of one output element that lies inside the input. */
struct patch {
    int64_t at;          /* of its first element in x */
    int64_t lines, taps; /* its height and width */
};

static struct patch patch_at(const struct window *w, int64_t row)
{
    int64_t y = row / w->ow % w->oh * w->sh - w->top, x = row % w->ow * w->sw - w->left;
    int64_t y0 = y < 0 ? 0 : y, x0 = x < 0 ? 0 : x;
    int64_t y1 = y + w->kh < w->h ? y + w->kh : w->h, x1 = x + w->kw < w->w ? x + w->kw : w->w;
    return (struct patch){((row / (w->oh * w->ow) * w->h + y0) * w->w + x0) * w->c, y1 - y0, x1 - x0};
}

/* All windows lie inside the input. */
static bool inside(const struct window *w)
{
    return w->top == 0 && w->left == 0 && (w->oh - 1) * w->sh + w->kh <= w->h &&
           (w->ow - 1) * w->sw + w->kw <= w->w;
}

static struct pool_line line_of(const struct window *w)
{
    return (struct pool_line){.windows = w->ow,
                              .step = w->sw * w->c,
                              .lines = w->kh,
                              .line_step = w->w * w->c,
                              .taps = w->kw,
                              .n = w->c};
}

static int forward_max(const struct op_call *c, struct err *e)
{
    const struct kernels *k = c->backend->kernels;
    struct window w;
    (void)e;
    if (!pool_of(&w, &c->in[0]->shape, c->node)) return 0;
    float *y = c->out[0]->data;
    if (inside(&w)) {
        struct pool_line l = line_of(&w);
        for (int64_t line = 0; line < w.n * w.oh; line++) {
            l.x = (const float *)c->in[0]->data + (line / w.oh * w.h + line % w.oh * w.sh) * l.line_step;
            l.out = y + line * w.ow * w.c;
            k->max_line(&l);
        }
        return 0;
    }
    for (int64_t row = 0; row < w.n * w.oh * w.ow; row++, y += w.c) {
        struct patch p = patch_at(&w, row);
        const float *x = (const float *)c->in[0]->data + p.at;
        for (int64_t i = 0; i < p.lines; i++)
            k->max_taps(x + i * w.w * w.c, (size_t)p.taps, i == 0, y, (size_t)w.c);
    }
    return 0;
}

static int forward_average(const struct op_call *c, struct err *e)
{
    const struct kernels *k = c->backend->kernels;
    struct window w;
    (void)e;
    if (!pool_of(&w, &c->in[0]->shape, c->node)) return 0;
    float *y = c->out[0]->data;
    for (int64_t row = 0; row < w.n * w.oh * w.ow; row++, y += w.c) {
        struct patch p = patch_at(&w, row);
        const float *x = (const float *)c->in[0]->data + p.at;
        for (int64_t i = 0; i < p.lines; i++)
            k->sum_taps(x + i * w.w * w.c, (size_t)p.taps, i == 0, y, (size_t)w.c);
        k->scale(1.0f / (float)(p.lines * p.taps), y, y, (size_t)w.c);
    }
    return 0;
}

static void reference_pool(const struct op_ref *r)
{
    struct window w;
    if (!pool_of(&w, &r->in[0].shape, r->node)) return;
    for (int64_t i = 0; i < w.n * w.oh * w.ow * w.c; i++) {
        int64_t row = i / w.c, count = 0;
        double max = -INFINITY, sum = 0;
        for (int64_t k = 0; k < w.kh * w.kw; k++) {
            int64_t tap =
                window_tap(&w, row / (w.oh * w.ow), row / w.ow % w.oh, row % w.ow, k / w.kw, k % w.kw);
            if (tap < 0) continue;
            double x = r->in[0].data[tap + i % w.c];
            max = x > max ? x : max;
            sum += x;
            count++;
        }
        r->out[0].data[i] = r->node->op == &op_max_pool ? max : sum / (double)count;
    }
}

static double flops_pool(const struct op_shapes *s)
{
    struct window w;
    return pool_of(&w, &s->in[0].shape, s->node) ? (double)w.kh * (double)w.kw * op_flops_one(s) : 0;
}

static int backward_pool(struct op_grad *d, struct err *e)
{
    struct attr attrs[] = {{"strides", d->node.attr[WINDOW_STRIDES]},
                           {"pads", d->node.attr[WINDOW_PADS]},
                           {"dilations", d->node.attr[WINDOW_DILATIONS]},
                           {"kernel_shape", d->node.attr[POOL_KERNEL]},
                           {"shape", {.ints = graph_value(d->graph, d->node.input[0])->shape}}};
    bool max = d->node.op == &op_max_pool;
    int inputs[] = {d->dy[0], d->node.input[0], d->node.output[0]};
    return grad_op(d, max ? "MaxPoolGrad" : "AveragePoolGrad", inputs, max ? 3 : 1, attrs, max ? 4 : 5,
                   &d->dx[0], e);
}

#define POOL(NAME, FORWARD)                                                                                  \
    {                                                                                                        \
        .name = (NAME), .min_inputs = 1, .max_inputs = 1, .outputs = 1, .attrs = pool_attrs,                 \
        .n_attrs = POOL_N_ATTRS, .infer = infer_pool, .forward = (FORWARD), .reference = reference_pool,     \
        .backward = backward_pool, .flops = flops_pool                                                       \
    }

const struct op op_max_pool = POOL("MaxPool", forward_max);
const struct op op_average_pool = POOL("AveragePool", forward_average);

/* ---- MaxPoolGrad(dy, x, y): to the first element of each window that is its maximum; with relu only where
 * that is above 0 ---- */

enum { POOL_RELU = POOL_N_ATTRS };

static const struct op_attr max_grad_attrs[] = {POOL_ATTRS,
                                                {.name = "relu", .type = ATTR_INT, .min = 0, .max = 1}};

bool pool_gate_gradient(struct graph *g, int value, int y)
{
    const struct value *v = &g->value[value];
    if (v->kind != VALUE_NODE) return false;
    struct node *n = &g->node[v->producer];
    if (n->op != &op_max_pool_grad || n->input[1] != y) return false;
    n->attr[POOL_RELU].i = 1;
    return true;
}

static int infer_max_grad(struct op_shapes *s, struct err *e)
{
    (void)e;
    s->out[0] = s->in[1];
    return 0;
}

/* What of dy has not found its place yet, for one output element. */
static size_t workspace_grad(const struct op_shapes *s)
{
    const struct shape *dy = &s->in[0].shape;
    return (size_t)dy->dim[dy->rank - 1] * sizeof(float);
}

/* Windows side by side: every element of dx is written once, those that no window covers first. */
static void tiled_max_grad(const struct op_call *c, const struct window *w)
{
    struct pool_line l = line_of(w);
    float *dx = c->out[0]->data;
    int64_t right = l.line_step - w->ow * l.step, covered = w->oh * w->kh;
    l.gate = c->node->attr[POOL_RELU].i != 0;
    for (int64_t i = 0; i < w->n; i++, dx += w->h * l.line_step) {
        for (int64_t y = 0; right > 0 && y < covered; y++)
            memset(dx + (y + 1) * l.line_step - right, 0, (size_t)right * sizeof *dx);
        memset(dx + covered * l.line_step, 0, (size_t)((w->h - covered) * l.line_step) * sizeof *dx);
        for (int64_t oy = 0; oy < w->oh; oy++) {
            int64_t out = (i * w->oh + oy) * w->ow * w->c;
            l.x = (const float *)c->in[1]->data + (i * w->h + oy * w->kh) * l.line_step;
            l.y = (const float *)c->in[2]->data + out;
            l.dy = (const float *)c->in[0]->data + out;
            l.out = dx + oy * w->kh * l.line_step;
            c->backend->kernels->max_line_grad(&l);
        }
    }
}

static int forward_max_grad(const struct op_call *c, struct err *e)
{
    const struct kernels *k = c->backend->kernels;
    const float *dy = c->in[0]->data, *y = c->in[2]->data;
    float *dx = c->out[0]->data;
    struct window w;
    (void)e;
    if (!pool_of(&w, &c->in[1]->shape, c->node)) return 0;
    if (inside(&w) && w.sh == w.kh && w.sw == w.kw) {
        tiled_max_grad(c, &w);
        return 0;
    }
    memset(dx, 0, view_count(c->out[0]) * sizeof *dx);
    for (int64_t row = 0; row < w.n * w.oh * w.ow; row++, dy += w.c, y += w.c) {
        struct patch p = patch_at(&w, row);
        const float *x = (const float *)c->in[1]->data + p.at;
        if (c->node->attr[POOL_RELU].i)
            k->activate_grad(ACT_RELU, 0, y, dy, c->work, (size_t)w.c);
        else
            memcpy(c->work, dy, (size_t)w.c * sizeof *dy);
        for (int64_t i = 0; i < p.lines; i++)
            k->max_taps_grad(x + i * w.w * w.c, (size_t)p.taps, y, c->work, dx + p.at + i * w.w * w.c,
                             (size_t)w.c);
    }
    return 0;
}

static void reference_max_grad(const struct op_ref *r)
{
    struct window w;
    if (!pool_of(&w, &r->in[1].shape, r->node)) return;
    memset(r->out[0].data, 0, ref_count(&r->out[0]) * sizeof(double));
    for (int64_t i = 0; i < w.n * w.oh * w.ow * w.c; i++)
        for (int64_t k = 0, row = i / w.c; k < w.kh * w.kw; k++) {
            int64_t tap =
                window_tap(&w, row / (w.oh * w.ow), row / w.ow % w.oh, row % w.ow, k / w.kw, k % w.kw);
            if (tap < 0 || r->in[1].data[tap + i % w.c] != r->in[2].data[i]) continue;
            if (r->node->attr[POOL_RELU].i && r->in[2].data[i] <= 0) break;
            r->out[0].data[tap + i % w.c] += r->in[0].data[i];
            break;
        }
}

static double flops_max_grad(const struct op_shapes *s)
{
    return 3.0 * op_flops_one(s);
}

const struct op op_max_pool_grad = {.name = "MaxPoolGrad",
                                    .internal = true,
                                    .min_inputs = 3,
                                    .max_inputs = 3,
                                    .outputs = 1,
                                    .attrs = max_grad_attrs,
                                    .n_attrs = POOL_N_ATTRS + 1,
                                    .infer = infer_max_grad,
                                    .forward = forward_max_grad,
                                    .reference = reference_max_grad,
                                    .no_gradient = true,
                                    .flops = flops_max_grad,
                                    .workspace = workspace_grad};

/* ---- AveragePoolGrad(dy): an equal share to each element of the window ---- */

static const struct op_attr average_attrs[] = {
    POOL_ATTRS, {.name = "shape", .type = ATTR_INTS, .required = true, .min = -1, .max = INT32_MAX}};

static int infer_average_grad(struct op_shapes *s, struct err *e)
{
    (void)e;
    s->out[0] = (struct typed_shape){DTYPE_F32, s->node->attr[POOL_N_ATTRS].ints};
    return 0;
}

static int forward_average_grad(const struct op_call *c, struct err *e)
{
    const struct kernels *k = c->backend->kernels;
    const float *dy = c->in[0]->data;
    struct window w;
    (void)e;
    if (!pool_of(&w, &c->out[0]->shape, c->node)) return 0;
    memset(c->out[0]->data, 0, view_count(c->out[0]) * sizeof(float));
    for (int64_t row = 0; row < w.n * w.oh * w.ow; row++, dy += w.c) {
        struct patch p = patch_at(&w, row);
        k->scale(1.0f / (float)(p.lines * p.taps), dy, c->work, (size_t)w.c);
        for (int64_t i = 0; i < p.lines; i++) {
            float *dx = (float *)c->out[0]->data + p.at + i * w.w * w.c;
            for (int64_t t = 0; t < p.taps; t++, dx += w.c) k->add(dx, c->work, dx, (size_t)w.c);
        }
    }
    return 0;
}

static void reference_average_grad(const struct op_ref *r)
{
    struct window w;
    if (!pool_of(&w, &r->out[0].shape, r->node)) return;
    memset(r->out[0].data, 0, ref_count(&r->out[0]) * sizeof(double));
    for (int64_t i = 0; i < w.n * w.oh * w.ow * w.c; i++) {
        int64_t count = 0, row = i / w.c;
        for (int again = 0; again < 2; again++)
            for (int64_t k = 0; k < w.kh * w.kw; k++) {
                int64_t tap =
                    window_tap(&w, row / (w.oh * w.ow), row / w.ow % w.oh, row % w.ow, k / w.kw, k % w.kw);
                if (tap < 0) continue;
                if (again)
                    r->out[0].data[tap + i % w.c] += r->in[0].data[i] / (double)count;
                else
                    count++;
            }
    }
}

const struct op op_average_pool_grad = {.name = "AveragePoolGrad",
                                        .internal = true,
                                        .min_inputs = 1,
                                        .max_inputs = 1,
                                        .outputs = 1,
                                        .attrs = average_attrs,
                                        .n_attrs = POOL_N_ATTRS + 1,
                                        .infer = infer_average_grad,
                                        .forward = forward_average_grad,
                                        .reference = reference_average_grad,
                                        .no_gradient = true,
                                        .flops = op_flops_one,
                                        .workspace = workspace_grad};
