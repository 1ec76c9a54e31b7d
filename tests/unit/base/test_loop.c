/* Work posted from other threads runs on the loop's thread, in order, and all of it. */
#include <event2/event.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/clock.h"
#include "base/loop.h"
#include "base/mem.h"

enum { THREADS = 4, PER_THREAD = 20000 };

struct counter {
    struct loop *loop;
    pthread_t owner;
    int next[THREADS]; /* the number that each poster is to show next */
    int total;
    bool right;
};

struct note {
    struct counter *counter;
    int poster, number;
};

static void on_note(void *arg)
{
    struct note *n = arg;
    struct counter *c = n->counter;
    c->right = c->right && pthread_equal(pthread_self(), c->owner) && c->next[n->poster] == n->number;
    c->next[n->poster]++;
    if (++c->total == THREADS * PER_THREAD) loop_stop(c->loop);
}

static void *post_many(void *arg)
{
    struct note *notes = arg;
    for (int i = 0; i < PER_THREAD; i++) loop_post(notes[i].counter->loop, on_note, &notes[i]);
    return NULL;
}

static void posts_of_many_threads_arrive_once_and_in_order(void **state)
{
    (void)state;
    struct counter c = {.owner = pthread_self(), .right = true};
    assert_int_equal(loop_create(&c.loop, NULL), 0);
    struct note *notes = mem_alloc(THREADS * PER_THREAD, sizeof *notes);
    pthread_t threads[THREADS];
    for (int t = 0; t < THREADS; t++) {
        for (int i = 0; i < PER_THREAD; i++) notes[t * PER_THREAD + i] = (struct note){&c, t, i};
        assert_int_equal(pthread_create(&threads[t], NULL, post_many, notes + t * PER_THREAD), 0);
    }
    loop_run(c.loop);
    for (int t = 0; t < THREADS; t++) pthread_join(threads[t], NULL);
    assert_int_equal(c.total, THREADS * PER_THREAD);
    assert_true(c.right);
    loop_free(c.loop);
    mem_free(notes);
}

struct chain {
    struct loop *loop;
    int left;
    bool timer_ran;
};

static void on_link(void *arg)
{
    struct chain *c = arg;
    if (!c->timer_ran && --c->left == 0) c->left = -1; /* starved: the timer had no turn in all the rounds */
    if (c->timer_ran || c->left < 0)
        loop_stop(c->loop);
    else
        loop_post(c->loop, on_link, c);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    ((struct chain *)arg)->timer_ran = true;
}

static void a_function_that_posts_itself_leaves_the_loop_its_turn(void **state)
{
    (void)state;
    struct chain c = {.left = 1000000};
    assert_int_equal(loop_create(&c.loop, NULL), 0);
    struct event *timer = event_new(loop_base(c.loop), -1, 0, on_timer, &c);
    struct timeval soon = {0, 1};
    event_add(timer, &soon);
    loop_post(c.loop, on_link, &c);
    loop_run(c.loop);
    assert_true(c.timer_ran);
    event_free(timer);
    loop_free(c.loop);
}

static void count_up(void *arg)
{
    ++*(int *)arg;
}

static void work_posted_before_a_stop_still_runs(void **state)
{
    (void)state;
    struct loop *l;
    int runs = 0;
    assert_int_equal(loop_create(&l, NULL), 0);
    for (int i = 0; i < 200; i++) loop_post(l, count_up, &runs);
    loop_stop(l); /* before the run: it must not be lost */
    loop_run(l);
    assert_int_equal(runs, 200);
    loop_post(l, count_up, &runs);
    loop_free(l); /* never ran: dropped, not leaked */
    assert_int_equal(runs, 200);
    loop_free(NULL);
}

static void *run_loop(void *arg)
{
    loop_run(arg);
    return NULL;
}

static void any_thread_may_stop_it(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        struct loop *l;
        pthread_t thread;
        assert_int_equal(loop_create(&l, NULL), 0);
        assert_int_equal(pthread_create(&thread, NULL, run_loop, l), 0);
        loop_stop(l);
        pthread_join(thread, NULL);
        loop_free(l);
    }
}

static void says_when_memory_is_out(void **state)
{
    (void)state;
    struct loop *l;
    struct err e = {0};
    mem_fail_at(1, false);
    assert_int_equal(loop_create(&l, &e), ERR_NOMEM);
    mem_fail_at(0, false);
    assert_null(l);
}

enum { BUSY = 100, BUSY_US = 500 };

struct crowd {
    struct loop *loop;
    int usual, usual_before_prompt, usual_before_timer;
};

static void be_busy(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct crowd *c = arg;
    int64_t until_us = clock_mono_us() + BUSY_US;
    while (clock_mono_us() < until_us) continue;
    if (++c->usual == BUSY) loop_stop(c->loop);
}

static void on_prompt(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct crowd *c = arg;
    c->usual_before_prompt = c->usual;
}

static void on_due(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct crowd *c = arg;
    c->usual_before_timer = c->usual;
}

static void what_is_prompt_waits_for_a_slice_of_the_usual_and_not_for_all_of_it(void **state)
{
    (void)state;
    struct crowd c = {.usual_before_prompt = -1, .usual_before_timer = -1};
    struct event *busy[BUSY], *prompt, *timer;
    assert_int_equal(loop_create(&c.loop, NULL), 0);
    for (int i = 0; i < BUSY; i++) {
        busy[i] = event_new(loop_base(c.loop), -1, 0, be_busy, &c);
        event_active(busy[i], EV_READ, 0);
    }
    prompt = event_new(loop_base(c.loop), -1, 0, on_prompt, &c);
    event_priority_set(prompt, LOOP_PROMPT);
    event_active(prompt, EV_READ, 0);
    timer = evtimer_new(loop_base(c.loop), on_due, &c);
    event_priority_set(timer, LOOP_PROMPT);
    event_add(timer, &(struct timeval){.tv_usec = 3 * BUSY_US});
    loop_run(c.loop);
    assert_int_equal(c.usual_before_prompt, 0);
    assert_in_range(c.usual_before_timer, 1,
                    BUSY / 2); /* 3 and a slice, on a machine that does nothing else */
    for (int i = 0; i < BUSY; i++) event_free(busy[i]);
    event_free(prompt);
    event_free(timer);
    loop_free(c.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(posts_of_many_threads_arrive_once_and_in_order),
        cmocka_unit_test(a_function_that_posts_itself_leaves_the_loop_its_turn),
        cmocka_unit_test(work_posted_before_a_stop_still_runs),
        cmocka_unit_test(any_thread_may_stop_it),
        cmocka_unit_test(what_is_prompt_waits_for_a_slice_of_the_usual_and_not_for_all_of_it),
        cmocka_unit_test(says_when_memory_is_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
