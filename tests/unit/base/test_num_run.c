/* Runs of numbers are read as a plain reading of the grammar and strtod read them, by each way, wherever the
 * text lies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "base/num_run.h"

enum { NUMBERS_MAX = 400, TEXT_MAX = 32768 };

static const char *const names[] = {"portable", "avx2", "avx512"};
enum { WAYS = sizeof names / sizeof *names };

/* TEXT_MAX bytes between two pages that nobody may touch. */
static char *room;

static int set_up(void **state)
{
    (void)state;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *all = mmap(NULL, TEXT_MAX + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    room = all + page;
    return all == MAP_FAILED || mprotect(room, TEXT_MAX, PROT_READ | PROT_WRITE) ? -1 : 0;
}

/* ---- the oracle ---- */

static size_t digits_at(const char *p, const char *end)
{
    const char *from = p;
    while (p < end && *p >= '0' && *p <= '9') p++;
    return (size_t)(p - from);
}

/* Bytes of the number of JSON's grammar at p, as much as fits it. */
static size_t number_at(const char *p, const char *end)
{
    const char *q = p + (p < end && *p == '-');
    size_t n = digits_at(q, end);
    if (n == 0) return 0;
    q += *q == '0' ? 1 : n;
    if (q < end && *q == '.' && digits_at(q + 1, end)) q += 1 + digits_at(q + 1, end);
    if (q < end && (*q == 'e' || *q == 'E')) {
        const char *e = q + 1;
        if (e < end && (*e == '-' || *e == '+')) e++;
        if (digits_at(e, end)) q = e + digits_at(e, end);
    }
    return (size_t)(q - p);
}

static const char *past_blanks(const char *p, const char *end)
{
    while (p < end && *p && strchr(" \t\r\n", *p)) p++;
    return p;
}

static size_t expect_run(struct num_run *r, double *out, size_t most)
{
    size_t n = 0;
    while (n < most && (n == 0 || *r->p == ',')) {
        static char copy[TEXT_MAX + 1];
        const char *p = past_blanks(r->p + (n > 0), r->end);
        size_t len = number_at(p, r->end);
        const char *behind = past_blanks(p + len, r->end);
        if (len == 0 || behind == r->end || (*behind != ',' && *behind != ']')) break;
        memcpy(copy, p, len);
        copy[len] = '\0';
        out[n++] = strtod(copy, NULL);
        r->p = behind;
    }
    return n;
}

/* ---- comparing ---- */

/* Reads text[at …] by each way, with the text against the upper end of the room and then against its lower
 * one. */
static void check(const char *text, size_t len, size_t at, size_t most)
{
    static double want[NUMBERS_MAX], got[NUMBERS_MAX + 1];
    static const double canary = 12345.678;
    assert_true(len <= TEXT_MAX && most <= NUMBERS_MAX);
    for (int side = 0; side < 2; side++) {
        char *start = side ? room : room + TEXT_MAX - len;
        memcpy(start, text, len);
        struct num_run expected = {start, start + at, start + len};
        size_t n = expect_run(&expected, want, most);
        for (int i = 0; i < WAYS; i++) {
            num_run_way *way = num_run_find(names[i]);
            struct num_run r = {start, start + at, start + len};
            if (!way) continue;
            got[most] = canary;
            size_t taken = way(&r, got, most);
            if (taken != n || r.p != expected.p)
                fail_msg("%s: %zu numbers and %td bytes, not %zu and %td, of '%.*s'", names[i], taken,
                         r.p - start - (ptrdiff_t)at, n, expected.p - start - (ptrdiff_t)at, (int)(len - at),
                         text + at);
            for (size_t k = 0; k < n; k++)
                if (memcmp(&got[k], &want[k], sizeof *got) != 0)
                    fail_msg("%s: [%zu] is %.17g, not %.17g, in '%.*s'", names[i], k, got[k], want[k],
                             (int)(len - at), text + at);
            assert_memory_equal(&got[most], &canary, sizeof canary);
        }
    }
}

/* ---- random texts ---- */

static size_t below(size_t n)
{
    return (size_t)random() % n;
}

static char *put_digits(char *p, size_t n)
{
    while (n--) *p++ = (char)('0' + below(below(3) ? 10 : 1));
    return p;
}

static char *put_whole(char *p, size_t n)
{
    if (n < 2 || below(3) == 0) return put_digits(p, 1);
    *p++ = (char)('1' + below(9));
    return put_digits(p, n - 1);
}

/* As most are: up to 7 digits, up to 8 behind a point. */
static char *put_short(char *p)
{
    if (below(3) == 0) *p++ = '-';
    p = put_whole(p, 1 + below(7));
    if (below(4) == 0) return p;
    *p++ = '.';
    return put_digits(p, 1 + below(8));
}

/* A number of whatever form: short, long, with an exponent, as other programs write a double or a float. */
static char *put_number(char *p)
{
    uint64_t bits = (uint64_t)random() << 42 ^ (uint64_t)random() << 21 ^ (uint64_t)random();
    double v = (double)(int64_t)bits / (double)(1ull << (20 + below(44)));
    switch (below(6)) {
    case 0:
        return p + sprintf(p, "%.17g", v);
    case 1:
        return p + sprintf(p, "%.9g", (double)(float)v);
    case 2:
        return p + sprintf(p, "%.*e", (int)below(12), v);
    case 3:
        p = put_whole(p, 1 + below(24));
        *p++ = '.';
        return put_digits(p, 1 + below(24));
    default:
        return put_short(p);
    }
}

static char *put_blanks(char *p, int style)
{
    static const char kinds[] = " \n\t\r";
    size_t n = style == 0 ? 0 : style == 1 ? 1 : below(style == 2 ? 4 : 90);
    for (; n; n--) *p++ = style == 1 ? ' ' : kinds[below(4)];
    return p;
}

static const char *const no_numbers[] = {"01",   "1.",    ".5",   "-",        "--1",  "1e",   "+1",  "0x1",
                                         "1..2", "1.2.3", "-.5",  "1-2",      "00",   "-01",  "1e+", "1.e5",
                                         "NaN",  "-0.",   "null", "\"7\"",    "[1]",  "{}",   "1 2", "1. 5",
                                         "- 1",  "",      "true", "Infinity", "1,,2", "\xB1", "1/2", "1:2"};

/* An array's text behind `before` bytes of something: where its first number begins in *at; its length. */
static size_t random_array(char *text, size_t *at, int bad_in)
{
    static const char junk[] = "0123456789.,-][ ";
    char *p = text;
    int style = (int)below(4);
    char *(*put)(char *) = below(2) ? put_short : put_number;
    for (size_t before = below(45); before; before--) *p++ = junk[below(sizeof junk - 1)];
    *at = (size_t)(p - text);
    for (size_t n = below(below(2) ? 12 : 120); n; n--) {
        if (style == 2) p = put_blanks(p, style);
        if (below((size_t)bad_in) == 0) {
            const char *bad = no_numbers[below(sizeof no_numbers / sizeof *no_numbers)];
            p += sprintf(p, "%s", bad);
        } else
            p = put(p);
        if (style == 2) p = put_blanks(p, style);
        *p++ = ',';
        if (style != 2) p = put_blanks(p, style);
        if (p - text > TEXT_MAX - 300) break;
    }
    p = put(p);
    if (below(8)) *p++ = ']';
    for (size_t behind = below(below(2) ? 12 : 90); behind; behind--) *p++ = junk[below(sizeof junk - 1)];
    return (size_t)(p - text);
}

/* ---- tests ---- */

static void numbers_of_any_form_are_read_as_strtod_reads_them(void **state)
{
    (void)state;
    static char text[TEXT_MAX];
    srandom(11);
    for (int i = 0; i < 6000; i++) {
        size_t at, len = random_array(text, &at, 1000000);
        check(text, len, at, below(4) ? NUMBERS_MAX : below(40));
    }
}

static void a_run_ends_before_what_is_no_number(void **state)
{
    (void)state;
    static char text[TEXT_MAX];
    srandom(12);
    for (int i = 0; i < 6000; i++) {
        size_t at, len = random_array(text, &at, 25);
        check(text, len, at, below(4) ? NUMBERS_MAX : below(40));
    }
}

/* Every text of up to five of these characters, between numbers. */
static void each_short_text_is_judged_by_the_grammar(void **state)
{
    (void)state;
    static const char alphabet[] = "017.-, ]e+";
    enum { LETTERS = sizeof alphabet - 1 };
    static const char before[] = "{\"inputs\":[{\"name\":\"x\",\"data\":[[", between[] = "2.5,";
    char text[256];
    size_t texts = 1;
    for (int len = 0; len <= 5; len++, texts *= LETTERS)
        for (size_t i = 0; i < texts; i++) {
            char *p = text + sprintf(text, "%s%s", before, i % 2 ? between : "");
            size_t left = i;
            for (int k = 0; k < len; k++, left /= LETTERS) *p++ = alphabet[left % LETTERS];
            p += sprintf(
                p, ",0.125,-3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28],[1]]");
            check(text, (size_t)(p - text), sizeof before - 1, NUMBERS_MAX);
        }
}

/* Text and blocks of 64 bytes shifted against each other, and every place for the text to end. */
static void check_everywhere(const char *numbers)
{
    char text[512];
    for (size_t before = 0; before < 70; before++) {
        memset(text, '9', before);
        memcpy(text + before, numbers, strlen(numbers));
        for (size_t len = 0; len <= strlen(numbers); len++) check(text, before + len, before, NUMBERS_MAX);
    }
}

static void a_text_may_begin_and_end_anywhere(void **state)
{
    (void)state;
    check_everywhere("0.0,0.1234,-1.0,12345678.5,1234567.12345678,-0.00000001,255,1e5,0.12345678901234567,"
                     "9007199254740993,123456789012345678901,-0,0.5 , 0.25\n,\t7,8,9,10,11,12,13,14,15,16]");
    check_everywhere(
        "0.0,0.1234,-1.0,1234567.12345678,-0.00000001,255,-0,0.5,0.25,7,8,9,10,11,12,13,14,15,16,17,18,"
        "19,20,21,22,23,24,25,26,27,28,-29,30,31,32,33,34,35,36,37,38,39,40,41.5,42.5,43.5,44.5,45.5]");
}

static void no_more_are_taken_than_asked_for(void **state)
{
    (void)state;
    char text[2048], *p = text + sprintf(text, "{\"instances\":[[1,2,3,4,5,6,7],[[[[");
    size_t at = (size_t)(p - text);
    for (int i = 0; i < 200; i++) p += sprintf(p, i % 3 ? "%d.5," : i % 7 ? "%d , " : "-%d.25,", i);
    p[-1] = ']';
    p += sprintf(p, "%s",
                 "                                                                                       ");
    for (size_t most = 0; most < 250; most++) check(text, (size_t)(p - text), at, most);
}

static void a_way_that_this_cpu_lacks_or_nobody_knows_is_not_found(void **state)
{
    (void)state;
    assert_non_null(num_run_find("portable"));
    assert_null(num_run_find("sse9"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_of_any_form_are_read_as_strtod_reads_them),
        cmocka_unit_test(a_run_ends_before_what_is_no_number),
        cmocka_unit_test(each_short_text_is_judged_by_the_grammar),
        cmocka_unit_test(a_text_may_begin_and_end_anywhere),
        cmocka_unit_test(no_more_are_taken_than_asked_for),
        cmocka_unit_test(a_way_that_this_cpu_lacks_or_nobody_knows_is_not_found),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
