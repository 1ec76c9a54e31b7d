/* Writes embeddings and recurrent layers into a graph. */
#include "learn/build.h"

#include <stdio.h>

#include "tensor/layer.h"

int build_embedding(struct building *b, const struct layer_spec *l, struct err *e)
{
    char name[GRAPH_NAME_MAX];
    int64_t rows = b->ids && b->ids < l->input_dim ? b->ids : l->input_dim;
    int ids = b->x, rc = layer_embedding(b->g, l->name, ids, rows, l->units, &b->x, e);
    if (rc || !l->mask_zero || l->in.rank != 1) return rc;
    snprintf(name, sizeof name, "%s/lengths", l->name);
    return layer_lengths(b->g, name, ids, 0, &b->lengths, e);
}

int build_recurrent(struct building *b, const struct layer_spec *l, struct err *e)
{
    enum layer_cell cell = l->kind == KIND_LSTM ? LAYER_LSTM : l->kind == KIND_GRU ? LAYER_GRU : LAYER_RNN;
    struct layer_recurrent r = layer_recurrent_defaults(cell, l->units);
    r.return_sequences = l->return_sequences;
    r.bidirectional = l->bidirectional;
    r.lengths = b->lengths;
    r.l2 = l->l2;
    r.kernel_init = build_init(l->kernel_init, l->init_value);
    r.recurrent_init = build_init(l->recurrent_init, l->init_value);
    if (!l->return_sequences) b->lengths = -1;
    return layer_recurrent(b->g, l->name, b->x, &r, &b->x, e);
}
