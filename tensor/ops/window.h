/* A window that slides over the one or two spatial dimensions of [batch, (height,) width, channels], as
 * convolutions and pools have it. One dimension is two with a height of 1. */
#ifndef TENSOR_OPS_WINDOW_H
#define TENSOR_OPS_WINDOW_H

#include "tensor/op.h"

struct window {
    int64_t n, h, w, c;     /* input; n may be SHAPE_BATCH */
    int64_t oh, ow;         /* output */
    int64_t kh, kw;         /* kernel */
    int64_t sh, sw, dh, dw; /* strides, dilations */
    int64_t top, left;      /* zeros in front */
    int64_t group, depth;   /* groups, and channels of each */
    int rank;               /* of the input: 3 or 4 */
};

/* "strides", "pads" (begins, then ends, as in ONNX) and "dilations" stand first in the attributes of every
 * operator with a window; a list that is left out is all 1, 0 and 1. */
#define WINDOW_ATTRS(MAX_DILATION)                                                                           \
    {.name = "strides", .type = ATTR_INTS, .min = 1, .max = 4096},                                           \
        {.name = "pads", .type = ATTR_INTS, .min = 0, .max = 4096},                                          \
    {                                                                                                        \
        .name = "dilations", .type = ATTR_INTS, .min = 1, .max = (MAX_DILATION)                              \
    }

enum { WINDOW_STRIDES, WINDOW_PADS, WINDOW_DILATIONS, WINDOW_N_ATTRS };

/* The window of a kernel whose spatial sizes are the first rank − 2 of `kernel`, over x. False when an
 * attribute has the wrong length, a pad is as long as the kernel, or the kernel does not fit. */
bool window_of(struct window *w, const struct shape *x, const struct shape *kernel, const struct node *node);

/* The output's shape with `channels`. */
struct shape window_output(const struct window *w, int64_t channels);

/* The output's rows begin … end (image by image, line by line), of group g, as a matrix [end − begin,
 * kh·kw·depth]: each the patch of x under the window, zeros outside. */
void window_gather(const struct window *w, int64_t g, const float *x, int64_t begin, int64_t end,
                   float *cols);

/* The transposed: adds the matrix onto x. */
void window_scatter(const struct window *w, int64_t g, const struct kernels *k, const float *cols,
                    int64_t begin, int64_t end, float *x);

/* For references: the index of input element (image, y·x of output, tap, channel 0), or -1 outside. */
int64_t window_tap(const struct window *w, int64_t image, int64_t oy, int64_t ox, int64_t ky, int64_t kx);

#endif
