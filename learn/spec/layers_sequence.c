/* Shapes and costs of embeddings and recurrent layers, over rows [steps, features]. */
#include "learn/spec/layers.h"

#include <string.h>

enum {
    MAX_IDS = 1 << 24,
    MAX_ORTHOGONAL = 2048 /* rows that are made orthogonal to each other within seconds */
};

/* The dataset's numbers must be rows of the embedding: whole, from 0, below input_dim. */
static int check_ids(const struct resolving *v, const struct layer_spec *l, const struct column *c,
                     struct err *e)
{
    char path[JSON_PATH_MAX];
    json_path_name(path, l->path, "input_dim");
    bool whole =
        c->type != COLUMN_CATEGORY && c->dtype != DATA_F32 && c->dtype != DATA_F64 && c->dtype != DATA_TEXT;
    (void)v;
    if (!whole || c->missing || (c->has_stats && c->min < 0))
        return err_set(
            e, ERR_INVALID, l->path,
            "layer \"%s\" (Embedding) takes whole numbers from 0, without gaps; \"%s\" holds others", l->name,
            c->name);
    if (c->has_stats && c->max >= (double)l->input_dim)
        return err_set(e, ERR_INVALID, path,
                       "layer \"%s\": \"%s\" holds numbers up to %.0f; set input_dim to at least %.0f",
                       l->name, c->name, c->max, c->max + 1);
    return 0;
}

/* A vocabulary says how many numbers there are; numbers of a dataset say it by their largest. */
static int settle_ids(const struct resolving *v, struct layer_spec *l, struct err *e)
{
    char path[JSON_PATH_MAX];
    int64_t below = v->ids;
    json_path_name(path, l->path, "input_dim");
    for (size_t i = 0; v->ids == 0 && i < v->r->n_features; i++) {
        const struct column *c = &v->train->columns[v->r->features[i].column];
        if (c->has_stats && c->max >= (double)below && c->max < MAX_IDS) below = (int64_t)c->max + 1;
    }
    if (l->input_dim == 0) l->input_dim = below;
    if (l->input_dim >= v->ids) return 0;
    return err_set(
        e, ERR_INVALID, path,
        "layer \"%s\": the vocabulary may hold %lld numbers; set input_dim to that, or leave it out", l->name,
        (long long)v->ids);
}

int settle_embedding(struct resolving *v, struct layer_spec *l, struct err *e)
{
    int rc = 0;
    if (l != v->first)
        return err_set(e, ERR_INVALID, l->path,
                       "layer \"%s\": an Embedding can only come first; it takes the dataset's whole numbers",
                       l->name);
    if (l->in.rank == SPEC_MAX_RANK)
        return err_set(e, ERR_INVALID, l->path, "layer \"%s\": rows of %d dimensions are more than it takes",
                       l->name, l->in.rank);
    if ((rc = settle_ids(v, l, e))) return rc;
    for (size_t i = 0; v->ids == 0 && i < v->r->n_features && !rc; i++) {
        const struct column *c = &v->train->columns[v->r->features[i].column];
        const struct column *t = resolve__test_column(v, c);
        rc = check_ids(v, l, c, e);
        if (!rc && t) rc = check_ids(v, l, t, e);
    }
    if (rc) return rc;
    v->r->ids_below = l->input_dim;
    l->out.dim[l->out.rank++] = l->units;
    return layer__weigh(v, l, l->input_dim, l->units, 0, 0, e);
}

int settle_recurrent(struct resolving *v, struct layer_spec *l, struct err *e)
{
    int64_t gates = l->kind == KIND_LSTM ? 4 : l->kind == KIND_GRU ? 3 : 1, ways = l->bidirectional ? 2 : 1;
    int rc = layer__need(l, 2, "[steps, features]", e);
    if (rc) return rc;
    int64_t steps = l->in.dim[0], features = l->in.dim[1], width = gates * l->units;
    char path[JSON_PATH_MAX];
    json_path_name(path, l->path, "recurrent_initializer");
    if (l->units > MAX_ORTHOGONAL && strcmp(l->recurrent_init, "orthogonal") == 0)
        return err_set(e, ERR_INVALID, path,
                       "layer \"%s\": orthogonal is offered for up to %d units; set glorot_uniform", l->name,
                       MAX_ORTHOGONAL);
    if ((rc = layer__weigh(v, l, features + l->units, ways * width, steps,
                           ways * width * (l->kind == KIND_GRU ? 2 : 1), e)))
        return rc;
    /* Every step's gates and states are kept for the way back, and half as many again worked out on it. */
    v->row_floats += (uint64_t)(ways * steps) * (uint64_t)(2 * (gates + 1) + 6) * (uint64_t)l->units;
    v->work_bytes += (uint64_t)(features + 2 * l->units + 128) * (uint64_t)(ways * width) * 4;
    l->out = (struct layer_shape){.rank = 1, .dim = {ways * l->units}};
    if (l->return_sequences) l->out = (struct layer_shape){.rank = 2, .dim = {steps, ways * l->units}};
    return 0;
}
