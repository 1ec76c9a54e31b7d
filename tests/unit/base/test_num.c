/* Numbers read as strtod reads them, and are written as the shortest text that reads back. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/clock.h"
#include "base/num.h"

static uint64_t random_state = 88172645463325252u;

/* xorshift64*: the same patterns in each run. */
static uint64_t random_bits(void)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 2685821657736338717u;
}

static bool same_bits(double a, double b)
{
    return memcmp(&a, &b, sizeof a) == 0;
}

static void assert_reads(const char *text, double want)
{
    double got = -1;
    size_t n = num_scan(text, text + strlen(text), &got);
    if (n != strlen(text) || !same_bits(got, want))
        fail_msg("%s: read %zu bytes as %.17g, not %.17g", text, n, got, want);
}

static void assert_reads_like_strtod(const char *text)
{
    assert_reads(text, strtod(text, NULL));
}

static void reads_the_grammar_of_json_and_stops_behind_it(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t len;
    } cases[] = {{"0", 1},    {"-0", 2},   {"12,3", 2},  {"1.5]", 3},  {"1.", 1},  {"1.x", 1},
                 {"1e5 ", 3}, {"1E+5", 4}, {"1e-5}", 4}, {"1e", 1},    {"1e+", 1}, {"01", 1},
                 {"0.25", 4}, {"-", 0},    {"+1", 0},    {".5", 0},    {"", 0},    {"nan", 0},
                 {"inf", 0},  {"-inf", 0}, {"0x10", 1},  {"1e5.5", 3}, {"--1", 0}, {"-1-1", 2},
                 {"0e7", 3},  {"00.5", 1}, {" 1", 0},    {"1_000", 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double v;
        size_t n = num_scan(cases[i].text, cases[i].text + strlen(cases[i].text), &v);
        if (n != cases[i].len) fail_msg("'%s': read %zu bytes, not %zu", cases[i].text, n, cases[i].len);
    }
}

static void never_looks_past_its_end(void **state)
{
    (void)state;
    static const char text[] = "-123.456e+78";
    for (size_t len = 0; len < sizeof text; len++) {
        char *exact = malloc(len ? len : 1); /* the address sanitizer watches the byte behind it */
        memcpy(exact, text, len);
        double v;
        assert_true(num_scan(exact, exact + len, &v) <= len);
        free(exact);
    }
}

static void reads_hard_cases_correctly_rounded(void **state)
{
    (void)state;
    static const char *const hard[] = {
        "9007199254740993",
        "9007199254740992",
        "9007199254740991.5",
        "2.2250738585072011e-308",
        "2.2250738585072014e-308",
        "4.9406564584124654e-324",
        "2.4703282292062327e-324",
        "2.4703282292062328e-324",
        "1.7976931348623157e308",
        "1.7976931348623158e308",
        "8.98846567431158e307",
        "6.9294956446009195e15",
        "1e23",
        "8.5e22",
        "9.5367431640625e-7",
        "0.1",
        "123456789012345678",
        "1234567890123456789",
        "12345678901234567890",
        "0.1234567890123456789",
        "1.00000000000000011102230246251565404236316680908203125",
        "1.00000000000000011102230246251565404236316680908203124",
        "1.00000000000000011102230246251565404236316680908203126",
        "1.00000000000000033306690738754696212708950042724609375",
        "1e-400",
        "0e999999999999999999999",
        "-0",
        "-0.0e5",
        "0.000000000000000000000000000000000000000000000000000000000000000000000000000000001e81"};
    for (size_t i = 0; i < sizeof hard / sizeof *hard; i++) assert_reads_like_strtod(hard[i]);
    assert_reads("1e309", HUGE_VAL);
    assert_reads("-1e309", -HUGE_VAL);
    assert_reads("1e99999999999999999999999999", HUGE_VAL);
    assert_reads("1e-99999999999999999999999999", 0.0);
    assert_reads("0e99999999999999999999999999", 0.0);
}

static void reads_numbers_of_any_length(void **state)
{
    (void)state;
    enum { ZEROS = 100000 };
    char *text = malloc(ZEROS + 64);
    memset(text, '0', ZEROS + 64);
    memcpy(text, "0.", 2);
    strcpy(text + ZEROS, "25e100000"); /* 25 · 10^(100000 - 100000) */
    assert_reads(text, 25.0);
    memset(text, '0', ZEROS);
    text[0] = '1';
    strcpy(text + ZEROS, "e-99999");
    assert_reads(text, 1.0);
    /* Half-way between 1 and its successor, and a digit 900 places on that decides. */
    strcpy(text, "1.00000000000000011102230246251565404236316680908203125");
    size_t n = strlen(text);
    memset(text + n, '0', 900);
    strcpy(text + n + 900, "1");
    assert_reads(text, 1.0 + DBL_EPSILON);
    text[n + 900] = '0';
    assert_reads(text, 1.0);
    free(text);
}

