/* Scaled dot-product attention of several heads (Vaswani et al. 2017), its probabilities kept for the
 * gradient. Head h is columns h·width … of queries, keys and values. Masked keys have probability 0 exactly;
 * a query that may see no key gets zeros. */
#include "tensor/ops/families.h"

#include <math.h>
#include <string.h>

enum { Q, K, V, LENGTHS };

static const struct op_attr attrs[] = {
    {.name = "heads", .type = ATTR_INT, .required = true, .min = 1, .max = 65536},
    {.name = "causal", .type = ATTR_INT, .min = 0, .max = 1},
};

/* q [batch, tq, size], k and v [batch, tk, size], probabilities [batch, heads, tq, tk]. */
struct attention {
    int64_t batch, tq, tk, size, heads, width;
    float scale;
};

static struct attention attention_of(const struct node *n, const struct shape *q, const struct shape *k)
{
    struct attention a = {.batch = q->dim[0], .tq = q->dim[1], .tk = k->dim[1], .size = q->dim[2]};
    a.heads = n->attr[0].i;
    a.width = a.size / a.heads;
    a.scale = 1.0f / sqrtf((float)a.width);
    return a;
}

static int infer(struct op_shapes *s, struct err *e)
{
    const struct shape *q = &s->in[Q].shape, *k = &s->in[K].shape;
    for (int i = Q; i <= V; i++)
        if (s->in[i].dtype != DTYPE_F32 || s->in[i].shape.rank != 3 || s->in[i].shape.dim[0] != q->dim[0] ||
            s->in[i].shape.dim[2] != q->dim[2])
            return op_refuse(s, i, e, "f32 [batch, steps, size], of one batch and size with the queries");
    if (q->dim[2] % s->node->attr[0].i != 0) return op_refuse(s, Q, e, "a size that the heads divide");
    if (s->in[V].shape.dim[1] != k->dim[1]) return op_refuse(s, V, e, "as many values as keys");
    if (s->node->attr[1].i && k->dim[1] != q->dim[1])
        return op_refuse(s, K, e, "as many keys as queries, for a causal mask");
    if (s->node->n_inputs > LENGTHS && (s->in[LENGTHS].dtype != DTYPE_I32 || s->in[LENGTHS].shape.rank != 1 ||
                                        s->in[LENGTHS].shape.dim[0] != q->dim[0]))
        return op_refuse(s, LENGTHS, e, "i32 lengths [batch] of the keys");
    s->out[0] = s->in[Q];
    s->out[1] = (struct typed_shape){
        DTYPE_F32, shape_of(4, (int64_t[]){q->dim[0], s->node->attr[0].i, q->dim[1], k->dim[1]})};
    return 0;
}

/* How many keys query i may see. */
static int64_t visible(const struct node *n, const struct attention *a, int64_t i, int64_t length)
{
    return n->attr[1].i && i + 1 < length ? i + 1 : length < a->tk ? length : a->tk;
}

/* Rows of scores to probabilities, in place. */
static void normalise(const struct op_call *c, const struct attention *a, float *p, int64_t length)
{
    const struct kernels *k = c->backend->kernels;
    if (!c->node->attr[1].i && length == a->tk && a->tk > 0) {
        k->softmax(a->scale, p, p, (size_t)a->tq, (size_t)a->tk);
        return;
    }
    for (int64_t i = 0; i < a->tq; i++, p += a->tk) {
        int64_t seen = visible(c->node, a, i, length);
        if (seen > 0) k->softmax(a->scale, p, p, 1, (size_t)seen);
        memset(p + seen, 0, (size_t)(a->tk - seen) * sizeof *p);
    }
}

/* The product of one head's part of the rows of two matrices. */
static void head_product(const struct op_call *c, bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k,
                         const float *x, int64_t ldx, const float *w, int64_t ldw, float *y, int64_t ldy)
{
    op_gemm(c,
            &(struct gemm){.trans_a = trans_a,
                           .trans_b = trans_b,
                           .m = m,
                           .n = n,
                           .k = k,
                           .a = x,
                           .lda = ldx,
                           .b = w,
                           .ldb = ldw,
                           .c = y,
                           .ldc = ldy},
            NULL);
}

