/* Sequences of unequal length in one batch: SequenceLengths counts what comes before the padding,
 * SequenceMean averages over that much, SequenceCrossEntropy is the loss of the steps that are none. */
#include "tensor/ops/families.h"

#include <math.h>
#include <string.h>

/* ---- SequenceLengths(ids i32 [batch, steps]) → i32 [batch]: up to the last number that is not pad ---- */

static const struct op_attr pad_attrs[] = {
    {.name = "pad", .type = ATTR_INT, .min = INT32_MIN, .max = INT32_MAX}};

static int infer_lengths(struct op_shapes *s, struct err *e)
{
    const struct shape *ids = &s->in[0].shape;
    if (s->in[0].dtype != DTYPE_I32 || ids->rank != 2) return op_refuse(s, 0, e, "i32 [batch, steps]");
    s->out[0] = (struct typed_shape){DTYPE_I32, shape_of(1, &ids->dim[0])};
    return 0;
}

static int forward_lengths(const struct op_call *c, struct err *e)
{
    const int32_t *id = c->in[0]->data;
    int32_t *length = c->out[0]->data;
    int64_t steps = c->in[0]->shape.dim[1];
    (void)e;
    for (int64_t row = 0; row < c->in[0]->shape.dim[0]; row++, id += steps) {
        int64_t n = steps;
        while (n > 0 && id[n - 1] == c->node->attr[0].i) n--;
        length[row] = (int32_t)n;
    }
    return 0;
}

static void reference_lengths(const struct op_ref *r)
{
    int64_t steps = r->in[0].shape.dim[1];
    for (int64_t i = 0; i < r->in[0].shape.dim[0]; i++) {
        r->out[0].data[i] = 0;
        for (int64_t j = 0; j < steps; j++)
            if (r->in[0].data[i * steps + j] != (double)r->node->attr[0].i)
                r->out[0].data[i] = (double)(j + 1);
    }
}

const struct op op_sequence_lengths = {.name = "SequenceLengths",
                                       .min_inputs = 1,
                                       .max_inputs = 1,
                                       .outputs = 1,
                                       .attrs = pad_attrs,
                                       .n_attrs = 1,
                                       .infer = infer_lengths,
                                       .forward = forward_lengths,
                                       .reference = reference_lengths,
                                       .no_gradient = true,
                                       .flops = op_flops_none};

/* ---- SequenceMean(x [batch, steps, size], lengths i32 [batch]) → [batch, size]; zeros for a length of 0
 * ---- */

static int infer_mean(struct op_shapes *s, struct err *e)
{
    const struct shape *x = &s->in[0].shape, *len = &s->in[1].shape;
    if (s->in[0].dtype != DTYPE_F32 || x->rank != 3) return op_refuse(s, 0, e, "f32 [batch, steps, size]");
    if (s->in[1].dtype != DTYPE_I32 || len->rank != 1 || len->dim[0] != x->dim[0])
        return op_refuse(s, 1, e, "i32 lengths [batch]");
    s->out[0] = (struct typed_shape){DTYPE_F32, shape_of(2, (int64_t[]){x->dim[0], x->dim[2]})};
    return 0;
}

static int forward_mean(const struct op_call *c, struct err *e)
{
    const struct kernels *k = c->backend->kernels;
    const int32_t *length = c->in[1]->data;
    int64_t steps = c->in[0]->shape.dim[1];
    size_t size = (size_t)c->in[0]->shape.dim[2];
    float *y = c->out[0]->data;
    for (int64_t row = 0; row < c->in[0]->shape.dim[0]; row++, y += size) {
        const float *x = (const float *)c->in[0]->data + (size_t)(row * steps) * size;
        if (length[row] < 0 || length[row] > steps)
            return err_set(e, ERR_INVALID, c->node->name, "'%s': row %lld has length %d; expected 0 to %lld",
                           c->node->name, (long long)row, length[row], (long long)steps);
        k->sum_rows(x, y, (size_t)length[row], size, false);
        if (length[row] > 0) k->scale(1.0f / (float)length[row], y, y, size);
    }
    return 0;
}

static void reference_mean(const struct op_ref *r)
{
    int64_t steps = r->in[0].shape.dim[1], size = r->in[0].shape.dim[2];
    for (int64_t i = 0; i < r->in[0].shape.dim[0] * size; i++) {
        double length = r->in[1].data[i / size];
        r->out[0].data[i] = 0;
        for (int64_t t = 0; (double)t < length; t++)
            r->out[0].data[i] += r->in[0].data[(i / size * steps + t) * size + i % size] / length;
    }
}

static int backward_mean(struct op_grad *d, struct err *e)
{
    struct attr shape = {"shape", {.ints = graph_value(d->graph, d->node.input[0])->shape}};
    return grad_op(d, "SequenceMeanGrad", (int[]){d->dy[0], d->node.input[1]}, 2, &shape, 1, &d->dx[0], e);
}

