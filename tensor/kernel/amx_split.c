/* Products of operands split into two bf16 terms each: x = high + low, to 16 bits or more, and
 * a·b = low·high + high·high + high·low. */
#include "tensor/kernel.h"

#ifdef __x86_64__
#include <assert.h>
#include <string.h>
#include "tensor/kernel/amx_tile.h"

/* Of a step's 32 values, each of the first 16 makes a pair with the one 16 behind it: that takes no
 * shuffling. Shorter sums than LEAST_K, most of their one step empty, were slower than f32's. */
enum { TERMS = 2, MATE = TILE, LEAST_K = 20, LEAST_N = TILE };

/* The upper halves of two vectors' elements, in pairs. */
INNER __m512i upper(__m512i low, __m512i high)
{
    return _mm512_mask_blend_epi16(0xaaaaaaaau, _mm512_srli_epi32(low, 16), high);
}

/* x with what is behind the bf16 nearest to it cut off. */
INNER __m512i nearest(__m512i x)
{
    return _mm512_and_si512(_mm512_add_epi32(x, _mm512_set1_epi32(0x8000)),
                            _mm512_set1_epi32((int)0xffff0000));
}

/* The high part of values of which some are not finite, or would not be once rounded. An infinity or NaN is
 * all in the low part, as 0 · infinity is NaN; the other operand's low part may well be 0, its high part only
 * if it is 0. */
static __attribute__((noinline)) TILED __m512i nearest_of_any(__m512i x)
{
    const __m512i magnitude = _mm512_and_si512(x, _mm512_set1_epi32(0x7fffffff));
    __mmask16 large = _mm512_cmpge_epu32_mask(magnitude, _mm512_set1_epi32(0x7f7f8000));
    __mmask16 finite = _mm512_cmplt_epu32_mask(magnitude, _mm512_set1_epi32(0x7f800000));
    __m512i cut = _mm512_mask_and_epi32(nearest(x), large, x, _mm512_set1_epi32((int)0xffff0000));
    return _mm512_maskz_mov_epi32(finite, cut);
}

/* A low part as bf16 bits in the upper half; a NaN stays one. */
static __attribute__((noinline)) TILED __m512i rounded_of_any(__m512 x)
{
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    return _mm512_mask_mov_epi32(nearest((__m512i)x), nan, _mm512_set1_epi32(0x7fc00000));
}

/* Pairs of a value of `low` and its mate in `high`. */
INNER void take_pairs(__m512 low, __m512 high, __m512i out[TERMS])
{
    const __m512i half = _mm512_set1_epi32(0x8000);
    __m512i l = nearest((__m512i)low), h = nearest((__m512i)high);
    __m512 l2 = low - (__m512)l, h2 = high - (__m512)h;
    __m512i l3 = _mm512_add_epi32((__m512i)l2, half), h3 = _mm512_add_epi32((__m512i)h2, half);
    enum { NO_NUMBER = 0x80 | 0x10 | 0x08 | 0x01 };
    if (__builtin_expect(_mm512_fpclass_ps_mask(l2 + h2, NO_NUMBER), 0)) {
        l = nearest_of_any((__m512i)low);
        h = nearest_of_any((__m512i)high);
        l3 = rounded_of_any(low - (__m512)l);
        h3 = rounded_of_any(high - (__m512)h);
    }
    out[0] = upper(l, h);
    out[1] = upper(l3, h3);
}

INNER void take_line(__m512 low, __m512 high, __m512i out[TERMS])
{
    take_pairs(low, high, out);
}

#include "tensor/kernel/tiles.inc"
#include "tensor/kernel/tile_lines.inc"

const struct amx_products amx__split = {packed_len, pack, gemm_packed, gemm, gemm_lines};
#endif
