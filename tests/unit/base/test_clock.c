/* Monotonic time does not go back, and wall time is written in the two forms of the wire. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>
#include "base/clock.h"

static void monotonic_time_never_goes_back_and_its_units_agree(void **state)
{
    (void)state;
    int64_t before = clock_mono_ns();
    for (int i = 0; i < 10000; i++) {
        int64_t now = clock_mono_ns();
        assert_true(now >= before);
        before = now;
    }
    int64_t ms = clock_mono_ms(), us = clock_mono_us(), ns = clock_mono_ns();
    assert_true(us / 1000 >= ms && us / 1000 - ms < 1000);
    assert_true(ns / 1000 >= us && ns / 1000 - us < 1000000);
}

static void wall_time_is_the_systems(void **state)
{
    (void)state;
    int64_t seconds = (int64_t)time(NULL), us = clock_wall_us();
    assert_true(us / 1000000 - seconds <= 1 && seconds - us / 1000000 <= 1);
}

static void writes_both_forms(void **state)
{
    (void)state;
    static const struct {
        int64_t us;
        const char *rfc3339, *http;
    } cases[] = {
        {0, "1970-01-01T00:00:00.000Z", "Thu, 01 Jan 1970 00:00:00 GMT"},
        {784111777000000, "1994-11-06T08:49:37.000Z", "Sun, 06 Nov 1994 08:49:37 GMT"}, /* RFC 9110, 5.6.7 */
        {1769850902123999, "2026-01-31T09:15:02.123Z", "Sat, 31 Jan 2026 09:15:02 GMT"},
        {1709164800000000, "2024-02-29T00:00:00.000Z", "Thu, 29 Feb 2024 00:00:00 GMT"},
        {-1, "1969-12-31T23:59:59.999Z", "Wed, 31 Dec 1969 23:59:59 GMT"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[CLOCK_TEXT_MAX];
        clock_rfc3339(text, cases[i].us);
        assert_string_equal(text, cases[i].rfc3339);
        clock_http_date(text, cases[i].us);
        assert_string_equal(text, cases[i].http);
    }
}

static void extreme_times_stay_within_their_text(void **state)
{
    (void)state;
    char text[CLOCK_TEXT_MAX];
    static const int64_t extremes[] = {INT64_MIN, INT64_MAX, INT64_MIN + 1, -62135596800000000};
    for (size_t i = 0; i < 4; i++) {
        clock_rfc3339(text, extremes[i]);
        assert_int_equal(strlen(text), 24);
        clock_http_date(text, extremes[i]);
        assert_int_equal(strlen(text), 29);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(monotonic_time_never_goes_back_and_its_units_agree),
        cmocka_unit_test(wall_time_is_the_systems),
        cmocka_unit_test(writes_both_forms),
        cmocka_unit_test(extreme_times_stay_within_their_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
