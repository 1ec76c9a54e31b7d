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

static int flush(void **state)
{
    (void)state;
    redis_fixture_flush();
    return 0;
}

static struct usage_total read_only_row(struct redis *r, const char *inc)
{
    struct usage_total *rows, row = {0};
    size_t n;
    assert_int_equal(usage_read(r, inc, &rows, &n, NULL), 0);
    assert_int_equal(n, 1);
    row = rows[0];
    mem_free(rows);
    return row;
}

static void publish(struct usage *u, struct redis *r)
{
    struct usage_command c;
    assert_true(usage_dirty(u));
    assert_int_equal(usage_take_dirty(u, &c, NULL), 0);
    assert_false(usage_dirty(u)); /* nothing new, nothing to say */
    assert_int_equal(redis_call_argv(r, NULL, c.argc, c.argv, NULL, NULL), 0);
    usage_command_dispose(&c);
}

static void totals_are_set_and_grow(void **state)
{
    (void)state;
    struct redis *r = redis_fixture_connect();
    char inc[ID_MAX], tenant[ID_MAX], version[ID_MAX];
    id_new(inc, "inc");
    id_new(tenant, "ten");
    id_new(version, "ver");
    struct usage *u = usage_create(inc, 0);
    assert_int_equal(usage_add(u, tenant, version, 1, 10, 100, NULL), 0);
    publish(u, r);
    assert_int_equal(usage_add(u, tenant, version, 1, 5, 50, NULL), 0);
    publish(u, r);
    struct usage_total row = read_only_row(r, inc);
    assert_string_equal(row.tenant_id, tenant);
    assert_string_equal(row.version_id, version);
    assert_int_equal(row.requests, 2);
    assert_int_equal(row.rows, 15);
    assert_int_equal(row.compute_us, 150);
    usage_free(u);
    redis_free(r);
}

static void totals_lost_by_redis_are_published_again_and_not_doubled(void **state)
{
    (void)state;
    struct redis *r = redis_fixture_connect();
    char inc[ID_MAX], tenant[ID_MAX], version[ID_MAX], (*incs)[ID_MAX];
    size_t n;
    id_new(inc, "inc");
    id_new(tenant, "ten");
    id_new(version, "ver");
    struct usage *u = usage_create(inc, 0);
    usage_add(u, tenant, version, 3, 30, 300, NULL);
    publish(u, r);
    redis_fixture_flush();
    usage_touch_all(u);
    publish(u, r);
    assert_int_equal(read_only_row(r, inc).rows, 30);
    assert_int_equal(usage_incarnations(r, &incs, &n, NULL), 0);
    assert_int_equal(n, 1);
    assert_string_equal(incs[0], inc);
    mem_free(incs);
    assert_int_equal(usage_forget(r, inc, NULL), 0);
    assert_int_equal(usage_incarnations(r, &incs, &n, NULL), 0);
    assert_int_equal(n, 0);
    mem_free(incs);
    usage_free(u);
    redis_free(r);
}

static void a_total_whose_command_was_lost_goes_out_again(void **state)
{
    (void)state;
    struct redis *r = redis_fixture_connect();
    char inc[ID_MAX], tenant[ID_MAX], version[ID_MAX];
    struct usage_command c;
    id_new(inc, "inc");
    id_new(tenant, "ten");
    id_new(version, "ver");
    struct usage *u = usage_create(inc, 0);
    usage_add(u, tenant, version, 1, 1, 1, NULL);
    assert_int_equal(usage_take_dirty(u, &c, NULL), 0);
    usage_command_dispose(&c);
    assert_false(usage_dirty(u));
    usage_add(u, tenant, version, 1, 1, 1, NULL); /* while the first is on its way */
    usage_touch_all(u);
    publish(u, r);
    assert_int_equal(read_only_row(r, inc).requests, 2);
    assert_int_equal(read_only_row(r, inc).rows, 2);
    usage_free(u);
    redis_free(r);
}

/* Of many totals, a command carries those that changed and no other. */
static void only_what_changed_is_written(void **state)
{
    (void)state;
    char inc[ID_MAX], tenant[ID_MAX], versions[100][ID_MAX];
    struct usage_command c;
    id_new(inc, "inc");
    id_new(tenant, "ten");
    struct usage *u = usage_create(inc, 0);
    for (size_t i = 0; i < 100; i++) {
        id_new(versions[i], "ver");
        usage_add(u, tenant, versions[i], 1, 1, 1, NULL);
    }
    assert_int_equal(usage_take_dirty(u, &c, NULL), 0);
    assert_int_equal(c.argc, 2 + 2 * 100);
    usage_command_dispose(&c);
    usage_add(u, tenant, versions[50], 1, 4, 9, NULL);
    usage_add(u, tenant, versions[50], 1, 5, 0, NULL);
    assert_int_equal(usage_take_dirty(u, &c, NULL), 0);
    assert_int_equal(c.argc, 2 + 2);
    assert_non_null(strstr(c.argv[2], versions[50]));
    assert_string_equal(c.argv[3], "3 10 10");
    usage_command_dispose(&c);
    usage_free(u);
}

