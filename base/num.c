/* Turns decimal text into doubles and doubles into the shortest decimal text, correctly rounded both ways. */
#include "base/num.h"

#include <assert.h>
#include <errno.h>
#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- text to number ---- */

/* A number's text taken apart: value = (-1)^negative × digits × 10^exponent. */
struct decimal {
    const char *first; /* borrowed: the first non-zero digit */
    const char *last;  /* behind the last digit of the mantissa */
    uint64_t head;     /* the first 19 significant digits */
    int64_t digits;    /* significant digits in all, without leading zeros */
    int64_t exponent;  /* of the last digit */
    bool negative;
};

static bool is_digit(const char *p, const char *end)
{
    return p < end && *p >= '0' && *p <= '9';
}

/* Adds the run of digits at p; returns its end. */
static const char *take_digits(struct decimal *d, const char *p, const char *end)
{
    for (; is_digit(p, end); p++) {
        if (d->digits == 0 && *p == '0') continue;
        if (d->digits == 0) d->first = p;
        if (d->digits < 19) d->head = d->head * 10 + (uint64_t)(*p - '0');
        d->digits++;
    }
    return p;
}

/* The exponent behind an 'e', if one is there; p when not. Saturates: nothing near the bound is a finite
 * double. */
static const char *take_exponent(int64_t *exponent, const char *p, const char *end)
{
    const char *q = p;
    if (q == end || (*q != 'e' && *q != 'E')) return p;
    q++;
    bool negative = q < end && *q == '-';
    if (q < end && (*q == '-' || *q == '+')) q++;
    if (!is_digit(q, end)) return p;
    int64_t value = 0;
    for (; is_digit(q, end); q++)
        if (value < INT64_MAX / 100) value = value * 10 + (*q - '0');
    *exponent = negative ? -value : value;
    return q;
}

/* Any length, by way of strtod on a bounded copy: digits beyond the 800th only matter for being zero or not,
 * because no point half-way between two doubles has more than 767 significant digits. */
static double read_slowly(const struct decimal *d)
{
    enum { DIGITS_MAX = 800 };
    char text[DIGITS_MAX + 32];
    size_t n = 0;
    bool rest = false;
    for (const char *p = d->first; p < d->last; p++) {
        if (*p == '.') continue;
        if (n < DIGITS_MAX)
            text[n++] = *p;
        else
            rest |= *p != '0';
    }
    int64_t exponent = d->exponent + (d->digits - (int64_t)n);
    if (rest) {
        text[n++] = '1';
        exponent--;
    }
    if (exponent > 400) exponent = 400;
    if (exponent < -2000) exponent = -2000;
    text[n++] = 'e';
    text[n++] = exponent < 0 ? '-' : '+';
    uint64_t size = (uint64_t)(exponent < 0 ? -exponent : exponent);
    for (uint64_t unit = 1000; unit > 0; unit /= 10) text[n++] = (char)('0' + size / unit % 10);
    text[n] = '\0';
    int saved = errno;
    double v = strtod(text, NULL); /* there is no decimal point in it, so the locale has no say */
    errno = saved;
    return v;
}

