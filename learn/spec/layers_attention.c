/* Shapes and costs of positions, attention, Transformers and residual connections, over rows [steps,
 * features]. */
#include "learn/spec/layers.h"

int settle_positions(struct resolving *v, struct layer_spec *l, struct err *e)
{
    char path[JSON_PATH_MAX];
    int rc = layer__need(l, 2, "[steps, features]", e);
    if (rc) return rc;
    int64_t steps = l->in.dim[0], features = l->in.dim[1];
    if (l->kind == KIND_SINE_POSITION_ENCODING) {
        v->kept += layer__product(&l->in);
        return 0;
    }
    json_path_name(path, l->path, "sequence_length");
    if (l->steps && l->steps < steps)
        return err_set(
            e, ERR_INVALID, path,
            "layer \"%s\" has positions for %lld steps, but rows have %lld; set sequence_length to "
            "at least %lld, or leave it out",
            l->name, (long long)l->steps, (long long)steps, (long long)steps);
    l->steps = steps; /* rows are never longer, so that further positions would never be trained */
    return layer__weigh(v, l, steps, features, 0, 0, e);
}

/* Projections of x and of the rows attended to (memory features wide), the scores between `steps` and `keys`
 * steps, and the way back. */
static int weigh_attention(struct resolving *v, const struct layer_spec *l, int64_t keys, int64_t memory,
                           struct err *e)
{
    int64_t steps = l->in.dim[0], features = l->in.dim[1], width = l->heads * l->key_dim, scores;
    bool bias = l->kind != KIND_MULTI_HEAD_ATTENTION || l->bias;
    int rc;
    if ((rc = layer__weigh(v, l, features, width, steps, bias ? width : 0, e)) ||
        (rc = layer__weigh(v, l, memory, width, keys, bias ? width : 0, e)) ||
        (rc = layer__weigh(v, l, memory, width, keys, bias ? width : 0, e)) ||
        (rc = layer__weigh(v, l, width, features, steps, bias ? features : 0, e)))
        return rc;
    if (__builtin_mul_overflow(steps * keys, l->heads, &scores) || scores > (int64_t)1 << 28)
        return err_set(e, ERR_TOO_LARGE, l->path,
                       "layer \"%s\": %lld heads over %lld × %lld steps are more than fit", l->name,
                       (long long)l->heads, (long long)steps, (long long)keys);
    v->r->estimate.flops_per_row += steps * keys * (4 * width + 14 * l->heads);
    v->score_floats += (uint64_t)scores;
    /* Queries, keys, values and what the heads give, each with its gradient. */
    v->row_floats += (uint64_t)(4 * (steps + keys) * width + 4 * steps * features);
    v->work_bytes += (uint64_t)(steps * keys) * 4 + (uint64_t)(4 * (width + 64) * (features + memory)) * 4;
    return 0;
}

int settle_attention(struct resolving *v, struct layer_spec *l, struct err *e)
{
    int rc = layer__need(l, 2, "[steps, features]", e);
    return rc ? rc : weigh_attention(v, l, l->in.dim[0], l->in.dim[1], e);
}

/* A normalisation and what joins its input: gamma and beta, and the numbers kept for the way back. */
static int weigh_part(struct resolving *v, const struct layer_spec *l, struct err *e)
{
    int64_t n = layer__product(&l->in);
    v->row_floats += (uint64_t)n * (l->rate > 0 ? 8 : 6);
    v->r->estimate.flops_per_row += 10 * n;
    return layer__weigh(v, l, l->in.dim[1], 2, 0, 0, e);
}

static int weigh_dense(struct resolving *v, const struct layer_spec *l, struct err *e)
{
    int64_t steps = l->in.dim[0], features = l->in.dim[1], inner = l->intermediate_dim;
    int rc;
    v->row_floats += (uint64_t)steps * (uint64_t)(4 * inner + 2 * features);
    v->work_bytes += (uint64_t)(inner + 64) * (uint64_t)(features + 64) * 8;
    if ((rc = layer__weigh(v, l, features, inner, steps, inner, e))) return rc;
    return layer__weigh(v, l, inner, features, steps, features, e);
}

int settle_transformer(struct resolving *v, struct layer_spec *l, struct err *e)
{
    char path[JSON_PATH_MAX];
    int rc = layer__need(l, 2, "[steps, features]", e);
    if (rc) return rc;
    int64_t features = l->in.dim[1];
    json_path_name(path, l->path, "num_heads");
    if (features % l->heads)
        return err_set(e, ERR_INVALID, path,
                       "layer \"%s\": %lld heads do not divide the %lld features of a step", l->name,
                       (long long)l->heads, (long long)features);
    json_path_name(path, l->path, "activation");
    if (l->activation == ACTIVATION_LEAKY_RELU)
        return err_set(e, ERR_UNSUPPORTED, path, "layer \"%s\": leaky_relu is not offered here; use relu",
                       l->name);
    l->key_dim = features / l->heads;
    l->crosses = l->kind == KIND_TRANSFORMER_DECODER && v->memory.rank == 2;
    if ((rc = weigh_attention(v, l, l->in.dim[0], features, e)) || (rc = weigh_part(v, l, e)) ||
        (l->crosses && ((rc = weigh_attention(v, l, v->memory.dim[0], v->memory.dim[1], e)) ||
                        (rc = weigh_part(v, l, e)))) ||
        (rc = weigh_dense(v, l, e)))
        return rc;
    return weigh_part(v, l, e);
}

/* What the inner layers keep of each row: as resolve__estimate counts it for those of the chain. */
static void keep_inner(struct resolving *v, const struct layer_spec *l)
{
    for (size_t i = 0; i < l->n_layers; i++)
        v->row_floats +=
            (uint64_t)layer__product(&l->layers[i].in) + 3 * (uint64_t)layer__product(&l->layers[i].out);
}

int settle_residual(struct resolving *v, struct layer_spec *l, struct err *e)
{
    char before[96], after[96];
    struct layer_shape at = l->in;
    int rc = layer__settle_chain(v, l->layers, l->n_layers, &at, e);
    if (rc) return rc;
    keep_inner(v, l);
    if (layer__same_shape(&at, &l->in)) return 0;
    return err_set(e, ERR_INVALID, l->path,
                   "layer \"%s\" (Residual) adds what its layers give to what they take, but they make rows "
                   "of shape %s from %s; end with a layer that gives %s",
                   l->name, layer__shape_text(after, &at), layer__shape_text(before, &l->in), before);
}
