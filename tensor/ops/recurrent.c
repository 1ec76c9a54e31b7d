/* RNN, GRU (the form whose reset gate acts behind the product, as Keras and cuDNN have it) and LSTM: one
 * product of all inputs up front, then one of the state per step. Rows may end early: behind a row's length
 * its state stands still, and backwards it starts there. */
#include "tensor/ops/recurrent.h"

#include <math.h>
#include <string.h>
#include "tensor/ops/families.h"

enum { X, KERNEL, RECURRENT, BIAS, LENGTHS };

struct recurrent recurrent_of(enum recurrent_kind kind, const struct shape *x, int64_t units, bool reverse)
{
    static const int gates[RECURRENT_COUNT] = {1, 3, 4}, saved[RECURRENT_COUNT] = {1, 4, 4};
    struct recurrent r = {.kind = kind,
                          .batch = x->dim[0],
                          .steps = x->dim[1],
                          .inputs = x->dim[2],
                          .units = units,
                          .width = gates[kind] * units,
                          .saved = saved[kind] * units,
                          .reverse = reverse,
                          .n_parts = 1};
    r.part[0] = (struct recurrent_part){0, 0, r.width, true};
    if (kind == RECURRENT_GRU) {
        r.n_parts = 2;
        r.part[0].width = 2 * units;
        r.part[1] = (struct recurrent_part){2 * units, 3 * units, units, false};
    }
    return r;
}

static enum recurrent_kind kind_of(const struct op *op)
{
    return op == &op_lstm ? RECURRENT_LSTM : op == &op_gru ? RECURRENT_GRU : RECURRENT_SIMPLE;
}

static struct recurrent node_of(const struct node *n, const struct shape *x, const struct shape *kernel)
{
    return recurrent_of(kind_of(n->op), x, kernel->dim[0], n->attr[0].i != 0);
}

static bool is_f32(const struct typed_shape *s, int rank, int64_t a, int64_t b)
{
    return s->dtype == DTYPE_F32 && s->shape.rank == rank && s->shape.dim[0] == a &&
           (rank < 2 || s->shape.dim[1] == b);
}

static int infer(struct op_shapes *s, struct err *e)
{
    const struct shape *x = &s->in[X].shape, *rk = &s->in[RECURRENT].shape;
    if (s->in[X].dtype != DTYPE_F32 || x->rank != 3)
        return op_refuse(s, X, e, "f32 [batch, steps, features]");
    if (rk->rank != 2 || rk->dim[0] < 1) return op_refuse(s, RECURRENT, e, "an f32 matrix [units, gates]");
    struct recurrent r = node_of(s->node, x, rk);
    if (!is_f32(&s->in[RECURRENT], 2, r.units, r.width))
        return op_refuse(s, RECURRENT, e, "an f32 matrix [units, gates·units]");
    if (!is_f32(&s->in[KERNEL], 2, r.inputs, r.width))
        return op_refuse(s, KERNEL, e, "an f32 matrix [features, gates·units]");
    bool gru = r.kind == RECURRENT_GRU;
    if (!is_f32(&s->in[BIAS], gru ? 2 : 1, gru ? 2 : r.width, r.width))
        return op_refuse(s, BIAS, e, gru ? "f32 [2, gates·units]" : "f32 [gates·units]");
    if (s->node->n_inputs > LENGTHS && (s->in[LENGTHS].dtype != DTYPE_I32 || s->in[LENGTHS].shape.rank != 1 ||
                                        s->in[LENGTHS].shape.dim[0] != x->dim[0]))
        return op_refuse(s, LENGTHS, e, "i32 lengths [batch]");
    s->out[0] = (struct typed_shape){DTYPE_F32, shape_of(3, (int64_t[]){r.batch, r.steps, r.units})};
    s->out[1] = (struct typed_shape){DTYPE_F32, shape_of(3, (int64_t[]){r.batch, r.steps, r.saved})};
    s->out[2] = s->out[0];
    return 0;
}

double recurrent_flops(const struct recurrent *r)
{
    double rows = (double)r->batch * (double)r->steps;
    return rows * (double)r->width * (2.0 * (double)(r->inputs + r->units) + 10.0);
}

static double flops(const struct op_shapes *s)
{
    struct recurrent r = node_of(s->node, &s->in[X].shape, &s->in[RECURRENT].shape);
    return recurrent_flops(&r);
}

