/* A stop request ends every wait, now and later; a nudge ends one. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/clock.h"
#include "base/halt.h"

enum { THREADS = 4, LONG_MS = 600000 };

struct waiter {
    struct halt *halt;
    bool stopped;
};

static void *wait_long(void *arg)
{
    struct waiter *w = arg;
    w->stopped = halt_wait(w->halt, LONG_MS);
    return NULL;
}

static void a_request_ends_every_wait_now_and_from_then_on(void **state)
{
    (void)state;
    struct halt h;
    halt_init(&h);
    assert_false(halt_requested(&h));
    struct waiter waiters[THREADS];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        waiters[i] = (struct waiter){&h, false};
        assert_int_equal(pthread_create(&threads[i], NULL, wait_long, &waiters[i]), 0);
    }
    halt_request(&h);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_true(waiters[i].stopped);
    }
    assert_true(halt_requested(&h));
    assert_true(halt_wait(&h, LONG_MS));
    halt_dispose(&h);
}

static void a_wait_ends_by_itself_after_its_time(void **state)
{
    (void)state;
    struct halt h;
    halt_init(&h);
    int64_t from = clock_mono_us();
    assert_false(halt_wait(&h, 20));
    assert_true(clock_mono_us() - from >= 20000);
    assert_false(halt_wait(&h, 0));
    assert_false(halt_wait(&h, -5));
    halt_dispose(&h);
}

static void a_nudge_before_the_wait_is_not_lost_and_counts_once(void **state)
{
    (void)state;
    struct halt h;
    halt_init(&h);
    halt_nudge(&h);
    int64_t from = clock_mono_ms();
    assert_false(halt_wait(&h, LONG_MS));
    assert_true(clock_mono_ms() - from < LONG_MS / 2);
    from = clock_mono_us();
    assert_false(halt_wait(&h, 20));
    assert_true(clock_mono_us() - from >= 20000); /* the nudge was used up */
    halt_dispose(&h);
}

static void a_nudge_wakes_who_waits(void **state)
{
    (void)state;
    struct halt h;
    halt_init(&h);
    struct waiter w = {&h, true};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, wait_long, &w), 0);
    halt_nudge(&h);
    pthread_join(thread, NULL);
    assert_false(w.stopped);
    halt_dispose(&h);
}

static void blocked_signals_are_fetched_and_sigpipe_does_not_kill(void **state)
{
    (void)state;
    halt_signal_block();
    raise(SIGPIPE);
    raise(SIGTERM);
    assert_int_equal(halt_signal_wait(), SIGTERM);
    raise(SIGINT);
    assert_int_equal(halt_signal_wait(), SIGINT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_ends_every_wait_now_and_from_then_on),
        cmocka_unit_test(a_wait_ends_by_itself_after_its_time),
        cmocka_unit_test(a_nudge_before_the_wait_is_not_lost_and_counts_once),
        cmocka_unit_test(a_nudge_wakes_who_waits),
        cmocka_unit_test(blocked_signals_are_fetched_and_sigpipe_does_not_kill),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
