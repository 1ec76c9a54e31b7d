/* Walks JSON text once, without recursion, and refuses whatever is not strict, with its line and column. */
#include "base/json_scan.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/num.h"

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One name of an object that is still open: what lies between its quotes. */
struct name {
    const char *start, *end; /* borrowed from the text */
    uint64_t hash;           /* of the decoded characters */
};

struct level {
    bool is_object;
    size_t first_name; /* where this object's names begin in the stack of names */
};

struct scanner {
    const char *start, *p, *end;
    size_t tokens_left;
    struct level levels[JSON_DEPTH_MAX];
    int depth;
    struct name *names; /* owned; those of all open objects, innermost last */
    size_t name_count, name_cap;
    struct err *e;
};

/* Fails at `at` with "line 3, column 14: …". Columns count characters. */
static int fail(struct scanner *s, const char *at, int code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

static int fail(struct scanner *s, const char *at, int code, const char *fmt, ...)
{
    char what[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    size_t line = 1, column = 1;
    for (const char *p = s->start; p < at; p++) {
        if (*p == '\n') {
            line++;
            column = 1;
        } else if (((unsigned char)*p & 0xC0) != 0x80) {
            column++;
        }
    }
    return err_set(s->e, code, NULL, "JSON, line %zu, column %zu: %s", line, column, what);
}

static void skip_space(struct scanner *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r')) s->p++;
}

/* "expected … but found …" at the place where the scanner stands. */
static int unexpected(struct scanner *s, const char *wanted)
{
    if (s->p == s->end) return fail(s, s->p, ERR_INVALID, "the text ends where %s was expected", wanted);
    unsigned char c = (unsigned char)*s->p;
    if (c >= 0x20 && c < 0x7F) return fail(s, s->p, ERR_INVALID, "expected %s, found '%c'", wanted, c);
    return fail(s, s->p, ERR_INVALID, "expected %s, found byte 0x%02x", wanted, c);
}

static int count_token(struct scanner *s)
{
    if (s->tokens_left == 0)
        return fail(s, s->p, ERR_TOO_LARGE, "the text holds more values and names than are allowed here");
    s->tokens_left--;
    return 0;
}

/* ---- strings ---- */

static const bool is_plain[256] = {
    [' '] = true,
    ['!'] = true,
    ['#' ... '['] = true,
    [']' ... '~'] = true,
};

/* The high bits of those among eight bytes that are not plain; some above the lowest of them may be flagged
 * too, by a borrow or a carry. */
static uint64_t flag_others(uint64_t eight)
{
    const uint64_t ones = 0x0101010101010101, high = 0x80 * ones;
    uint64_t quote = eight ^ '"' * ones, backslash = eight ^ '\\' * ones;
    uint64_t control = (eight - 0x20 * ones) | (eight + ones); /* the sum: 0x7f */
    return (control | eight | (quote - ones) | (backslash - ones)) & high;
}

size_t json_plain_run(const char *s, size_t len)
{
    size_t n = 0;
    for (uint64_t eight; len - n >= sizeof eight; n += sizeof eight) {
        memcpy(&eight, s + n, sizeof eight);
        uint64_t flags = flag_others(eight);
        if (flags) return n + (size_t)__builtin_ctzll(flags) / 8;
    }
    while (n < len && is_plain[(unsigned char)s[n]]) n++;
    return n;
}

size_t json__utf8_len(const char *text, const char *end)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t left = (size_t)(end - text);
    if (p[0] < 0x80) return 1;
    unsigned char low = 0x80, high = 0xBF; /* what the second byte may be */
    size_t n;
    if (p[0] >= 0xC2 && p[0] <= 0xDF) {
        n = 2;
    } else if (p[0] >= 0xE0 && p[0] <= 0xEF) {
        n = 3;
        if (p[0] == 0xE0) low = 0xA0;  /* no overlong form */
        if (p[0] == 0xED) high = 0x9F; /* no surrogate */
    } else if (p[0] >= 0xF0 && p[0] <= 0xF4) {
        n = 4;
        if (p[0] == 0xF0) low = 0x90;
        if (p[0] == 0xF4) high = 0x8F;
    } else {
        return 0;
    }
    if (left < n || p[1] < low || p[1] > high) return 0;
    for (size_t i = 2; i < n; i++)
        if ((p[i] & 0xC0) != 0x80) return 0;
    return n;
}

/* Four hex digits at p, or -1. */
static int hex4(const char *p, const char *end)
{
    if (end - p < 4) return -1;
    int v = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) return -1;
        v = v << 4 | digit;
    }
    return v;
}

static bool is_high_surrogate(int unit)
{
    return unit >= 0xD800 && unit <= 0xDBFF;
}

static bool is_low_surrogate(int unit)
{
    return unit >= 0xDC00 && unit <= 0xDFFF;
}

