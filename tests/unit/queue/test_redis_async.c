/* The asynchronous connection on a real loop against a real Redis: answers, bounds, time-outs, losing the
 * server and getting it back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "queue/rate.h"
#include "queue/redis_async.h"
#include "tests/unit/queue/redis_fixture.h"

enum { PATIENCE_MS = 10000 };

/* What the callbacks have seen so far. */
struct seen {
    struct redis_async *r;
    int ups, downs, answers, failures, messages;
    char text[64];
    struct rate_grant grant;
    bool ask_again;
};

static struct loop *loop;

static int set_up(void **state)
{
    (void)state;
    return loop_create(&loop, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    loop_free(loop);
    return 0;
}

static void on_state(void *arg, bool up)
{
    struct seen *s = arg;
    up ? s->ups++ : s->downs++;
}

static void on_reply(void *arg, int rc, const redisReply *reply, const struct err *e)
{
    struct seen *s = arg;
    if (rc) {
        s->failures++;
        snprintf(s->text, sizeof s->text, "%.60s", e->message);
        if (s->ask_again) assert_int_equal(redis_async_call(s->r, on_reply, s, "PING"), ERR_UNAVAILABLE);
        return;
    }
    s->answers++;
    if (redis_reply_str(reply)) snprintf(s->text, sizeof s->text, "%.60s", reply->str);
}

static void on_message(void *arg, const char *channel, const char *data, size_t len)
{
    struct seen *s = arg;
    s->messages++;
    assert_string_equal(channel, "news");
    memcpy(s->text, data, len + 1);
}

/* Runs the loop until *counter reaches n. */
static void run_until(const int *counter, int n)
{
    int64_t give_up = clock_mono_ms() + PATIENCE_MS;
    while (*counter < n && clock_mono_ms() < give_up) event_base_loop(loop_base(loop), EVLOOP_ONCE);
    assert_true(*counter >= n);
}

static struct redis_async *connect_with(struct seen *s, int timeout_ms, size_t in_flight_max)
{
    struct redis_async_config c = {.address = redis_fixture_start(),
                                   .name = "test",
                                   .timeout_ms = timeout_ms,
                                   .in_flight_max = in_flight_max,
                                   .on_state = on_state,
                                   .arg = s};
    s->r = redis_async_create(loop, &c);
    return s->r;
}

static void commands_are_answered_in_order_and_refused_before_the_connection_is_up(void **state)
{
    (void)state;
    struct seen s = {0};
    struct redis_async *r = connect_with(&s, 0, 0);
    assert_int_equal(redis_async_call(r, on_reply, &s, "PING"), ERR_UNAVAILABLE);
    run_until(&s.ups, 1);
    assert_true(redis_async_up(r));
    assert_int_equal(redis_async_call(r, on_reply, &s, "SET k v"), 0);
    assert_int_equal(redis_async_call(r, on_reply, &s, "GET k"), 0);
    run_until(&s.answers, 2);
    assert_string_equal(s.text, "v");
    assert_int_equal(redis_async_call(r, on_reply, &s, "NONSENSE"), 0);
    run_until(&s.failures, 1);
    assert_true(redis_async_up(r));
    assert_int_equal(redis_async_in_flight(r), 0);
    redis_async_free(r);
}

static void no_more_than_the_bound_is_in_flight(void **state)
{
    (void)state;
    struct seen s = {0};
    struct redis_async *r = connect_with(&s, 0, 3);
    run_until(&s.ups, 1);
    for (int i = 0; i < 3; i++) assert_int_equal(redis_async_call(r, on_reply, &s, "PING"), 0);
    assert_int_equal(redis_async_call(r, on_reply, &s, "PING"), ERR_OVERLOAD);
    run_until(&s.answers, 3);
    assert_int_equal(redis_async_call(r, on_reply, &s, "PING"), 0);
    run_until(&s.answers, 4);
    redis_async_free(r);
}

static void a_silent_server_is_given_up_and_connected_to_again(void **state)
{
    (void)state;
    struct seen s = {0};
    struct redis_async *r = connect_with(&s, 150, 0);
    run_until(&s.ups, 1);
    assert_int_equal(redis_async_call(r, on_reply, &s, "BLPOP nothing 5"), 0);
    assert_int_equal(redis_async_call(r, on_reply, &s, "PING"), 0);
    run_until(&s.failures, 2);
    assert_int_equal(s.downs, 1);
    run_until(&s.ups, 2);
    redis_async_free(r);
}

static void a_blocking_pop_has_its_time_on_top(void **state)
{
    (void)state;
    struct seen s = {0};
    struct redis_async *r = connect_with(&s, 150, 0);
    const char *argv[] = {"BLPOP", "nothing", "0.4"};
    run_until(&s.ups, 1);
    assert_int_equal(redis_async_argv(r, 400, on_reply, &s, 3, argv, NULL), 0);
    run_until(&s.answers, 1);
    assert_int_equal(s.failures, 0);
    redis_async_free(r);
}

static void everything_in_flight_is_answered_when_the_server_dies_and_it_comes_back(void **state)
{
    (void)state;
    struct seen s = {.ask_again = true};
    struct redis_async *r = connect_with(&s, 0, 0);
    run_until(&s.ups, 1);
    for (int i = 0; i < 5; i++) assert_int_equal(redis_async_call(r, on_reply, &s, "BLPOP nothing 5"), 0);
    redis_fixture_stop_server();
    run_until(&s.failures, 5);
    run_until(&s.downs, 1);
    assert_int_equal(redis_async_in_flight(r), 0);
    redis_fixture_start_server();
    run_until(&s.ups, 2);
    s.ask_again = false;
    assert_int_equal(redis_async_call(r, on_reply, &s, "PING"), 0);
    run_until(&s.answers, 1);
    redis_async_free(r);
}

static void freeing_answers_what_is_in_flight(void **state)
{
    (void)state;
    struct seen s = {0};
    struct redis_async *r = connect_with(&s, 0, 0);
    run_until(&s.ups, 1);
    assert_int_equal(redis_async_call(r, on_reply, &s, "BLPOP nothing 5"), 0);
    redis_async_free(r);
    assert_int_equal(s.failures, 1);
    assert_int_equal(s.downs, 0);
}

static void a_wrong_password_never_comes_up(void **state)
{
    (void)state;
    struct seen s = {0}, good = {0};
    struct redis_address a = *redis_fixture_start();
    strcpy(a.password, "wrong");
    struct redis_async_config c = {.address = &a, .name = "test", .on_state = on_state, .arg = &s};
    struct redis_async *r = redis_async_create(loop, &c), *other = connect_with(&good, 0, 0);
    run_until(&good.ups, 1);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(redis_async_call(other, on_reply, &good, "PING"), 0);
        run_until(&good.answers, i + 1);
    }
    assert_int_equal(s.ups, 0);
    redis_async_free(r);
    redis_async_free(other);
}