const double num_pow10[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                            1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

#if LDBL_MANT_DIG == 64
/* x87's 64-bit mantissa holds 19 digits and 10^27 = 2^27 · 5^27 exactly, so one operation is rounded once, to
 * 64 bits. Rounding again to 53 is right unless the first result stands exactly half-way, where its own
 * rounding may have hidden which side the truth is on. */
static bool scale_extended(double *out, uint64_t digits, int64_t exponent)
{
    static const long double pow10[] = {1e0L,  1e1L,  1e2L,  1e3L,  1e4L,  1e5L,  1e6L,  1e7L,  1e8L,  1e9L,
                                        1e10L, 1e11L, 1e12L, 1e13L, 1e14L, 1e15L, 1e16L, 1e17L, 1e18L, 1e19L,
                                        1e20L, 1e21L, 1e22L, 1e23L, 1e24L, 1e25L, 1e26L, 1e27L};
    if (exponent < -27 || exponent > 27) return false;
    long double v = (long double)digits;
    v = exponent < 0 ? v / pow10[-exponent] : v * pow10[exponent];
    uint64_t mantissa;
    memcpy(&mantissa, &v, sizeof mantissa);
    if ((mantissa & 0x7FF) == 0x400) return false;
    *out = (double)v;
    return true;
}
#else
static bool scale_extended(double *out, uint64_t digits, int64_t exponent)
{
    (void)out, (void)digits, (void)exponent;
    return false;
}
#endif

/* Clinger's fast path ("How to read floating point numbers accurately", 1990): two exact operands, one
 * rounding. */
bool num_scale(double *out, uint64_t digits, int64_t exponent)
{
    if (digits > 1ull << 53 || exponent < -NUM_POW10_MAX || exponent > NUM_POW10_MAX)
        return scale_extended(out, digits, exponent);
    double v = (double)digits;
    *out = exponent < 0 ? v / num_pow10[-exponent] : v * num_pow10[exponent];
    return true;
}

static double to_double(const struct decimal *d)
{
    double v;
    if (d->digits == 0) return 0.0;
    return d->digits <= 19 && num_scale(&v, d->head, d->exponent) ? v : read_slowly(d);
}

size_t num_scan(const char *p, const char *end, double *out)
{
    const char *start = p;
    struct decimal d = {0};
    if (p < end && *p == '-') {
        d.negative = true;
        p++;
    }
    if (!is_digit(p, end)) return 0;
    if (*p == '0')
        p++; /* JSON: nothing may follow a leading zero but a point or an exponent */
    else
        p = take_digits(&d, p, end);
    int64_t fraction = 0, exponent = 0;
    if (p < end && *p == '.' && is_digit(p + 1, end)) {
        const char *from = p + 1;
        p = take_digits(&d, from, end);
        fraction = p - from;
    }
    d.last = p;
    p = take_exponent(&exponent, p, end);
    d.exponent = exponent - fraction;
    double v = to_double(&d);
    *out = d.negative ? -v : v;
    return (size_t)(p - start);
}

bool num_parse_i64(const char *s, int64_t min, int64_t max, int64_t *out)
{
    if (!s) return false;
    bool negative = *s == '-';
    if (negative) s++;
    if (*s < '0' || *s > '9') return false;
    int64_t v = 0;
    for (; *s >= '0' && *s <= '9'; s++) {
        int digit = *s - '0';
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, negative ? -digit : digit, &v))
            return false;
    }
    if (*s != '\0' || v < min || v > max) return false;
    *out = v;
    return true;
}

/* ---- number to text: Raffaello Giulietti, "The Schubfach way to render doubles" (2020) ----
 *
 * A finite v = c·2^q owns the interval of reals that round to it. Scaling by 10^-k, with k chosen so that the
 * interval is between 1 and 10 wide, leaves at most a few integers inside: the shortest decimal is one of
 * them. 128 bits of 10^-k suffice to place v and the interval's ends exactly, when the product keeps a sticky
 * bit ("round to odd"). */

enum { POW10_MIN = -292, POW10_MAX = 324, POW10_COUNT = POW10_MAX - POW10_MIN + 1 };

struct u128 {
    uint64_t high, low;
};

/* pow10_bits[i] = ceil(10^k / 2^r), k = i + POW10_MIN, with r such that bit 127 is the highest set. */
static struct u128 pow10_bits[POW10_COUNT];
static pthread_once_t pow10_once = PTHREAD_ONCE_INIT;

/* An integer of up to 1216 bits, least significant limb first. */
enum { BIG_LIMBS = 38 };

struct big {
    uint32_t limb[BIG_LIMBS];
};

static void big_mul10(struct big *b)
{
    uint64_t carry = 0;
    for (int i = 0; i < BIG_LIMBS; i++) {
        carry += (uint64_t)b->limb[i] * 10;
        b->limb[i] = (uint32_t)carry;
        carry >>= 32;
    }
    assert(carry == 0);
}

/* Floor; true when something was cut off. */
static bool big_div10(struct big *b)
{
    uint64_t rest = 0;
    for (int i = BIG_LIMBS - 1; i >= 0; i--) {
        rest = rest << 32 | b->limb[i];
        b->limb[i] = (uint32_t)(rest / 10);
        rest %= 10;
    }
    return rest != 0;
}