/* Fewer rows than this do not repay packing the recurrent kernel, unless each step would pack it. */
enum { PACK_BATCH = 4 };

/* The bias of the first product, a state of zeros, and the recurrent kernel's parts in packed form. */
static size_t workspace(const struct op_shapes *s)
{
    struct recurrent r = node_of(s->node, &s->in[X].shape, &s->in[RECURRENT].shape);
    return ((size_t)(r.width + r.units) + kernels_packed_most(r.units, r.width + 128)) * sizeof(float);
}

/* Packs the recurrent kernel's parts, one behind the other, or gives NULLs where that does not pay. */
static void pack_parts(const struct op_call *c, const struct recurrent *r, const float *packed[2])
{
    const struct kernels *k = c->backend->kernels;
    float *to = (float *)c->work + r->width + r->units;
    bool pays = k->gemm_lines && (c->backend->tiles || r->batch >= PACK_BATCH);
    packed[0] = packed[1] = NULL;
    for (int p = 0; pays && p < r->n_parts; p++) {
        k->pack((const float *)c->in[RECURRENT]->data + r->part[p].column, r->width, false, r->units,
                r->part[p].width, to);
        packed[p] = to;
        to += k->packed_len(r->units, r->part[p].width);
    }
}

/* What the input gives the gates, bias and all: one product over every row and step. */
static void multiply_inputs(const struct op_call *c, const struct recurrent *r)
{
    const float *bias = c->in[BIAS]->data;
    float *sum = c->work;
    if (r->kind == RECURRENT_GRU) { /* the state's bias joins at once where its product does */
        memcpy(sum, bias, (size_t)r->width * sizeof *sum);
        c->backend->kernels->add(sum, bias + r->width, sum, (size_t)(2 * r->units));
        bias = sum;
    }
    struct gemm_tail tail = {.bias = bias};
    int64_t rows = r->batch * r->steps;
    if (c->packed)
        c->backend->kernels->gemm_packed(&(struct gemm_packed){.m = rows,
                                                               .n = r->width,
                                                               .k = r->inputs,
                                                               .a = c->in[X]->data,
                                                               .lda = r->inputs,
                                                               .packed = c->packed,
                                                               .c = c->out[1]->data,
                                                               .ldc = r->saved,
                                                               .tail = tail});
    else
        op_gemm(c,
                &(struct gemm){.m = rows,
                               .n = r->width,
                               .k = r->inputs,
                               .a = c->in[X]->data,
                               .lda = r->inputs,
                               .b = c->in[KERNEL]->data,
                               .ldb = r->width,
                               .c = c->out[1]->data,
                               .ldc = r->saved},
                &tail);
}

/* One part of the gates of all rows: the state before step i > 0 times its part of the recurrent kernel. */
static void multiply_part(const struct op_call *c, const struct recurrent *r, int64_t i, int p,
                          const float *packed, float *gates, const struct gemm_tail *tail)
{
    const struct recurrent_part *part = &r->part[p];
    const float *y = (const float *)c->out[0]->data + recurrent_before(r, 0, i) * r->units;
    if (packed) {
        c->backend->kernels->gemm_lines(&(struct gemm_lines){.lines = 1,
                                                             .m = r->batch,
                                                             .n = part->width,
                                                             .strips = 1,
                                                             .len = r->units,
                                                             .a = y,
                                                             .row_step = r->steps * r->units,
                                                             .k_step = 1,
                                                             .packed = packed,
                                                             .packed_k = r->units,
                                                             .c = gates,
                                                             .ldc = r->steps * r->saved,
                                                             .resume = part->adds,
                                                             .tail = *tail});
        return;
    }
    op_gemm(c,
            &(struct gemm){.m = r->batch,
                           .n = part->width,
                           .k = r->units,
                           .a = y,
                           .lda = r->steps * r->units,
                           .b = (const float *)c->in[RECURRENT]->data + part->column,
                           .ldb = r->width,
                           .beta = part->adds ? 1.0f : 0.0f,
                           .c = gates,
                           .ldc = r->steps * r->saved},
            tail);
}

