/* The kernels for CPUs with AVX2 and FMA. */
#include "tensor/kernel.h"

#include <math.h>
#include <string.h>

#ifdef __x86_64__
#include <immintrin.h>
#pragma GCC target("avx2,fma")

enum { LANES = 8 };
#define KERNELS_WIDE 4
typedef __m256 vf;
typedef int32_t vi __attribute__((vector_size(32)));
#define V_SET(x)       _mm256_set1_ps(x)
#define V_LOAD(p)      _mm256_loadu_ps(p)
#define V_STORE(p, v)  _mm256_storeu_ps(p, v)
#define V_FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define V_MAX(a, b)    _mm256_max_ps(a, b)
#define V_MIN(a, b)    _mm256_min_ps(a, b)
#define V_SQRT(a)      _mm256_sqrt_ps(a)
/* where x > 0: a, else b */
#define V_POSITIVE(x, a, b) _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GT_OQ))

/* 1 / x for normal x whose reciprocal is normal too. */
#define V_RECIPROCAL(x) (V_SET(1.0f) / (x))

static inline __m256i first_lanes(int64_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* The first n lanes, 0 < n < LANES; the others are zero. */
static inline vf v_load_part(const float *p, int64_t n)
{
    return _mm256_maskload_ps(p, first_lanes(n));
}

static inline void v_store_part(float *p, vf v, int64_t n)
{
    _mm256_maskstore_ps(p, first_lanes(n), v);
}

/* The transposed of the square at a, whose side is LANES. */
static inline void v_transpose(const float *a, int64_t lda, float *out, int64_t ldo)
{
    for (int i = 0; i < LANES; i++)
        for (int j = 0; j < LANES; j++) out[j * ldo + i] = a[i * lda + j];
}

static inline float v_sum(vf v)
{
    float lane[LANES], sum = 0;
    V_STORE(lane, v);
    for (int i = 0; i < LANES; i++) sum += lane[i];
    return sum;
}

static inline float v_top(vf v)
{
    float lane[LANES];
    V_STORE(lane, v);
    float top = lane[0];
    for (int i = 1; i < LANES; i++) top = lane[i] > top ? lane[i] : top;
    return top;
}
#define V_SUM(a) v_sum(a)
#define V_TOP(a) v_top(a)

#define KERNELS_TABLE kernels__avx2
#define KERNELS_NAME  "avx2"
#include "tensor/kernel/vector.inc"
#include "tensor/kernel/element.inc"
#include "tensor/kernel/gemm.inc"
#include "tensor/kernel/norm.inc"
#include "tensor/kernel/cell.inc"
#include "tensor/kernel/taps.inc"
#include "tensor/kernel/table.inc"
#endif
