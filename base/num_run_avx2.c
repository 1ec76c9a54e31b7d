/* Reads runs of numbers on CPUs with AVX2: their places come from the masks bit by bit, two are read at once.
 */
#include "base/num_run_impl.h"

#ifdef __x86_64__
#include <immintrin.h>
#include "base/num.h"

#define TARGET __attribute__((target("avx2,fma,bmi,bmi2,popcnt")))
#define NAME   num__take_blocks_avx2

TARGET static inline uint64_t bits_of(__m256i low, __m256i high)
{
    return (uint32_t)_mm256_movemask_epi8(low) | (uint64_t)(uint32_t)_mm256_movemask_epi8(high) << 32;
}

TARGET static inline uint64_t equal(__m256i low, __m256i high, char c)
{
    __m256i wanted = _mm256_set1_epi8(c);
    return bits_of(_mm256_cmpeq_epi8(low, wanted), _mm256_cmpeq_epi8(high, wanted));
}

TARGET static inline uint64_t digits_of(__m256i low, __m256i high)
{
    __m256i zero = _mm256_set1_epi8('0'), nine = _mm256_set1_epi8(9);
    low = _mm256_sub_epi8(low, zero);
    high = _mm256_sub_epi8(high, zero);
    return bits_of(_mm256_cmpeq_epi8(_mm256_min_epu8(low, nine), low),
                   _mm256_cmpeq_epi8(_mm256_min_epu8(high, nine), high));
}

TARGET static inline struct num_kinds classify(const char *p)
{
    __m256i low = _mm256_loadu_si256((const __m256i *)(const void *)p);
    __m256i high = _mm256_loadu_si256((const __m256i *)(const void *)(p + 32));
    struct num_kinds k = {.digit = digits_of(low, high),
                          .zero = equal(low, high, '0'),
                          .point = equal(low, high, '.'),
                          .minus = equal(low, high, '-'),
                          .comma = equal(low, high, ','),
                          .bracket = equal(low, high, ']')};
    if (~(k.digit | k.point | k.minus | k.comma | k.bracket))
        k.blank =
            equal(low, high, ' ') | equal(low, high, '\n') | equal(low, high, '\r') | equal(low, high, '\t');
    return k;
}

/* A number's place in the text: its first digit, its point (or its end), its end. */
struct place {
    const char *first, *point, *end;
};

/* The next number's; the masks lose it. */
TARGET static inline struct place next_place(struct num_block *b)
{
    struct place at = {b->p + _tzcnt_u64(b->first), b->p + _tzcnt_u64(b->point), b->p + _tzcnt_u64(b->end)};
    b->first = _blsr_u64(b->first);
    b->point = _blsr_u64(b->point);
    b->end = _blsr_u64(b->end);
    return at;
}

#define SIXTEEN(x) x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x

/* From byte 32 − n on: the last n digits of 32 bytes, as numbers. */
_Alignas(64) static const uint8_t last_digits[64] = {[32] = SIXTEEN(15), SIXTEEN(15)};

/* Of the 16 bytes around a point (7 before it, 8 behind it), from n on in the first: n digits before it, as
 * numbers, and whatever is behind it; from 9 − n on in the second: the point, n − 1 bytes behind it and all
 * before. */
_Alignas(64) static const uint8_t digits_from[32] = {[7] = SIXTEEN(15)};
_Alignas(64) static const uint8_t bytes_to[32] = {SIXTEEN(255)};

/* A short number's 16 bytes. */
TARGET static inline __m128i digits_around(struct place at)
{
    __m128i x = _mm_loadu_si128((const __m128i *)(const void *)(at.point - 7));
    const uint8_t *from = digits_from + (at.point - at.first), *to = bytes_to + 9 - (at.end - at.point);
    x = _mm_and_si128(x, _mm_loadu_si128((const __m128i *)(const void *)from));
    return _mm_and_si128(x, _mm_loadu_si128((const __m128i *)(const void *)to));
}

/* The values of two short numbers: of their digits 8 numbers below 100 are made, 4 below 10^4, 2 below 10^8.
 */
