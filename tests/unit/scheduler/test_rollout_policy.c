/* When a version on trial is taken back: counts in, decision out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "scheduler/rollout_policy.h"

static const struct alias_limits limits = {
    .window_s = 60, .min_requests = 100, .error_ppm = 50000, .latency_us = 50000, .disagreement_ppm = 20000};

static const bool canary_on_trial[ROLLOUT_ARMS] = {[ROLLOUT_CANARY] = true};
static const bool shadow_on_trial[ROLLOUT_ARMS] = {[ROLLOUT_SHADOW] = true};
static const bool move_on_trial[ROLLOUT_ARMS] = {[ROLLOUT_PRIMARY] = true};

static struct rollout_sums arm(enum rollout_arm which, int64_t requests, int64_t errors, int64_t slow)
{
    struct rollout_sums s = {0};
    s.arm[which].requests = requests;
    s.arm[which].errors = errors;
    s.arm[which].slow = slow;
    return s;
}

static enum rollout_reason judge(const bool on_trial[ROLLOUT_ARMS], struct rollout_sums s)
{
    return rollout_judge(&limits, on_trial, &s).reason;
}

static void a_canary_that_fails_more_than_allowed_is_taken_back(void **state)
{
    (void)state;
    assert_int_equal(judge(canary_on_trial, arm(ROLLOUT_CANARY, 100, 5, 0)), ROLLOUT_FINE);
    assert_int_equal(judge(canary_on_trial, arm(ROLLOUT_CANARY, 100, 6, 0)), ROLLOUT_ERROR_RATE);
    struct rollout_sums s = arm(ROLLOUT_CANARY, 200, 20, 0);
    struct rollout_verdict v = rollout_judge(&limits, canary_on_trial, &s);
    assert_int_equal(v.arm, ROLLOUT_CANARY);
    assert_true(v.value == 0.1);
    assert_true(v.limit == 0.05);
}

static void a_canary_whose_99th_percentile_is_late_is_taken_back(void **state)
{
    (void)state;
    assert_int_equal(judge(canary_on_trial, arm(ROLLOUT_CANARY, 1000, 0, 10)), ROLLOUT_FINE);
    assert_int_equal(judge(canary_on_trial, arm(ROLLOUT_CANARY, 1000, 0, 11)), ROLLOUT_LATENCY);
}

static void few_calls_say_nothing(void **state)
{
    (void)state;
    assert_int_equal(judge(canary_on_trial, arm(ROLLOUT_CANARY, 99, 99, 99)), ROLLOUT_FINE);
    struct rollout_sums s = {.compared = 99, .disagreements = 99};
    assert_int_equal(judge(shadow_on_trial, s), ROLLOUT_FINE);
}

static void what_befalls_the_primary_as_well_is_not_the_canarys_fault(void **state)
{
    (void)state;
    struct rollout_sums s = arm(ROLLOUT_CANARY, 200, 60, 60);
    s.arm[ROLLOUT_PRIMARY].requests = 1000;
    s.arm[ROLLOUT_PRIMARY].errors = s.arm[ROLLOUT_PRIMARY].slow = 200;
    assert_int_equal(judge(canary_on_trial, s), ROLLOUT_FINE);
    s.arm[ROLLOUT_PRIMARY].errors = 150; /* 15 %: the canary's 30 % is twice that */
    assert_int_equal(judge(canary_on_trial, s), ROLLOUT_ERROR_RATE);
    s.arm[ROLLOUT_PRIMARY].errors = 9;
    s.arm[ROLLOUT_PRIMARY].requests = 9; /* too few calls to excuse anything */
    assert_int_equal(judge(canary_on_trial, s), ROLLOUT_ERROR_RATE);
}

static void a_shadow_that_disagrees_is_ended_and_so_is_one_that_fails(void **state)
{
    (void)state;
    struct rollout_sums s = {.compared = 1000, .disagreements = 20};
    assert_int_equal(judge(shadow_on_trial, s), ROLLOUT_FINE);
    s.disagreements = 21;
    assert_int_equal(judge(shadow_on_trial, s), ROLLOUT_DISAGREEMENT);
    assert_int_equal(judge(canary_on_trial, s), ROLLOUT_FINE); /* it was not the canary that was compared */
    assert_int_equal(judge(shadow_on_trial, arm(ROLLOUT_SHADOW, 100, 50, 0)), ROLLOUT_ERROR_RATE);
}