static double flops_mean(const struct op_shapes *s)
{
    return (double)shape_row_count(&s->in[0].shape);
}

const struct op op_sequence_mean = {.name = "SequenceMean",
                                    .min_inputs = 2,
                                    .max_inputs = 2,
                                    .outputs = 1,
                                    .infer = infer_mean,
                                    .forward = forward_mean,
                                    .reference = reference_mean,
                                    .backward = backward_mean,
                                    .flops = flops_mean};

/* ---- SequenceMeanGrad(dy, lengths): an equal share to every step that counts ---- */

static const struct op_attr shape_attrs[] = {
    {.name = "shape", .type = ATTR_INTS, .required = true, .min = -1, .max = INT32_MAX}};

static int infer_mean_grad(struct op_shapes *s, struct err *e)
{
    (void)e;
    s->out[0] = (struct typed_shape){DTYPE_F32, s->node->attr[0].ints};
    return 0;
}

static int forward_mean_grad(const struct op_call *c, struct err *e)
{
    const int32_t *length = c->in[1]->data;
    int64_t steps = c->out[0]->shape.dim[1];
    size_t size = (size_t)c->out[0]->shape.dim[2];
    const float *dy = c->in[0]->data;
    float *dx = c->out[0]->data;
    (void)e;
    memset(dx, 0, view_count(c->out[0]) * sizeof *dx);
    for (int64_t row = 0; row < c->out[0]->shape.dim[0]; row++, dy += size)
        for (int64_t t = 0; t < length[row]; t++)
            c->backend->kernels->scale(1.0f / (float)length[row], dy, dx + (size_t)(row * steps + t) * size,
                                       size);
    return 0;
}

static void reference_mean_grad(const struct op_ref *r)
{
    int64_t steps = r->out[0].shape.dim[1], size = r->out[0].shape.dim[2];
    for (int64_t i = 0; i < r->out[0].shape.dim[0] * steps * size; i++) {
        double length = r->in[1].data[i / (steps * size)];
        bool counts = (double)(i / size % steps) < length;
        r->out[0].data[i] = counts ? r->in[0].data[i / (steps * size) * size + i % size] / length : 0;
    }
}

const struct op op_sequence_mean_grad = {.name = "SequenceMeanGrad",
                                         .internal = true,
                                         .min_inputs = 2,
                                         .max_inputs = 2,
                                         .outputs = 1,
                                         .attrs = shape_attrs,
                                         .n_attrs = 1,
                                         .infer = infer_mean_grad,
                                         .forward = forward_mean_grad,
                                         .reference = reference_mean_grad,
                                         .no_gradient = true,
                                         .flops = op_flops_one};

/* ---- SequenceCrossEntropy(logits [batch, steps, classes], labels i32 [batch, steps]) → loss, probabilities:
 * the mean over the rows of each row's mean over the steps whose label is not pad; 0 for a row of nothing
 * else
 * ---- */

static int infer_loss(struct op_shapes *s, struct err *e)
{
    const struct shape *x = &s->in[0].shape;
    if (s->in[0].dtype != DTYPE_F32 || x->rank != 3)
        return op_refuse(s, 0, e, "f32 logits [batch, steps, classes]");
    if (s->in[1].dtype != DTYPE_I32 || s->in[1].shape.rank != 2 || s->in[1].shape.dim[0] != x->dim[0] ||
        s->in[1].shape.dim[1] != x->dim[1])
        return op_refuse(s, 1, e, "i32 labels [batch, steps], of the logits' batch and steps");
    s->out[0] = (struct typed_shape){DTYPE_F32, {.rank = 0}};
    s->out[1] = s->in[0];
    return 0;
}

/* How many of a row's labels count. */
static int64_t counting(const int32_t *label, int64_t steps, int64_t pad)
{
    int64_t n = 0;
    for (int64_t t = 0; t < steps; t++) n += label[t] != pad;
    return n;
}

static int forward_loss(const struct op_call *c, struct err *e)
{
    const struct shape *s = &c->in[0]->shape;
    const int32_t *label = c->in[1]->data;
    int64_t rows = s->dim[0], steps = s->dim[1], classes = s->dim[2], pad = c->node->attr[0].i;
    float *p = c->out[1]->data;
    double sum = 0;
    c->backend->kernels->softmax(1, c->in[0]->data, p, (size_t)(rows * steps), (size_t)classes);
    for (int64_t row = 0; row < rows; row++, label += steps) {
        double of_row = 0;
        for (int64_t t = 0; t < steps; t++, p += classes) {
            if (label[t] == pad) continue;
            if (label[t] < 0 || label[t] >= classes)
                return err_set(e, ERR_INVALID, "labels",
                               "label %d in row %lld, step %lld; expected 0 to %lld", label[t],
                               (long long)row, (long long)t, (long long)classes - 1);
            /* As in SoftmaxCrossEntropy: what underflowed counts as the least normal float. */
            float q = p[label[t]];
            of_row -= (double)logf(q < 1.17549435e-38f ? 1.17549435e-38f : q);
        }
        int64_t n = counting(label, steps, pad);
        sum += n ? of_row / (double)n : 0;
    }
    *(float *)c->out[0]->data = (float)(sum / (double)rows);
    return 0;
}

