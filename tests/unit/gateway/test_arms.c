/* The book of counts between a loop and a real Redis: what is written, and when a field is left for good. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "gateway/predict/arms.h"
#include "queue/redis_clock.h"
#include "tests/unit/queue/redis_fixture.h"

enum { PATIENCE_MS = 20000 };

static struct loop *loop;
static struct redis_async *commands;
static struct arms_book *book;
static struct redis *redis;
static struct rollout_id id;
static char key[ROLLOUT_KEY_MAX];

static void turn(void)
{
    event_base_loopexit(loop_base(loop), &(struct timeval){.tv_usec = 10000});
    event_base_loop(loop_base(loop), EVLOOP_ONCE);
}

static int set_up(void **state)
{
    (void)state;
    struct redis_async_config c = {.address = redis_fixture_start(), .name = "commands"};
    redis_fixture_flush();
    redis = redis_fixture_connect();
    assert_int_equal(redis_clock_measure(redis, NULL), 0);
    assert_int_equal(loop_create(&loop, NULL), 0);
    commands = redis_async_create(loop, &c);
    book = arms_book_create(loop, commands);
    id = (struct rollout_id){.model = "iris", .alias = "live", .etag = 7};
    id_new(id.tenant_id, "ten_");
    rollout_key(key, &id);
    while (!redis_async_up(commands)) turn();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    redis_async_free(commands);
    arms_book_free(book);
    loop_free(loop);
    redis_free(redis);
    return 0;
}

static int add(void *arg, const char *writer, const struct rollout_counts *counts, struct err *e)
{
    (void)writer, (void)e;
    rollout_add(arg, counts);
    return 0;
}

static int64_t written(void)
{
    struct rollout_counts sum = {0};
    assert_int_equal(rollout_read(redis, &id, add, &sum, NULL), 0);
    return sum.arm[ROLLOUT_CANARY].requests;
}

static void wait_written(int64_t requests, long long fields)
{
    int64_t until = clock_mono_ms() + PATIENCE_MS;
    while ((written() != requests || redis_fixture_int("HLEN %s", key) != fields) && clock_mono_ms() < until)
        turn();
    while (redis_async_in_flight(commands) > 0 && clock_mono_ms() < until) turn(); /* and the book knows it */
    assert_int_equal(written(), requests);
    assert_int_equal(redis_fixture_int("HLEN %s", key), fields);
}

/* Until the book has looked at its counts again. */
static void wait_flush(void)
{
    int64_t until = clock_mono_ms() + 2 * ARMS_FLUSH_MS;
    while (clock_mono_ms() < until) turn();
}

/* One more answer, and what Redis then has of all of them. */
static void count_one(struct arms *a, int64_t requests, long long fields)
{
    arms_answered(a, ROLLOUT_CANARY, 100);
    wait_written(requests, fields);
}

/* With one answer counted in its first field. */
static struct arms *open_counted(void)
{
    struct arms *a = arms_open(book, &id, 0);
    count_one(a, 1, 1);
    return a;
}

static void counts_come_into_one_field_while_they_are_written_to(void **state)
{
    (void)state;
    struct arms *a = open_counted();
    a->written_ms -= ROLLOUT_QUIET_MS / 2 - 60000; /* as if so much time had passed */
    arms_failed(a, ROLLOUT_CANARY);
    wait_written(2, 1);
    arms_close(a);
    wait_flush();
    assert_ptr_equal(arms_open(book, &id, 0), a); /* soon enough to go on */
    count_one(a, 3, 1);
    arms_close(a);
}

static void a_field_that_was_quiet_for_long_is_left_and_another_one_begun(void **state)
{
    (void)state;
    struct arms *a = open_counted();
    count_one(a, 2, 1);
    a->written_ms -= ROLLOUT_QUIET_MS / 2;
    wait_flush();
    assert_int_equal(a->counts.arm[ROLLOUT_CANARY].requests, 0);
    count_one(a, 3, 2); /* whoever still refers to it counts on */
    count_one(a, 4, 2);
    arms_close(a);
}

static void what_nobody_refers_to_is_forgotten_when_it_was_quiet_for_long(void **state)
{
    (void)state;
    struct arms *a = open_counted();
    arms_close(a);
    a->written_ms -= ROLLOUT_QUIET_MS / 2;
    wait_flush(); /* a is gone */
    a = arms_open(book, &id, 0);
    count_one(a, 2, 2);
    arms_close(a);
}

/* A call that comes in the very moment in which the field would be left is counted in it. */
static void a_call_after_a_long_silence_is_not_lost(void **state)
{
    (void)state;
    struct arms *a = open_counted();
    a->written_ms -= ROLLOUT_QUIET_MS / 2;
    count_one(a, 2, 1);
    arms_close(a);
}

static void counts_that_redis_has_not_taken_for_hours_are_given_up_with_their_field(void **state)
{
    (void)state;
    struct arms *a = open_counted();
    a->written_ms -= ROLLOUT_QUIET_MS; /* it may have been added to those that are gone by now */
    arms_answered(a, ROLLOUT_CANARY, 100);
    wait_flush();
    assert_int_equal(written(), 1);
    count_one(a, 2, 2);
    arms_close(a);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(counts_come_into_one_field_while_they_are_written_to),
        TEST(a_field_that_was_quiet_for_long_is_left_and_another_one_begun),
        TEST(what_nobody_refers_to_is_forgotten_when_it_was_quiet_for_long),
        TEST(a_call_after_a_long_silence_is_not_lost),
        TEST(counts_that_redis_has_not_taken_for_hours_are_given_up_with_their_field),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