/* What the state before step i gives the gates, for all rows. */
static void multiply_state(const struct op_call *c, const struct recurrent *r, int64_t i,
                           const float *const packed[2])
{
    for (int p = 0; p < r->n_parts; p++) {
        const struct recurrent_part *part = &r->part[p];
        const float *bias = (const float *)c->in[BIAS]->data + r->width + part->column;
        float *gates = (float *)c->out[1]->data + recurrent_step(r, i) * r->saved + part->gate;
        struct gemm_tail tail = {.bias = part->adds ? NULL : bias};
        if (i > 0) multiply_part(c, r, i, p, packed[p], gates, &tail);
        for (int64_t row = 0; i == 0 && !part->adds && row < r->batch; row++)
            memcpy(gates + row * r->steps * r->saved, bias, (size_t)part->width * sizeof *gates);
    }
}

/* Row `row` of step i: gates to state. */
static void take_step(const struct op_call *c, const struct recurrent *r, int64_t row, int64_t i, bool over)
{
    const struct kernels *k = c->backend->kernels;
    const float *zeros = (const float *)c->work + r->width;
    int64_t at = recurrent_at(r, row, recurrent_step(r, i)), before = recurrent_before(r, row, i);
    size_t n = (size_t)r->units;
    float *y = c->out[0]->data, *gates = (float *)c->out[1]->data + at * r->saved;
    float *cell = r->kind == RECURRENT_LSTM ? c->out[2]->data : NULL;
    const float *state = before < 0 ? zeros : y + before * r->units;
    const float *cell_before = before < 0 || !cell ? zeros : cell + before * r->units;
    y += at * r->units;
    if (cell) cell += at * r->units;
    if (i + 1 < r->steps)
        recurrent_ask(gates + (recurrent_step(r, i + 1) - recurrent_step(r, i)) * r->saved, r->saved);
    if (over) { /* the state stands still; the gates count for nothing */
        memcpy(y, state, n * sizeof *y);
        if (cell) memcpy(cell, cell_before, n * sizeof *cell);
        memset(gates, 0, (size_t)r->saved * sizeof *gates);
    } else if (r->kind == RECURRENT_LSTM) {
        k->lstm_cell(gates, cell_before, cell, y, n);
    } else if (r->kind == RECURRENT_GRU) {
        k->gru_cell(gates, state, y, n);
    } else {
        k->activate(ACT_TANH, 0, gates, gates, n);
        memcpy(y, gates, n * sizeof *y);
    }
}