static void a_move_is_judged_by_its_own_calls(void **state)
{
    (void)state;
    assert_int_equal(judge(move_on_trial, arm(ROLLOUT_PRIMARY, 100, 5, 0)), ROLLOUT_FINE);
    struct rollout_sums s = arm(ROLLOUT_PRIMARY, 100, 50, 0);
    struct rollout_verdict v = rollout_judge(&limits, move_on_trial, &s);
    assert_int_equal(v.reason, ROLLOUT_ERROR_RATE);
    assert_int_equal(v.arm, ROLLOUT_PRIMARY);
    assert_int_equal(judge(canary_on_trial, s), ROLLOUT_FINE); /* nowhere to go back to */
}

static void a_limit_that_is_not_set_is_never_broken(void **state)
{
    (void)state;
    static const bool all[ROLLOUT_ARMS] = {true, true, true};
    struct alias_limits none = {
        .window_s = 1, .min_requests = 1, .error_ppm = -1, .latency_us = -1, .disagreement_ppm = -1};
    struct rollout_sums worst = {.compared = 100, .disagreements = 100};
    for (int i = 0; i < ROLLOUT_ARMS; i++)
        worst.arm[i].requests = worst.arm[i].errors = worst.arm[i].slow = 100;
    assert_int_equal(rollout_judge(&none, all, &worst).reason, ROLLOUT_FINE);
    none.error_ppm = 0; /* not one may fail */
    assert_int_equal(rollout_judge(&none, all, &worst).reason, ROLLOUT_ERROR_RATE);
}

static void growth_is_what_a_count_has_more_than_before(void **state)
{
    (void)state;
    struct rollout_sums before = arm(ROLLOUT_CANARY, 10, 3, 1), now = arm(ROLLOUT_CANARY, 15, 2, 1), to = {0};
    rollout_sums_grow(&to, &before, &now);
    assert_int_equal(to.arm[ROLLOUT_CANARY].requests, 5);
    assert_int_equal(to.arm[ROLLOUT_CANARY].errors, 0); /* lost, not negative */
    assert_int_equal(to.arm[ROLLOUT_CANARY].slow, 0);
}

/* Against the plain list of what was added when. */
static void the_window_holds_what_came_within_it_and_at_most_one_step_more(void **state)
{
    (void)state;
    enum { ADDS = 2000 };
    static int64_t when[ADDS], count[ADDS];
    for (int64_t window_ms = 1000; window_ms <= 3600000; window_ms *= 60) {
        struct rollout_window w;
        int64_t now = 123456789;
        rollout_window_init(&w, window_ms);
        srandom(7);
        for (int i = 0; i < ADDS; i++) {
            now += random() % (window_ms / 20 + 1) * (i % 97 ? 1 : 50);
            when[i] = now;
            count[i] = random() % 10;
            struct rollout_sums more = arm(ROLLOUT_SHADOW, count[i], 0, 0);
            rollout_window_add(&w, now, &more);
            int64_t least = 0, most = 0, got = rollout_window_sum(&w, now).arm[ROLLOUT_SHADOW].requests;
            for (int k = 0; k <= i; k++) {
                if (now - when[k] < window_ms) least += count[k];
                if (now - when[k] < window_ms + 2 * w.step_ms) most += count[k];
            }
            assert_in_range(got, least, most);
        }
        assert_int_equal(rollout_window_sum(&w, now + 2 * window_ms).arm[ROLLOUT_SHADOW].requests, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_canary_that_fails_more_than_allowed_is_taken_back),
        cmocka_unit_test(a_canary_whose_99th_percentile_is_late_is_taken_back),
        cmocka_unit_test(few_calls_say_nothing),
        cmocka_unit_test(what_befalls_the_primary_as_well_is_not_the_canarys_fault),
        cmocka_unit_test(a_shadow_that_disagrees_is_ended_and_so_is_one_that_fails),
        cmocka_unit_test(a_move_is_judged_by_its_own_calls),
        cmocka_unit_test(a_limit_that_is_not_set_is_never_broken),
        cmocka_unit_test(growth_is_what_a_count_has_more_than_before),
        cmocka_unit_test(the_window_holds_what_came_within_it_and_at_most_one_step_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
