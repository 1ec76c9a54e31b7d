/* The token bucket and the usage totals against a real Redis. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include "base/clock.h"
#include "base/mem.h"
#include "queue/rate.h"
#include "queue/usage.h"
#include "tests/unit/queue/redis_fixture.h"

static int flush(void **state)
{
    (void)state;
    redis_fixture_flush();
    return 0;
}

static struct rate_request a_request(double rate, double burst, int want)
{
    struct rate_request q = {.per_second = rate, .burst = burst, .want = want};
    id_new(q.tenant_id, "ten");
    return q;
}

static void a_bucket_starts_full_and_then_says_when(void **state)
{
    (void)state;
    struct redis *r = redis_fixture_connect();
    struct rate_request q = a_request(10, 5, 3);
    struct rate_grant g;
    struct err e;
    assert_int_equal(rate_take(r, &q, &g, &e), 0);
    assert_int_equal(g.granted, 3);
    assert_int_equal(g.remaining, 2);
    assert_int_equal(rate_take(r, &q, &g, &e), 0);
    assert_int_equal(g.granted, 2); /* what is left, not nothing */
    assert_int_equal(rate_take(r, &q, &g, &e), 0);
    assert_int_equal(g.granted, 0);
    assert_in_range(g.retry_after_ms, 1, 100);
    redis_free(r);
}

static void the_time_told_to_wait_is_true(void **state)
{
    (void)state;
    struct redis *r = redis_fixture_connect();
    struct rate_request q = a_request(20, 1, 1);
    struct rate_grant g;
    assert_int_equal(rate_take(r, &q, &g, NULL), 0);
    assert_int_equal(g.granted, 1);
    assert_int_equal(rate_take(r, &q, &g, NULL), 0);
    assert_int_equal(g.granted, 0);
    int64_t until = clock_mono_us() + g.retry_after_ms * 1000;
    while (clock_mono_us() < until) assert_int_equal(redis_call(r, NULL, NULL, "PING"), 0);
    assert_int_equal(rate_take(r, &q, &g, NULL), 0);
    assert_int_equal(g.granted, 1);
    redis_free(r);
}

static void the_script_is_sent_again_when_redis_has_forgotten_it(void **state)
{
    (void)state;
    struct redis *r = redis_fixture_connect();
    struct rate_request q = a_request(10, 5, 1);
    struct rate_grant g;
    assert_int_equal(rate_take(r, &q, &g, NULL), 0);
    assert_int_equal(redis_call(r, NULL, NULL, "SCRIPT FLUSH"), 0);
    assert_int_equal(rate_take(r, &q, &g, NULL), 0);
    assert_int_equal(g.granted, 1);
    assert_int_equal(g.remaining, 3);
    redis_free(r);
}

enum { TAKERS = 4, BURST = 100 };
static atomic_int taken;
static struct rate_request shared;

static void *take_many(void *arg)
{
    (void)arg;
    struct redis *r = redis_fixture_connect();
    for (int i = 0; i < 200; i++) {
        struct rate_grant g = {0};
        if (rate_take(r, &shared, &g, NULL) == 0) taken += g.granted;
    }
    redis_free(r);
    return NULL;
}

static void many_takers_together_get_no_more_than_the_bucket(void **state)
{
    (void)state;
    pthread_t threads[TAKERS];
    shared = a_request(0.001, BURST, 3);
    for (int i = 0; i < TAKERS; i++) pthread_create(&threads[i], NULL, take_many, NULL);
    for (int i = 0; i < TAKERS; i++) pthread_join(threads[i], NULL);
    assert_int_equal(taken, BURST);
}

static void a_forgotten_bucket_is_a_full_one_and_never_more(void **state)
{
    (void)state;
    struct redis *r = redis_fixture_connect();
    struct rate_request q = a_request(1, 4, 10);
    struct rate_grant g;
    assert_int_equal(rate_take(r, &q, &g, NULL), 0);
    assert_int_equal(g.granted, 4);
    redis_fixture_flush();
    assert_int_equal(rate_take(r, &q, &g, NULL), 0);
    assert_int_equal(g.granted, 4);
    redis_free(r);
}

/* ---- usage
 * ------------------------------------------------------------------------------------------------------- */

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
    assert_false(usage_dirty(u));
    assert_int_equal(redis_call_argv(r, NULL, c.argc, c.argv, NULL, NULL), 0);
    usage_command_dispose(&c);
    usage_confirm(u, true);
    assert_false(usage_dirty(u)); /* nothing new, nothing to say */
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

static void an_unconfirmed_total_goes_out_again(void **state)
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
    usage_add(u, tenant, version, 1, 1, 1, NULL); /* while the first is on its way */
    usage_confirm(u, false);
    publish(u, r);
    assert_int_equal(read_only_row(r, inc).rows, 2);
    usage_free(u);
    redis_free(r);
}

static void the_threads_of_a_worker_are_added_up(void **state)
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

static void a_malformed_total_is_told_not_billed(void **state)
{
    (void)state;
    struct redis *r = redis_fixture_connect();
    char inc[ID_MAX], key[USAGE_KEY_MAX];
    struct usage_total *rows;
    size_t n;
    id_new(inc, "inc");
    usage_key(key, inc);
    redis_fixture_int("HSET %s %s %s", key, "nonsense", "1 2 3");
    assert_int_equal(usage_read(r, inc, &rows, &n, NULL), ERR_CORRUPT);
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
        cmocka_unit_test(a_bucket_starts_full_and_then_says_when),
        cmocka_unit_test(the_time_told_to_wait_is_true),
        cmocka_unit_test(the_script_is_sent_again_when_redis_has_forgotten_it),
        cmocka_unit_test(many_takers_together_get_no_more_than_the_bucket),
        cmocka_unit_test(a_forgotten_bucket_is_a_full_one_and_never_more),
        cmocka_unit_test_setup(totals_are_set_and_grow, flush),
        cmocka_unit_test_setup(totals_lost_by_redis_are_published_again_and_not_doubled, flush),
        cmocka_unit_test_setup(an_unconfirmed_total_goes_out_again, flush),
        cmocka_unit_test_setup(the_threads_of_a_worker_are_added_up, flush),
        cmocka_unit_test_setup(a_malformed_total_is_told_not_billed, flush),
        cmocka_unit_test_setup(many_totals_survive, flush),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
