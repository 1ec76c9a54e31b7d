/* Threads that run soon after they wake, and threads that give way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <linux/sched/types.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>
#include "base/priority.h"

enum { SCHED_OTHER_POLICY = 0 };

static struct sched_attr now(void)
{
    struct sched_attr a = {0};
    assert_int_equal(syscall(SYS_sched_getattr, 0, &a, sizeof a, 0), 0);
    return a;
}

static void a_prompt_thread_has_a_short_slice_and_keeps_its_niceness(void **state)
{
    struct utsname u;
    int major = 0, minor = 0, before = getpriority(PRIO_PROCESS, 0);
    (void)state;
    priority_prompt();
    assert_int_equal(now().sched_policy, SCHED_OTHER_POLICY);
    assert_int_equal(now().sched_nice, before);
    uname(&u);
    sscanf(u.release, "%d.%d", &major, &minor);
    if (major > 6 || (major == 6 && minor >= 12)) assert_int_equal(now().sched_runtime, 100 * 1000);
}

static void a_patient_thread_is_nice(void **state)
{
    int before = getpriority(PRIO_PROCESS, 0), after = before < 5 ? 5 : before;
    (void)state;
    priority_patient();
    assert_int_equal(getpriority(PRIO_PROCESS, 0), after);
    priority_patient(); /* to say it twice does no more */
    assert_int_equal(getpriority(PRIO_PROCESS, 0), after);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_thread_has_a_short_slice_and_keeps_its_niceness),
        cmocka_unit_test(a_patient_thread_is_nice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