TARGET static inline __m128d read_pair(struct place first, struct place second)
{
    __m256i x = _mm256_set_m128i(digits_around(second), digits_around(first));
    const int64_t tens = 0x010A010A010A010A, no_point = 0x000A010A010A010A;
    x = _mm256_maddubs_epi16(x, _mm256_setr_epi64x(no_point, tens, no_point, tens));
    x = _mm256_madd_epi16(x, _mm256_set1_epi32(0x00010064));
    x = _mm256_packus_epi32(x, x);
    x = _mm256_madd_epi16(x, _mm256_set1_epi32(0x00012710));
    x = _mm256_permutevar8x32_epi32(x, _mm256_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5));
    __m256d parts = _mm256_cvtepi32_pd(_mm256_castsi256_si128(x));
    __m128d v =
        _mm_fmadd_pd(_mm256_castpd256_pd128(parts), _mm_set1_pd(1e7), _mm256_extractf128_pd(parts, 1));
    return _mm_fmadd_pd(v, _mm_set1_pd(num__scale_high), _mm_mul_pd(v, _mm_set1_pd(num__scale_low)));
}

/* Any number of up to 20 characters, as an integer of up to 19 digits and a power of ten. The digits before a
 * point come from a load that begins a byte earlier. */
TARGET static bool read_long(struct place at, double *out)
{
    enum { LONG_MAX = 20, DIGITS_MAX = 19 /* of an integer in 64 bits */ };
    size_t len = (size_t)(at.end - at.first),
           fraction = at.point < at.end ? (size_t)(at.end - at.point) - 1 : 0;
    size_t digits = len - (fraction > 0), behind = fraction ? fraction : len;
    if (len > LONG_MAX || digits > DIGITS_MAX) return false;
    __m256i all = _mm256_loadu_si256((const __m256i *)(const void *)(last_digits + digits));
    __m256i last = _mm256_loadu_si256((const __m256i *)(const void *)(last_digits + behind));
    __m256i whole = _mm256_loadu_si256((const __m256i *)(const void *)(at.end - 33));
    __m256i x = _mm256_and_si256(last, _mm256_loadu_si256((const __m256i *)(const void *)(at.end - 32)));
    x = _mm256_or_si256(x, _mm256_and_si256(_mm256_xor_si256(all, last), whole));
    x = _mm256_maddubs_epi16(x, _mm256_set1_epi16(0x010A));
    x = _mm256_madd_epi16(x, _mm256_set1_epi32(0x00010064));
    x = _mm256_packus_epi32(x, x);
    x = _mm256_madd_epi16(x, _mm256_set1_epi32(0x00012710));
    uint64_t top = (uint64_t)_mm256_extract_epi64(x, 0), rest = (uint64_t)_mm256_extract_epi64(x, 2);
    top = (top >> 32) * 10000000000000000ull + (uint32_t)rest * 100000000ull + (rest >> 32);
    return num_scale(out, top, -(int64_t)fraction);
}

/* The first `most` numbers of a block without long ones. */
TARGET static inline void read_short(const struct num_block *block, double *out, size_t most)
{
    static const double signs[4][2] = {{0.0, 0.0}, {-0.0, 0.0}, {0.0, -0.0}, {-0.0, -0.0}};
    struct num_block b = *block;
    uint64_t negative = _pext_u64(b.negative, b.first);
    for (; most > 1; most -= 2, out += 2, negative >>= 2) {
        struct place first = next_place(&b), second = next_place(&b);
        _mm_storeu_pd(out, _mm_or_pd(read_pair(first, second), _mm_loadu_pd(signs[negative & 3])));
    }
    if (most) {
        struct place only = next_place(&b);
        _mm_store_sd(out, _mm_or_pd(read_pair(only, only), _mm_loadu_pd(signs[negative & 1])));
    }
}

TARGET size_t num__read_each(struct num_block b, double *out, size_t most)
{
    uint64_t negative = _pext_u64(b.negative, b.first);
    size_t n = 0;
    for (double v; n < most && read_long(next_place(&b), &v); n++, negative >>= 1)
        out[n] = negative & 1 ? -v : v;
    return n;
}

#include "base/num_run.inc"
#endif
