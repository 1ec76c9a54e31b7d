/* RecurrentGrad: the gradient of RNN, GRU and LSTM, back through the steps. The gates' gradients of all steps
 * are kept, so that those of the kernels are one product each at the end. */
#include "tensor/ops/recurrent.h"

#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "tensor/ops/families.h"

/* The cell comes for LSTM alone, the lengths last if at all. */
enum { DY, X, KERNEL, RECURRENT, Y, GATES, CELL };
enum { DX, DKERNEL, DRECURRENT, DBIAS };

static const struct op_attr attrs[] = {
    {.name = "kind", .type = ATTR_INT, .required = true, .min = 0, .max = RECURRENT_COUNT - 1},
    {.name = "reverse", .type = ATTR_INT, .min = 0, .max = 1},
};

static struct recurrent node_of(const struct node *n, const struct shape *x, const struct shape *kernel)
{
    return recurrent_of((enum recurrent_kind)n->attr[0].i, x, kernel->dim[0], n->attr[1].i != 0);
}

/* The lengths' input, or -1. */
static int lengths_of(const struct node *n)
{
    int others = n->attr[0].i == RECURRENT_LSTM ? CELL + 1 : CELL;
    return n->n_inputs > others ? others : -1;
}

static int infer(struct op_shapes *s, struct err *e)
{
    struct recurrent r = node_of(s->node, &s->in[X].shape, &s->in[RECURRENT].shape);
    (void)e;
    s->out[DX] = s->in[X];
    s->out[DKERNEL] = s->in[KERNEL];
    s->out[DRECURRENT] = s->in[RECURRENT];
    s->out[DBIAS] = (struct typed_shape){DTYPE_F32, shape_of(1, &r.width)};
    if (r.kind == RECURRENT_GRU) s->out[DBIAS].shape = shape_of(2, (int64_t[]){2, r.width});
    return 0;
}

/* Where the parts of the workspace begin, in floats. */
struct work {
    size_t dgates, before, dstate, dcell, product, zeros, sums, packed, end;
};

static struct work work_of(const struct recurrent *r)
{
    size_t rows = (size_t)r->batch * (size_t)r->steps, units = (size_t)r->units, batch = (size_t)r->batch;
    struct work w = {.before = rows * (size_t)r->saved};
    w.dstate = w.before + rows * units;
    w.dcell = w.dstate + batch * units;
    w.product = w.dcell + batch * units;
    w.zeros = w.product + batch * units;
    w.sums = w.zeros + units;
    w.packed = w.sums + (size_t)r->saved;
    w.end = w.packed + kernels_packed_most(r->width + 32, r->units); /* in two parts */
    return w;
}

static size_t workspace(const struct op_shapes *s)
{
    struct recurrent r = node_of(s->node, &s->in[X].shape, &s->in[RECURRENT].shape);
    return work_of(&r).end * sizeof(float);
}

/* One call's memory. */
struct back {
    const struct op_call *c;
    struct recurrent r;
    float *dgates, *before, *dstate, *dcell, *product, *zeros, *sums, *packed[2];
};

/* The state's gradient of one row goes through its cell: to the gates, and straight to the state before. */
static void step_back(const struct back *b, int64_t row, int64_t i, bool over)
{
    const struct recurrent *r = &b->r;
    const struct kernels *k = b->c->backend->kernels;
    int64_t at = recurrent_at(r, row, recurrent_step(r, i)), from = recurrent_before(r, row, i);
    size_t n = (size_t)r->units;
    const float *y = b->c->in[Y]->data, *gates = (const float *)b->c->in[GATES]->data + at * r->saved;
    const float *state = from < 0 ? b->zeros : y + from * r->units;
    float *dstate = b->dstate + row * r->units, *dgates = b->dgates + at * r->saved;
    if (from >= 0) {
        recurrent_ask(gates + (from - at) * r->saved, r->saved);
        recurrent_ask((const float *)b->c->in[DY]->data + from * r->units, r->units);
    }
    k->add(dstate, (const float *)b->c->in[DY]->data + at * r->units, dstate, n);
    memcpy(b->before + at * r->units, state, n * sizeof *state);
    if (over) {
        memset(dgates, 0, (size_t)r->saved * sizeof *dgates);
    } else if (r->kind == RECURRENT_LSTM) {
        const float *cell = b->c->in[CELL]->data;
        k->lstm_cell_grad(gates, from < 0 ? b->zeros : cell + from * r->units, cell + at * r->units, dstate,
                          b->dcell + row * r->units, dgates, n);
        memset(dstate, 0, n * sizeof *dstate);
    } else if (r->kind == RECURRENT_GRU) {
        k->gru_cell_grad(gates, state, dstate, dstate, dgates, n);
    } else {
        k->activate_grad(ACT_TANH, 0, gates, dstate, dgates, n);
        memset(dstate, 0, n * sizeof *dstate);
    }
}