static void a_gateway_counts_for_as_long_as_its_key_stands(void **state)
{
    (void)state;
    struct redis *r = redis_fixture_connect();
    char inc[ID_MAX], other[ID_MAX], key[USAGE_KEY_MAX];
    bool lives = true;
    id_new(inc, "inc");
    id_new(other, "inc");
    assert_int_equal(usage_counting(r, inc, &lives, NULL), 0);
    assert_false(lives);
    usage_counting_key(key, inc);
    assert_int_equal(redis_fixture_int("HSET %s 0 1", key), 1);
    assert_int_equal(usage_counting(r, inc, &lives, NULL), 0);
    assert_true(lives);
    assert_int_equal(usage_counting(r, other, &lives, NULL), 0);
    assert_false(lives);
    redis_free(r);
}

static void the_loops_of_a_gateway_are_added_up(void **state)
{
    (void)state;
    struct redis *r = redis_fixture_connect();
    char inc[ID_MAX], tenant[ID_MAX], version[ID_MAX];
    id_new(inc, "inc");
    id_new(tenant, "ten");
    id_new(version, "ver");
    for (int shard = 0; shard < 3; shard++) {
        struct usage *u = usage_create(inc, shard);
        usage_add(u, tenant, version, 1, 10, 100 + shard, NULL);
        publish(u, r);
        usage_free(u);
    }
    struct usage_total row = read_only_row(r, inc);
    assert_int_equal(row.requests, 3);
    assert_int_equal(row.rows, 30);
    assert_int_equal(row.compute_us, 303);
    redis_free(r);
}

/* None of them is a total: neither what stands in the field nor what stands in the value. */
static void a_malformed_total_is_told_not_billed(void **state)
{
    (void)state;
    struct redis *r = redis_fixture_connect();
    char inc[ID_MAX], key[USAGE_KEY_MAX], tenant[ID_MAX], version[ID_MAX];
    char good[2 * ID_MAX + 4], bare[2 * ID_MAX + 4], swapped[2 * ID_MAX + 4];
    struct usage_total *rows;
    size_t n;
    id_new(inc, "inc");
    usage_key(key, inc);
    id_new(tenant, "ten");
    id_new(version, "ver");
    snprintf(good, sizeof good, "%s %s 0", tenant, version);
    snprintf(bare, sizeof bare, "%s %s", tenant, version);
    snprintf(swapped, sizeof swapped, "%s %s 0", version, tenant);
    const char *const bad[][2] = {{"nonsense", "1 2 3"}, {bare, "1 2 3"},  {swapped, "1 2 3"}, {good, "1 2"},
                                  {good, "1 2 3 4"},     {good, "1 -2 3"}, {good, ""}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(redis_fixture_int("HSET %s %s %s", key, bad[i][0], bad[i][1]), 1);
        if (usage_read(r, inc, &rows, &n, NULL) != ERR_CORRUPT)
            fail_msg("accepted: %s = %s", bad[i][0], bad[i][1]);
        redis_fixture_flush();
    }
    redis_free(r);
}

static void many_totals_survive(void **state)
{
    (void)state;
    struct redis *r = redis_fixture_connect();
    char inc[ID_MAX], tenant[ID_MAX], version[ID_MAX];
    struct usage_total *rows;
    size_t n;
    int64_t sum = 0;
    id_new(inc, "inc");
    id_new(tenant, "ten");
    struct usage *u = usage_create(inc, 0);
    for (int i = 0; i < 500; i++) {
        id_new(version, "ver");
        usage_add(u, tenant, version, 1, i, 0, NULL);
    }
    publish(u, r);
    assert_int_equal(usage_read(r, inc, &rows, &n, NULL), 0);
    for (size_t i = 0; i < n; i++) sum += rows[i].rows;
    assert_int_equal(n, 500);
    assert_int_equal(sum, 499 * 500 / 2);
    mem_free(rows);
    usage_free(u);
    redis_free(r);
}

int main(void)
{
    redis_fixture_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(totals_are_set_and_grow, flush),
        cmocka_unit_test_setup(totals_lost_by_redis_are_published_again_and_not_doubled, flush),
        cmocka_unit_test_setup(a_total_whose_command_was_lost_goes_out_again, flush),
        cmocka_unit_test_setup(only_what_changed_is_written, flush),
        cmocka_unit_test_setup(the_loops_of_a_gateway_are_added_up, flush),
        cmocka_unit_test_setup(a_gateway_counts_for_as_long_as_its_key_stands, flush),
        cmocka_unit_test_setup(a_malformed_total_is_told_not_billed, flush),
        cmocka_unit_test_setup(many_totals_survive, flush),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