static void reads_random_decimals_as_strtod_does(void **state)
{
    (void)state;
    for (int i = 0; i < 60000; i++) {
        char text[64];
        uint64_t digits = random_bits() >> (random_bits() % 64);
        int exponent = (int)(random_bits() % (i % 2 ? 60 : 700)) - (i % 2 ? 30 : 350);
        if (i % 3 == 0)
            snprintf(text, sizeof text, "%llue%d", (unsigned long long)digits, exponent);
        else
            snprintf(text, sizeof text, "%llu.%llu", (unsigned long long)(digits % 10000),
                     (unsigned long long)(random_bits() >> (random_bits() % 64)));
        assert_reads_like_strtod(text);
    }
}

static void reads_points_half_way_between_doubles_to_even(void **state)
{
    (void)state;
    for (int i = 0; i < 20000; i++) { /* 2^53·m + odd·2^k: exactly half-way, within 19 digits */
        uint64_t head = 1ull << 53 | (random_bits() & ((1ull << 53) - 1));
        char text[64];
        snprintf(text, sizeof text, "%llu", (unsigned long long)(head << 1 | 1));
        assert_reads_like_strtod(text);
        snprintf(text, sizeof text, "%llu.5", (unsigned long long)head >> 1);
        assert_reads_like_strtod(text);
    }
}

/* The fewest digits that read back, found the slow way. */
static int fewest_digits_f64(double v)
{
    char text[64];
    for (int n = 1; n < 17; n++) {
        snprintf(text, sizeof text, "%.*e", n - 1, v);
        if (strtod(text, NULL) == v) return n;
    }
    return 17;
}

static int fewest_digits_f32(float v)
{
    char text[64];
    for (int n = 1; n < 9; n++) {
        snprintf(text, sizeof text, "%.*e", n - 1, (double)v);
        if (strtof(text, NULL) == v) return n;
    }
    return 9;
}

/* Of the shortest texts, ours must be the one nearest to v, which is what printf gives for that many digits.
 */
static void assert_nearest(const char *text, double v)
{
    char want[64], digits[64];
    int n = 0;
    for (const char *p = text; *p && *p != 'e'; p++)
        if (*p >= '0' && *p <= '9' && (n > 0 || *p != '0')) digits[n++] = *p;
    while (n > 0 && digits[n - 1] == '0') n--;
    digits[n] = '\0';
    snprintf(want, sizeof want, "%.*e", n - 1, fabs(v));
    if (n > 1) memmove(want + 1, want + 2, strlen(want + 2) + 1); /* drops the point */
    if (strncmp(digits, want, (size_t)n) != 0)
        fail_msg("%.17g is written as %s, nearer is %s", v, text, want);
}

/* Significant digits of what was written: no leading and no trailing zeros. */
static int digits_of(const char *text)
{
    int n = 0, trailing = 0;
    for (const char *p = text; *p && *p != 'e'; p++) {
        if (*p < '0' || *p > '9' || (n == 0 && *p == '0')) continue;
        n++;
        trailing = *p == '0' ? trailing + 1 : 0;
    }
    return n - trailing;
}

static void check_f64(double v)
{
    char text[NUM_TEXT_MAX + 1];
    size_t n = num_format_f64(text, v);
    assert_in_range(n, 1, NUM_TEXT_MAX);
    text[n] = '\0';
    double back;
    if (num_scan(text, text + n, &back) != n)
        fail_msg("%.17g is written as '%s', which is no JSON number", v, text);
    if (!same_bits(v, strtod(text, NULL)) || !same_bits(v, back)) fail_msg("%.17g is written as %s", v, text);
    if (v == 0) return;
    int digits = digits_of(text), fewest = fewest_digits_f64(v);
    if (digits > fewest) fail_msg("%.17g is written too long: %s", v, text);
    if (digits == fewest)
        assert_nearest(text, v); /* below: at a power of two the nearest text may not read back */
}

static void check_f32(float v)
{
    char text[NUM_TEXT_MAX + 1];
    size_t n = num_format_f32(text, v);
    assert_in_range(n, 1, NUM_TEXT_MAX);
    text[n] = '\0';
    float back = strtof(text, NULL);
    double wide;
    if (num_scan(text, text + n, &wide) != n)
        fail_msg("%.9g is written as '%s', which is no JSON number", (double)v, text);
    if (memcmp(&back, &v, sizeof v) != 0) fail_msg("%.9g is written as %s", (double)v, text);
    if ((float)wide != v) fail_msg("%s read as a double and rounded is not %.9g", text, (double)v);
    if (v == 0) return;
    int digits = digits_of(text), fewest = fewest_digits_f32(v);
    if (digits > fewest) fail_msg("%.9g is written too long: %s", (double)v, text);
    if (digits == fewest) assert_nearest(text, (double)v);
}

static void writes_random_doubles_shortest_and_exact(void **state)
{
    (void)state;
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = random_bits();
        double v;
        memcpy(&v, &bits, sizeof v);
        if (isfinite(v)) check_f64(v);
        check_f64((double)(int64_t)bits / 1000.0);
        check_f64((double)(bits >> 40) / 256.0);
    }
}

