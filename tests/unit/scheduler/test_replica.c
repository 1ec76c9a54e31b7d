/* When a hot version gets another holder, where, and when it loses one again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "scheduler/replica.h"

enum { WORKERS = 4, STEP_MS = 1000 };

/* A fleet and one version: its demand, in thousandths of a worker, is spread evenly over its holders, each of
 * which does at most 1,000. */
struct fleet {
    struct replicas *r;
    struct replica_actions actions;
    int64_t now_ms;
    size_t workers;
    int other_milli[WORKERS]; /* what else each worker does */
    int64_t free_bytes[WORKERS], idle_bytes[WORKERS];
    bool draining[WORKERS], holds[WORKERS];
    int64_t demand_milli, waiting_milli;
};

static int set_up(void **state)
{
    static struct fleet f;
    memset(&f, 0, sizeof f);
    f.workers = WORKERS;
    f.now_ms = 1000000;
    f.holds[0] = true;
    for (size_t i = 0; i < WORKERS; i++) f.free_bytes[i] = 1000;
    *state = &f;
    return replicas_create(&f.r, &replica_config_default, NULL);
}

static int tear_down(void **state)
{
    struct fleet *f = *state;
    replicas_free(f->r);
    return 0;
}

static int least(int64_t a, int64_t b)
{
    return (int)(a < b ? a : b);
}

static void look(struct fleet *f)
{
    struct replica_worker workers[WORKERS];
    struct replica_version v = {.version = "ver_1", .tenant = "ten_1", .bytes = 600};
    for (size_t i = 0; i < f->workers; i++)
        if (f->holds[i] && !f->draining[i]) v.holders[v.holders_len++] = i;
    for (size_t i = 0; i < f->workers; i++) {
        int64_t mine = f->holds[i] && v.holders_len ? f->demand_milli / (int64_t)v.holders_len : 0;
        int busy = least(mine, 1000 - f->other_milli[i]);
        workers[i] = (struct replica_worker){.busy_milli = f->other_milli[i] + busy,
                                             .model_bytes_free = f->free_bytes[i],
                                             .model_bytes_idle = f->idle_bytes[i],
                                             .draining = f->draining[i]};
        snprintf(workers[i].id, ID_MAX, "inc_%zu", i);
        v.busy_milli += busy;
    }
    v.waiting_milli = f->waiting_milli;
    assert_int_equal(replicas_step(f->r, f->now_ms, workers, f->workers, &v, 1, &f->actions, NULL), 0);
    f->now_ms += STEP_MS;
}

/* Steps for so long and does what is decided; how often that was. */
static size_t live(struct fleet *f, int64_t ms)
{
    size_t decided = 0;
    for (int64_t until = f->now_ms + ms; f->now_ms < until;) {
        look(f);
        decided += f->actions.len;
        for (size_t i = 0; i < f->actions.len; i++) {
            size_t worker = 0;
            assert_int_equal(sscanf(f->actions.data[i].worker, "inc_%zu", &worker), 1);
            f->holds[worker] = f->actions.data[i].kind == REPLICA_ADD;
        }
    }
    return decided;
}

static size_t holders(const struct fleet *f)
{
    size_t n = 0;
    for (size_t i = 0; i < f->workers; i++) n += f->holds[i];
    return n;
}

static void a_version_at_ease_stays_where_it_is(void **state)
{
    struct fleet *f = *state;
    f->demand_milli = 650;
    assert_int_equal(live(f, 300000), 0);
}

static void a_hot_version_gets_as_many_holders_as_it_needs_and_no_more(void **state)
{
    struct fleet *f = *state;
    f->demand_milli = 1800;
    live(f, 60000);
    assert_int_equal(holders(f), 3); /* 600 each */
    assert_int_equal(live(f, 300000), 0);
}

static void a_short_burst_brings_no_replica(void **state)
{
    struct fleet *f = *state;
    for (int i = 0; i < 50; i++) {
        f->demand_milli = 1000;
        assert_int_equal(live(f, 2000), 0);
        f->demand_milli = 100;
        assert_int_equal(live(f, 1000), 0);
    }
}

static void no_steady_demand_makes_it_go_to_and_fro(void **state)
{
    struct fleet *f = *state;
    for (f->demand_milli = 0; f->demand_milli <= 4000; f->demand_milli += 50) {
        live(f, 120000); /* time to settle */
        assert_int_equal(live(f, 120000), 0);
    }
    for (; f->demand_milli >= 0; f->demand_milli -= 50) {
        live(f, 240000);
        assert_int_equal(live(f, 120000), 0);
    }
    assert_int_equal(holders(f), 1);
}

static void a_cold_version_loses_its_replicas_one_by_one_and_keeps_one_holder(void **state)
{
    struct fleet *f = *state;
    f->holds[1] = f->holds[2] = true;
    f->demand_milli = 0;
    assert_int_equal(live(f, replica_config_default.cold_ms), 0);
    assert_int_equal(live(f, 1000), 1);
    assert_int_equal(holders(f), 2);
    live(f, 300000);
    assert_int_equal(holders(f), 1);
}

