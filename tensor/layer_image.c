/* Convolutional layers and pools, with Keras's names for what ONNX spells as pads. */
#include "tensor/layer_impl.h"

#include <string.h>

struct layer_conv layer_conv_defaults(int64_t filters, int64_t kernel, const char *activation)
{
    return (struct layer_conv){.filters = filters,
                               .kernel = {kernel, kernel},
                               .strides = {1, 1},
                               .dilation = {1, 1},
                               .groups = 1,
                               .padding = "valid",
                               .activation = activation,
                               .bias = true,
                               .kernel_init = {.kind = INIT_GLOROT_UNIFORM},
                               .bias_init = {.kind = INIT_ZEROS}};
}

/* The number of spatial dimensions of x, 1 or 2. */
static int spatial_of(const struct graph *g, const char *name, const char *layer, int x, int *n,
                      struct err *e)
{
    const struct value *v = graph_value(g, x);
    char text[SHAPE_TEXT_MAX];
    *n = v->shape.rank - 2;
    if (v->dtype == DTYPE_F32 && shape_batched(&v->shape) && (*n == 1 || *n == 2)) return 0;
    return err_set(e, ERR_INVALID, name,
                   "%s '%s' has an input of shape %s; expected [batch, length, channels] or [batch, height, "
                   "width, channels]",
                   layer, name, shape_text(text, &v->shape));
}

static int check_sizes(const char *name, const char *what, const int64_t *size, int n, int64_t most,
                       struct err *e)
{
    for (int i = 0; i < n; i++)
        if (size[i] < 1 || size[i] > most)
            return err_set(e, ERR_INVALID, what, "layer '%s': %s is %lld; expected 1 to %lld", name, what,
                           (long long)size[i], (long long)most);
    return 0;
}

/* Zeros before and after each dimension: "same" makes as many places as ceil(size / stride), "causal" lets an
 * element see only itself and what came before. */
static int pads_of(const char *name, const char *padding, const struct shape *x, int n, const int64_t *kernel,
                   const int64_t *strides, const int64_t *dilation, struct shape *pads, struct err *e)
{
    bool same = strcmp(padding, "same") == 0, causal = strcmp(padding, "causal") == 0;
    if (!same && strcmp(padding, "valid") != 0 && !(causal && n == 1))
        return err_set(
            e, ERR_INVALID, "padding",
            "layer '%s': unknown padding '%.20s'; expected valid or same, or causal with one dimension", name,
            padding);
    *pads = (struct shape){.rank = 2 * n};
    for (int i = 0; i < n; i++) {
        int64_t size = x->dim[1 + i], reach = (kernel[i] - 1) * dilation[i] + 1;
        int64_t short_by = ((size + strides[i] - 1) / strides[i] - 1) * strides[i] + reach - size;
        if (same && short_by > 0) pads->dim[i] = short_by / 2;
        if (same && short_by > 0) pads->dim[n + i] = short_by - short_by / 2;
        if (causal) pads->dim[i] = reach - 1;
    }
    return 0;
}

int layer_conv(struct graph *g, const char *name, int x, const struct layer_conv *c, int *y, struct err *e)
{
    int n, rc, kernel;
    struct shape in = graph_value(g, x)->shape, pads;
    struct param_spec spec = {.init = c->kernel_init, .trainable = true, .decay = true, .l2 = c->l2};
    const char *act = c->activation ? c->activation : "linear";
    char part[GRAPH_NAME_MAX];
    if ((rc = spatial_of(g, name, "Conv", x, &n, e)) ||
        (rc = check_sizes(name, "filters", &c->filters, 1, INT32_MAX, e)) ||
        (rc = check_sizes(name, "kernel_size", c->kernel, n, INT32_MAX, e)) ||
        (rc = check_sizes(name, "strides", c->strides, n, 4096, e)) ||
        (rc = check_sizes(name, "dilation_rate", c->dilation, n, 4096, e)) ||
        (rc = check_sizes(name, "groups", &c->groups, 1, 65536, e)) ||
        (rc = pads_of(name, c->padding, &in, n, c->kernel, c->strides, c->dilation, &pads, e)))
        return rc;
    int64_t channels = in.dim[n + 1];
    if (channels % c->groups || c->filters % c->groups)
        return err_set(e, ERR_INVALID, "groups",
                       "layer '%s': %lld groups do not divide %lld channels and %lld filters", name,
                       (long long)c->groups, (long long)channels, (long long)c->filters);
    spec.shape = shape_of(n, c->kernel);
    spec.shape.dim[spec.shape.rank++] = channels / c->groups;
    spec.shape.dim[spec.shape.rank++] = c->filters;
    struct attr attrs[] = {{"strides", {.ints = shape_of(n, c->strides)}},
                           {"pads", {.ints = pads}},
                           {"dilations", {.ints = shape_of(n, c->dilation)}},
                           {"group", {.i = c->groups}}};
    bool bare = !c->bias && strcmp(act, "linear") == 0;
    if ((rc = layer__param(g, name, "kernel", &spec, &kernel, e)) ||
        (rc = layer__part(part, name, "conv", e)) ||
        (rc = layer__op(g, bare ? name : part, "Conv", (int[]){x, kernel}, 2, attrs, 4, y, e)))
        return rc;
    return layer__finish(g, name, c->bias ? &c->bias_init : NULL, act, y, e);
}

static const char *pool_op(enum layer_pooling kind)
{
    return kind == LAYER_POOL_MAX ? "MaxPool" : "AveragePool";
}

int layer_pool(struct graph *g, const char *name, int x, const struct layer_pool *p, int *y, struct err *e)
{
    struct shape in = graph_value(g, x)->shape, pads;
    int n, rc;
    if ((rc = spatial_of(g, name, pool_op(p->kind), x, &n, e))) return rc;
    int64_t strides[2] = {1, 1}, one[] = {1, 1};
    for (int i = 0; i < n; i++) strides[i] = p->strides[i] ? p->strides[i] : p->size[i];
    if ((rc = check_sizes(name, "pool_size", p->size, n, INT32_MAX, e)) ||
        (rc = check_sizes(name, "strides", strides, n, 4096, e)) ||
        (rc = pads_of(name, p->padding ? p->padding : "valid", &in, n, p->size, strides, one, &pads, e)))
        return rc;
    struct attr attrs[] = {{"kernel_shape", {.ints = shape_of(n, p->size)}},
                           {"strides", {.ints = shape_of(n, strides)}},
                           {"pads", {.ints = pads}}};
    return layer__op(g, name, pool_op(p->kind), &x, 1, attrs, 3, y, e);
}

int layer_global_pool(struct graph *g, const char *name, int x, enum layer_pooling kind, int *y,
                      struct err *e)
{
    struct shape in = graph_value(g, x)->shape;
    char part[GRAPH_NAME_MAX];
    int n, rc = spatial_of(g, name, pool_op(kind), x, &n, e);
    if (rc) return rc;
    struct attr whole = {"kernel_shape", {.ints = shape_of(n, in.dim + 1)}};
    if ((rc = layer__part(part, name, "pool", e)) ||
        (rc = layer__op(g, part, pool_op(kind), &x, 1, &whole, 1, y, e)))
        return rc;
    return layer_reshape(g, name, *y, &(struct shape){.rank = 1, .dim = {in.dim[n + 1]}}, y, e);
}
