/* Shapes and costs of convolutions and pools, over images [height, width, channels] and signals [length,
 * channels]. */
#include <assert.h>
#include "learn/spec/layers.h"

enum {
    MAX_REACH = 4097,     /* of a dilated kernel: the tensor core pads by at most 4096 */
    PATCH_BYTES = 1 << 20 /* what a convolution gathers at a time, with room to spare */
};

static int spatial(const struct layer_spec *l)
{
    return layer_class_of(l->kind)->spatial;
}

static int need_image(const struct layer_spec *l, struct err *e)
{
    return spatial(l) == 2 ? layer__need(l, 3, "[height, width, channels]", e)
                           : layer__need(l, 2, "[length, channels]", e);
}

/* How many places a window takes in each dimension. */
static int settle_window(struct layer_spec *l, const char *field, struct err *e)
{
    char path[JSON_PATH_MAX];
    json_path_name(path, l->path, field);
    for (int i = 0; i < spatial(l); i++) {
        int64_t dilation = l->dilation[i] ? l->dilation[i] : 1, stride = l->strides[i];
        int64_t reach = (l->size[i] - 1) * dilation + 1, size = l->in.dim[i];
        assert(stride > 0); /* parsed as at least 1, or taken from the size */
        if (reach > MAX_REACH)
            return err_set(e, ERR_INVALID, path, "layer \"%s\": its window reaches over %lld; at most %d fit",
                           l->name, (long long)reach, MAX_REACH);
        if (l->padding == PADDING_VALID && reach > size)
            return err_set(e, ERR_INVALID, path,
                           "layer \"%s\": a window of %lld does not fit into %lld (its rows are %lld in "
                           "dimension %d); make it smaller, or set padding to \"same\"",
                           l->name, (long long)reach, (long long)size, (long long)size, i + 1);
        l->out.dim[i] =
            l->padding == PADDING_VALID ? (size - reach) / stride + 1 : (size + stride - 1) / stride;
    }
    return 0;
}

static int check_groups(const struct layer_spec *l, int64_t channels, struct err *e)
{
    char path[JSON_PATH_MAX];
    if (channels % l->groups == 0 && l->units % l->groups == 0) return 0;
    json_path_name(path, l->path, "groups");
    return err_set(e, ERR_INVALID, path,
                   "layer \"%s\": %lld groups do not divide %lld channels and %lld filters", l->name,
                   (long long)l->groups, (long long)channels, (long long)l->units);
}

int settle_conv(struct resolving *v, struct layer_spec *l, struct err *e)
{
    int n = spatial(l), rc;
    int64_t taps = 1, places = 1;
    if ((rc = need_image(l, e)) || (rc = check_groups(l, l->in.dim[n], e)) ||
        (rc = settle_window(l, "kernel_size", e)))
        return rc;
    l->out.dim[n] = l->units;
    for (int i = 0; i < n; i++) {
        taps *= l->size[i];
        places *= l->out.dim[i];
    }
    if (__builtin_mul_overflow(taps, l->in.dim[n] / l->groups, &taps)) taps = INT64_MAX;
    if ((rc = layer__weigh(v, l, taps, l->units, places, l->bias ? l->units : 0, e))) return rc;
    /* The patches, and the kernel as the gradient by the input wants it. */
    v->work_bytes += PATCH_BYTES + (uint64_t)taps * 4 * 64 + (uint64_t)(taps + 64) * (uint64_t)l->units * 4;
    return 0;
}

int settle_pool(struct resolving *v, struct layer_spec *l, struct err *e)
{
    int n = spatial(l), rc;
    (void)v;
    for (int i = 0; i < n; i++)
        if (l->strides[i] == 0) l->strides[i] = l->size[i];
    if ((rc = need_image(l, e)) || (rc = settle_window(l, "pool_size", e))) return rc;
    int64_t taps = l->size[0] * (n == 2 ? l->size[1] : 1);
    v->r->estimate.flops_per_row += taps * layer__product(&l->out);
    return 0;
}

int settle_global_pool(struct resolving *v, struct layer_spec *l, struct err *e)
{
    int rc = need_image(l, e);
    if (rc) return rc;
    v->r->estimate.flops_per_row += layer__product(&l->in);
    l->out = (struct layer_shape){.rank = 1, .dim = {l->in.dim[spatial(l)]}};
    return 0;
}