/* Behind the backslash at s->p. */
static int scan_escape(struct scanner *s)
{
    const char *at = s->p++;
    if (s->p == s->end) return unexpected(s, "an escaped character");
    char c = *s->p++;
    if (c != 'u') {
        if (c && strchr("\"\\/bfnrt", c)) return 0;
        return fail(s, at, ERR_INVALID,
                    "there is no such escape; known are \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX");
    }
    int unit = hex4(s->p, s->end);
    if (unit < 0) return fail(s, at, ERR_INVALID, "\\u needs four hexadecimal digits");
    s->p += 4;
    if (unit == 0) return fail(s, at, ERR_INVALID, "\\u0000 is not allowed");
    if (is_low_surrogate(unit))
        return fail(s, at, ERR_INVALID, "a low surrogate without the high one before it");
    if (!is_high_surrogate(unit)) return 0;
    if (s->end - s->p < 6 || s->p[0] != '\\' || s->p[1] != 'u' || !is_low_surrogate(hex4(s->p + 2, s->end)))
        return fail(s, at, ERR_INVALID, "a high surrogate without the low one behind it");
    s->p += 6;
    return 0;
}

/* The string whose opening quote is at s->p; on return s->p is behind the closing one. */
static int scan_string(struct scanner *s)
{
    const char *open = s->p++;
    while (s->p < s->end) {
        unsigned char c = (unsigned char)*s->p;
        if (c == '"') {
            s->p++;
            return 0;
        }
        if (c == '\\') {
            int rc = scan_escape(s);
            if (rc) return rc;
        } else if (c < 0x20) {
            return fail(s, s->p, ERR_INVALID, "control character 0x%02x in a string must be escaped", c);
        } else {
            size_t n = json__utf8_len(s->p, s->end);
            if (n == 0) return fail(s, s->p, ERR_INVALID, "byte 0x%02x is not UTF-8 here", c);
            s->p += n;
        }
    }
    return fail(s, open, ERR_INVALID, "the string that begins here has no closing quote");
}

/* The next character of a checked string's inside, escapes resolved; moves *p. */
static uint32_t next_character(const char **p)
{
    const unsigned char *u = (const unsigned char *)*p;
    if (u[0] == '\\') {
        static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
        if (u[1] != 'u') {
            const char *known = strchr(from, u[1]);
            *p += 2;
            return known ? (uint32_t)to[known - from] : u[1];
        }
        int unit = hex4(*p + 2, *p + 6);
        *p += 6;
        if (!is_high_surrogate(unit)) return (uint32_t)unit;
        int second = hex4(*p + 2, *p + 6);
        *p += 6;
        return 0x10000u + ((uint32_t)(unit - 0xD800) << 10) + (uint32_t)(second - 0xDC00);
    }
    int more = u[0] < 0x80 ? 0 : u[0] < 0xE0 ? 1 : u[0] < 0xF0 ? 2 : 3;
    uint32_t c = more == 0 ? u[0] : u[0] & (0x3Fu >> more);
    for (int i = 1; i <= more; i++) c = c << 6 | (u[i] & 0x3Fu);
    *p += 1 + more;
    return c;
}

/* ---- names ---- */

static int push_name(struct scanner *s, const char *start, const char *end)
{
    if (s->name_count == s->name_cap) {
        size_t cap = s->name_cap ? s->name_cap * 2 : 64;
        struct name *grown = mem_try_realloc(s->names, cap, sizeof *grown);
        if (!grown)
            return err_set(s->e, ERR_NOMEM, NULL, "no memory for a JSON text of %zu names", s->name_count);
        s->names = grown;
        s->name_cap = cap;
    }
    uint64_t hash = 14695981039346656037u; /* FNV-1a over characters, so that "a" and "\u0061" meet */
    for (const char *p = start; p < end;) hash = (hash ^ next_character(&p)) * 1099511628211u;
    s->names[s->name_count++] = (struct name){start, end, hash};
    return 0;
}

/* By hash, then by characters, which keeps a flood of engineered collisions at n·log n. */
static int compare_names(const void *a, const void *b)
{
    const struct name *x = a, *y = b;
    if (x->hash != y->hash) return x->hash < y->hash ? -1 : 1;
    const char *p = x->start, *q = y->start;
    while (p < x->end && q < y->end) {
        uint32_t c = next_character(&p), d = next_character(&q);
        if (c != d) return c < d ? -1 : 1;
    }
    return (p < x->end) - (q < y->end);
}