static int forward(const struct op_call *c, struct err *e)
{
    struct attention a = attention_of(c->node, &c->in[Q]->shape, &c->in[K]->shape);
    const int32_t *length = c->node->n_inputs > LENGTHS ? c->in[LENGTHS]->data : NULL;
    float *p = c->out[1]->data;
    for (int64_t b = 0; b < a.batch; b++) {
        int64_t len = length ? length[b] : a.tk;
        if (len < 0 || len > a.tk)
            return err_set(e, ERR_INVALID, c->node->name,
                           "'%s': row %lld has length %lld; expected 0 to %lld", c->node->name, (long long)b,
                           (long long)len, (long long)a.tk);
        for (int64_t h = 0; h < a.heads; h++, p += a.tq * a.tk) {
            const float *q = (const float *)c->in[Q]->data + b * a.tq * a.size + h * a.width;
            const float *k = (const float *)c->in[K]->data + b * a.tk * a.size + h * a.width;
            const float *v = (const float *)c->in[V]->data + b * a.tk * a.size + h * a.width;
            float *y = (float *)c->out[0]->data + b * a.tq * a.size + h * a.width;
            head_product(c, false, true, a.tq, a.tk, a.width, q, a.size, k, a.size, p, a.tk);
            normalise(c, &a, p, len);
            head_product(c, false, false, a.tq, a.width, a.tk, p, a.tk, v, a.size, y, a.size);
        }
    }
    return 0;
}

static void reference(const struct op_ref *r)
{
    struct attention a = attention_of(r->node, &r->in[Q].shape, &r->in[K].shape);
    double root = 1 / sqrt((double)a.width);
    for (int64_t i = 0; i < a.batch * a.heads * a.tq; i++) {
        int64_t b = i / (a.heads * a.tq), h = i / a.tq % a.heads, row = i % a.tq;
        const double *q = r->in[Q].data + (b * a.tq + row) * a.size + h * a.width;
        const double *k = r->in[K].data + b * a.tk * a.size + h * a.width;
        const double *v = r->in[V].data + b * a.tk * a.size + h * a.width;
        double *p = r->out[1].data + i * a.tk, *y = r->out[0].data + (b * a.tq + row) * a.size + h * a.width;
        int64_t length = r->node->n_inputs > LENGTHS ? (int64_t)r->in[LENGTHS].data[b] : a.tk;
        int64_t seen = visible(r->node, &a, row, length);
        memset(p, 0, (size_t)a.tk * sizeof *p);
        for (int64_t j = 0; j < seen; j++)
            for (int64_t d = 0; d < a.width; d++) p[j] += q[d] * k[j * a.size + d] * root;
        if (seen > 0) softmax_reference(p, p, (size_t)seen);
        for (int64_t d = 0; d < a.width; d++) {
            y[d] = 0;
            for (int64_t j = 0; j < seen; j++) y[d] += p[j] * v[j * a.size + d];
        }
    }
}

static int backward(struct op_grad *d, struct err *e)
{
    const struct node *n = &d->node;
    struct attr heads = {"heads", n->attr[0]};
    int inputs[] = {d->dy[0], n->input[Q], n->input[K], n->input[V], n->output[1]};
    if (d->dy[1] >= 0)
        return err_set(e, ERR_UNSUPPORTED, n->name, "'%s': its probabilities have no gradient", n->name);
    int rc = grad_op(d, "AttentionGrad", inputs, 5, &heads, 1, &d->dx[Q], e);
    d->dx[K] = d->dx[Q] + 1;
    d->dx[V] = d->dx[Q] + 2;
    return rc;
}

/* Two products and a softmax over the scores. */
static double flops(const struct op_shapes *s)
{
    struct attention a = attention_of(s->node, &s->in[Q].shape, &s->in[K].shape);
    return (double)a.batch * (double)a.tq * (double)a.tk * (4.0 * (double)a.size + 14.0 * (double)a.heads);
}

const struct op op_attention = {.name = "Attention",
                                .min_inputs = 3,
                                .max_inputs = 4,
                                .outputs = 2,
                                .attrs = attrs,
                                .n_attrs = 2,
                                .infer = infer,
                                .forward = forward,
                                .reference = reference,
                                .backward = backward,
                                .flops = flops};

/* ---- AttentionGrad(dy, q, k, v, probabilities) → dq, dk, dv ---- */

