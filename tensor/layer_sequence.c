/* Layers over sequences: embeddings, positions, recurrent cells. */
#include "tensor/layer_impl.h"

#include <string.h>

int layer_embedding(struct graph *g, const char *name, int ids, int64_t rows, int64_t width, int *y,
                    struct err *e)
{
    struct param_spec spec = {.shape = shape_of(2, (int64_t[]){rows, width}),
                              .init = {.kind = INIT_RANDOM_UNIFORM, .a = 0.05},
                              .trainable = true};
    int table, rc = layer__param(g, name, "embeddings", &spec, &table, e);
    return rc ? rc : layer__op(g, name, "Gather", (int[]){table, ids}, 2, NULL, 0, y, e);
}

int layer__check_steps(const struct graph *g, const char *name, int x, struct err *e)
{
    const struct value *v = graph_value(g, x);
    char text[SHAPE_TEXT_MAX];
    if (v->dtype == DTYPE_F32 && v->shape.rank == 3 && shape_batched(&v->shape)) return 0;
    return err_set(e, ERR_INVALID, name,
                   "layer '%s' has an input of shape %s; expected [batch, steps, features]", name,
                   shape_text(text, &v->shape));
}

int layer_positions(struct graph *g, const char *name, int x, const struct init_spec *init, int *y,
                    struct err *e)
{
    int table, rc = layer__check_steps(g, name, x, e);
    if (rc) return rc;
    struct param_spec spec = {.shape = shape_of(2, graph_value(g, x)->shape.dim + 1),
                              .init = init ? *init : (struct init_spec){.kind = INIT_SINUSOIDAL},
                              .trainable = init != NULL};
    if ((rc = layer__param(g, name, "positions", &spec, &table, e))) return rc;
    return layer__op(g, name, "Add", (int[]){x, table}, 2, NULL, 0, y, e);
}

int layer_lengths(struct graph *g, const char *name, int ids, int32_t pad, int *y, struct err *e)
{
    struct attr attr = {"pad", {.i = pad}};
    return layer__op(g, name, "SequenceLengths", &ids, 1, &attr, 1, y, e);
}

int layer_sequence_mean(struct graph *g, const char *name, int x, int lengths, int *y, struct err *e)
{
    return layer__op(g, name, "SequenceMean", (int[]){x, lengths}, 2, NULL, 0, y, e);
}

int layer_add(struct graph *g, const char *name, int a, int b, int *y, struct err *e)
{
    return layer__op(g, name, "Add", (int[]){a, b}, 2, NULL, 0, y, e);
}

int layer_concat(struct graph *g, const char *name, const int *values, int n, int axis, int *y, struct err *e)
{
    struct attr attr = {"axis", {.i = axis}};
    return layer__op(g, name, "Concat", values, n, &attr, 1, y, e);
}

/* ---- recurrent ---- */

struct layer_recurrent layer_recurrent_defaults(enum layer_cell cell, int64_t units)
{
    return (struct layer_recurrent){.cell = cell,
                                    .units = units,
                                    .lengths = -1,
                                    .kernel_init = {.kind = INIT_GLOROT_UNIFORM},
                                    .recurrent_init = {.kind = INIT_ORTHOGONAL}};
}

/* The three parameters of one direction. */
static int cell_params(struct graph *g, const char *name, int64_t features, const struct layer_recurrent *r,
                       int in[3], struct err *e)
{
    static const int64_t gates[] = {[LAYER_RNN] = 1, [LAYER_GRU] = 3, [LAYER_LSTM] = 4};
    int64_t width = gates[r->cell] * r->units;
    struct param_spec kernel = {.shape = shape_of(2, (int64_t[]){features, width}),
                                .init = r->kernel_init,
                                .trainable = true,
                                .decay = true,
                                .l2 = r->l2};
    struct param_spec recurrent = kernel, bias = {.shape = shape_of(1, &width), .trainable = true};
    recurrent.shape.dim[0] = r->units;
    recurrent.init = r->recurrent_init;
    recurrent.l2 = 0;
    bias.init.kind = r->cell == LAYER_LSTM ? INIT_FORGET_BIAS : INIT_ZEROS;
    if (r->cell == LAYER_GRU) bias.shape = shape_of(2, (int64_t[]){2, width});
    int rc;
    if ((rc = layer__param(g, name, "kernel", &kernel, &in[0], e)) ||
        (rc = layer__param(g, name, "recurrent_kernel", &recurrent, &in[1], e)))
        return rc;
    return layer__param(g, name, "bias", &bias, &in[2], e);
}

/* The state after the last step taken: [batch, units] under the name. */
static int last_state(struct graph *g, const char *name, int steps, bool reverse, int *y, struct err *e)
{
    const struct shape *s = &graph_value(g, steps)->shape;
    int64_t at = reverse ? 0 : s->dim[1] - 1, units = s->dim[2];
    struct attr cut[] = {{"axis", {.i = 1}}, {"start", {.i = at}}, {"end", {.i = at + 1}}};
    char part[GRAPH_NAME_MAX];
    int rc, last;
    if ((rc = layer__part(part, name, "last", e)) ||
        (rc = layer__op(g, part, "Slice", &steps, 1, cut, 3, &last, e)))
        return rc;
    return layer_reshape(g, name, last, &(struct shape){.rank = 1, .dim = {units}}, y, e);
}

static int one_direction(struct graph *g, const char *name, int x, const struct layer_recurrent *r,
                         bool reverse, int *y, struct err *e)
{
    static const char *const ops[] = {[LAYER_RNN] = "RNN", [LAYER_GRU] = "GRU", [LAYER_LSTM] = "LSTM"};
    int in[5] = {x, 0, 0, 0, r->lengths}, rc, steps;
    struct attr attr = {"reverse", {.i = reverse}};
    char part[GRAPH_NAME_MAX];
    if ((rc = cell_params(g, name, graph_value(g, x)->shape.dim[2], r, in + 1, e)) ||
        (rc = layer__part(part, name, "steps", e)) ||
        (rc = layer__op(g, r->return_sequences ? name : part, ops[r->cell], in, r->lengths >= 0 ? 5 : 4,
                        &attr, 1, &steps, e)))
        return rc;
    *y = steps;
    return r->return_sequences ? 0 : last_state(g, name, steps, reverse, y, e);
}

int layer_recurrent(struct graph *g, const char *name, int x, const struct layer_recurrent *r, int *y,
                    struct err *e)
{
    char forward[GRAPH_NAME_MAX], backward[GRAPH_NAME_MAX];
    int both[2], rc = layer__check_steps(g, name, x, e);
    if (rc) return rc;
    if (r->units < 1 || r->units > 65536)
        return err_set(e, ERR_INVALID, "units", "layer '%s': units is %lld; expected 1 to 65536", name,
                       (long long)r->units);
    if (!r->bidirectional) return one_direction(g, name, x, r, false, y, e);
    if ((rc = layer__part(forward, name, "forward", e)) ||
        (rc = layer__part(backward, name, "backward", e)) ||
        (rc = one_direction(g, forward, x, r, false, &both[0], e)) ||
        (rc = one_direction(g, backward, x, r, true, &both[1], e)))
        return rc;
    return layer_concat(g, name, both, 2, -1, y, e);
}
