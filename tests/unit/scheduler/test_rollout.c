/* The watch over rollouts between a real Redis and a real Postgres: what gateways count ends a trial, once,
 * whatever is lost or started anew in between. */
#include "tests/unit/store/scene.h"

#include <stdio.h>
#include <string.h>
#include "queue/redis_clock.h"
#include "queue/rollout.h"
#include "scheduler/rollout.h"
#include "store/alias.h"
#include "tests/unit/queue/redis_fixture.h"

static struct redis *redis;
static struct rollout_watch *watch;
static struct alias now;

static int set_up(void **state)
{
    if (scene_up(state) != 0) return -1;
    redis_fixture_start();
    redis = redis_fixture_connect();
    for (int i = 0; i < 3; i++) scene_train(scene.a.id, scene.dataset, "iris", &(struct job_ended){0});
    return 0;
}

static int tear_down(void **state)
{
    redis_free(redis);
    return scene_down(state);
}

static int begin(void **state)
{
    (void)state;
    redis_fixture_flush();
    watch = rollout_watch_create();
    return 0;
}

static int over(void **state)
{
    (void)state;
    rollout_watch_free(watch);
    return 0;
}

static void set(const struct alias_target *to)
{
    struct err e = {0};
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_ok(alias_set(scene.gateway, "iris", "live", to, -1, &pg_fixture_actor, &now, &e), e);
    assert_ok(db_commit(scene.gateway, &e), e);
}

static void read_alias(void)
{
    struct err e = {0};
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_ok(alias_find(scene.gateway, "iris", "live", &now, &e), e);
    db_rollback(scene.gateway);
}

static void set_canary(void)
{
    set(&(struct alias_target){.version = 1,
                               .canary = 2,
                               .canary_ppm = 500000,
                               .limits = {.window_s = 60,
                                          .min_requests = 10,
                                          .error_ppm = 100000,
                                          .latency_us = -1,
                                          .disagreement_ppm = -1}});
}

/* What a gateway loop would have written of the alias as it is now, so long ago. */
static void count_ago(int64_t ago_ms, const char *writer, enum rollout_arm arm, int64_t requests,
                      int64_t errors)
{
    struct rollout_id id = {.model = "iris", .alias = "live", .etag = now.etag};
    struct rollout_counts c = {0};
    struct buf text = {0};
    struct err e = {0};
    char key[ROLLOUT_KEY_MAX];
    memcpy(id.tenant_id, scene.a.id, ID_MAX);
    c.arm[arm].requests = requests;
    c.arm[arm].errors = errors;
    rollout_encode(&text, &c, redis_clock_us() / 1000 - ago_ms);
    rollout_key(key, &id);
    assert_ok(redis_call(redis, NULL, &e, "HSET %s %s %s", key, writer, text.data), e);
    buf_dispose(&text);
}

static void count(const char *writer, enum rollout_arm arm, int64_t requests, int64_t errors)
{
    count_ago(0, writer, arm, requests, errors);
}

static void look(void)
{
    struct err e = {0};
    assert_ok(rollout_work(watch, scene.scheduler, redis, &e), e);
    read_alias();
}

static void failures_of_several_loops_together_end_a_canary_once(void **state)
{
    (void)state;
    set_canary();
    int64_t etag = now.etag;
    look();
    count("a 1", ROLLOUT_CANARY, 6, 1);
    look();
    assert_int_equal(now.canary, 2); /* six calls are too few */
    count("b 1", ROLLOUT_CANARY, 6, 1);
    look();
    assert_int_equal(now.canary, 0);
    assert_int_equal(now.version, 1);
    assert_int_equal(now.etag, etag + 1);
    assert_string_equal(now.ended.reason, "error_rate");
    assert_string_equal(now.ended.message, "16.67 % of 12 calls failed, where 10 % may (60 s window)");
    look();
    assert_int_equal(now.etag, etag + 1);
    assert_int_equal(scene_number("SELECT count(*) FROM tenor.audit_log WHERE type = 'alias.rolled_back' AND "
                                  "data->'numbers'->'canary'->>'requests' = '12'"),
                     1);
}

static void a_good_canary_stays(void **state)
{
    (void)state;
    set_canary();
    for (int i = 1; i <= 5; i++) {
        count("a 1", ROLLOUT_CANARY, 100 * i, 5 * i);
        look();
    }
    assert_int_equal(now.canary, 2);
}