/* Closes the innermost object: refuses a name that it has twice, and forgets its names. */
static int check_names(struct scanner *s)
{
    size_t first = s->levels[s->depth - 1].first_name;
    struct name *names = s->names + first;
    size_t n = s->name_count - first;
    s->name_count = first;
    if (n < 2) return 0;
    qsort(names, n, sizeof *names, compare_names);
    const struct name *twice = NULL; /* the earliest in the text */
    for (size_t i = 1; i < n; i++) {
        if (compare_names(&names[i - 1], &names[i]) != 0) continue;
        const struct name *later = names[i - 1].start > names[i].start ? &names[i - 1] : &names[i];
        if (!twice || later->start < twice->start) twice = later;
    }
    if (!twice) return 0;
    int len = (int)(twice->end - twice->start < 64 ? twice->end - twice->start : 64);
    return fail(s, twice->start - 1, ERR_INVALID, "the name \"%.*s\" is there a second time", len,
                twice->start);
}

/* ---- values ---- */

static int scan_number(struct scanner *s)
{
    double v;
    size_t n = num_scan(s->p, s->end, &v);
    if (n == 0) return unexpected(s, "a value");
    if (n > JSON_NUMBER_MAX)
        return fail(s, s->p, ERR_INVALID, "a number may have %d characters at most", JSON_NUMBER_MAX);
    if (isinf(v)) return fail(s, s->p, ERR_INVALID, "%.*s is beyond the range of a double", (int)n, s->p);
    s->p += n;
    return 0;
}

static int scan_word(struct scanner *s)
{
    static const char *const words[] = {"true", "false", "null"};
    for (int i = 0; i < 3; i++) {
        size_t n = strlen(words[i]);
        if ((size_t)(s->end - s->p) >= n && memcmp(s->p, words[i], n) == 0) {
            s->p += n;
            return 0;
        }
    }
    return unexpected(s, "a value");
}

/* A name and its colon. */
static int scan_name(struct scanner *s)
{
    skip_space(s);
    if (s->p == s->end || *s->p != '"') return unexpected(s, "a name in double quotes");
    const char *open = s->p;
    int rc = count_token(s);
    if (!rc) rc = scan_string(s);
    if (!rc) rc = push_name(s, open + 1, s->p - 1);
    if (rc) return rc;
    skip_space(s);
    if (s->p == s->end || *s->p != ':') return unexpected(s, "':'");
    s->p++;
    return 0;
}

/* Opens the array or object at s->p. *closed when it is empty, else its first value comes next. */
static int scan_open(struct scanner *s, bool *closed)
{
    bool is_object = *s->p == '{';
    if (s->depth == JSON_DEPTH_MAX)
        return fail(s, s->p, ERR_INVALID, "nested more than %d deep", JSON_DEPTH_MAX);
    s->levels[s->depth++] = (struct level){is_object, s->name_count};
    s->p++;
    skip_space(s);
    *closed = s->p < s->end && *s->p == (is_object ? '}' : ']');
    if (*closed) {
        s->p++;
        s->depth--;
        return 0;
    }
    return is_object ? scan_name(s) : 0;
}

/* Behind a value: closes what ends here. *done when the outermost value is complete, else another value comes
 * next. */
static int scan_after_value(struct scanner *s, bool *done)
{
    for (;;) {
        *done = s->depth == 0;
        if (*done) return 0;
        bool is_object = s->levels[s->depth - 1].is_object;
        skip_space(s);
        if (s->p < s->end && *s->p == ',') {
            s->p++;
            return is_object ? scan_name(s) : 0;
        }
        if (s->p == s->end || *s->p != (is_object ? '}' : ']'))
            return unexpected(s, is_object ? "',' or '}'" : "',' or ']'");
        int rc = is_object ? check_names(s) : 0;
        if (rc) return rc;
        s->p++;
        s->depth--;
    }
}

/* One value, or the opening of one that has values inside (*complete is false then). */
static int scan_value(struct scanner *s, bool *complete)
{
    skip_space(s);
    *complete = true;
    if (s->p == s->end) return unexpected(s, "a value");
    int rc = count_token(s);
    if (rc) return rc;
    switch (*s->p) {
    case '{':
    case '[':
        return scan_open(s, complete);
    case '"':
        return scan_string(s);
    case 't':
    case 'f':
    case 'n':
        return scan_word(s);
    default:
        return scan_number(s);
    }
}

static int scan_document(struct scanner *s)
{
    for (;;) {
        bool complete, done = false;
        int rc = scan_value(s, &complete);
        if (!rc && complete) rc = scan_after_value(s, &done);
        if (rc) return rc;
        if (done) break;
    }
    skip_space(s);
    return s->p == s->end ? 0 : unexpected(s, "the end of the text");
}

int json__scan(const char *text, size_t len, size_t max_tokens, struct err *e)
{
    struct scanner s = {.start = text, .p = text, .end = text + len, .tokens_left = max_tokens, .e = e};
    int rc = scan_document(&s);
    mem_free(s.names);
    return rc;
}
