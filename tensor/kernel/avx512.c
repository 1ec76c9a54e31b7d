/* The kernels for CPUs with AVX-512 (F, BW, DQ, VL). */
#include "tensor/kernel.h"

#include <math.h>
#include <string.h>

#ifdef __x86_64__
#include <immintrin.h>
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")

enum { LANES = 16 };
#define KERNELS_WIDE 8
typedef __m512 vf;
typedef int32_t vi __attribute__((vector_size(64)));
#define V_SET(x)       _mm512_set1_ps(x)
#define V_LOAD(p)      _mm512_loadu_ps(p)
#define V_STORE(p, v)  _mm512_storeu_ps(p, v)
#define V_FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define V_MAX(a, b)    _mm512_max_ps(a, b)
#define V_MIN(a, b)    _mm512_min_ps(a, b)
#define V_SQRT(a)      _mm512_sqrt_ps(a)
#define V_SUM(a)       _mm512_reduce_add_ps(a)
#define V_TOP(a)       _mm512_reduce_max_ps(a)
/* where x > 0: a, else b */
#define V_POSITIVE(x, a, b) _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ), b, a)

/* 1 / x for normal x whose reciprocal is normal too: 14 bits, and one step of Newton's; a division takes four
 * times as long. */
static inline vf v_reciprocal(vf x)
{
    vf r = _mm512_rcp14_ps(x);
    return r * _mm512_fnmadd_ps(x, r, V_SET(2.0f));
}
#define V_RECIPROCAL(x) v_reciprocal(x)

static inline __mmask16 first_lanes(int64_t n)
{
    return (__mmask16)((1u << n) - 1u);
}

/* The first n lanes, 0 < n < LANES; the others are zero. */
static inline vf v_load_part(const float *p, int64_t n)
{
    return _mm512_maskz_loadu_ps(first_lanes(n), p);
}

static inline void v_store_part(float *p, vf v, int64_t n)
{
    _mm512_mask_storeu_ps(p, first_lanes(n), v);
}

/* The transposed of the square at a, whose side is LANES: pairs, fours, then quarters of the vectors. */
static inline void v_transpose(const float *a, int64_t lda, float *out, int64_t ldo)
{
    vf r[16], t[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i += 2) {
        vf x = V_LOAD(a + i * lda), y = V_LOAD(a + (i + 1) * lda);
        t[i] = _mm512_unpacklo_ps(x, y);
        t[i + 1] = _mm512_unpackhi_ps(x, y);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i += 4)
#pragma GCC unroll 2
        for (int j = 0; j < 2; j++) {
            r[i + 2 * j] = (vf)_mm512_unpacklo_pd((__m512d)t[i + j], (__m512d)t[i + j + 2]);
            r[i + 2 * j + 1] = (vf)_mm512_unpackhi_pd((__m512d)t[i + j], (__m512d)t[i + j + 2]);
        }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        V_STORE(out + i * ldo, _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88));
        V_STORE(out + (i + 8) * ldo, _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd));
    }
}

#define KERNELS_TABLE kernels__avx512
#define KERNELS_NAME  "avx512"
#include "tensor/kernel/vector.inc"
#include "tensor/kernel/element.inc"
#include "tensor/kernel/gemm.inc"
#include "tensor/kernel/norm.inc"
#include "tensor/kernel/cell.inc"
#include "tensor/kernel/taps.inc"
#include "tensor/kernel/table.inc"
#endif
