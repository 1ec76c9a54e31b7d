/* Writes convolutions and pools into a graph. */
#include "learn/build.h"

#include <string.h>

#include "learn/spec/names.h"
#include "tensor/layer.h"

int build_conv(struct building *b, const struct layer_spec *l, struct err *e)
{
    struct layer_conv c = layer_conv_defaults(l->units, 1, build_activation_name(l));
    memcpy(c.kernel, l->size, sizeof c.kernel);
    memcpy(c.strides, l->strides, sizeof c.strides);
    memcpy(c.dilation, l->dilation, sizeof c.dilation);
    c.groups = l->groups;
    c.padding = words_padding.word[l->padding];
    c.bias = l->bias;
    c.l2 = l->l2;
    c.kernel_init = build_init(l->kernel_init, l->init_value);
    c.bias_init = build_init(l->bias_init, l->init_value);
    b->lengths = -1; /* a window mixes steps: those behind a row's end would leak into it anyway */
    int rc = layer_conv(b->g, l->name, b->x, &c, &b->x, e);
    return rc ? rc : build_slope(b, l, e);
}

int build_pool(struct building *b, const struct layer_spec *l, struct err *e)
{
    bool max = l->kind == KIND_MAX_POOLING1D || l->kind == KIND_MAX_POOLING2D;
    struct layer_pool p = {.kind = max ? LAYER_POOL_MAX : LAYER_POOL_AVERAGE,
                           .padding = words_padding.word[l->padding]};
    memcpy(p.size, l->size, sizeof p.size);
    memcpy(p.strides, l->strides, sizeof p.strides);
    b->lengths = -1;
    return layer_pool(b->g, l->name, b->x, &p, &b->x, e);
}

int build_global_pool(struct building *b, const struct layer_spec *l, struct err *e)
{
    bool max = l->kind == KIND_GLOBAL_MAX_POOLING1D || l->kind == KIND_GLOBAL_MAX_POOLING2D;
    int lengths = b->lengths;
    b->lengths = -1;
    if (l->kind == KIND_GLOBAL_AVERAGE_POOLING1D && lengths >= 0)
        return layer_sequence_mean(b->g, l->name, b->x, lengths, &b->x, e);
    return layer_global_pool(b->g, l->name, b->x, max ? LAYER_POOL_MAX : LAYER_POOL_AVERAGE, &b->x, e);
}
