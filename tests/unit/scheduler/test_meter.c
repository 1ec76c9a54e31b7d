/* The meter between a real Redis and a real Postgres: what was counted is billed once, one gateway's junk
 * keeps nobody else's from being billed, and of the dead nothing is left. */
#include "tests/unit/store/scene.h"

#include <stdio.h>
#include <string.h>
#include "queue/usage.h"
#include "scheduler/meter.h"
#include "tests/unit/fake_clock.h"
#include "tests/unit/queue/redis_fixture.h"

enum { DEAD_AFTER_MS = 60000 };

static struct redis *redis;
static struct meter *meter;
static char gateway[ID_MAX], version[ID_MAX];

static int set_up(void **state)
{
    struct job_ended ended;
    if (scene_up(state) != 0) return -1;
    redis_fixture_start();
    redis = redis_fixture_connect();
    meter = meter_create();
    scene_train(scene.a.id, scene.dataset, "sums", &ended);
    snprintf(version, sizeof version, "%s", ended.version_id);
    return 0;
}

static int begin(void **state)
{
    (void)state;
    redis_fixture_flush();
    id_new(gateway, "inc_");
    return 0;
}

static int tear_down(void **state)
{
    meter_free(meter);
    redis_free(redis);
    return scene_down(state);
}

/* What a gateway's loop would have written of itself. */
static void count_in(const char *inc, int loop, const char *version_id, const char *totals)
{
    struct err e = {0};
    char key[USAGE_KEY_MAX], field[2 * ID_MAX + 16];
    usage_key(key, inc);
    snprintf(field, sizeof field, "%s %s %d", scene.a.id, version_id, loop);
    assert_ok(redis_call(redis, NULL, &e, "HSET %s %s %s", key, field, totals), e);
}

static void count(const char *inc, const char *version_id, const char *totals)
{
    count_in(inc, 0, version_id, totals);
}

static void say_alive(const char *inc)
{
    struct err e = {0};
    char key[USAGE_KEY_MAX];
    usage_counting_key(key, inc);
    assert_ok(redis_call(redis, NULL, &e, "HSET %s 0 1", key), e);
}

static void fall_silent(const char *inc)
{
    char key[USAGE_KEY_MAX];
    usage_counting_key(key, inc);
    assert_int_equal(redis_fixture_int("DEL %s", key), 1);
}

static bool is_buried(const char *inc)
{
    char key[USAGE_KEY_MAX];
    usage_key(key, inc);
    return redis_fixture_int("EXISTS %s", key) == 0;
}

/* The meter's next turn, so much later. */
static void turn_after(int64_t ms)
{
    struct err e = {0};
    fake_clock_move_ms(ms);
    assert_ok(meter_work(meter, scene.scheduler, redis, &e), e);
}

/* On the tenant's invoice, of whomever. */
static int64_t invoiced_rows(void)
{
    char sql[256];
    snprintf(sql, sizeof sql,
             "SELECT coalesce(sum(rows), 0)::bigint FROM tenor.usage_hours WHERE tenant_id = '%s'",
             scene.a.id);
    return scene_number(sql);
}

static int64_t billed_rows(const char *inc)
{
    char sql[512];
    snprintf(sql, sizeof sql,
             "SELECT coalesce(sum(rows), 0)::bigint FROM tenor.usage_totals WHERE incarnation = '%s'", inc);
    return scene_number(sql);
}

static void what_was_counted_is_billed_once(void **state)
{
    (void)state;
    count(gateway, version, "2 500 90");
    turn_after(0);
    turn_after(0);
    assert_int_equal(billed_rows(gateway), 500);
    count(gateway, version, "3 700 120");
    turn_after(0);
    assert_int_equal(billed_rows(gateway), 700);
    scene_check_invariants();
}

static void a_row_that_cannot_be_billed_holds_up_no_other(void **state)
{
    (void)state;
    char nobodys[ID_MAX];
    id_new(nobodys, "ver_");
    count(gateway, nobodys, "1 10 1");
    count(gateway, version, "1 40 1");
    turn_after(0);
    assert_int_equal(billed_rows(gateway), 40);
    count(gateway, version, "2 9000000000000000000 2"); /* times its price: beyond 64 bits */
    turn_after(0);
    assert_int_equal(billed_rows(gateway), 40);
    count(gateway, version, "3 60 3");
    turn_after(0);
    assert_int_equal(billed_rows(gateway), 60);
    scene_check_invariants();
}

static void a_gateways_malformed_totals_hold_up_no_other_gateway(void **state)
{
    (void)state;
    struct err e = {0};
    char bad[ID_MAX], incs[8][ID_MAX];
    id_new(bad, "inc_");
    count(bad, version, "junk");
    for (int i = 0; i < 8; i++) { /* SCAN gives them in no order: some come behind the bad one */
        id_new(incs[i], "inc_");
        count(incs[i], version, "1 5 1");
    }
    assert_int_equal(meter_work(meter, scene.scheduler, redis, &e), ERR_CORRUPT);
    for (int i = 0; i < 8; i++) assert_int_equal(billed_rows(incs[i]), 5);
    scene_check_invariants();
}

