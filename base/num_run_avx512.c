/* Reads runs of numbers on CPUs with AVX-512 VBMI2: a block's places become bytes of a register, four numbers
 * are read at once. */
#include "base/num_run_impl.h"

#ifdef __x86_64__
#include <immintrin.h>
#include <string.h>

#define TARGET                                                                                               \
    __attribute__((                                                                                          \
        target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx2,fma,bmi,bmi2,popcnt")))
#define NAME num__take_blocks_avx512

enum { GROUP = 4 };

TARGET static inline __m512i load(const void *p)
{
    return _mm512_loadu_si512(p);
}

TARGET static inline struct num_kinds classify(const char *p)
{
    __m512i text = load(p);
#define EQUAL(c) _mm512_cmpeq_epi8_mask(text, _mm512_set1_epi8(c))
    struct num_kinds k = {
        .digit = _mm512_cmple_epu8_mask(_mm512_sub_epi8(text, _mm512_set1_epi8('0')), _mm512_set1_epi8(9)),
        .zero = EQUAL('0'),
        .point = EQUAL('.'),
        .minus = EQUAL('-'),
        .comma = EQUAL(','),
        .bracket = EQUAL(']'),
        .blank = EQUAL(' ') | EQUAL('\n') | EQUAL('\r') | EQUAL('\t')};
#undef EQUAL
    return k;
}

/* 0 … 63 */
_Alignas(64) static const uint8_t place[64] = {
    0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
    22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
    44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};

/* The digits of four numbers, 16 bytes each. The text begins a byte before the block, and is 0 where no digit
 * is; lane says which number belongs to a byte. */
TARGET static inline __m512i spread(__m512i text, __m512i lane, __m512i firsts, __m512i points, __m512i ends)
{
    __m512i around =
        _mm512_broadcast_i32x4(_mm_setr_epi8(-6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
    __m512i from = _mm512_add_epi8(_mm512_permutexvar_epi8(lane, points), around);
    from = _mm512_max_epi8(from, _mm512_permutexvar_epi8(lane, firsts)); /* what is before the first digit */
    from = _mm512_min_epi8(from, _mm512_permutexvar_epi8(lane, ends));   /* what is behind the last one */
    return _mm512_permutexvar_epi8(from, text);
}

/* The values of four short numbers: of their digits 8 numbers below 100 are made, 4 below 10^4, 2 below 10^8.
 */
TARGET static inline __m256d combine(__m512i digits)
{
    __m512i x = _mm512_maddubs_epi16(digits, _mm512_set1_epi16(0x010A));
    x = _mm512_madd_epi16(x, _mm512_set1_epi32(0x00010064));
    x = _mm512_packus_epi32(x, x);
    x = _mm512_madd_epi16(x, _mm512_set1_epi32(0x00012710));
    x = _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 0, 0, 0, 0, 0, 0, 0, 0), x);
    __m512d parts = _mm512_cvtepi32_pd(_mm512_castsi512_si256(x));
    __m256d upper = _mm512_castpd512_pd256(parts), lower = _mm512_extractf64x4_pd(parts, 1);
    __m256d v = _mm256_fmadd_pd(upper, _mm256_set1_pd(1e7), lower);
    return _mm256_fmadd_pd(v, _mm256_set1_pd(num__scale_high),
                           _mm256_mul_pd(v, _mm256_set1_pd(num__scale_low)));
}

TARGET static inline void read_short(const struct num_block *b, double *out, size_t most)
{
    __m512i text = _mm512_maskz_sub_epi8(b->digit << 1, load(b->p - 1), _mm512_set1_epi8('0'));
    __m512i firsts = _mm512_maskz_compress_epi8(b->first, load(place));
    __m512i points = _mm512_maskz_compress_epi8(b->point, load(place));
    __m512i ends = _mm512_maskz_compress_epi8(b->end, load(place));
    ends = _mm512_add_epi8(ends, _mm512_set1_epi8(1));
    __m512i lane =
        _mm512_setr_epi32(0, 0, 0, 0, 0x01010101, 0x01010101, 0x01010101, 0x01010101, 0x02020202, 0x02020202,
                          0x02020202, 0x02020202, 0x03030303, 0x03030303, 0x03030303, 0x03030303);
    uint64_t negative = _pext_u64(b->negative, b->first);
    for (size_t n = 0; n < most; n += GROUP, negative >>= GROUP) {
        __m256d v = combine(spread(text, lane, firsts, points, ends));
        v = _mm256_mask_xor_pd(v, (__mmask8)negative, v, _mm256_set1_pd(-0.0));
        _mm256_mask_storeu_pd(out + n, (__mmask8)_bzhi_u32(0xF, (uint32_t)(most - n)), v);
        lane = _mm512_add_epi8(lane, _mm512_set1_epi8(GROUP));
    }
}

#include "base/num_run.inc"
#endif
