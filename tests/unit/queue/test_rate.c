/* The token bucket against a real Redis. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include "base/clock.h"
#include "queue/rate.h"
#include "tests/unit/queue/redis_fixture.h"

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

int main(void)
{
    redis_fixture_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bucket_starts_full_and_then_says_when),
        cmocka_unit_test(the_time_told_to_wait_is_true),
        cmocka_unit_test(the_script_is_sent_again_when_redis_has_forgotten_it),
        cmocka_unit_test(many_takers_together_get_no_more_than_the_bucket),
        cmocka_unit_test(a_forgotten_bucket_is_a_full_one_and_never_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
