/* The kernels for any CPU: GNU C vectors of four floats, no instruction beyond the compiler's baseline. */
#include "tensor/kernel.h"

#include <math.h>
#include <string.h>

enum { LANES = 4 };
#define KERNELS_WIDE 4
typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));
#define V_SET(x)       ((vf){(x), (x), (x), (x)})
#define V_FMA(a, b, c) ((a) * (b) + (c))

static inline vf v_load(const float *p)
{
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void v_store(float *p, vf v)
{
    memcpy(p, &v, sizeof v);
}

static inline vf v_choose(vi mask, vf a, vf b)
{
    return (vf)((mask & (vi)a) | (~mask & (vi)b));
}

/* Of two, the second when either is NaN, as x86 has it. */
static inline vf v_max(vf a, vf b)
{
    return v_choose(a > b, a, b);
}

static inline vf v_min(vf a, vf b)
{
    return v_choose(a < b, a, b);
}

static inline vf v_sqrt(vf a)
{
    return (vf){sqrtf(a[0]), sqrtf(a[1]), sqrtf(a[2]), sqrtf(a[3])};
}

#define V_LOAD(p)           v_load(p)
#define V_STORE(p, v)       v_store(p, v)
#define V_MAX(a, b)         v_max(a, b)
#define V_MIN(a, b)         v_min(a, b)
#define V_SQRT(a)           v_sqrt(a)
#define V_POSITIVE(x, a, b) v_choose((x) > V_SET(0.0f), a, b)

/* 1 / x for normal x whose reciprocal is normal too. */
#define V_RECIPROCAL(x) (V_SET(1.0f) / (x))

/* The first n lanes, 0 < n < LANES; the others are zero. */
static inline vf v_load_part(const float *p, int64_t n)
{
    float part[LANES] = {0};
    memcpy(part, p, (size_t)n * sizeof *part);
    return v_load(part);
}

static inline void v_store_part(float *p, vf v, int64_t n)
{
    for (int64_t i = 0; i < n; i++) p[i] = v[i];
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

#define KERNELS_TABLE kernels__portable
#define KERNELS_NAME  "portable"
#include "tensor/kernel/vector.inc"
#include "tensor/kernel/element.inc"
#include "tensor/kernel/gemm.inc"
#include "tensor/kernel/norm.inc"
#include "tensor/kernel/cell.inc"
#include "tensor/kernel/taps.inc"
#include "tensor/kernel/table.inc"
