/* Threads: their signals, their stack, and what happens when there can be none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include "base/thread.h"

enum { STACK_BYTES = 3 << 20 };

struct seen {
    sigset_t mask;
    size_t stack_bytes;
};

static void *look(void *arg)
{
    struct seen *s = arg;
    pthread_attr_t attr;
    pthread_sigmask(SIG_SETMASK, NULL, &s->mask);
    pthread_getattr_np(pthread_self(), &attr);
    pthread_attr_getstacksize(&attr, &s->stack_bytes);
    pthread_attr_destroy(&attr);
    return arg;
}

static void a_thread_takes_no_signal_and_its_starter_goes_on_taking_them(void **state)
{
    (void)state;
    struct seen s;
    sigset_t mine;
    pthread_t thread;
    void *back = NULL;
    assert_int_equal(thread_start(&thread, STACK_BYTES, look, &s), 0);
    assert_int_equal(pthread_join(thread, &back), 0);
    assert_ptr_equal(back, &s);
    assert_int_equal(s.stack_bytes, STACK_BYTES);
    pthread_sigmask(SIG_SETMASK, NULL, &mine);
    for (int n = 1; n < 32; n++) {
        assert_int_equal(sigismember(&s.mask, n), n != SIGKILL && n != SIGSTOP);
        assert_int_equal(sigismember(&mine, n), 0);
    }
}

static void a_stack_that_cannot_be_is_an_error(void **state)
{
    (void)state;
    sigset_t mine;
    pthread_t thread;
    assert_int_equal(thread_start(&thread, 1, look, NULL), EINVAL);
    pthread_sigmask(SIG_SETMASK, NULL, &mine);
    assert_int_equal(sigismember(&mine, SIGTERM), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thread_takes_no_signal_and_its_starter_goes_on_taking_them),
        cmocka_unit_test(a_stack_that_cannot_be_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