static void writes_random_floats_shortest_and_exact(void **state)
{
    (void)state;
    for (int i = 0; i < 40000; i++) {
        uint32_t bits = (uint32_t)(random_bits() >> 32);
        float v;
        memcpy(&v, &bits, sizeof v);
        if (isfinite(v)) check_f32(v);
        check_f32((float)(bits >> 8) / 16777216.0f);
    }
}

static void writes_every_power_of_two_and_its_neighbours(void **state)
{
    (void)state;
    for (int q = -1074; q <= 1023; q++) {
        double v = ldexp(1.0, q);
        check_f64(v);
        check_f64(nextafter(v, 0));
        if (q < 1023) check_f64(-nextafter(v, HUGE_VAL));
    }
    for (int q = -149; q <= 127; q++) {
        float v = ldexpf(1.0f, q);
        check_f32(v);
        check_f32(nextafterf(v, 0));
        if (q < 127) check_f32(-nextafterf(v, HUGE_VALF));
    }
    check_f64(DBL_MAX);
    check_f64(-DBL_MIN);
    check_f32(FLT_MAX);
    check_f32(-FLT_MIN);
}

static void writes_every_power_of_ten(void **state)
{
    (void)state;
    for (int k = -323; k <= 308; k++) {
        char text[16];
        snprintf(text, sizeof text, "1e%d", k);
        check_f64(strtod(text, NULL));
    }
}

static void writes_numbers_as_people_do(void **state)
{
    (void)state;
    static const struct {
        double v;
        const char *text;
    } cases[] = {{0, "0"},
                 {-0.0, "-0"},
                 {1, "1"},
                 {-17, "-17"},
                 {0.5, "0.5"},
                 {0.1, "0.1"},
                 {12.34, "12.34"},
                 {1e15, "1000000000000000"},
                 {1e22, "1e22"},
                 {1.5e300, "1.5e300"},
                 {1e-7, "1e-7"},
                 {0.000123, "0.000123"},
                 {5e-324, "5e-324"},
                 {1.0 / 3, "0.3333333333333333"},
                 {-2.5e-9, "-2.5e-9"},
                 {1e17, "1e17"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[NUM_TEXT_MAX + 1];
        text[num_format_f64(text, cases[i].v)] = '\0';
        assert_string_equal(text, cases[i].text);
    }
    char text[NUM_TEXT_MAX + 1];
    text[num_format_f32(text, 0.1f)] = '\0';
    assert_string_equal(text, "0.1");
    text[num_format_f32(text, 16777216.0f)] = '\0';
    assert_string_equal(text, "16777216");
}

static void parses_whole_integers_within_bounds(void **state)
{
    (void)state;
    int64_t v = 7;
    assert_true(num_parse_i64("-9223372036854775808", INT64_MIN, INT64_MAX, &v) && v == INT64_MIN);
    assert_true(num_parse_i64("9223372036854775807", INT64_MIN, INT64_MAX, &v) && v == INT64_MAX);
    assert_true(num_parse_i64("0012", 0, 12, &v) && v == 12);
    static const char *const bad[] = {"",
                                      "-",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "1.0",
                                      "1e3",
                                      "0x1",
                                      "9223372036854775808",
                                      "-9223372036854775809",
                                      "13",
                                      "-1",
                                      "99999999999999999999999999"};
    v = 7;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int64_t max = i < 10 ? INT64_MAX : 12;
        if (num_parse_i64(bad[i], i < 10 ? INT64_MIN : 0, max, &v)) fail_msg("'%s' was accepted", bad[i]);
    }
    assert_int_equal(v, 7);
    assert_false(num_parse_i64(NULL, 0, 1, &v));
}

static void writes_whole_numbers(void **state)
{
    (void)state;
    const int64_t values[] = {0, 7, -1, 10, 1234567890123, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        char text[NUM_TEXT_MAX + 1], expected[NUM_TEXT_MAX + 1];
        text[num_format_i64(text, values[i])] = '\0';
        snprintf(expected, sizeof expected, "%lld", (long long)values[i]);
        assert_string_equal(text, expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_the_grammar_of_json_and_stops_behind_it),
        cmocka_unit_test(never_looks_past_its_end),
        cmocka_unit_test(reads_hard_cases_correctly_rounded),
        cmocka_unit_test(reads_numbers_of_any_length),
        cmocka_unit_test(reads_random_decimals_as_strtod_does),
        cmocka_unit_test(reads_points_half_way_between_doubles_to_even),
        cmocka_unit_test(writes_random_doubles_shortest_and_exact),
        cmocka_unit_test(writes_random_floats_shortest_and_exact),
        cmocka_unit_test(writes_every_power_of_two_and_its_neighbours),
        cmocka_unit_test(writes_every_power_of_ten),
        cmocka_unit_test(writes_numbers_as_people_do),
        cmocka_unit_test(parses_whole_integers_within_bounds),
        cmocka_unit_test(writes_whole_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
