/* Products with a weight matrix: MatMul, its gradients, and Dense, which is MatMul, Add and an activation in
 * one. */
#include "tensor/ops/families.h"

#include <string.h>
#include "tensor/graph_impl.h"

/* x [..., k] and w [k, n] of a product. */
struct sizes {
    int64_t rows, k, n;
};

static struct sizes sizes_of(const struct shape *x, const struct shape *w)
{
    size_t rows, k;
    op_split_rows(x, &rows, &k);
    return (struct sizes){(int64_t)rows, (int64_t)k, w->dim[1]};
}

static int infer_product(struct op_shapes *s, struct err *e)
{
    const struct shape *x = &s->in[0].shape, *w = &s->in[1].shape;
    if (s->in[0].dtype != DTYPE_F32 || x->rank < 1 || x->dim[x->rank - 1] == SHAPE_BATCH)
        return op_refuse(s, 0, e, "f32 [..., k]");
    if (s->in[1].dtype != DTYPE_F32 || w->rank != 2) return op_refuse(s, 1, e, "an f32 matrix [k, n]");
    if (w->dim[0] != x->dim[x->rank - 1])
        return op_refuse(s, 1, e, "as many rows as input 0's last dimension");
    s->out[0] = s->in[0];
    s->out[0].shape.dim[x->rank - 1] = w->dim[1];
    return 0;
}

static double flops_product(const struct op_shapes *s)
{
    struct sizes z = sizes_of(&s->in[0].shape, &s->in[1].shape);
    return 2.0 * (double)z.rows * (double)z.k * (double)z.n;
}

static void product(const struct op_call *c, const struct gemm_tail *tail)
{
    struct sizes z = sizes_of(&c->in[0]->shape, &c->in[1]->shape);
    const float *x = c->in[0]->data;
    float *y = c->out[0]->data;
    if (c->packed) {
        c->backend->kernels->gemm_packed(&(struct gemm_packed){.m = z.rows,
                                                               .n = z.n,
                                                               .k = z.k,
                                                               .a = x,
                                                               .lda = z.k,
                                                               .packed = c->packed,
                                                               .c = y,
                                                               .ldc = z.n,
                                                               .tail = tail ? *tail : (struct gemm_tail){0}});
        return;
    }
    op_gemm(c,
            &(struct gemm){.m = z.rows,
                           .n = z.n,
                           .k = z.k,
                           .a = x,
                           .lda = z.k,
                           .b = c->in[1]->data,
                           .ldb = z.n,
                           .c = y,
                           .ldc = z.n},
            tail);
}

static void reference_product(const struct op_ref *r)
{
    struct sizes z = sizes_of(&r->in[0].shape, &r->in[1].shape);
    for (int64_t i = 0; i < z.rows; i++)
        for (int64_t j = 0; j < z.n; j++) {
            double sum = 0;
            for (int64_t p = 0; p < z.k; p++) sum += r->in[0].data[i * z.k + p] * r->in[1].data[p * z.n + j];
            r->out[0].data[i * z.n + j] = sum;
        }
}

/* ---- MatMul(x, w) ---- */

static int forward_matmul(const struct op_call *c, struct err *e)
{
    (void)e;
    product(c, NULL);
    return 0;
}

/* The gradients of x·w, given that of the product. */
static int backward_product(struct op_grad *d, int dz, struct err *e)
{
    int rc = 0;
    if (d->want[0]) rc = grad_op(d, "MatMulGradX", (int[]){dz, d->node.input[1]}, 2, NULL, 0, &d->dx[0], e);
    if (rc == 0 && d->want[1])
        rc = grad_op(d, "MatMulGradW", (int[]){d->node.input[0], dz}, 2, NULL, 0, &d->dx[1], e);
    return rc;
}

static int backward_matmul(struct op_grad *d, struct err *e)
{
    return backward_product(d, d->dy[0], e);
}

const struct op op_matmul = {.name = "MatMul",
                             .min_inputs = 2,
                             .max_inputs = 2,
                             .outputs = 1,
                             .infer = infer_product,
                             .forward = forward_matmul,
                             .reference = reference_product,
                             .backward = backward_matmul,
                             .flops = flops_product,
                             .pack_input = 1,
                             .pack_steps = true};

/* ---- Dense(x, w, bias) ---- */

static const struct op_attr dense_attrs[] = {
    {.name = "act", .type = ATTR_INT, .min = 0, .max = ACT_COUNT - 1},
    {.name = "alpha", .type = ATTR_FLOAT, .min = -1e6, .max = 1e6},
};

static int infer_dense(struct op_shapes *s, struct err *e)
{
    int rc = infer_product(s, e);
    if (rc) return rc;
    const struct typed_shape *b = &s->in[2];
    if (b->dtype != DTYPE_F32 || b->shape.rank != 1 || b->shape.dim[0] != s->in[1].shape.dim[1])
        return op_refuse(s, 2, e, "an f32 bias [n]");
    return 0;
}

