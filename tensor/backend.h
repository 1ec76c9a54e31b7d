/* The engines behind the operators: one table of functions each, chosen at run time by what the CPU has.
 *
 *     openblas   GEMM by OpenBLAS, one thread; everything else by the CPU's kernels
 *     native     GEMM by our own kernels for the CPU (AVX-512 or AVX2)
 *     bf16       as native, with products in bf16 on AMX tiles (tensor/kernel/amx.h); all else stays f32
 *     bf16x3     the same tiles, three products of bf16 for one of f32: nearly f32's accuracy
 *     portable   plain C for any CPU, no BLAS
 *
 * Training uses `gemm`. Inference uses `gemm_packed` on weights packed once per load; every output element is
 * one chain of additions in the order of k, so that a row's bits do not depend on the other rows. */
#ifndef TENSOR_BACKEND_H
#define TENSOR_BACKEND_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/err.h"

struct kernels;

/* C[m,n] = op(A)·op(B) + beta·C, row-major; op transposes when asked. ld* in floats. beta is 0 or 1; with 0,
 * C is not read. */
struct gemm {
    bool trans_a, trans_b;
    int64_t m, n, k;
    const float *a;
    int64_t lda;
    const float *b;
    int64_t ldb;
    float beta;
    float *c;
    int64_t ldc;
};

struct gemm_tail;

struct backend {
    const char *name;
    const struct kernels *kernels; /* element-wise work and packed GEMM (tensor/kernel.h) */
    bool tiles;                    /* products pack both operands in each call, unless they are packed */
    bool rounds;                   /* products round their operands to bf16 */
    /* tail (bias and activation; NULL for none) is applied to C at the end. */
    void (*gemm)(const struct backend *b, const struct gemm *g, const struct gemm_tail *tail);
    bool own; /* gemm is the kernels': a product may as well go through their gemm_packed */
};

/* By name ("auto", "native", "openblas", "onednn", "bf16", "bf16x3", "portable"), initialised. The first call
 * asks the kernel for leave to use AMX, and that for "onednn" opens a library: make it before a sandbox
 * forbids them. Each must multiply known numbers rightly before it is given out. ERR_INVALID for an unknown
 * name, ERR_UNSUPPORTED when this machine lacks what it needs, ERR_INTERNAL when the answer is wrong. */
int backend_find(const struct backend **out, const char *name, struct err *e);

/* The fastest that computes in f32 and works here. Never NULL: portable always works. */
const struct backend *backend_auto(void);

/* Names of those that work here, in a NULL-terminated table. */
const char *const *backend_names(void);

#endif