static int forward(const struct op_call *c, struct err *e)
{
    struct recurrent r = node_of(c->node, &c->in[X]->shape, &c->in[RECURRENT]->shape);
    const int32_t *length = c->node->n_inputs > LENGTHS ? c->in[LENGTHS]->data : NULL;
    const float *packed[2];
    for (int64_t row = 0; length && row < r.batch; row++)
        if (length[row] < 0 || length[row] > r.steps)
            return err_set(e, ERR_INVALID, c->node->name, "'%s': row %lld has length %d; expected 0 to %lld",
                           c->node->name, (long long)row, length[row], (long long)r.steps);
    memset((float *)c->work + r.width, 0, (size_t)r.units * sizeof(float));
    multiply_inputs(c, &r);
    pack_parts(c, &r, packed);
    for (int64_t i = 0; i < r.steps; i++) {
        multiply_state(c, &r, i, packed);
        for (int64_t row = 0; row < r.batch; row++)
            take_step(c, &r, row, i, length && recurrent_step(&r, i) >= length[row]);
    }
    return 0;
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* One unit's state from its gates' sums; they become what is saved. s: one unit's gates, `units` apart. */
static double reference_unit(const struct recurrent *r, double *s, double state, double cell_before,
                             double *cell)
{
    int64_t n = r->units;
    if (r->kind == RECURRENT_SIMPLE) return s[0] = tanh(s[0]);
    s[0] = sigmoid(s[0]);
    s[n] = sigmoid(s[n]);
    if (r->kind == RECURRENT_GRU) {
        s[2 * n] = tanh(s[2 * n] + s[n] * s[3 * n]);
        return (1 - s[0]) * s[2 * n] + s[0] * state;
    }
    s[2 * n] = tanh(s[2 * n]);
    s[3 * n] = sigmoid(s[3 * n]);
    *cell = s[n] * cell_before + s[0] * s[2 * n];
    return s[3 * n] * tanh(*cell);
}

/* The sums of all gates of one row and step. */
static void reference_sums(const struct op_ref *op, const struct recurrent *r, int64_t at, int64_t before,
                           double *s)
{
    const double *bias = op->in[BIAS].data;
    for (int64_t j = 0; j < r->saved; j++) {
        bool state_only = j >= r->width;
        int64_t column = state_only ? j - r->units : j;
        bool from_state = r->kind != RECURRENT_GRU || j < 2 * r->units || state_only;
        s[j] = state_only ? bias[r->width + column] : bias[column];
        if (r->kind == RECURRENT_GRU && j < 2 * r->units) s[j] += bias[r->width + j];
        for (int64_t p = 0; !state_only && p < r->inputs; p++)
            s[j] += op->in[X].data[at * r->inputs + p] * op->in[KERNEL].data[p * r->width + column];
        for (int64_t p = 0; from_state && before >= 0 && p < r->units; p++)
            s[j] += op->out[0].data[before * r->units + p] * op->in[RECURRENT].data[p * r->width + column];
    }
}

static void reference(const struct op_ref *op)
{
    struct recurrent r = node_of(op->node, &op->in[X].shape, &op->in[RECURRENT].shape);
    bool lstm = r.kind == RECURRENT_LSTM;
    for (int64_t row = 0; row < r.batch; row++)
        for (int64_t i = 0; i < r.steps; i++) {
            int64_t at = recurrent_at(&r, row, recurrent_step(&r, i)), before = recurrent_before(&r, row, i);
            double *s = op->out[1].data + at * r.saved, none = 0;
            bool over =
                op->node->n_inputs > LENGTHS && (double)recurrent_step(&r, i) >= op->in[LENGTHS].data[row];
            reference_sums(op, &r, at, before, s);
            for (int64_t u = 0; u < r.units; u++) {
                double state = before < 0 ? 0 : op->out[0].data[before * r.units + u];
                double cell_before = lstm && before >= 0 ? op->out[2].data[before * r.units + u] : 0;
                double *cell = lstm ? &op->out[2].data[at * r.units + u] : &none;
                double y = over ? state : reference_unit(&r, s + u, state, cell_before, cell);
                if (over) *cell = cell_before;
                op->out[0].data[at * r.units + u] = y;
            }
            if (over) memset(s, 0, (size_t)r.saved * sizeof *s);
        }
}

static int backward(struct op_grad *d, struct err *e)
{
    const struct node *n = &d->node;
    enum recurrent_kind kind = kind_of(n->op);
    struct attr attrs[] = {{"kind", {.i = kind}}, {"reverse", n->attr[0]}};
    int inputs[8] = {d->dy[0],     n->input[X], n->input[KERNEL], n->input[RECURRENT],
                     n->output[0], n->output[1]};
    int n_inputs = 6;
    for (int i = 1; i < n->n_outputs; i++)
        if (d->dy[i] >= 0)
            return err_set(e, ERR_UNSUPPORTED, n->name, "'%s': only its first output has a gradient",
                           n->name);
    if (kind == RECURRENT_LSTM) inputs[n_inputs++] = n->output[2];
    if (n->n_inputs > LENGTHS) inputs[n_inputs++] = n->input[LENGTHS];
    int rc = grad_op(d, "RecurrentGrad", inputs, n_inputs, attrs, 2, &d->dx[X], e);
    for (int i = KERNEL; i <= BIAS; i++) d->dx[i] = d->dx[X] + i;
    return rc;
}

static const struct op_attr attrs[] = {{.name = "reverse", .type = ATTR_INT, .min = 0, .max = 1}};

#define RECURRENT_OP(NAME, OUTPUTS)                                                                          \
    {                                                                                                        \
        .name = (NAME), .min_inputs = 4, .max_inputs = 5, .outputs = (OUTPUTS), .attrs = attrs,              \
        .n_attrs = 1, .infer = infer, .forward = forward, .reference = reference, .backward = backward,      \
        .flops = flops, .workspace = workspace, .pack_input = KERNEL, .all_rows = true                       \
    }

const struct op op_rnn = RECURRENT_OP("RNN", 2);
const struct op op_gru = RECURRENT_OP("GRU", 2);
const struct op op_lstm = RECURRENT_OP("LSTM", 3);
