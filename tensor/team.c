/* A gate that all members pass together, and threads that wait at it between pieces of work.
 *
 * The gate is one word that grows by one each time the last member arrives; the others watch it, and sleep on
 * it with futex(2). `sleepers` is raised before the kernel looks at the word again, and the word is moved
 * before `sleepers` is read, so that whoever sleeps is woken. `work` and `ctx` are the caller's to write
 * while the others are at the gate. */
#include "tensor/team.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/mem.h"
#include "base/thread.h"

/* A member waits this long before it sleeps: longer than what lies between two steps, shorter than what
 * anybody would notice on a bill. The clock is read once in PAUSES rounds. Products take up to half a MiB of
 * stack. */
enum { SPIN_NS = 50000, PAUSES = 16, STACK_BYTES = 4 << 20, LINE = 64 };

struct member {
    struct team *team;
    int index;
    pthread_t thread;
};

struct team {
    atomic_int n; /* members */
    int started;  /* threads of ours among them */
    int64_t spin_ns;
    team_work work; /* NULL: go home */
    void *ctx;
    struct member member[TEAM_MAX_MEMBERS];
    _Alignas(LINE) atomic_uint round;
    _Alignas(LINE) atomic_int arrived;
    atomic_int sleepers;
};

static void pause_briefly(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static bool spin(struct team *t, unsigned before)
{
    for (int64_t until = 0;;) {
        for (int i = 0; i < PAUSES; i++) {
            if (atomic_load_explicit(&t->round, memory_order_acquire) != before) return true;
            pause_briefly();
        }
        int64_t now = clock_mono_ns();
        if (until == 0) until = now + t->spin_ns;
        if (now >= until) return false;
    }
}

static void sleep_until_moved(struct team *t, unsigned before)
{
    atomic_fetch_add(&t->sleepers, 1);
    while (atomic_load(&t->round) == before)
        (void)syscall(SYS_futex, &t->round, FUTEX_WAIT_PRIVATE, before, NULL, NULL, 0);
    atomic_fetch_sub(&t->sleepers, 1);
}

void team_meet(struct team *t)
{
    unsigned before = atomic_load(&t->round);
    int arrived = atomic_fetch_add(&t->arrived, 1) + 1;
    if (arrived < atomic_load(&t->n)) {
        if (!spin(t, before)) sleep_until_moved(t, before);
        return;
    }
    atomic_store(&t->arrived, 0);
    atomic_store(&t->round, before + 1);
    if (atomic_load(&t->sleepers) > 0)
        (void)syscall(SYS_futex, &t->round, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void *serve(void *arg)
{
    struct member *m = arg;
    for (;;) {
        team_meet(m->team);
        if (!m->team->work) return NULL;
        m->team->work(m->team->ctx, m->index);
        team_meet(m->team);
    }
}

void team_run(struct team *t, team_work work, void *ctx)
{
    t->work = work;
    t->ctx = ctx;
    team_meet(t);
    work(ctx, 0);
    team_meet(t);
}

/* ---- life ---- */

/* Spinning is for threads that each have a processor. */
static int64_t spin_time(int members)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 0;
    return CPU_COUNT(&set) >= members ? SPIN_NS : 0;
}

static int start(struct team *t, struct err *e)
{
    int rc = 0;
    for (int i = 1; i < t->n && rc == 0; i++) {
        t->member[i] = (struct member){.team = t, .index = i};
        rc = thread_start(&t->member[i].thread, STACK_BYTES, serve, &t->member[i]);
        if (rc == 0) t->started++;
    }
    if (rc == 0) return 0;
    return err_set(e, ERR_UNAVAILABLE, "threads", "thread %d of %d could not be started: %s", t->started + 2,
                   t->n, strerror(rc));
}

int team_create(struct team **out, int members, struct err *e)
{
    *out = NULL;
    if (members < 1 || members > TEAM_MAX_MEMBERS)
        return err_set(e, ERR_INVALID, "threads", "%d threads; expected 1 to %d", members, TEAM_MAX_MEMBERS);
    struct team *t = mem_try_aligned(LINE, sizeof *t);
    if (!t) return err_set(e, ERR_NOMEM, NULL, "no memory for %d threads", members);
    t->n = members;
    t->spin_ns = spin_time(members);
    int rc = start(t, e);
    if (rc)
        team_free(t);
    else
        *out = t;
    return rc;
}

void team_free(struct team *t)
{
    if (!t) return;
    /* Those that did start wait at the gate: as many as there are now must pass it. They may be there
     * already, so the number changes before we arrive ourselves. */
    t->n = t->started + 1;
    t->work = NULL;
    team_meet(t);
    for (int i = 1; i <= t->started; i++) pthread_join(t->member[i].thread, NULL);
    mem_free(t);
}

int team_members(const struct team *t)
{
    return t->n;
}
