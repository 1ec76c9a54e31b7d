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
/* where x > 0: a, else b */
#define V_POSITIVE(x, a, b) _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ), b, a)

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
