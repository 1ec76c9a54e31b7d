/* The meter between a real Redis and a real Postgres: what was counted is billed once, and one worker's junk
 * keeps nobody else's from being billed. */
#include "tests/unit/store/scene.h"

#include <stdio.h>
#include <string.h>
#include "queue/usage.h"
#include "scheduler/meter.h"
#include "tests/unit/queue/redis_fixture.h"

static struct redis *redis;
static struct meter *meter;
static char version[ID_MAX];

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

static int tear_down(void **state)
{
    meter_free(meter);
    redis_free(redis);
    return scene_down(state);
}

/* What a worker would have written of itself. */
static void count(const char *inc, const char *version_id, const char *totals)
{
    struct err e = {0};
    char key[USAGE_KEY_MAX], field[2 * ID_MAX];
    usage_key(key, inc);
    snprintf(field, sizeof field, "%s %s 0", scene.a.id, version_id);
    assert_ok(redis_call(redis, NULL, &e, "HSET %s %s %s", key, field, totals), e);
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
    struct err e = {0};
    char inc[ID_MAX];
    id_new(inc, "inc_");
    count(inc, version, "2 500 90");
    assert_ok(meter_work(meter, scene.scheduler, redis, &e), e);
    assert_ok(meter_work(meter, scene.scheduler, redis, &e), e);
    assert_int_equal(billed_rows(inc), 500);
    count(inc, version, "3 700 120");
    assert_ok(meter_work(meter, scene.scheduler, redis, &e), e);
    assert_int_equal(billed_rows(inc), 700);
    scene_check_invariants();
}

static void a_row_that_cannot_be_billed_holds_up_no_other(void **state)
{
    (void)state;
    struct err e = {0};
    char inc[ID_MAX], nobodys[ID_MAX];
    id_new(inc, "inc_");
    id_new(nobodys, "ver_");
    count(inc, nobodys, "1 10 1");
    count(inc, version, "1 40 1");
    assert_ok(meter_work(meter, scene.scheduler, redis, &e), e);
    assert_int_equal(billed_rows(inc), 40);
    count(inc, version, "2 9000000000000000000 2"); /* times its price: beyond 64 bits */
    assert_ok(meter_work(meter, scene.scheduler, redis, &e), e);
    assert_int_equal(billed_rows(inc), 40);
    count(inc, version, "3 60 3");
    assert_ok(meter_work(meter, scene.scheduler, redis, &e), e);
    assert_int_equal(billed_rows(inc), 60);
    scene_check_invariants();
}

static void a_workers_malformed_totals_hold_up_no_other_worker(void **state)
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_counted_is_billed_once),
        cmocka_unit_test(a_row_that_cannot_be_billed_holds_up_no_other),
        cmocka_unit_test(a_workers_malformed_totals_hold_up_no_other_worker),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