static int forward_dense(const struct op_call *c, struct err *e)
{
    (void)e;
    product(c, &(struct gemm_tail){.bias = c->in[2]->data,
                                   .act = (enum act)c->node->attr[0].i,
                                   .alpha = (float)c->node->attr[1].f});
    return 0;
}

static void reference_dense(const struct op_ref *r)
{
    size_t rows, n;
    reference_product(r);
    op_split_rows(&r->out[0].shape, &rows, &n);
    for (size_t i = 0; i < rows * n; i++)
        r->out[0].data[i] = activation_reference((enum act)r->node->attr[0].i, r->node->attr[1].f,
                                                 r->out[0].data[i] + r->in[2].data[i % n]);
}

/* The one product of the forward graph that reads value y, as its left side, and that nothing else there
 * reads; or NULL. */
static const struct node *only_product(const struct graph *g, int y)
{
    const struct node *found = NULL;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct node *n = &g->node[i];
        bool gradient = n->op->internal && n->op->no_gradient;
        for (int j = 0; !gradient && j < n->n_inputs; j++) {
            if (n->input[j] != y) continue;
            if (found || j != 0 || (n->op != &op_matmul && n->op != &op_dense)) return NULL;
            found = n;
        }
    }
    return found;
}

/* The gradient dy goes on into a relu whose output is y. Where a product makes it, for y alone, that product
 * drops at once what the relu would: true. */
static bool gate_gradient(struct graph *g, int dy, int y)
{
    const struct node *reader = only_product(g, y);
    struct node *maker = g->value[dy].kind == VALUE_NODE ? &g->node[g->value[dy].producer] : NULL;
    if (!reader || !maker || maker->op != &op_matmul_grad_x || maker->n_inputs != 2 ||
        maker->input[1] != reader->input[1])
        return false;
    maker->op = &op_matmul_grad_relu;
    maker->input[maker->n_inputs++] = y;
    return true;
}

static int backward_dense(struct op_grad *d, struct err *e)
{
    int rc = 0, dz = d->dy[0];
    struct attr attrs[] = {{"act", d->node.attr[0]}, {"alpha", d->node.attr[1]}};
    bool gated = d->node.attr[0].i == ACT_RELU && gate_gradient(d->graph, dz, d->node.output[0]);
    if (d->node.attr[0].i != ACT_LINEAR && !gated)
        rc = grad_op(d, "ActivateGrad", (int[]){d->dy[0], d->node.output[0]}, 2, attrs, 2, &dz, e);
    if (rc == 0 && d->want[2]) {
        struct attr shape = {"shape", {.ints = graph_value(d->graph, d->node.input[2])->shape}};
        rc = grad_op(d, "ReduceTo", &dz, 1, &shape, 1, &d->dx[2], e);
    }
    return rc ? rc : backward_product(d, dz, e);
}

static double flops_dense(const struct op_shapes *s)
{
    return flops_product(s) + 2 * op_flops_one(s);
}

const struct op op_dense = {.name = "Dense",
                            .internal = true,
                            .min_inputs = 3,
                            .max_inputs = 3,
                            .outputs = 1,
                            .attrs = dense_attrs,
                            .n_attrs = 2,
                            .infer = infer_dense,
                            .forward = forward_dense,
                            .reference = reference_dense,
                            .backward = backward_dense,
                            .flops = flops_dense,
                            .pack_input = 1,
                            .pack_steps = true};

/* ---- MatMulGradX(dy [..., n], w [k, n], base [..., k] or none) → base + dy·wᵀ [..., k]; MatMulGradRelu(dy,
 * w, y [..., k]) → dy·wᵀ where y > 0, else 0 ---- */

static int infer_grad_x(struct op_shapes *s, struct err *e)
{
    const struct shape *w = &s->in[1].shape;
    s->out[0] = s->in[0];
    if (w->rank != 2 || s->in[0].shape.rank < 1) return op_refuse(s, 1, e, "a matrix");
    s->out[0].shape.dim[s->in[0].shape.rank - 1] = w->dim[0];
    return 0;
}

static void product_grad_x(const struct op_call *c, float beta, const struct gemm_tail *tail)
{
    struct sizes z = sizes_of(&c->out[0]->shape, &c->in[1]->shape);
    if (c->packed) {
        c->backend->kernels->gemm_packed(&(struct gemm_packed){.m = z.rows,
                                                               .n = z.k,
                                                               .k = z.n,
                                                               .a = c->in[0]->data,
                                                               .lda = z.n,
                                                               .packed = c->packed,
                                                               .c = c->out[0]->data,
                                                               .ldc = z.k,
                                                               .resume = beta != 0.0f,
                                                               .tail = tail ? *tail : (struct gemm_tail){0}});
        return;
    }
    op_gemm(c,
            &(struct gemm){.trans_b = true,
                           .m = z.rows,
                           .n = z.k,
                           .k = z.n,
                           .a = c->in[0]->data,
                           .lda = z.n,
                           .b = c->in[1]->data,
                           .ldb = z.n,
                           .beta = beta,
                           .c = c->out[0]->data,
                           .ldc = z.k},
            tail);
}

