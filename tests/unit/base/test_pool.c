/* A pool runs blocking work off the loop, hands it back to the loop, and refuses at once when it is full. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "base/mem.h"
#include "base/pool.h"

enum { THREADS = 3, TASKS = 5000 };

static atomic_int states_made, states_freed;

struct thread_state {
    pthread_t owner;
    int runs;
};

static void *make_state(void *ctx)
{
    struct thread_state *s = mem_alloc(1, sizeof *s);
    s->owner = pthread_self();
    atomic_fetch_add((atomic_int *)ctx, 1);
    return s;
}

static void free_state(void *state)
{
    atomic_fetch_add(&states_freed, 1);
    mem_free(state);
}

struct job {
    struct loop *loop;
    int *finished; /* the loop's thread only */
    int square;
    bool right_thread;
};

static void work(void *arg, void *thread_state)
{
    struct job *j = arg;
    struct thread_state *s = thread_state;
    s->runs++;
    j->right_thread = pthread_equal(s->owner, pthread_self());
    j->square *= j->square;
}

static void done(void *arg)
{
    struct job *j = arg;
    if (++*j->finished == TASKS) loop_stop(j->loop);
}

static void every_task_runs_on_a_pool_thread_and_comes_back_to_the_loop(void **state)
{
    (void)state;
    struct loop *l;
    struct pool *p;
    int finished = 0;
    assert_int_equal(loop_create(&l, NULL), 0);
    assert_int_equal(pool_create(&p, "test", THREADS, TASKS, make_state, free_state, &states_made, NULL), 0);
    struct job *jobs = mem_alloc(TASKS, sizeof *jobs);
    for (int i = 0; i < TASKS; i++) {
        jobs[i] = (struct job){l, &finished, i, false};
        assert_int_equal(pool_submit(p, work, &jobs[i], l, done), 0);
    }
    loop_run(l);
    for (int i = 0; i < TASKS; i++) assert_true(jobs[i].right_thread && jobs[i].square == i * i);
    pool_free(p);
    assert_int_equal(atomic_load(&states_made), THREADS);
    assert_int_equal(atomic_load(&states_freed), THREADS);
    loop_free(l);
    mem_free(jobs);
}

struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int inside;
    bool open;
};

static void wait_at_gate(void *arg, void *thread_state)
{
    (void)thread_state;
    struct gate *g = arg;
    pthread_mutex_lock(&g->lock);
    g->inside++;
    pthread_cond_broadcast(&g->changed);
    while (!g->open) pthread_cond_wait(&g->changed, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

static void count_up(void *arg, void *thread_state)
{
    (void)thread_state;
    atomic_fetch_add((atomic_int *)arg, 1);
}

static void open_gate(struct gate *g)
{
    pthread_mutex_lock(&g->lock);
    g->open = true;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

static void refuses_when_its_queue_is_full_and_runs_the_rest_before_it_ends(void **state)
{
    (void)state;
    struct gate g = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, false};
    atomic_int runs = 0;
    struct pool *p;
    assert_int_equal(pool_create(&p, "a name that is longer than fifteen", 1, 2, NULL, NULL, NULL, NULL), 0);
    assert_int_equal(pool_submit(p, wait_at_gate, &g, NULL, NULL), 0);
    pthread_mutex_lock(&g.lock);
    while (g.inside == 0) pthread_cond_wait(&g.changed, &g.lock);
    pthread_mutex_unlock(&g.lock);
    assert_int_equal(pool_waiting(p), 0);
    assert_int_equal(pool_submit(p, count_up, &runs, NULL, NULL), 0);
    assert_int_equal(pool_submit(p, count_up, &runs, NULL, NULL), 0);
    assert_int_equal(pool_waiting(p), 2);
    assert_int_equal(pool_submit(p, count_up, &runs, NULL, NULL), ERR_OVERLOAD);
    assert_int_equal(atomic_load(&runs), 0);
    open_gate(&g);
    pool_free(p);
    assert_int_equal(atomic_load(&runs), 2);
}

static void threads_work_side_by_side(void **state)
{
    (void)state;
    struct gate g = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, false};
    struct pool *p;
    assert_int_equal(pool_create(&p, "test", THREADS, THREADS, NULL, NULL, NULL, NULL), 0);
    for (int i = 0; i < THREADS; i++) assert_int_equal(pool_submit(p, wait_at_gate, &g, NULL, NULL), 0);
    pthread_mutex_lock(&g.lock);
    while (g.inside < THREADS) pthread_cond_wait(&g.changed, &g.lock);
    pthread_mutex_unlock(&g.lock);
    open_gate(&g);
    pool_free(p);
}

static void read_mask(void *arg, void *thread_state)
{
    (void)thread_state;
    pthread_sigmask(SIG_SETMASK, NULL, arg);
}

static void signals_are_left_to_the_main_thread(void **state)
{
    (void)state;
    sigset_t theirs, mine;
    sigemptyset(&theirs);
    struct pool *p;
    assert_int_equal(pool_create(&p, "test", 1, 1, NULL, NULL, NULL, NULL), 0);
    assert_int_equal(pool_submit(p, read_mask, &theirs, NULL, NULL), 0);
    pool_free(p);
    assert_true(sigismember(&theirs, SIGTERM) && sigismember(&theirs, SIGINT));
    pthread_sigmask(SIG_SETMASK, NULL, &mine);
    assert_false(sigismember(&mine, SIGTERM));
}

static void says_when_memory_is_out(void **state)
{
    (void)state;
    for (size_t nth = 1; nth <= 3; nth++) {
        struct pool *p;
        struct err e = {0};
        mem_fail_at(nth, false);
        assert_int_equal(pool_create(&p, "test", 1, 1, NULL, NULL, NULL, &e), ERR_NOMEM);
        mem_fail_at(0, false);
        assert_null(p);
    }
    struct pool *p;
    assert_int_equal(pool_create(&p, "test", 1, SIZE_MAX / 4, NULL, NULL, NULL, NULL), ERR_NOMEM);
    pool_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_task_runs_on_a_pool_thread_and_comes_back_to_the_loop),
        cmocka_unit_test(refuses_when_its_queue_is_full_and_runs_the_rest_before_it_ends),
        cmocka_unit_test(threads_work_side_by_side),
        cmocka_unit_test(signals_are_left_to_the_main_thread),
        cmocka_unit_test(says_when_memory_is_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
