/* A monotonic clock that a test moves or stops, in place of the C library's: for the program's own code as
 * for libevent's timers. Included by one file of a program. */
#ifndef TESTS_UNIT_FAKE_CLOCK_H
#define TESTS_UNIT_FAKE_CLOCK_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static _Atomic int64_t fake_clock_ahead_ns;   /* of the true one */
static _Atomic int64_t fake_clock_stopped_at; /* 0: it runs */

static int64_t fake_clock_true_ns(void)
{
    struct timespec t;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int clock_gettime(clockid_t id, struct timespec *out)
{
    if (id != CLOCK_MONOTONIC && id != CLOCK_MONOTONIC_COARSE && id != CLOCK_MONOTONIC_RAW)
        return (int)syscall(SYS_clock_gettime, id, out);
    int64_t stopped = fake_clock_stopped_at, now = stopped ? stopped : fake_clock_true_ns();
    now += fake_clock_ahead_ns;
    out->tv_sec = now / 1000000000;
    out->tv_nsec = now % 1000000000;
    return 0;
}

static inline void fake_clock_move_ms(int64_t ms)
{
    fake_clock_ahead_ns += ms * 1000000;
}

static inline void fake_clock_stop(void)
{
    fake_clock_stopped_at = fake_clock_true_ns();
}

/* It goes on from where it stood. */
static inline void fake_clock_run(void)
{
    if (!fake_clock_stopped_at) return;
    fake_clock_ahead_ns -= fake_clock_true_ns() - fake_clock_stopped_at;
    fake_clock_stopped_at = 0;
}

#endif
