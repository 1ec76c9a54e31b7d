/* What the files of the bf16 products share: rounding, tiles, and a strip of C. Inside tensor/kernel/amx*.c,
 * x86 alone.
 *
 * A tile of an operand holds 16 lines (rows of A, columns of B) of 32 values. Of A it is one row of values a
 * line; of B one row for each pair of values, of all lines. Four tiles of C stand in the registers at a time:
 * a strip of 32 rows of A meets a panel of 32 columns of B. */
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
    K_BLOCK = 512,     /* a strip of this depth stays in the first-level cache */
    B_LEN = 128 * 1024 /* bf16 values of B that are packed at a time, in the second-level cache */
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

/* 32 values of a line in bf16, of which the first n are at p; zeros behind them. */
INNER __m512i load_line(const float *p, int64_t n)
{
    if (n >= STEP) return (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(p + TILE), _mm512_loadu_ps(p));
    __m512 high = n > TILE ? _mm512_maskz_loadu_ps(first(n - TILE), p + TILE) : _mm512_setzero_ps();
    __m512 low = n > 0 ? _mm512_maskz_loadu_ps(first(n), p) : _mm512_setzero_ps();
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

/* One value of up to 16 lines each, those of `mask`, paired with the next, `ld` behind it; of the pair only
 * the first `values` are there, the others zero. */
INNER __m512i load_pairs(const float *p, int64_t ld, int64_t values, __mmask16 mask)
{
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23,
                                           7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    __m512 high = values > 1 ? _mm512_maskz_loadu_ps(mask, p + ld) : _mm512_setzero_ps();
    __m512 low = values > 0 ? _mm512_maskz_loadu_ps(mask, p) : _mm512_setzero_ps();
    return _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(high, low));
}

static inline int64_t steps_of(int64_t k)
{
    return (k + STEP - 1) / STEP;
}

static inline int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Products of at most 32 rows with all panels of a B, for some of the sums' k. */
struct amx_block {
    int64_t n, strips, steps; /* k is strips × steps × 32 */
    /* Row i of step s of strip t of A, 32 values: at a + i·a_row + s·a_step + t·a_strip; a_below is 16 rows
     * on. */
    const uint16_t *a;
    int64_t a_row, a_below, a_step, a_strip;
    const uint16_t *b; /* packed panels */
    int64_t panel_len; /* from one to the next */
    float *c;
    int64_t ldc;
    bool resume;       /* go on from the sums in C */
    const float *bias; /* to begin with; NULL: zero */
    bool relu;         /* of the sums */
};

/* A block of A as amx__pack_strip leaves it. */
static inline void amx_block_packed(struct amx_block *p, const uint16_t *strip, int64_t k)
{
    p->a = strip;
    p->strips = 1;
    p->steps = steps_of(k);
    p->a_row = STEP;
    p->a_step = TILE_LEN;
    p->a_below = p->steps * TILE_LEN;
    p->a_strip = 0;
}

/* Before any product: makes the tiles ready on this thread. */
void amx__configure(void);

/* Whether the tiles repay their packing; else the product is the f32 kernels', and its packed B is theirs. */
bool amx__pays(int64_t k, int64_t n);

/* How deep the blocks are that sums of k are cut into: at most K_BLOCK, whole steps unless there is but one.
 */
int64_t amx__block_depth(int64_t k);

/* B [k,n] as panels of two columns of tiles: [panel][step][2]. */
void amx__pack_panels(const float *b, int64_t ldb, int64_t k, int64_t n, uint16_t *out);

/* Rows of C one ldc apart. */
void amx__multiply_strip(const struct amx_block *p, int64_t rows);
/* Rows of C where row[i] says, or nowhere where that is NULL; p->c is not looked at, but p->relu is. */
void amx__multiply_scattered(const struct amx_block *p, float *const *row, int64_t rows);

/* The tail of rows of C from row i of the product's C. Their sums hold the bias already unless `bias_too`. */
void amx__finish_rows(const struct gemm_tail *tail, bool bias_too, int64_t i, int64_t rows, float *c,
                      int64_t n, int64_t ldc);

/* kernels.gemm_lines */
void amx__gemm_lines(const struct gemm_lines *g);

#endif