/* dstate += dgates · recurrent kernelᵀ, of all rows. */
static void multiply_back(const struct back *b, int64_t i)
{
    const struct recurrent *r = &b->r;
    const struct kernels *k = b->c->backend->kernels;
    for (int p = 0; k->gemm_lines && p < r->n_parts; p++)
        k->gemm_lines(&(struct gemm_lines){
            .lines = 1,
            .m = r->batch,
            .n = r->units,
            .strips = 1,
            .len = r->part[p].width,
            .a = b->dgates + recurrent_at(r, 0, recurrent_step(r, i)) * r->saved + r->part[p].gate,
            .row_step = r->steps * r->saved,
            .k_step = 1,
            .packed = b->packed[p],
            .packed_k = r->part[p].width,
            .c = b->dstate,
            .ldc = r->units,
            .resume = true});
    for (int p = 0; !k->gemm_lines && p < r->n_parts; p++) {
        k->gemm_packed(&(struct gemm_packed){
            .m = r->batch,
            .n = r->units,
            .k = r->part[p].width,
            .a = b->dgates + recurrent_at(r, 0, recurrent_step(r, i)) * r->saved + r->part[p].gate,
            .lda = r->steps * r->saved,
            .packed = b->packed[p],
            .c = b->product,
            .ldc = r->units});
        k->add(b->dstate, b->product, b->dstate, (size_t)(r->batch * r->units));
    }
}

static void pack_kernel(struct back *b, float *packed)
{
    const struct recurrent *r = &b->r;
    const struct kernels *k = b->c->backend->kernels;
    for (int p = 0; p < r->n_parts; p++) {
        k->pack((const float *)b->c->in[RECURRENT]->data + r->part[p].column, r->width, true,
                r->part[p].width, r->units, packed);
        b->packed[p] = packed;
        packed += k->packed_len(r->part[p].width, r->units);
    }
}

/* dx, and the kernels' gradients: products over all rows and steps. */
static void multiply_all(const struct back *b)
{
    const struct op_call *c = b->c;
    const struct recurrent *r = &b->r;
    int64_t rows = r->batch * r->steps;
    op_gemm(c,
            &(struct gemm){.trans_b = true,
                           .m = rows,
                           .n = r->inputs,
                           .k = r->width,
                           .a = b->dgates,
                           .lda = r->saved,
                           .b = c->in[KERNEL]->data,
                           .ldb = r->width,
                           .c = c->out[DX]->data,
                           .ldc = r->inputs},
            NULL);
    struct gemm g = {.trans_a = true,
                     .m = r->inputs,
                     .n = r->width,
                     .k = rows,
                     .a = c->in[X]->data,
                     .lda = r->inputs,
                     .b = b->dgates,
                     .ldb = r->saved,
                     .c = c->out[DKERNEL]->data,
                     .ldc = r->width};
    op_gemm(c, &g, NULL);
    g.m = g.lda = r->units;
    g.a = b->before;
    for (int p = 0; p < r->n_parts; p++) {
        g.n = r->part[p].width;
        g.b = b->dgates + r->part[p].gate;
        g.c = (float *)c->out[DRECURRENT]->data + r->part[p].column;
        op_gemm(c, &g, NULL);
    }
}

static void sum_bias(const struct back *b)
{
    const struct recurrent *r = &b->r;
    float *db = b->c->out[DBIAS]->data;
    b->c->backend->kernels->sum_rows(b->dgates, b->sums, (size_t)(r->batch * r->steps), (size_t)r->saved,
                                     false);
    memcpy(db, b->sums, (size_t)r->width * sizeof *db);
    if (r->kind != RECURRENT_GRU) return;
    memcpy(db + r->width, b->sums, (size_t)(2 * r->units) * sizeof *db);
    memcpy(db + r->width + 2 * r->units, b->sums + 3 * r->units, (size_t)r->units * sizeof *db);
}

static int forward(const struct op_call *c, struct err *e)
{
    struct back b = {.c = c, .r = node_of(c->node, &c->in[X]->shape, &c->in[RECURRENT]->shape)};
    struct work at = work_of(&b.r);
    float *work = c->work;
    int lengths = lengths_of(c->node);
    const int32_t *length = lengths >= 0 ? c->in[lengths]->data : NULL;
    (void)e;
    b.dgates = work + at.dgates;
    b.before = work + at.before;
    b.dstate = work + at.dstate;
    b.dcell = work + at.dcell;
    b.product = work + at.product;
    b.zeros = work + at.zeros;
    b.sums = work + at.sums;
    pack_kernel(&b, work + at.packed);
    memset(b.zeros, 0, (size_t)b.r.units * sizeof *work);
    memset(b.dstate, 0, (at.product - at.dstate) * sizeof *work);
    for (int64_t i = b.r.steps - 1; i >= 0; i--) {
        for (int64_t row = 0; row < b.r.batch; row++)
            step_back(&b, row, i, length && recurrent_step(&b.r, i) >= length[row]);
        if (i > 0) multiply_back(&b, i);
    }
    multiply_all(&b);
    sum_bias(&b);
    return 0;
}

