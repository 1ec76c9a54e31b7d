/* The bound of what waits: bursts pass, a standing queue is cut to what is answered in time, light use is
 * never bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>
#include "gateway/predict/crowd.h"

/* A server of so many requests a millisecond, first come first served, fed in steps of a millisecond. */
struct world {
    struct crowd crowd;
    int64_t now_ms;
    double per_ms, done; /* of the next requests' work */
    int64_t in_ms[100000];
    int first, last, refused, served;
    int64_t most_ms; /* the longest that one which was answered took */
};

static void offer(struct world *w, int n)
{
    for (int i = 0; i < n; i++) {
        if (crowd_has_room(&w->crowd, w->last - w->first, 1))
            w->in_ms[w->last++ % 100000] = w->now_ms;
        else
            w->refused++;
    }
}

static void serve(struct world *w)
{
    for (w->done += w->per_ms; w->done >= 1 && w->first < w->last; w->done--, w->served++) {
        int64_t took = w->now_ms - w->in_ms[w->first++ % 100000];
        if (took > w->most_ms) w->most_ms = took;
        crowd_answered(&w->crowd, w->now_ms, took * 1000 + 500);
    }
    if (w->done > 1) w->done = 1;
}

static void run(struct world *w, int ms, double offered_per_ms)
{
    double due = 0;
    for (int i = 0; i < ms; i++, w->now_ms++) {
        due += offered_per_ms;
        offer(w, (int)due);
        due -= (int)due;
        serve(w);
    }
}

static struct world *world_of(double per_ms)
{
    static struct world w;
    memset(&w, 0, sizeof w);
    w.per_ms = per_ms;
    w.now_ms = 1000;
    return &w;
}

static void light_use_is_never_refused(void **state)
{
    (void)state;
    struct world *w = world_of(10);
    run(w, 5000, 9);
    assert_int_equal(w->refused, 0);
    assert_int_equal(w->crowd.limit, 0);
}

static void a_burst_passes_whole(void **state)
{
    (void)state;
    struct world *w = world_of(10);
    run(w, 500, 0.1);
    offer(w, 800);
    run(w, 500, 0.1);
    assert_int_equal(w->refused, 0);
}

static void three_times_too_much_is_served_at_full_pace_and_in_bounded_time(void **state)
{
    (void)state;
    struct world *w = world_of(10);
    run(w, 2000, 30);
    w->served = w->refused = 0;
    w->most_ms = 0;
    run(w, 5000, 30);
    assert_in_range(w->served, 49000, 50000);
    assert_in_range(w->refused, 95000, 105000);
    assert_in_range(w->most_ms, CROWD_TARGET_MS / 2, 2 * CROWD_LATE_MS);
}

static void the_bound_goes_when_the_load_does(void **state)
{
    (void)state;
    struct world *w = world_of(10);
    run(w, 2000, 30);
    assert_true(w->crowd.limit > 0);
    run(w, 1000, 5);
    w->refused = 0;
    run(w, 1000, 5);
    assert_int_equal(w->crowd.limit, 0);
    assert_int_equal(w->refused, 0);
}

static void a_slow_model_may_always_fill_a_batch(void **state)
{
    (void)state;
    struct world *w = world_of(0.05); /* 20 a second: each waits for seconds */
    run(w, 20000, 1);
    assert_true(w->refused > 0);
    assert_in_range(w->last - w->first, CROWD_FLOOR - 1, CROWD_FLOOR);
}

static void deadlines_that_pass_without_any_answer_bound_it_too(void **state)
{
    (void)state;
    struct crowd c = {0};
    for (int64_t t = 1000; t < 1200; t++) crowd_late(&c, t);
    assert_true(crowd_is_bound(&c));
    assert_false(crowd_has_room(&c, CROWD_FLOOR, 1));
    assert_true(crowd_has_room(&c, CROWD_FLOOR - 1, 1));
}

static void many_who_are_crowded_share_what_may_always_wait(void **state)
{
    (void)state;
    struct crowd c = {0};
    for (int64_t t = 1000; t < 1200; t++) crowd_late(&c, t);
    assert_true(crowd_has_room(&c, CROWD_FLOOR / 2 - 1, 2));
    assert_false(crowd_has_room(&c, CROWD_FLOOR / 2, 2));
    assert_true(crowd_has_room(&c, CROWD_FLOOR_MIN - 1, 1000));
    assert_false(crowd_has_room(&c, CROWD_FLOOR_MIN, 1000));
}

static void the_wait_that_it_tells_is_the_queue_by_the_pace(void **state)
{
    (void)state;
    struct crowd unknown = {0};
    struct world *w = world_of(10);
    run(w, 3000, 30);
    assert_in_range(crowd_wait_ms(&w->crowd, 1000), 90, 110);
    assert_int_equal(crowd_wait_ms(&w->crowd, 0), 1);
    assert_int_equal(crowd_wait_ms(&unknown, 10), 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(light_use_is_never_refused),
        cmocka_unit_test(a_burst_passes_whole),
        cmocka_unit_test(three_times_too_much_is_served_at_full_pace_and_in_bounded_time),
        cmocka_unit_test(the_bound_goes_when_the_load_does),
        cmocka_unit_test(a_slow_model_may_always_fill_a_batch),
        cmocka_unit_test(deadlines_that_pass_without_any_answer_bound_it_too),
        cmocka_unit_test(many_who_are_crowded_share_what_may_always_wait),
        cmocka_unit_test(the_wait_that_it_tells_is_the_queue_by_the_pace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