/* The same for the reference, whose labels are doubles. */
static double reference_counting(const double *label, int64_t steps, int64_t pad)
{
    double n = 0;
    for (int64_t t = 0; t < steps; t++) n += label[t] != (double)pad;
    return n;
}

static void reference_loss(const struct op_ref *r)
{
    const struct shape *s = &r->in[0].shape;
    int64_t steps = s->dim[1], classes = s->dim[2], pad = r->node->attr[0].i;
    double sum = 0;
    for (int64_t i = 0; i < s->dim[0] * steps; i++) {
        double *p = r->out[1].data + i * classes, label = r->in[1].data[i];
        softmax_reference(r->in[0].data + i * classes, p, (size_t)classes);
        if (label != (double)pad)
            sum -= log(p[(int64_t)label]) / reference_counting(r->in[1].data + i / steps * steps, steps, pad);
    }
    r->out[0].data[0] = sum / (double)s->dim[0];
}

static int backward_loss(struct op_grad *d, struct err *e)
{
    struct attr pad = {"pad", d->node.attr[0]};
    if (d->dy[1] >= 0)
        return err_set(e, ERR_UNSUPPORTED, d->node.name,
                       "'%s': its probabilities are for reading; use Softmax for what the loss depends on",
                       d->node.name);
    return grad_op(d, "SequenceCrossEntropyGrad", (int[]){d->dy[0], d->node.output[1], d->node.input[1]}, 3,
                   &pad, 1, &d->dx[0], e);
}

static double flops_loss(const struct op_shapes *s)
{
    return 14.0 * (double)shape_row_count(&s->in[0].shape);
}

const struct op op_sequence_xent = {.name = "SequenceCrossEntropy",
                                    .min_inputs = 2,
                                    .max_inputs = 2,
                                    .outputs = 2,
                                    .attrs = pad_attrs,
                                    .n_attrs = 1,
                                    .rows = OP_ROWS_MEAN,
                                    .infer = infer_loss,
                                    .forward = forward_loss,
                                    .reference = reference_loss,
                                    .backward = backward_loss,
                                    .flops = flops_loss};

/* (dloss, probabilities, labels) → (p − onehot)·dloss / (rows · steps that count); the forward node has
 * checked the labels. */
static int infer_loss_grad(struct op_shapes *s, struct err *e)
{
    if (s->in[0].shape.rank != 0) return op_refuse(s, 0, e, "the scalar gradient of the loss");
    s->out[0] = s->in[1];
    return 0;
}

static int forward_loss_grad(const struct op_call *c, struct err *e)
{
    const struct shape *s = &c->in[1]->shape;
    const int32_t *label = c->in[2]->data;
    int64_t rows = s->dim[0], steps = s->dim[1], classes = s->dim[2], pad = c->node->attr[0].i;
    const float *p = c->in[1]->data;
    float *dx = c->out[0]->data, dloss = *(const float *)c->in[0]->data / (float)rows;
    (void)e;
    for (int64_t row = 0; row < rows; row++, label += steps) {
        int64_t n = counting(label, steps, pad);
        for (int64_t t = 0; t < steps; t++, p += classes, dx += classes) {
            float factor = label[t] == pad ? 0 : dloss / (float)n;
            c->backend->kernels->scale(factor, p, dx, (size_t)classes);
            if (label[t] != pad) dx[label[t]] -= factor;
        }
    }
    return 0;
}

static void reference_loss_grad(const struct op_ref *r)
{
    const struct shape *s = &r->in[1].shape;
    int64_t steps = s->dim[1], classes = s->dim[2], pad = r->node->attr[0].i;
    for (int64_t i = 0; i < s->dim[0] * steps * classes; i++) {
        int64_t step = i / classes;
        double label = r->in[2].data[step];
        double n = reference_counting(r->in[2].data + step / steps * steps, steps, pad);
        r->out[0].data[i] = label == (double)pad ? 0
                                                 : (r->in[1].data[i] - (i % classes == (int64_t)label)) *
                                                       r->in[0].data[0] / ((double)s->dim[0] * n);
    }
}

static double flops_loss_grad(const struct op_shapes *s)
{
    return 2.0 * (double)shape_row_count(&s->in[1].shape);
}

const struct op op_sequence_xent_grad = {.name = "SequenceCrossEntropyGrad",
                                         .internal = true,
                                         .min_inputs = 3,
                                         .max_inputs = 3,
                                         .outputs = 1,
                                         .attrs = pad_attrs,
                                         .n_attrs = 1,
                                         .infer = infer_loss_grad,
                                         .forward = forward_loss_grad,
                                         .reference = reference_loss_grad,
                                         .no_gradient = true,
                                         .flops = flops_loss_grad,
                                         .in_place = 2};
