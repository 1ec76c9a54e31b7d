/* Cases of convolutions and pools. */
#include "cases.h"

#include "net.h"

/* Lists of an attribute: as many numbers as are given. */
#define INTS(NAME, ...)                                                                                      \
    {                                                                                                        \
        NAME,                                                                                                \
        {                                                                                                    \
            .ints = shape_of(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), (int64_t[]){__VA_ARGS__})   \
        }                                                                                                    \
    }

static int image(struct at *t, int64_t h, int64_t w, int64_t c)
{
    return case_shifted(t, "image", shape_of(4, (int64_t[]){SHAPE_BATCH, h, w, c}));
}

static int line(struct at *t, int64_t w, int64_t c)
{
    return case_shifted(t, "line", shape_of(3, (int64_t[]){SHAPE_BATCH, w, c}));
}

static int kernel2(struct at *t, int64_t h, int64_t w, int64_t c, int64_t filters)
{
    return case_param(t, "kernel", shape_of(4, (int64_t[]){h, w, c, filters}));
}

static int biased(struct at *t, int y, const char *act)
{
    const struct shape *s = &graph_value(t->g, y)->shape;
    int bias = case_param(t, "bias", shape_of(1, &s->dim[s->rank - 1]));
    y = case_op(t, "biased", "Add", (int[]){y, bias}, 2, NULL, 0);
    return act ? case_op(t, "act", act, &y, 1, NULL, 0) : y;
}

static int conv(struct at *t)
{
    int w = kernel2(t, 2, 3, t->n, t->n % 6 + 1);
    return case_op(t, "y", "Conv", (int[]){image(t, 5, 4, t->n), w}, 2, NULL, 0);
}

static int conv_relu(struct at *t)
{
    struct attr pads = INTS("pads", 1, 1, 1, 1);
    int w = kernel2(t, 3, 3, 2, t->n);
    return biased(t, case_op(t, "y", "Conv", (int[]){image(t, 3, 5, 2), w}, 2, &pads, 1), "Relu");
}

static int conv_gelu(struct at *t)
{
    int w = kernel2(t, 1, 2, t->n, 3);
    return biased(t, case_op(t, "y", "Conv", (int[]){image(t, 2, 3, t->n), w}, 2, NULL, 0), "Gelu");
}

/* Lopsided pads, as "same" has them with an even kernel; one channel. */
static int conv_strided(struct at *t)
{
    struct attr attrs[] = {INTS("pads", 0, 1, 1, 2), INTS("strides", 2, 3)};
    int w = kernel2(t, 2, 4, 1, t->n % 9 + 1);
    return biased(t, case_op(t, "y", "Conv", (int[]){image(t, 7, t->n + 3, 1), w}, 2, attrs, 2), "Tanh");
}

static int conv_dilated(struct at *t)
{
    struct attr attrs[] = {INTS("pads", 2, 3, 2, 3), INTS("dilations", 2, 3), INTS("strides", 1, 2)};
    int w = kernel2(t, 3, 2, 3, t->n % 4 + 1);
    return case_op(t, "y", "Conv", (int[]){image(t, 4, t->n % 11 + 5, 3), w}, 2, attrs, 3);
}

static int conv_groups(struct at *t)
{
    struct attr attrs[] = {INTS("pads", 1, 0, 0, 1), {"group", {.i = 3}}};
    int64_t c = t->n % 8 + 1;
    int w = kernel2(t, 2, 2, c, 3 * (t->n % 5 + 1));
    return biased(t, case_op(t, "y", "Conv", (int[]){image(t, 3, 4, 3 * c), w}, 2, attrs, 2), "Relu");
}

static int conv_depthwise(struct at *t)
{
    struct attr attrs[] = {INTS("pads", 1, 1, 1, 1), {"group", {.i = t->n}}};
    int w = kernel2(t, 3, 3, 1, 2 * t->n);
    return case_op(t, "y", "Conv", (int[]){image(t, 3, 3, t->n), w}, 2, attrs, 2);
}

static int conv_pointwise(struct at *t)
{
    int w = kernel2(t, 1, 1, t->n, t->n % 13 + 1);
    return biased(t, case_op(t, "y", "Conv", (int[]){image(t, 3, 2, t->n), w}, 2, NULL, 0), NULL);
}

/* Long enough that several blocks of patches are gathered. */
static int conv_blocks(struct at *t)
{
    int64_t c = t->n % 3 + 1;
    int w = kernel2(t, 3, 3, c, 5);
    return case_op(t, "y", "Conv", (int[]){image(t, 21, 23, c), w}, 2, NULL, 0);
}

static int conv_causal(struct at *t)
{
    struct attr attrs[] = {INTS("pads", 4, 0), INTS("dilations", 2)};
    int w = case_param(t, "kernel", shape_of(3, (int64_t[]){3, 2, t->n % 5 + 1}));
    return biased(t, case_op(t, "y", "Conv", (int[]){line(t, t->n, 2), w}, 2, attrs, 2), "Sigmoid");
}

/* Lines wide enough to be multiplied where they lie: channels and filters of every number. */
static int conv_wide(struct at *t)
{
    struct attr pads = INTS("pads", 1, 0, 1, 2);
    int w = kernel2(t, 3, 3, t->n, t->n % 37 + 1);
    return biased(t, case_op(t, "y", "Conv", (int[]){image(t, 3, 6 + t->n % 9, t->n), w}, 2, &pads, 1),
                  "Relu");
}