static void the_loops_of_a_gateway_are_billed_together(void **state)
{
    (void)state;
    int64_t before = invoiced_rows();
    count_in(gateway, 0, version, "1 10 1");
    count_in(gateway, 1, version, "2 20 2");
    turn_after(0);
    assert_int_equal(billed_rows(gateway), 30);
    count_in(gateway, 1, version, "3 25 3");
    turn_after(0);
    turn_after(0);
    assert_int_equal(billed_rows(gateway), 35);
    assert_int_equal(invoiced_rows() - before, 35);
    scene_check_invariants();
}

static void a_gateway_that_lives_keeps_its_totals_however_long_it_is_idle(void **state)
{
    (void)state;
    count(gateway, version, "1 10 1");
    say_alive(gateway);
    for (int i = 0; i < 5; i++) turn_after(DEAD_AFTER_MS + 1000);
    assert_false(is_buried(gateway));
    fall_silent(gateway);
    turn_after(0);
    turn_after(DEAD_AFTER_MS - 1000);
    assert_false(is_buried(gateway));
    turn_after(2000);
    assert_true(is_buried(gateway));
    assert_int_equal(billed_rows(gateway), 10);
}

static void a_sign_of_life_or_a_change_begins_the_silence_anew(void **state)
{
    (void)state;
    char seen[ID_MAX], changed[ID_MAX];
    id_new(seen, "inc_");
    id_new(changed, "inc_");
    count(seen, version, "1 10 1");
    count(changed, version, "1 10 1");
    turn_after(0); /* billed: both have changed */
    turn_after(0);
    turn_after(DEAD_AFTER_MS - 1000);
    say_alive(seen);
    count(changed, version, "2 20 2");
    turn_after(0);
    fall_silent(seen);
    turn_after(0);
    turn_after(DEAD_AFTER_MS - 1000);
    assert_false(is_buried(seen));
    assert_false(is_buried(changed));
    turn_after(2000);
    assert_true(is_buried(seen));
    assert_true(is_buried(changed));
    assert_int_equal(billed_rows(changed), 20);
}

static void the_totals_of_a_gateway_killed_long_ago_are_billed_before_they_go(void **state)
{
    (void)state;
    turn_after(0);
    count(gateway, version, "4 40 4"); /* and it died before any turn of the meter */
    fake_clock_move_ms(10 * DEAD_AFTER_MS);
    turn_after(0);
    assert_int_equal(billed_rows(gateway), 40);
    turn_after(0);
    turn_after(DEAD_AFTER_MS);
    assert_true(is_buried(gateway));
    assert_int_equal(billed_rows(gateway), 40);
}

/* It was cut off from Redis, and went on answering. */
static void a_buried_gateway_that_comes_back_is_billed_the_difference(void **state)
{
    (void)state;
    int64_t before = invoiced_rows();
    count(gateway, version, "1 100 1");
    turn_after(0);
    turn_after(0);
    turn_after(DEAD_AFTER_MS);
    assert_true(is_buried(gateway));
    count(gateway, version, "2 130 2"); /* all of its totals */
    say_alive(gateway);
    turn_after(0);
    turn_after(DEAD_AFTER_MS);
    assert_false(is_buried(gateway));
    assert_int_equal(billed_rows(gateway), 130);
    assert_int_equal(invoiced_rows() - before, 130);
    scene_check_invariants();
}

/* FLUSHALL, and the first of its totals is back before the others. */
static void totals_that_went_back_are_billed_neither_up_nor_down(void **state)
{
    (void)state;
    int64_t before = invoiced_rows();
    count_in(gateway, 0, version, "1 100 1");
    count_in(gateway, 1, version, "1 50 1");
    turn_after(0);
    redis_fixture_flush();
    count_in(gateway, 1, version, "2 60 2");
    turn_after(0);
    assert_int_equal(invoiced_rows() - before, 150);
    count_in(gateway, 0, version, "1 100 1");
    turn_after(0);
    assert_int_equal(invoiced_rows() - before, 160);
    assert_int_equal(billed_rows(gateway), 160);
    scene_check_invariants();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(what_was_counted_is_billed_once, begin),
        cmocka_unit_test_setup(a_row_that_cannot_be_billed_holds_up_no_other, begin),
        cmocka_unit_test_setup(a_gateways_malformed_totals_hold_up_no_other_gateway, begin),
        cmocka_unit_test_setup(the_loops_of_a_gateway_are_billed_together, begin),
        cmocka_unit_test_setup(a_gateway_that_lives_keeps_its_totals_however_long_it_is_idle, begin),
        cmocka_unit_test_setup(a_sign_of_life_or_a_change_begins_the_silence_anew, begin),
        cmocka_unit_test_setup(the_totals_of_a_gateway_killed_long_ago_are_billed_before_they_go, begin),
        cmocka_unit_test_setup(a_buried_gateway_that_comes_back_is_billed_the_difference, begin),
        cmocka_unit_test_setup(totals_that_went_back_are_billed_neither_up_nor_down, begin),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
