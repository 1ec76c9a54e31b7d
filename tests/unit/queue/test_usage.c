/* The usage totals against a real Redis: what is counted, composed into commands, and read by the meter. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "queue/usage.h"
#include "tests/unit/queue/redis_fixture.h"

static struct redis *redis;
static struct usage *usage; /* of the gateway's only loop */
static char inc[ID_MAX], tenant[ID_MAX], version[ID_MAX];

static int set_up(void **state)
{
    (void)state;
    redis_fixture_start();
    redis_fixture_flush();
    redis = redis_fixture_connect();
    id_new(inc, "inc");
    id_new(tenant, "ten");
    id_new(version, "ver");
    usage = usage_create(inc, 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    usage_free(usage);
    redis_free(redis);
    return 0;
}

static struct usage_total read_only_row(void)
{
    struct usage_total *rows, row = {0};
    size_t n;
    assert_int_equal(usage_read(redis, inc, &rows, &n, NULL), 0);
    assert_int_equal(n, 1);
    row = rows[0];
    mem_free(rows);
    return row;
}

static void publish(struct usage *u)
{
    struct usage_command c;
    assert_true(usage_dirty(u));
    assert_int_equal(usage_take_dirty(u, &c, NULL), 0);
    assert_false(usage_dirty(u)); /* nothing new, nothing to say */
    assert_int_equal(redis_call_argv(redis, NULL, c.argc, c.argv, NULL, NULL), 0);
    usage_command_dispose(&c);
}

static void totals_are_set_and_grow(void **state)
{
    (void)state;
    assert_int_equal(usage_add(usage, tenant, version, 1, 10, 100, NULL), 0);
    publish(usage);
    assert_int_equal(usage_add(usage, tenant, version, 1, 5, 50, NULL), 0);
    publish(usage);
    struct usage_total row = read_only_row();
    assert_string_equal(row.tenant_id, tenant);
    assert_string_equal(row.version_id, version);
    assert_int_equal(row.requests, 2);
    assert_int_equal(row.rows, 15);
    assert_int_equal(row.compute_us, 150);
}

static void totals_lost_by_redis_are_published_again_and_not_doubled(void **state)
{
    (void)state;
    char(*incs)[ID_MAX];
    size_t n;
    usage_add(usage, tenant, version, 3, 30, 300, NULL);
    publish(usage);
    redis_fixture_flush();
    usage_touch_all(usage);
    publish(usage);
    assert_int_equal(read_only_row().rows, 30);
    assert_int_equal(usage_incarnations(redis, &incs, &n, NULL), 0);
    assert_int_equal(n, 1);
    assert_string_equal(incs[0], inc);
    mem_free(incs);
    assert_int_equal(usage_forget(redis, inc, NULL), 0);
    assert_int_equal(usage_incarnations(redis, &incs, &n, NULL), 0);
    assert_int_equal(n, 0);
    mem_free(incs);
}

static void a_total_whose_command_was_lost_goes_out_again(void **state)
{
    (void)state;
    struct usage_command c;
    usage_add(usage, tenant, version, 1, 1, 1, NULL);
    assert_int_equal(usage_take_dirty(usage, &c, NULL), 0);
    usage_command_dispose(&c);
    assert_false(usage_dirty(usage));
    usage_add(usage, tenant, version, 1, 1, 1, NULL); /* while the first is on its way */
    usage_touch_all(usage);
    publish(usage);
    assert_int_equal(read_only_row().requests, 2);
    assert_int_equal(read_only_row().rows, 2);
}

/* Of many totals, a command carries those that changed and no other. */
static void only_what_changed_is_written(void **state)
{
    (void)state;
    char versions[100][ID_MAX];
    struct usage_command c;
    for (size_t i = 0; i < 100; i++) {
        id_new(versions[i], "ver");
        usage_add(usage, tenant, versions[i], 1, 1, 1, NULL);
    }
    assert_int_equal(usage_take_dirty(usage, &c, NULL), 0);
    assert_int_equal(c.argc, 2 + 2 * 100);
    usage_command_dispose(&c);
    usage_add(usage, tenant, versions[50], 1, 4, 9, NULL);
    usage_add(usage, tenant, versions[50], 1, 5, 0, NULL);
    assert_int_equal(usage_take_dirty(usage, &c, NULL), 0);
    assert_int_equal(c.argc, 2 + 2);
    assert_non_null(strstr(c.argv[2], versions[50]));
    assert_string_equal(c.argv[3], "3 10 10");
    usage_command_dispose(&c);
}

static void a_gateway_counts_for_as_long_as_its_key_stands(void **state)
{
    (void)state;
    char other[ID_MAX], key[USAGE_KEY_MAX];
    bool lives = true;
    id_new(other, "inc");
    assert_int_equal(usage_counting(redis, inc, &lives, NULL), 0);
    assert_false(lives);
    usage_counting_key(key, inc);
    assert_int_equal(redis_fixture_int("HSET %s 0 1", key), 1);
    assert_int_equal(usage_counting(redis, inc, &lives, NULL), 0);
    assert_true(lives);
    assert_int_equal(usage_counting(redis, other, &lives, NULL), 0);
    assert_false(lives);
}

static void the_loops_of_a_gateway_are_added_up(void **state)
{
    (void)state;
    for (int shard = 0; shard < 3; shard++) {
        struct usage *u = usage_create(inc, shard);
        usage_add(u, tenant, version, 1, 10, 100 + shard, NULL);
        publish(u);
        usage_free(u);
    }
    struct usage_total row = read_only_row();
    assert_int_equal(row.requests, 3);
    assert_int_equal(row.rows, 30);
    assert_int_equal(row.compute_us, 303);
}

/* None of them is a total: neither what stands in the field nor what stands in the value. */
static void a_malformed_total_is_told_not_billed(void **state)
{
    (void)state;
    char key[USAGE_KEY_MAX];
    char good[2 * ID_MAX + 4], bare[2 * ID_MAX + 4], swapped[2 * ID_MAX + 4];
    struct usage_total *rows;
    size_t n;
    usage_key(key, inc);
    snprintf(good, sizeof good, "%s %s 0", tenant, version);
    snprintf(bare, sizeof bare, "%s %s", tenant, version);
    snprintf(swapped, sizeof swapped, "%s %s 0", version, tenant);
    const char *const bad[][2] = {{"nonsense", "1 2 3"}, {bare, "1 2 3"},  {swapped, "1 2 3"}, {good, "1 2"},
                                  {good, "1 2 3 4"},     {good, "1 -2 3"}, {good, ""}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(redis_fixture_int("HSET %s %s %s", key, bad[i][0], bad[i][1]), 1);
        if (usage_read(redis, inc, &rows, &n, NULL) != ERR_CORRUPT)
            fail_msg("accepted: %s = %s", bad[i][0], bad[i][1]);
        redis_fixture_flush();
    }
}

static void many_totals_survive(void **state)
{
    (void)state;
    struct usage_total *rows;
    size_t n;
    int64_t sum = 0;
    for (int i = 0; i < 500; i++) {
        id_new(version, "ver");
        usage_add(usage, tenant, version, 1, i, 0, NULL);
    }
    publish(usage);
    assert_int_equal(usage_read(redis, inc, &rows, &n, NULL), 0);
    for (size_t i = 0; i < n; i++) sum += rows[i].rows;
    assert_int_equal(n, 500);
    assert_int_equal(sum, 499 * 500 / 2);
    mem_free(rows);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(totals_are_set_and_grow),
        TEST(totals_lost_by_redis_are_published_again_and_not_doubled),
        TEST(a_total_whose_command_was_lost_goes_out_again),
        TEST(only_what_changed_is_written),
        TEST(the_loops_of_a_gateway_are_added_up),
        TEST(a_gateway_counts_for_as_long_as_its_key_stands),
        TEST(a_malformed_total_is_told_not_billed),
        TEST(many_totals_survive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
