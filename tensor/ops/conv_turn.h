/* The gradient by a convolution's input as a convolution itself: of the output's gradient, in a frame of
 * zeros, with the kernel turned around. One deep product an element instead of one shallow one for each tap,
 * which suits kernels that round their left side before they multiply. */
#ifndef TENSOR_OPS_CONV_TURN_H
#define TENSOR_OPS_CONV_TURN_H

#include "tensor/ops/conv.h"

/* Windows that move by one and have no holes; kernels that have gemm_lines, on a backend of tiles. */
bool conv_turn_fits(const struct conv *c, const struct backend *b);
size_t conv_turn_bytes(const struct conv *c); /* of workspace; 0 for other windows */
void conv_turn_grad_x(const struct kernels *k, const struct conv *c, const float *dy, const float *kernel,
                      float *dx, void *work);

#endif
