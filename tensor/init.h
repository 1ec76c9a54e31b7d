/* How a parameter starts: Keras's initialisers, drawn from counter-based random numbers, so that the same
 * seed gives the same weights whatever the order or the number of threads. */
#ifndef TENSOR_INIT_H
#define TENSOR_INIT_H

#include <stddef.h>
#include <stdint.h>
#include "tensor/tensor.h"

enum init_kind {
    INIT_ZEROS,
    INIT_ONES,
    INIT_CONSTANT,       /* value = a */
    INIT_RANDOM_UNIFORM, /* in [-a, a) */
    INIT_RANDOM_NORMAL,  /* standard deviation a */
    INIT_GLOROT_UNIFORM, /* limit √(6 / (fan_in + fan_out)); Glorot & Bengio 2010 */
    INIT_GLOROT_NORMAL,
    INIT_HE_UNIFORM, /* limit √(6 / fan_in); He et al. 2015 */
    INIT_HE_NORMAL,
    INIT_LECUN_UNIFORM,
    INIT_LECUN_NORMAL,
    INIT_FORGET_BIAS, /* zeros, and ones in the second quarter: an LSTM's bias */
    INIT_SINUSOIDAL,  /* [steps, features]: sines and cosines of the step; Vaswani et al. 2017 */
    /* As [product of the others, last]: orthonormal rows, or columns where those are fewer, spread evenly
     * over all such matrices; Saxe et al. 2014. Work grows with the larger side times the smaller one
     * squared. */
    INIT_ORTHOGONAL,
    INIT_COUNT
};

struct init_spec {
    enum init_kind kind;
    double a;
};

const char *init_name(enum init_kind kind); /* "glorot_uniform" */
int init_of(const char *name);              /* the kind, or -1 */

/* Fills out[0..count of shape). The last dimension is fan-out, the product of the others fan-in (for kernels
 * with spatial dimensions in front, both times their product). stream is the parameter's number. */
void init_fill(float *out, const struct shape *shape, const struct init_spec *spec, uint64_t seed,
               uint32_t stream);

#endif