/* The 128 bits from the highest set one down, plus 1 when anything below them, or `inexact`, is not zero. */
static struct u128 big_top(const struct big *b, bool inexact)
{
    int top = BIG_LIMBS - 1;
    while (b->limb[top] == 0) top--;
    int shift = __builtin_clz(b->limb[top]);
    uint32_t part[5]; /* most significant first; the fifth limb fills up what the shift makes free */
    for (int i = 0; i < 5; i++) part[i] = top - i >= 0 ? b->limb[top - i] : 0;
    bool sticky = inexact;
    for (int i = 0; i < top - 4; i++) sticky |= b->limb[i] != 0;
    sticky |= (uint32_t)(part[4] << shift) != 0;
    uint32_t out[4];
    for (int i = 0; i < 4; i++) out[i] = shift ? part[i] << shift | part[i + 1] >> (32 - shift) : part[i];
    struct u128 g = {(uint64_t)out[0] << 32 | out[1], (uint64_t)out[2] << 32 | out[3]};
    if (sticky && ++g.low == 0) g.high++;
    return g;
}

static void pow10_build(void)
{
    struct big b = {{1}};
    for (int k = 0; k <= POW10_MAX; k++) {
        pow10_bits[k - POW10_MIN] = big_top(&b, false);
        if (k < POW10_MAX) big_mul10(&b);
    }
    /* floor(floor(x / 10) / 10) = floor(x / 100), so dividing step by step stays exact. */
    b = (struct big){{0}};
    b.limb[BIG_LIMBS - 1] = 0x80000000u;
    bool inexact = false;
    for (int k = -1; k >= POW10_MIN; k--) {
        inexact |= big_div10(&b);
        pow10_bits[k - POW10_MIN] = big_top(&b, inexact);
    }
}

/* floor(log2(10^k)) and floor(log10(2^q)), floor(log10(3/4 · 2^q)); exact for |k| ≤ 1233, |q| ≤ 1500. */
static int floor_log2_pow10(int k)
{
    return (k * 1741647) >> 19;
}

static int floor_log10_pow2(int q, bool three_quarters)
{
    return (q * 1262611 - (three_quarters ? 524031 : 0)) >> 22;
}

/* The top 64 bits of the 192-bit product g × c, with the lowest bit set when any bit below is (bar the last,
 * which is g's own rounding). */
static uint64_t round_to_odd(struct u128 g, uint64_t c)
{
    unsigned __int128 low = (unsigned __int128)g.low * c;
    unsigned __int128 high = (unsigned __int128)g.high * c + (uint64_t)(low >> 64);
    return (uint64_t)(high >> 64) | ((uint64_t)high > 1);
}

struct shortest {
    uint64_t digits;
    int exponent;
};

/* c·2^q, c > 0. `closer`: the neighbour below is half as far as the one above (c is a power of two). */
static struct shortest find_shortest(uint64_t c, int q, bool closer)
{
    uint64_t odd = c & 1; /* an even mantissa owns the ends of its interval */
    int k = floor_log10_pow2(q, closer);
    int h = q + floor_log2_pow10(-k) + 1;
    struct u128 g = pow10_bits[-k - POW10_MIN];
    uint64_t lower = round_to_odd(g, (4 * c - 2 + closer) << h) + odd;
    uint64_t middle = round_to_odd(g, (4 * c) << h); /* four times the scaled value */
    uint64_t upper = round_to_odd(g, (4 * c + 2) << h) - odd;

    uint64_t s = middle / 4;
    if (s >= 10) { /* one digit fewer, if exactly one such number lies inside */
        uint64_t t = s / 10;
        bool below = lower <= 40 * t, above = 40 * t + 40 <= upper;
        if (below != above) return (struct shortest){t + above, k + 1};
    }
    bool below = lower <= 4 * s, above = 4 * s + 4 <= upper;
    if (below != above) return (struct shortest){s + above, k};
    uint64_t half = 4 * s + 2; /* both or neither inside: the nearer one, ties to even */
    return (struct shortest){s + (middle > half || (middle == half && (s & 1))), k};
}

static const char digit_pairs[] =
    "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
    "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
    "8081828384858687888990919293949596979899";

/* Writes v's digits so that they end before `end`; returns where they start. */
static char *write_digits(char *end, uint64_t v)
{
    while (v >= 100) {
        end -= 2;
        memcpy(end, digit_pairs + 2 * (v % 100), 2);
        v /= 100;
    }
    if (v >= 10) {
        end -= 2;
        memcpy(end, digit_pairs + 2 * v, 2);
        return end;
    }
    *--end = (char)('0' + v);
    return end;
}

