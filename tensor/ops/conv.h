/* What the two ways to convolve share: conv.c gathers patches, whatever the window; conv_lines.c multiplies
 * where the input lies, for windows whose lines are contiguous. */
#ifndef TENSOR_OPS_CONV_H
#define TENSOR_OPS_CONV_H

#include "tensor/ops/window.h"

/* The kernel's matrix within one group: k = kh·kw·depth rows, n filters, of `filters` in all. */
struct conv {
    struct window w;
    int64_t k, n, filters;
    int64_t rows;   /* of the output */
    int64_t block;  /* rows gathered at a time */
    bool pointwise; /* a patch is one element of x: x itself is the matrix of patches */
};

/* Whether the kernels can do it, and it pays. */
bool conv_lines_fit(const struct conv *c, const struct kernels *k);
bool conv_lines_fit_grad_x(const struct conv *c, const struct kernels *k);

/* Bytes of workspace that each of the three needs. */
size_t conv_lines_bytes(const struct conv *c);
size_t conv_lines_grad_w_bytes(const struct conv *c);
size_t conv_lines_grad_x_bytes(const struct conv *c);

/* y = tail(x * kernel); packed: the kernel as [k, filters] by kernels->pack, or NULL. */
void conv_lines(const struct kernels *k, const struct conv *c, const float *x, const float *kernel,
                const float *packed, float *y, const struct gemm_tail *tail, void *work);
void conv_lines_grad_w(const struct kernels *k, const struct conv *c, const float *x, const float *dy,
                       float *dw, void *work);
void conv_lines_grad_x(const struct kernels *k, const struct conv *c, const float *dy, const float *kernel,
                       float *dx, void *work);

#endif