static void a_subscription_outlives_the_server(void **state)
{
    (void)state;
    static const char *const channels[] = {"news"};
    struct seen s = {0};
    struct redis_async *r = connect_with(&s, 0, 0);
    redis_async_subscribe(r, channels, 1, on_message, &s);
    run_until(&s.ups, 1);
    assert_int_equal(redis_fixture_int("PUBLISH news one"), 1); /* up means subscribed */
    run_until(&s.messages, 1);
    assert_string_equal(s.text, "one");
    redis_fixture_stop_server();
    run_until(&s.downs, 1);
    redis_fixture_start_server();
    run_until(&s.ups, 2);
    assert_int_equal(redis_fixture_int("PUBLISH news two"), 1);
    run_until(&s.messages, 2);
    assert_string_equal(s.text, "two");
    redis_async_free(r);
}

static void on_grant(void *arg, int rc, const struct rate_grant *g, const struct err *e)
{
    (void)e;
    struct seen *s = arg;
    assert_int_equal(rc, 0);
    s->grant = *g;
    s->answers++;
}

static void a_rate_lease_survives_a_forgotten_script(void **state)
{
    (void)state;
    struct seen s = {0};
    struct redis_async *r = connect_with(&s, 0, 0);
    struct rate_request q = {.per_second = 1, .burst = 10, .want = 4};
    id_new(q.tenant_id, "ten");
    run_until(&s.ups, 1);
    redis_fixture_int("SCRIPT FLUSH");
    assert_int_equal(rate_take_async(r, &q, on_grant, &s), 0);
    run_until(&s.answers, 1);
    assert_int_equal(s.grant.granted, 4);
    assert_int_equal(rate_take_async(r, &q, on_grant, &s), 0);
    run_until(&s.answers, 2);
    assert_int_equal(s.grant.remaining, 2);
    redis_async_free(r);
}

int main(void)
{
    redis_fixture_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            commands_are_answered_in_order_and_refused_before_the_connection_is_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_more_than_the_bound_is_in_flight, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_silent_server_is_given_up_and_connected_to_again, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_blocking_pop_has_its_time_on_top, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            everything_in_flight_is_answered_when_the_server_dies_and_it_comes_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(freeing_answers_what_is_in_flight, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_wrong_password_never_comes_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_subscription_outlives_the_server, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_rate_lease_survives_a_forgotten_script, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