/* 1234e-2 as "12.34", 12e3 as "12000", 12e-4 as "0.0012"; far from 1 as "1.2e+30". */
static size_t place_point(char *out, const char *digits, int n, int exponent)
{
    enum { PLAIN_MAX = 17, PLAIN_MIN = -5 };
    int point = n + exponent; /* digits before the point */
    char *p = out;
    if (point > PLAIN_MAX || point < PLAIN_MIN) {
        *p++ = digits[0];
        if (n > 1) *p++ = '.';
        memcpy(p, digits + 1, (size_t)n - 1);
        p += n - 1;
        *p++ = 'e';
        int e = point - 1;
        if (e < 0) *p++ = '-';
        char text[8];
        char *from = write_digits(text + sizeof text, (uint64_t)(e < 0 ? -e : e));
        memcpy(p, from, (size_t)(text + sizeof text - from));
        return (size_t)(p - out) + (size_t)(text + sizeof text - from);
    }
    if (point <= 0) {
        memcpy(p, "0.0000000", 2 + (size_t)-point);
        p += 2 - point;
        memcpy(p, digits, (size_t)n);
        return (size_t)(p - out) + (size_t)n;
    }
    int whole = point < n ? point : n;
    memcpy(p, digits, (size_t)whole);
    p += whole;
    for (int i = n; i < point; i++) *p++ = '0';
    if (whole < n) {
        *p++ = '.';
        memcpy(p, digits + whole, (size_t)(n - whole));
        p += n - whole;
    }
    return (size_t)(p - out);
}

static size_t format_parts(char *out, bool negative, uint64_t c, int q, bool closer)
{
    pthread_once(&pow10_once, pow10_build);
    size_t sign = negative;
    if (negative) out[0] = '-';
    struct shortest s = find_shortest(c, q, closer);
    char text[24];
    char *end = text + sizeof text;
    char *from = write_digits(end, s.digits);
    while (end - from > 1 && end[-1] == '0') {
        end--;
        s.exponent++;
    }
    return sign + place_point(out + sign, from, (int)(end - from), s.exponent);
}

/* Whole numbers that the mantissa holds exactly are their own shortest text, up to trailing zeros. */
static size_t format_whole(char *out, bool negative, uint64_t v)
{
    char text[24];
    char *end = text + sizeof text;
    char *from = write_digits(end, v);
    if (negative) *--from = '-';
    memcpy(out, from, (size_t)(end - from));
    return (size_t)(end - from);
}

size_t num_format_f64(char out[NUM_TEXT_MAX], double v)
{
    assert(isfinite(v));
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    bool negative = bits >> 63;
    uint64_t fraction = bits & ((1ull << 52) - 1);
    int biased = (int)(bits >> 52 & 0x7FF);
    double size = fabs(v);
    if (size < 0x1p53 && size == (double)(uint64_t)size) return format_whole(out, negative, (uint64_t)size);
    if (biased == 0) return format_parts(out, negative, fraction, -1074, false);
    return format_parts(out, negative, fraction | 1ull << 52, biased - 1075, fraction == 0 && biased > 1);
}

size_t num_format_f32(char out[NUM_TEXT_MAX], float v)
{
    assert(isfinite(v));
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    bool negative = bits >> 31;
    uint32_t fraction = bits & ((1u << 23) - 1);
    int biased = (int)(bits >> 23 & 0xFF);
    float size = fabsf(v);
    if (size < 0x1p24f && size == (float)(uint32_t)size) return format_whole(out, negative, (uint32_t)size);
    if (biased == 0) return format_parts(out, negative, fraction, -149, false);
    return format_parts(out, negative, fraction | 1u << 23, biased - 150, fraction == 0 && biased > 1);
}

size_t num_format_i64(char out[NUM_TEXT_MAX], int64_t v)
{
    char digits[NUM_TEXT_MAX];
    uint64_t left = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    size_t n = 0, len = 0;
    do {
        digits[n++] = (char)('0' + left % 10);
        left /= 10;
    } while (left);
    if (v < 0) out[len++] = '-';
    while (n) out[len++] = digits[--n];
    return len;
}

float num_from_half(uint16_t half)
{
    uint32_t exponent = half >> 10 & 0x1f, fraction = half & 0x3ff;
    float v;
    if (exponent == 0x1f)
        v = fraction ? NAN : INFINITY;
    else if (exponent == 0)
        v = ldexpf((float)fraction, -24);
    else
        v = ldexpf((float)(fraction | 0x400), (int)exponent - 25);
    return half & 0x8000 ? -v : v;
}