static int forward_grad_x(const struct op_call *c, struct err *e)
{
    (void)e;
    bool adds = c->node->n_inputs > 2;
    if (adds && c->in[2]->data != c->out[0]->data)
        memcpy(c->out[0]->data, c->in[2]->data, view_count(c->out[0]) * sizeof(float));
    product_grad_x(c, adds ? 1.0f : 0.0f, NULL);
    return 0;
}

static int forward_grad_relu(const struct op_call *c, struct err *e)
{
    (void)e;
    struct sizes z = sizes_of(&c->out[0]->shape, &c->in[1]->shape);
    product_grad_x(c, 0, &(struct gemm_tail){.gate = c->in[2]->data, .ldgate = z.k});
    return 0;
}

static void reference_grad_x(const struct op_ref *r)
{
    struct sizes z = sizes_of(&r->out[0].shape, &r->in[1].shape);
    bool adds = r->node->op == &op_matmul_grad_x && r->node->n_inputs > 2;
    for (int64_t i = 0; i < z.rows; i++)
        for (int64_t p = 0; p < z.k; p++) {
            double sum = adds ? r->in[2].data[i * z.k + p] : 0;
            for (int64_t j = 0; j < z.n; j++) sum += r->in[0].data[i * z.n + j] * r->in[1].data[p * z.n + j];
            r->out[0].data[i * z.k + p] = sum;
        }
}

static void reference_grad_relu(const struct op_ref *r)
{
    reference_grad_x(r);
    for (size_t i = 0; i < ref_count(&r->out[0]); i++)
        if (r->in[2].data[i] <= 0) r->out[0].data[i] = 0;
}

static double flops_grad(const struct op_shapes *s)
{
    return 2.0 * (double)shape_row_count(&s->in[0].shape) * (double)s->in[1].shape.dim[0];
}

const struct op op_matmul_grad_x = {.name = "MatMulGradX",
                                    .internal = true,
                                    .min_inputs = 2,
                                    .max_inputs = 3,
                                    .outputs = 1,
                                    .infer = infer_grad_x,
                                    .forward = forward_grad_x,
                                    .reference = reference_grad_x,
                                    .no_gradient = true,
                                    .flops = flops_grad,
                                    .in_place = 4,
                                    .pack_input = 1,
                                    .pack_trans = true,
                                    .pack_steps = true};

const struct op op_matmul_grad_relu = {.name = "MatMulGradRelu",
                                       .internal = true,
                                       .min_inputs = 3,
                                       .max_inputs = 3,
                                       .outputs = 1,
                                       .infer = infer_grad_x,
                                       .forward = forward_grad_relu,
                                       .reference = reference_grad_relu,
                                       .no_gradient = true,
                                       .flops = flops_grad,
                                       .pack_input = 1,
                                       .pack_trans = true,
                                       .pack_steps = true};

/* ---- MatMulGradW(x [..., k], dy [..., n]) → xᵀ·dy [k, n] ---- */

static int infer_grad_w(struct op_shapes *s, struct err *e)
{
    const struct shape *x = &s->in[0].shape, *dy = &s->in[1].shape;
    if (x->rank < 1 || dy->rank != x->rank) return op_refuse(s, 1, e, "the rank of input 0");
    s->out[0] =
        (struct typed_shape){DTYPE_F32, shape_of(2, (int64_t[]){x->dim[x->rank - 1], dy->dim[dy->rank - 1]})};
    return 0;
}

static int forward_grad_w(const struct op_call *c, struct err *e)
{
    (void)e;
    struct sizes z = sizes_of(&c->in[0]->shape, &c->out[0]->shape);
    op_gemm(c,
            &(struct gemm){.trans_a = true,
                           .m = z.k,
                           .n = z.n,
                           .k = z.rows,
                           .a = c->in[0]->data,
                           .lda = z.k,
                           .b = c->in[1]->data,
                           .ldb = z.n,
                           .beta = c->adds ? 1.0f : 0.0f,
                           .c = c->out[0]->data,
                           .ldc = z.n},
            NULL);
    return 0;
}

static void reference_grad_w(const struct op_ref *r)
{
    struct sizes z = sizes_of(&r->in[0].shape, &r->out[0].shape);
    for (int64_t p = 0; p < z.k; p++)
        for (int64_t j = 0; j < z.n; j++) {
            double sum = 0;
            for (int64_t i = 0; i < z.rows; i++)
                sum += r->in[0].data[i * z.k + p] * r->in[1].data[i * z.n + j];
            r->out[0].data[p * z.n + j] = sum;
        }
}

static double flops_grad_w(const struct op_shapes *s)
{
    size_t rows, k;
    op_split_rows(&s->in[0].shape, &rows, &k);
    return 2.0 * (double)rows * op_flops_one(s);
}

const struct op op_matmul_grad_w = {.name = "MatMulGradW",
                                    .internal = true,
                                    .min_inputs = 2,
                                    .max_inputs = 2,
                                    .outputs = 1,
                                    .infer = infer_grad_w,
                                    .forward = forward_grad_w,
                                    .reference = reference_grad_w,
                                    .no_gradient = true,
                                    .flops = flops_grad_w,
                                    .adds = true};