static int conv_wide_strided(struct at *t)
{
    struct attr attrs[] = {INTS("pads", 1, 2, 0, 1), INTS("strides", 2, 2), INTS("dilations", 2, 1)};
    int64_t c = 8 + t->n % 5;
    int w = kernel2(t, 2, 4, c, t->n);
    return case_op(t, "y", "Conv", (int[]){image(t, 5, 13, c), w}, 2, attrs, 3);
}

/* Spread taps: the gradient by x alone goes by lines. */
static int conv_wide_dilated(struct at *t)
{
    struct attr attrs[] = {INTS("pads", 0, 3, 0, 1), INTS("dilations", 1, 3)};
    int w = kernel2(t, 2, 2, 9, t->n);
    return case_op(t, "y", "Conv", (int[]){image(t, 3, 10, 9), w}, 2, attrs, 2);
}

/* Three values a line of the kernel. */
static int conv_thin(struct at *t)
{
    struct attr pads = INTS("pads", 0, 1, 0, 1);
    int w = kernel2(t, t->n % 5 + 1, 3, 1, t->n);
    return biased(t, case_op(t, "y", "Conv", (int[]){image(t, 6, 9, 1), w}, 2, &pads, 1), "Relu");
}

/* Longer than the gradient by the kernel takes at a time. */
static int conv_long(struct at *t)
{
    struct attr strides = INTS("strides", 2);
    int w = case_param(t, "kernel", shape_of(3, (int64_t[]){3, 2, t->n % 4 + 1}));
    return case_op(t, "y", "Conv", (int[]){line(t, 2100 + t->n, 2), w}, 2, &strides, 1);
}

static int pool(struct at *t, const char *op, int x, const struct attr *attrs, int n)
{
    return case_op(t, "y", op, &x, 1, attrs, n);
}

static int max_pool(struct at *t)
{
    struct attr attrs[] = {INTS("kernel_shape", 2, 2), INTS("strides", 2, 2)};
    return pool(t, "MaxPool", image(t, 5, 4, t->n), attrs, 2);
}

static int max_pool_overlapping(struct at *t)
{
    struct attr attrs[] = {INTS("kernel_shape", 3, 3), INTS("strides", 2, 1), INTS("pads", 1, 2, 0, 1)};
    return pool(t, "MaxPool", image(t, 4, t->n % 7 + 2, 3), attrs, 3);
}

static int max_pool_line(struct at *t)
{
    struct attr attrs[] = {INTS("kernel_shape", 1 + t->n / 2), INTS("strides", 2)};
    return pool(t, "MaxPool", line(t, t->n, 2), attrs, 2);
}

/* What the relu drops is dropped by the pool's gradient; uneven sizes leave elements that no window covers.
 */
static int max_pool_relu(struct at *t)
{
    struct attr attrs[] = {INTS("kernel_shape", 2, 3), INTS("strides", 2, 3)};
    int w = kernel2(t, 2, 2, 2, t->n);
    int y = biased(t, case_op(t, "y", "Conv", (int[]){image(t, 4, 9, 2), w}, 2, NULL, 0), "Relu");
    return case_op(t, "pooled", "MaxPool", &y, 1, attrs, 2);
}

static int max_pool_relu_overlapping(struct at *t)
{
    struct attr attrs[] = {INTS("kernel_shape", 2, 2), INTS("strides", 1, 1)};
    int w = kernel2(t, 2, 2, 2, t->n);
    int y = biased(t, case_op(t, "y", "Conv", (int[]){image(t, 4, 4, 2), w}, 2, NULL, 0), "Relu");
    return case_op(t, "pooled", "MaxPool", &y, 1, attrs, 2);
}

static int average_pool(struct at *t)
{
    struct attr attrs[] = {INTS("kernel_shape", 2, 3), INTS("strides", 1, 2), INTS("pads", 1, 1, 1, 2)};
    return pool(t, "AveragePool", image(t, 3, 5, t->n), attrs, 3);
}

static int average_pool_global(struct at *t)
{
    struct attr attrs[] = {INTS("kernel_shape", t->n)};
    return pool(t, "AveragePool", line(t, t->n, 5), attrs, 1);
}

const struct op_case cases_image[] = {
    {"conv", conv},
    {"conv_relu", conv_relu},
    {"conv_gelu", conv_gelu},
    {"conv_strided", conv_strided},
    {"conv_dilated", conv_dilated},
    {"conv_groups", conv_groups},
    {"conv_depthwise", conv_depthwise},
    {"conv_pointwise", conv_pointwise},
    {"conv_blocks", conv_blocks},
    {"conv_causal", conv_causal},
    {"conv_wide", conv_wide},
    {"conv_wide_strided", conv_wide_strided},
    {"conv_wide_dilated", conv_wide_dilated},
    {"conv_thin", conv_thin},
    {"conv_long", conv_long},
    {"max_pool", max_pool},
    {"max_pool_overlapping", max_pool_overlapping},
    {"max_pool_line", max_pool_line},
    {"max_pool_relu", max_pool_relu},
    {"max_pool_relu_overlapping", max_pool_relu_overlapping},
    {"average_pool", average_pool},
    {"average_pool_global", average_pool_global},
    {NULL, NULL},
};
