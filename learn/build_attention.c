/* Writes positions, attention, Transformers and residual connections into a graph. */
#include "learn/build.h"

#include "tensor/layer.h"

int build_positions(struct building *b, const struct layer_spec *l, struct err *e)
{
    bool learned = l->kind == KIND_POSITION_EMBEDDING;
    struct init_spec init = {0};
    if (learned) init = build_init(l->kernel_init, l->init_value);
    return layer_positions(b->g, l->name, b->x, learned ? &init : NULL, &b->x, e);
}

int build_attention(struct building *b, const struct layer_spec *l, struct err *e)
{
    struct init_spec init = build_init(l->kernel_init, l->init_value);
    struct layer_attention a = {.heads = l->heads,
                                .key_dim = l->key_dim,
                                .causal = l->causal,
                                .memory = -1,
                                .lengths = b->lengths,
                                .no_bias = !l->bias,
                                .kernel_init = &init};
    return layer_attention(b->g, l->name, b->x, &a, &b->x, e);
}

int build_transformer(struct building *b, const struct layer_spec *l, struct err *e)
{
    struct init_spec init = build_init(l->kernel_init, l->init_value);
    struct layer_transformer t = layer_transformer_defaults(l->heads, l->intermediate_dim);
    t.key_dim = l->key_dim;
    t.activation = activation_name(l->activation);
    t.dropout = l->rate;
    t.epsilon = l->epsilon;
    t.normalize_first = l->normalize_first;
    t.causal = l->causal;
    t.lengths = b->lengths;
    t.kernel_init = &init;
    if (l->crosses) {
        t.memory = b->memory;
        t.memory_lengths = b->memory_lengths;
    }
    return layer_transformer(b->g, l->name, b->x, &t, &b->x, e);
}

int build_residual(struct building *b, const struct layer_spec *l, struct err *e)
{
    int x = b->x, lengths = b->lengths, rc = build_layers(b, l->layers, l->n_layers, e);
    b->lengths = lengths; /* the sum has the input's steps */
    return rc ? rc : layer_add(b->g, l->name, x, b->x, &b->x, e);
}