static void a_scheduler_that_starts_counts_all_of_a_young_rollout(void **state)
{
    (void)state;
    set_canary();
    count("a 1", ROLLOUT_CANARY, 20, 10);
    look(); /* its first look at anything */
    assert_int_equal(now.canary, 0);
}

static void and_only_what_is_new_of_an_old_one(void **state)
{
    (void)state;
    set_canary();
    pg_fixture_exec("UPDATE tenor.aliases SET updated_at = now() - interval '2 minutes'");
    count("a 1", ROLLOUT_CANARY, 1000, 900); /* when, nobody knows */
    look();
    assert_int_equal(now.canary, 2);
    count("a 1", ROLLOUT_CANARY, 1100, 901);
    look();
    assert_int_equal(now.canary, 2);
    count("a 1", ROLLOUT_CANARY, 1120, 921);
    look();
    assert_int_equal(now.canary, 0);
}

static void an_emptied_redis_counts_nothing_twice(void **state)
{
    (void)state;
    set_canary();
    count("a 1", ROLLOUT_CANARY, 100, 9);
    look();
    assert_int_equal(now.canary, 2);
    redis_fixture_flush();
    look();
    count("a 1", ROLLOUT_CANARY, 105, 10); /* the loop writes its total again */
    look();
    assert_int_equal(now.canary, 2); /* 10 of 105, not 19 of 205 or 5 new ones alone */
    count("a 1", ROLLOUT_CANARY, 110, 12);
    look();
    assert_int_equal(now.canary, 0);
    assert_string_equal(now.ended.message, "10.91 % of 110 calls failed, where 10 % may (60 s window)");
}

static void what_loops_that_are_gone_have_counted_is_neither_new_nor_lost(void **state)
{
    (void)state;
    set_canary();
    count("a 1", ROLLOUT_CANARY, 100, 9);
    look();
    count_ago(ROLLOUT_LIFE_MS + 1000, "a 1", ROLLOUT_CANARY, 100, 9);
    for (int i = 0; i < 3; i++) look(); /* the field is added to those that are gone, and that is no news */
    assert_int_equal(now.canary, 2);
    count("b 1", ROLLOUT_CANARY, 5, 1);
    look();
    assert_int_equal(now.canary, 2); /* 10 of 105 */
    count("b 1", ROLLOUT_CANARY, 10, 3);
    look();
    assert_int_equal(now.canary, 0);
    assert_string_equal(now.ended.message, "10.91 % of 110 calls failed, where 10 % may (60 s window)");
}

static void a_change_of_the_alias_starts_anew(void **state)
{
    (void)state;
    set_canary();
    count("a 1", ROLLOUT_CANARY, 9, 9);
    look();
    set_canary();
    count("b 1", ROLLOUT_CANARY, 9, 9);
    look();
    assert_int_equal(now.canary, 2);
}

static void a_version_that_was_moved_to_goes_back(void **state)
{
    (void)state;
    set(&(struct alias_target){.version = 1});
    struct alias_target to = {
        .version = 2,
        .limits = {
            .window_s = 60, .min_requests = 10, .error_ppm = 0, .latency_us = -1, .disagreement_ppm = -1}};
    set(&to);
    count("a 1", ROLLOUT_PRIMARY, 10, 1);
    look();
    assert_int_equal(now.version, 1);
    assert_string_equal(now.ended.arm, "primary");
    assert_int_equal(now.ended.version, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(failures_of_several_loops_together_end_a_canary_once, begin, over),
        cmocka_unit_test_setup_teardown(a_good_canary_stays, begin, over),
        cmocka_unit_test_setup_teardown(a_scheduler_that_starts_counts_all_of_a_young_rollout, begin, over),
        cmocka_unit_test_setup_teardown(and_only_what_is_new_of_an_old_one, begin, over),
        cmocka_unit_test_setup_teardown(an_emptied_redis_counts_nothing_twice, begin, over),
        cmocka_unit_test_setup_teardown(what_loops_that_are_gone_have_counted_is_neither_new_nor_lost, begin,
                                        over),
        cmocka_unit_test_setup_teardown(a_change_of_the_alias_starts_anew, begin, over),
        cmocka_unit_test_setup_teardown(a_version_that_was_moved_to_goes_back, begin, over),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
