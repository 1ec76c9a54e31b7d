/* Attention with its projections, and the blocks that Transformers are made of. */
#include "tensor/layer_impl.h"

#include <string.h>

/* A Dense layer named layer/part. */
static int project(struct graph *g, const char *layer, const char *part, int x, struct layer_dense d, int *y,
                   struct err *e)
{
    char name[GRAPH_NAME_MAX];
    int rc = layer__part(name, layer, part, e);
    return rc ? rc : layer_dense(g, name, x, &d, y, e);
}

static struct layer_dense plain_dense(int64_t units, const char *activation, const struct init_spec *init)
{
    struct layer_dense d = layer_dense_defaults(units, activation);
    if (init) d.kernel_init = *init;
    return d;
}

/* The features of all heads together. */
static int attention_width(const char *name, const struct layer_attention *a, int64_t features, int64_t *out,
                           struct err *e)
{
    if (a->heads < 1 || a->key_dim < 0 || (a->key_dim == 0 && features % a->heads != 0))
        return err_set(e, ERR_INVALID, "heads", "layer '%s': %lld heads do not divide %lld features", name,
                       (long long)a->heads, (long long)features);
    *out = features;
    if (a->key_dim && __builtin_mul_overflow(a->heads, a->key_dim, out))
        return err_set(e, ERR_INVALID, "key_dim", "layer '%s': %lld heads of %lld features are too many",
                       name, (long long)a->heads, (long long)a->key_dim);
    return 0;
}

int layer_attention(struct graph *g, const char *name, int x, const struct layer_attention *a, int *y,
                    struct err *e)
{
    int in[4] = {0, 0, 0, a->lengths}, memory = a->memory >= 0 ? a->memory : x, rc;
    struct attr attrs[] = {{"heads", {.i = a->heads}}, {"causal", {.i = a->causal}}};
    char part[GRAPH_NAME_MAX];
    int64_t width = 0;
    if ((rc = layer__check_steps(g, name, x, e)) || (rc = layer__check_steps(g, name, memory, e))) return rc;
    int64_t features = graph_value(g, x)->shape.dim[2];
    if ((rc = attention_width(name, a, features, &width, e))) return rc;
    struct layer_dense d = plain_dense(width, NULL, a->kernel_init);
    d.bias = !a->no_bias;
    if ((rc = project(g, name, "query", x, d, &in[0], e)) ||
        (rc = project(g, name, "key", memory, d, &in[1], e)) ||
        (rc = project(g, name, "value", memory, d, &in[2], e)) ||
        (rc = layer__part(part, name, "heads", e)) ||
        (rc = layer__op(g, part, "Attention", in, a->lengths >= 0 ? 4 : 3, attrs, 2, y, e)))
        return rc;
    d.units = features;
    return project(g, name, "output", *y, d, y, e);
}

/* ---- Transformers ---- */

struct layer_transformer layer_transformer_defaults(int64_t heads, int64_t intermediate_dim)
{
    return (struct layer_transformer){.heads = heads,
                                      .intermediate_dim = intermediate_dim,
                                      .activation = "relu",
                                      .epsilon = 1e-5,
                                      .lengths = -1,
                                      .memory = -1,
                                      .memory_lengths = -1};
}

static int normalise(struct graph *g, const char *part, const struct layer_transformer *t, int x, int *y,
                     struct err *e)
{
    char name[GRAPH_NAME_MAX];
    int rc = layer__suffix(name, part, "_norm", e);
    return rc ? rc : layer_layer_norm(g, name, x, t->epsilon, y, e);
}

/* What one part adds to x: attention to x itself, attention to the memory, or two Dense layers. */
typedef int part_fn(struct graph *g, const char *block, const char *part, const struct layer_transformer *t,
                    int x, int *y, struct err *e);

static int attend(struct graph *g, const char *block, const char *part, const struct layer_transformer *t,
                  int x, int *y, struct err *e)
{
    struct layer_attention a = {.heads = t->heads,
                                .key_dim = t->key_dim,
                                .causal = t->causal,
                                .memory = -1,
                                .lengths = t->lengths,
                                .kernel_init = t->kernel_init};
    (void)block;
    return layer_attention(g, part, x, &a, y, e);
}

static int attend_memory(struct graph *g, const char *block, const char *part,
                         const struct layer_transformer *t, int x, int *y, struct err *e)
{
    struct layer_attention a = {.heads = t->heads,
                                .key_dim = t->key_dim,
                                .memory = t->memory,
                                .lengths = t->memory_lengths,
                                .kernel_init = t->kernel_init};
    (void)block;
    return layer_attention(g, part, x, &a, y, e);
}

static int feed_forward(struct graph *g, const char *block, const char *part,
                        const struct layer_transformer *t, int x, int *y, struct err *e)
{
    int64_t features = graph_value(g, x)->shape.dim[2];
    int rc =
        project(g, block, "hidden", x, plain_dense(t->intermediate_dim, t->activation, t->kernel_init), y, e);
    struct layer_dense d = plain_dense(features, NULL, t->kernel_init);
    return rc ? rc : layer_dense(g, part, *y, &d, y, e);
}

/* norm(x + dropout(f(x))), or x + dropout(f(norm(x))). */
static int add_part(struct graph *g, const char *block, const char *part_name, part_fn *f,
                    const struct layer_transformer *t, int *x, struct err *e)
{
    char part[GRAPH_NAME_MAX], name[GRAPH_NAME_MAX];
    int rc = layer__part(part, block, part_name, e), y = *x;
    if (!rc && t->normalize_first) rc = normalise(g, part, t, y, &y, e);
    if (!rc) rc = f(g, block, part, t, y, &y, e);
    if (!rc && t->dropout > 0 && (rc = layer__suffix(name, part, "_dropout", e)) == 0)
        rc = layer_dropout(g, name, y, t->dropout, &y, e);
    if (rc || (rc = layer__suffix(name, part, "_added", e)) || (rc = layer_add(g, name, *x, y, &y, e)))
        return rc;
    if (!t->normalize_first) rc = normalise(g, part, t, y, &y, e);
    *x = y;
    return rc;
}

int layer_transformer(struct graph *g, const char *name, int x, const struct layer_transformer *t, int *y,
                      struct err *e)
{
    int rc = layer__check_steps(g, name, x, e);
    if (rc || (rc = add_part(g, name, "attention", attend, t, &x, e)) ||
        (t->memory >= 0 && (rc = add_part(g, name, "cross", attend_memory, t, &x, e))) ||
        (rc = add_part(g, name, "result", feed_forward, t, &x, e)))
        return rc;
    *y = x;
    return 0;
}
