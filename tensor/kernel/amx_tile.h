/* What the files of the products on tiles share. Inside tensor/kernel/amx*.c, x86 alone.
 *
 * A tile of an operand holds 16 lines (rows of A, columns of B) of 32 values. Of A it is one row of values a
 * line; of B one row for each pair of values, of all lines. Four tiles of C stand in the registers at a time:
 * a strip of 32 rows of A meets a panel of 32 columns of B.
 *
 * tiles.inc and tile_lines.inc are the products themselves, compiled once for operands of one bf16 term a
 * value (amx_bf16.c) and once for two, a high and a low part (amx_split.c). */
#ifndef TENSOR_KERNEL_AMX_TILE_H
#define TENSOR_KERNEL_AMX_TILE_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include "tensor/kernel.h"

#define TILED __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))
#define INNER static inline __attribute__((always_inline)) TILED

enum {
    TILE = 16,
    STEP = 32,
    TILE_LEN = TILE * STEP,
    STRIP = 2 * TILE,  /* rows of A that are multiplied at a time */
    PANEL = 2 * TILE,  /* columns of B */
    K_BLOCK = 512,     /* of one term a strip of this depth stays in the first-level cache */
    B_LEN = 128 * 1024 /* values of B that are packed at a time, in the second-level cache */
};

/* The compiler knows no tiles, and must not move a store past a load of one. */
#define TILE_ZERO(T) __asm__ volatile("tilezero %%tmm" #T ::)
#define TILE_LOAD(T, p, bytes)                                                                               \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #T ::"r"(p), "r"((int64_t)(bytes)) : "memory")
#define TILE_STORE(T, p, bytes)                                                                              \
    __asm__ volatile("tilestored %%tmm" #T ", (%0,%1,1)" ::"r"(p), "r"((int64_t)(bytes)) : "memory")
#define TILE_DOT(C, A, B) __asm__ volatile("tdpbf16ps %%tmm" #B ", %%tmm" #A ", %%tmm" #C ::)

/* Rows become columns, of 16 by 16 pairs. */
INNER void transpose(__m512i r[TILE])
{
    __m512i t[TILE];
#pragma GCC unroll 16
    for (int i = 0; i < TILE; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < TILE; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < TILE; i += 8) {
#pragma GCC unroll 4
        for (int j = i; j < i + 4; j++) {
            t[j] = _mm512_shuffle_i32x4(r[j], r[j + 4], 0x88);
            t[j + 4] = _mm512_shuffle_i32x4(r[j], r[j + 4], 0xdd);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    }
}

INNER __mmask16 first(int64_t n)
{
    return n >= TILE ? 0xffff : n <= 0 ? 0 : (__mmask16)((1u << n) - 1u);
}

static inline int64_t steps_of(int64_t k)
{
    return (k + STEP - 1) / STEP;
}

static inline int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* The entries of struct kernels that a number of terms gives. */
struct amx_products {
    size_t (*packed_len)(int64_t k, int64_t n);
    void (*pack)(const float *b, int64_t ldb, bool trans, int64_t k, int64_t n, float *packed);
    void (*gemm_packed)(const struct gemm_packed *g);
    void (*gemm)(const struct gemm *g, const struct gemm_tail *tail);
    void (*gemm_lines)(const struct gemm_lines *g);
};

extern const struct amx_products amx__bf16, amx__split;

/* Before any product: makes the tiles ready on this thread. */
void amx__configure(void);

/* The tail of rows of C from row i of the product's C. Their sums hold the bias already unless `bias_too`. */
void amx__finish_rows(const struct gemm_tail *tail, bool bias_too, int64_t i, int64_t rows, float *c,
                      int64_t n, int64_t ldc);

#endif
