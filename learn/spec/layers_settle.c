/* Shapes and costs of the layers that take rows of any kind, and what all layers share for it. */
#include "learn/spec/layers.h"

#include <stdio.h>

char *layer__shape_text(char out[96], const struct layer_shape *s)
{
    size_t at = 0;
    for (int i = 0; i < s->rank; i++)
        at += (size_t)snprintf(out + at, 96 - at, "%s%lld", i ? ", " : "[", (long long)s->dim[i]);
    snprintf(out + at, 96 - at, "]");
    return out;
}

int64_t layer__product(const struct layer_shape *s)
{
    int64_t n = 1;
    for (int i = 0; i < s->rank; i++) n *= s->dim[i];
    return n;
}

int layer__need(const struct layer_spec *l, int rank, const char *wanted, struct err *e)
{
    char got[96], hint[96];
    struct layer_shape wider = l->in;
    if (l->in.rank == rank) return 0;
    if (l->in.rank != rank - 1)
        return err_set(e, ERR_INVALID, l->path,
                       "layer \"%s\" (%s) takes rows of shape %s, not %s; put a Reshape layer before it",
                       l->name, layer_kind_name(l->kind), wanted, layer__shape_text(got, &l->in));
    wider.dim[wider.rank++] = 1;
    return err_set(e, ERR_INVALID, l->path,
                   "layer \"%s\" (%s) takes rows of shape %s, not %s; put "
                   "{\"layer\":\"Reshape\",\"target_shape\":%s} before it",
                   l->name, layer_kind_name(l->kind), wanted, layer__shape_text(got, &l->in),
                   layer__shape_text(hint, &wider));
}

int layer__weigh(struct resolving *v, const struct layer_spec *l, int64_t rows, int64_t columns,
                 int64_t places, int64_t more, struct err *e)
{
    struct estimate *est = &v->r->estimate;
    int64_t kernel, flops;
    if (__builtin_mul_overflow(rows, columns, &kernel) || kernel > (int64_t)1 << 31 ||
        __builtin_add_overflow(est->parameters, kernel + more, &est->parameters) ||
        __builtin_mul_overflow(2 * kernel, places, &flops) ||
        __builtin_add_overflow(est->flops_per_row, flops, &est->flops_per_row))
        return err_set(e, ERR_TOO_LARGE, l->path, "layer \"%s\": %lld × %lld weights are more than fit",
                       l->name, (long long)rows, (long long)columns);
    return 0;
}

int settle_dense(struct resolving *v, struct layer_spec *l, struct err *e)
{
    int last = l->in.rank - 1;
    l->out.dim[last] = l->units;
    return layer__weigh(v, l, l->in.dim[last], l->units, layer__product(&l->in) / l->in.dim[last],
                        l->bias ? l->units : 0, e);
}

int settle_flatten(struct resolving *v, struct layer_spec *l, struct err *e)
{
    (void)v;
    (void)e;
    l->out = (struct layer_shape){.rank = 1, .dim = {layer__product(&l->in)}};
    return 0;
}

int settle_reshape(struct resolving *v, struct layer_spec *l, struct err *e)
{
    int64_t known = 1, have = layer__product(&l->in);
    int open = -1;
    char got[96];
    (void)v;
    l->out = l->shape;
    for (int i = 0; i < l->shape.rank; i++) {
        if (l->shape.dim[i] < 0)
            open = i;
        else if (__builtin_mul_overflow(known, l->shape.dim[i], &known))
            known = INT64_MAX;
    }
    if (open >= 0 && have % known == 0) l->out.dim[open] = have / known;
    if (open >= 0 ? have % known != 0 : known != have)
        return err_set(e, ERR_INVALID, l->path, "layer \"%s\": %lld numbers a row cannot take the shape %s",
                       l->name, (long long)have, layer__shape_text(got, &l->shape));
    l->shape = l->out;
    return 0;
}

int settle_relu(struct resolving *v, struct layer_spec *l, struct err *e)
{
    (void)v;
    (void)e;
    if (l->slope > 0) l->activation = ACTIVATION_LEAKY_RELU;
    return 0;
}

/* One at the start is checked and taken out before layers are settled. */
int settle_input_layer(struct resolving *v, struct layer_spec *l, struct err *e)
{
    (void)v;
    return err_set(e, ERR_INVALID, l->path, "layer \"%s\": an InputLayer can only come first", l->name);
}

int settle_norm(struct resolving *v, struct layer_spec *l, struct err *e)
{
    int64_t features = l->in.dim[l->in.rank - 1];
    char path[JSON_PATH_MAX];
    json_path_name(path, l->path, "axis");
    if (l->axis != -1 && l->axis != l->in.rank)
        return err_set(e, ERR_INVALID, path,
                       "layer \"%s\" normalises axis %lld; only the last one is offered, -1", l->name,
                       (long long)l->axis);
    l->axis = -1;
    if (l->kind == KIND_BATCH_NORMALIZATION) v->kept += 2 * features;
    v->r->estimate.flops_per_row += 8 * layer__product(&l->in);
    return layer__weigh(v, l, features, 2, 0, 0, e);
}