/* The gates' gradients of one unit, `units` apart; *dstate goes in by this state and comes out by the one
 * before, without the products. */
static void reference_unit(const struct recurrent *r, const double *g, double state, double cell,
                           double cell_before, double *dstate, double *dcell, double *dg)
{
    int64_t n = r->units;
    double d = *dstate;
    *dstate = 0;
    if (r->kind == RECURRENT_SIMPLE) {
        dg[0] = d * (1 - g[0] * g[0]);
    } else if (r->kind == RECURRENT_GRU) {
        double dc = d * (1 - g[0]) * (1 - g[2 * n] * g[2 * n]);
        dg[0] = d * (state - g[2 * n]) * g[0] * (1 - g[0]);
        dg[n] = dc * g[3 * n] * g[n] * (1 - g[n]);
        dg[2 * n] = dc;
        dg[3 * n] = dc * g[n];
        *dstate = d * g[0];
    } else {
        double t = tanh(cell), dc = *dcell + d * g[3 * n] * (1 - t * t);
        dg[0] = dc * g[2 * n] * g[0] * (1 - g[0]);
        dg[n] = dc * cell_before * g[n] * (1 - g[n]);
        dg[2 * n] = dc * g[0] * (1 - g[2 * n] * g[2 * n]);
        dg[3 * n] = d * t * g[3 * n] * (1 - g[3 * n]);
        *dcell = dc * g[n];
    }
}

/* What the gates' gradients of one step add to every other gradient. */
static void reference_products(const struct op_ref *op, const struct recurrent *r, int64_t at, int64_t before,
                               const double *dg, double *dstate)
{
    for (int64_t j = 0; j < r->width; j++) {
        double state_part = r->kind == RECURRENT_GRU && j >= 2 * r->units ? dg[j + r->units] : dg[j];
        op->out[DBIAS].data[j] += dg[j];
        if (r->kind == RECURRENT_GRU) op->out[DBIAS].data[r->width + j] += state_part;
        for (int64_t p = 0; p < r->inputs; p++) {
            op->out[DX].data[at * r->inputs + p] += dg[j] * op->in[KERNEL].data[p * r->width + j];
            op->out[DKERNEL].data[p * r->width + j] += dg[j] * op->in[X].data[at * r->inputs + p];
        }
        for (int64_t p = 0; before >= 0 && p < r->units; p++) {
            dstate[p] += state_part * op->in[RECURRENT].data[p * r->width + j];
            op->out[DRECURRENT].data[p * r->width + j] += state_part * op->in[Y].data[before * r->units + p];
        }
    }
}

static void reference(const struct op_ref *op)
{
    struct recurrent r = node_of(op->node, &op->in[X].shape, &op->in[RECURRENT].shape);
    int lengths = lengths_of(op->node);
    bool lstm = r.kind == RECURRENT_LSTM;
    double *dstate = mem_alloc((size_t)(2 * r.units + r.saved), sizeof *dstate);
    double *dcell = dstate + r.units, *dg = dcell + r.units;
    for (int i = 0; i <= DBIAS; i++) memset(op->out[i].data, 0, ref_count(&op->out[i]) * sizeof(double));
    for (int64_t row = 0; row < r.batch; row++) {
        memset(dstate, 0, (size_t)(2 * r.units) * sizeof *dstate);
        for (int64_t i = r.steps - 1; i >= 0; i--) {
            int64_t at = recurrent_at(&r, row, recurrent_step(&r, i)), before = recurrent_before(&r, row, i);
            for (int64_t u = 0; u < r.units; u++) dstate[u] += op->in[DY].data[at * r.units + u];
            if (lengths >= 0 && (double)recurrent_step(&r, i) >= op->in[lengths].data[row]) continue;
            for (int64_t u = 0; u < r.units; u++)
                reference_unit(&r, op->in[GATES].data + at * r.saved + u,
                               before < 0 ? 0 : op->in[Y].data[before * r.units + u],
                               lstm ? op->in[CELL].data[at * r.units + u] : 0,
                               lstm && before >= 0 ? op->in[CELL].data[before * r.units + u] : 0, dstate + u,
                               dcell + u, dg + u);
            reference_products(op, &r, at, before, dg, dstate);
        }
    }
    mem_free(dstate);
}

static double flops(const struct op_shapes *s)
{
    struct recurrent r = node_of(s->node, &s->in[X].shape, &s->in[RECURRENT].shape);
    return 2 * recurrent_flops(&r);
}

const struct op op_recurrent_grad = {.name = "RecurrentGrad",
                                     .internal = true,
                                     .min_inputs = CELL,
                                     .max_inputs = CELL + 2,
                                     .outputs = 4,
                                     .attrs = attrs,
                                     .n_attrs = 2,
                                     .infer = infer,
                                     .forward = forward,
                                     .reference = reference,
                                     .no_gradient = true,
                                     .flops = flops,
                                     .workspace = workspace};