static int infer_grad(struct op_shapes *s, struct err *e)
{
    (void)e;
    for (int i = 0; i < 3; i++) s->out[i] = s->in[1 + i];
    return 0;
}

/* The scores' gradient of one head. */
static size_t workspace_grad(const struct op_shapes *s)
{
    struct attention a = attention_of(s->node, &s->in[1].shape, &s->in[2].shape);
    return (size_t)a.tq * (size_t)a.tk * sizeof(float);
}

static int forward_grad(const struct op_call *c, struct err *e)
{
    struct attention a = attention_of(c->node, &c->in[1]->shape, &c->in[2]->shape);
    const struct kernels *kernels = c->backend->kernels;
    const float *p = c->in[4]->data;
    float *ds = c->work;
    (void)e;
    for (int64_t i = 0; i < a.batch * a.heads; i++, p += a.tq * a.tk) {
        int64_t head = i % a.heads * a.width;
        int64_t at_q = i / a.heads * a.tq * a.size + head, at_k = i / a.heads * a.tk * a.size + head;
        const float *dy = (const float *)c->in[0]->data + at_q, *q = (const float *)c->in[1]->data + at_q;
        const float *k = (const float *)c->in[2]->data + at_k, *v = (const float *)c->in[3]->data + at_k;
        head_product(c, false, true, a.tq, a.tk, a.width, dy, a.size, v, a.size, ds, a.tk);
        kernels->softmax_grad(a.scale, p, ds, ds, (size_t)a.tq, (size_t)a.tk);
        head_product(c, false, false, a.tq, a.width, a.tk, ds, a.tk, k, a.size,
                     (float *)c->out[0]->data + at_q, a.size);
        head_product(c, true, false, a.tk, a.width, a.tq, ds, a.tk, q, a.size,
                     (float *)c->out[1]->data + at_k, a.size);
        head_product(c, true, false, a.tk, a.width, a.tq, p, a.tk, dy, a.size,
                     (float *)c->out[2]->data + at_k, a.size);
    }
    return 0;
}

static void reference_grad(const struct op_ref *r)
{
    struct attention a = attention_of(r->node, &r->in[1].shape, &r->in[2].shape);
    double root = 1 / sqrt((double)a.width);
    for (int i = 0; i < 3; i++) memset(r->out[i].data, 0, ref_count(&r->out[i]) * sizeof(double));
    for (int64_t i = 0; i < a.batch * a.heads * a.tq; i++) {
        int64_t b = i / (a.heads * a.tq), h = i / a.tq % a.heads, row = i % a.tq;
        int64_t at_q = (b * a.tq + row) * a.size + h * a.width, at_k = b * a.tk * a.size + h * a.width;
        const double *p = r->in[4].data + i * a.tk, *dy = r->in[0].data + at_q;
        double dot = 0;
        for (int64_t j = 0; j < a.tk; j++)
            for (int64_t d = 0; d < a.width; d++) dot += p[j] * dy[d] * r->in[3].data[at_k + j * a.size + d];
        for (int64_t j = 0; j < a.tk; j++) {
            double dp = 0, ds;
            for (int64_t d = 0; d < a.width; d++) dp += dy[d] * r->in[3].data[at_k + j * a.size + d];
            ds = p[j] * (dp - dot) * root;
            for (int64_t d = 0; d < a.width; d++) {
                r->out[0].data[at_q + d] += ds * r->in[2].data[at_k + j * a.size + d];
                r->out[1].data[at_k + j * a.size + d] += ds * r->in[1].data[at_q + d];
                r->out[2].data[at_k + j * a.size + d] += p[j] * dy[d];
            }
        }
    }
}

static double flops_grad(const struct op_shapes *s)
{
    struct attention a = attention_of(s->node, &s->in[1].shape, &s->in[2].shape);
    return (double)a.batch * (double)a.tq * (double)a.tk * (8.0 * (double)a.size + 5.0 * (double)a.heads);
}

const struct op op_attention_grad = {.name = "AttentionGrad",
                                     .internal = true,
                                     .min_inputs = 5,
                                     .max_inputs = 5,
                                     .outputs = 3,
                                     .attrs = attrs,
                                     .n_attrs = 2,
                                     .infer = infer_grad,
                                     .forward = forward_grad,
                                     .reference = reference_grad,
                                     .no_gradient = true,
                                     .flops = flops_grad,
                                     .workspace = workspace_grad};
