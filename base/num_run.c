/* Reads runs of numbers one after the other, and chooses the way by what the CPU has. */
#include "base/num_run.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include "base/num.h"
#include "base/num_run_impl.h"

static inline const char *skip_blanks(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t')) p++;
    return p;
}

static inline const char *take_digits(uint64_t *digits, const char *p, const char *end)
{
    for (; p < end && (unsigned char)(*p - '0') <= 9; p++) *digits = *digits * 10 + (uint64_t)(*p - '0');
    return p;
}

/* A number of few digits, as most are: [-]digits[.digits], at most 15 of them, so that its digits and the
 * power of ten are exact doubles and one division rounds correctly. Its end, or NULL when it is anything
 * else. */
static inline const char *scan_plain(const char *p, const char *end, double *out)
{
    enum { DIGITS_MAX = 15 };
    bool negative = p < end && *p == '-';
    uint64_t digits = 0;
    const char *whole = p + negative;
    const char *point = take_digits(&digits, whole, end);
    if (point == whole || (*whole == '0' && point != whole + 1)) return NULL;
    p = point;
    ptrdiff_t fraction = 0;
    if (p < end && *p == '.') {
        p = take_digits(&digits, point + 1, end);
        fraction = p - point - 1;
        if (fraction == 0) return NULL;
    }
    if (point - whole + fraction > DIGITS_MAX || (p < end && (*p == 'e' || *p == 'E'))) return NULL;
    double v = fraction ? (double)digits / num_pow10[fraction] : (double)digits;
    *out = negative ? -v : v;
    return p;
}

static inline bool is_separator(const char *p, const char *end)
{
    return p < end && (*p == ',' || *p == ']');
}

/* The number at p or behind the blanks there: the place of the comma or bracket behind it, or NULL. */
static inline const char *take_one(const char *p, const char *end, double *out)
{
    p = skip_blanks(p, end);
    const char *after = scan_plain(p, end, out);
    if (after && is_separator(after, end)) return after;
    if (!after) after = p + num_scan(p, end, out);
    if (after == p) return NULL;
    after = skip_blanks(after, end);
    return is_separator(after, end) ? after : NULL;
}

static size_t run_portable(struct num_run *r, double *out, size_t most)
{
    const char *p = r->p, *end = r->end; /* not in *r: a number waits for the last one's end */
    size_t n = 0;
    while (n < most && (n == 0 || *p == ',')) {
        const char *after = take_one(p + (n > 0), end, &out[n]);
        if (!after) break;
        p = after;
        n++;
    }
    r->p = p;
    return n;
}

/* Blocks where they do, other numbers one by one. */
static size_t by_blocks(num_take_blocks *take, struct num_run *r, double *out, size_t most)
{
    enum { TURN_MAX = 64 };
    size_t n = 0, turn = 1;
    while (n < most && (n == 0 || *r->p == ',')) {
        const char *p = r->p + (n > 0);
        size_t got = 0;
        bool stuck = true;
        if (p - r->start >= NUM_BEFORE_BYTES) got = take(r, p, out + n, most - n, &stuck);
        n += got;
        if (!stuck) continue;
        /* The more numbers in a row are not plain, the longer before the next try. */
        turn = got ? 1 : turn < TURN_MAX ? turn * 2 : turn;
        struct num_run next = {r->start, r->p + (n > 0), r->end};
        got = run_portable(&next, out + n, most - n < turn ? most - n : turn);
        if (!got) break;
        r->p = next.p;
        n += got;
    }
    return n;
}

#ifdef __x86_64__
static size_t run_avx2(struct num_run *r, double *out, size_t most)
{
    return by_blocks(num__take_blocks_avx2, r, out, most);
}

static size_t run_avx512(struct num_run *r, double *out, size_t most)
{
    return by_blocks(num__take_blocks_avx512, r, out, most);
}

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
           __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2");
}
#endif

num_run_way *num_run_find(const char *name)
{
#ifdef __x86_64__
    if (strcmp(name, "avx512") == 0) return has_avx512() ? run_avx512 : NULL;
    if (strcmp(name, "avx2") == 0) return has_avx2() ? run_avx2 : NULL;
#endif
    return strcmp(name, "portable") == 0 ? run_portable : NULL;
}

size_t num_run_take(struct num_run *r, double *out, size_t most)
{
    enum { FEW = 8 }; /* cost less one by one */
    if (most < FEW) return run_portable(r, out, most);
#ifdef __x86_64__
    if (has_avx512()) return run_avx512(r, out, most);
    if (has_avx2()) return run_avx2(r, out, most);
#endif
    return run_portable(r, out, most);
}