static void the_load_of_others_on_the_same_worker_counts_where_the_version_has_a_part_in_it(void **state)
{
    struct fleet *f = *state;
    f->other_milli[0] = 600;
    f->demand_milli = 100; /* too little to be worth it */
    assert_int_equal(live(f, 60000), 0);
    f->demand_milli = 200;
    live(f, 10000);
    assert_int_equal(holders(f), 2);
}

static void requests_that_wait_in_numbers_make_a_version_hot(void **state)
{
    struct fleet *f = *state;
    f->demand_milli = 400;
    f->waiting_milli = 4000;
    assert_int_equal(live(f, 60000), 0);
    f->waiting_milli = 20000;
    assert_int_equal(live(f, 5000), 1);
}

static void the_least_busy_worker_with_room_is_chosen_and_none_that_would_become_hot(void **state)
{
    struct fleet *f = *state;
    f->demand_milli = 1000;
    f->free_bytes[1] = 500; /* 600 are needed */
    f->other_milli[2] = 300;
    f->other_milli[3] = 150;
    live(f, 4000);
    assert_true(f->holds[3] && holders(f) == 2);
    f->other_milli[2] = 600;
    f->demand_milli = 2000;
    assert_int_equal(live(f, 60000), 0);
    f->idle_bytes[1] = 100; /* which makes room for it */
    live(f, 10000);
    assert_true(f->holds[1]);
}

static void a_draining_worker_is_no_holder_and_gets_no_replica(void **state)
{
    struct fleet *f = *state;
    f->workers = 2;
    f->draining[1] = true;
    f->demand_milli = 1000;
    assert_int_equal(live(f, 60000), 0);
    f->draining[1] = false;
    live(f, 5000);
    assert_int_equal(holders(f), 2);
    f->draining[1] = true; /* the only one that counts is never given up */
    f->demand_milli = 0;
    assert_int_equal(live(f, 300000), 0);
    assert_true(f->holds[0]);
}

static void a_replica_that_does_not_come_up_is_asked_for_less_and_less(void **state)
{
    struct fleet *f = *state;
    f->demand_milli = 1000;
    size_t asked[2] = {0};
    for (int half = 0; half < 2; half++)
        for (int i = 0; i < 120; i++) { /* nothing is done about it */
            look(f);
            asked[half] += f->actions.len;
        }
    assert_in_range(asked[0], 3, 8);
    assert_in_range(asked[1], 1, 2);
}

static void a_version_that_is_followed_must_be_shown_again_until_it_is_over(void **state)
{
    struct fleet *f = *state;
    const char *tenant;
    size_t cursor = 0;
    assert_null(replicas_next(f->r, &cursor, &tenant));
    f->demand_milli = 1000;
    live(f, 10000);
    cursor = 0;
    assert_string_equal(replicas_next(f->r, &cursor, &tenant), "ver_1");
    assert_string_equal(tenant, "ten_1");
    f->demand_milli = 0;
    live(f, 300000);
    cursor = 0;
    assert_null(replicas_next(f->r, &cursor, &tenant));
}

static void memory_that_runs_out_is_told_and_the_next_step_goes_on(void **state)
{
    struct fleet *f = *state;
    struct replica_worker w = {.id = "inc_0", .busy_milli = 1000};
    struct replica_version v = {
        .version = "ver_1", .tenant = "ten_1", .busy_milli = 1000, .holders = {0}, .holders_len = 1};
    for (size_t nth = 1; nth <= 2; nth++) {
        mem_fail_at(nth, false);
        int rc = replicas_step(f->r, f->now_ms, &w, 1, &v, 1, &f->actions, NULL);
        mem_fail_at(0, false);
        assert_true(rc < 0);
    }
    assert_int_equal(replicas_step(f->r, f->now_ms, &w, 1, &v, 1, &f->actions, NULL), 0);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_version_at_ease_stays_where_it_is),
        CASE(a_hot_version_gets_as_many_holders_as_it_needs_and_no_more),
        CASE(a_short_burst_brings_no_replica),
        CASE(no_steady_demand_makes_it_go_to_and_fro),
        CASE(a_cold_version_loses_its_replicas_one_by_one_and_keeps_one_holder),
        CASE(the_load_of_others_on_the_same_worker_counts_where_the_version_has_a_part_in_it),
        CASE(requests_that_wait_in_numbers_make_a_version_hot),
        CASE(the_least_busy_worker_with_room_is_chosen_and_none_that_would_become_hot),
        CASE(a_draining_worker_is_no_holder_and_gets_no_replica),
        CASE(a_replica_that_does_not_come_up_is_asked_for_less_and_less),
        CASE(a_version_that_is_followed_must_be_shown_again_until_it_is_over),
        CASE(memory_that_runs_out_is_told_and_the_next_step_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
