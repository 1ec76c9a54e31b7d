/* Who gets the next quantum of a slot, rule by rule; their interplay is test_policy_sim.c's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "scheduler/policy.h"

enum { QUANTUM_MS = 10000, MIB = 1 << 20 };

struct desk {
    struct policy *p;
    struct policy_actions actions;
    int64_t now;
};

static int set_up(void **state)
{
    static struct desk d;
    struct policy_config config = policy_config_default;
    config.quantum_ms = QUANTUM_MS;
    config.reserve_after_ms = 30000;
    memset(&d, 0, sizeof d);
    d.now = 1000000;
    *state = &d;
    return policy_create(&d.p, &config, NULL);
}

static int tear_down(void **state)
{
    struct desk *d = *state;
    policy_actions_dispose(&d->actions);
    policy_free(d->p);
    return 0;
}

static void name(char *to, const char *text)
{
    snprintf(to, ID_MAX, "%s", text);
}

static void step(struct desk *d, struct policy_event ev)
{
    struct err e = {0};
    ev.now_ms = d->now;
    if (policy_step(d->p, &ev, &d->actions, &e) != 0) fail_msg("%s", e.message);
}

static void worker(struct desk *d, const char *id, int64_t slots, int64_t memory, bool draining)
{
    struct policy_event ev = {
        .type = POLICY_WORKER_SEEN, .slots = slots, .memory_bytes = memory, .draining = draining};
    name(ev.worker, id);
    step(d, ev);
}

static struct policy_event job(enum policy_event_type type, const char *id, const char *tenant)
{
    struct policy_event ev = {.type = type, .slots = 1, .yieldable = true, .used_ms = -1};
    name(ev.job, id);
    name(ev.tenant, tenant);
    ev.queued_at_ms = 1;
    return ev;
}

static void submit(struct desk *d, const char *id, const char *tenant)
{
    step(d, job(POLICY_JOB_QUEUED, id, tenant));
}

/* It gave way: its slice is over, and it waits again. */
static void yielded(struct desk *d, const char *id, const char *tenant)
{
    step(d, job(POLICY_JOB_ENDED, id, tenant));
    submit(d, id, tenant);
}

static size_t fill_after(struct desk *d, int64_t ms)
{
    d->now += ms;
    step(d, (struct policy_event){.type = POLICY_FILL});
    return d->actions.len;
}

static void dispatched(struct desk *d, int64_t ms, const char *id)
{
    assert_int_equal(fill_after(d, ms), 1);
    assert_int_equal(d->actions.data[0].type, POLICY_DISPATCH);
    assert_string_equal(d->actions.data[0].job, id);
}

static void asked(struct desk *d, int64_t ms, const char *id)
{
    assert_int_equal(fill_after(d, ms), 1);
    assert_int_equal(d->actions.data[0].type, POLICY_YIELD);
    assert_string_equal(d->actions.data[0].job, id);
}

static void a_job_gives_way_at_the_end_of_its_quantum_and_resumes_when_it_is_due(void **state)
{
    struct desk *d = *state;
    worker(d, "inc_a", 1, 0, false);
    submit(d, "job_a", "ten_a");
    dispatched(d, 0, "job_a");
    submit(d, "job_b", "ten_b");
    assert_int_equal(fill_after(d, QUANTUM_MS / 2), 0); /* not before */
    asked(d, QUANTUM_MS / 2, "job_a");
    assert_string_equal(d->actions.data[0].worker, "inc_a");
    yielded(d, "job_a", "ten_a");
    dispatched(d, 0, "job_b");
    assert_int_equal(fill_after(d, QUANTUM_MS), 0); /* both had one: who runs goes on */
    asked(d, QUANTUM_MS, "job_b");
    yielded(d, "job_b", "ten_b");
    dispatched(d, 0, "job_a");
}

static void a_job_that_is_alone_or_among_its_own_is_never_asked(void **state)
{
    struct desk *d = *state;
    worker(d, "inc_a", 1, 0, false);
    submit(d, "job_a", "ten_a");
    dispatched(d, 0, "job_a");
    for (int i = 0; i < 20; i++) assert_int_equal(fill_after(d, QUANTUM_MS), 0);
    submit(d, "job_more", "ten_a");
    for (int i = 0; i < 20; i++) assert_int_equal(fill_after(d, QUANTUM_MS), 0);
}

static void a_tenant_that_comes_late_gets_no_more_than_its_share_from_then_on(void **state)
{
    struct desk *d = *state;
    int turns_b = 0;
    worker(d, "inc_a", 1, 0, false);
    submit(d, "job_a", "ten_a");
    dispatched(d, 0, "job_a");
    for (int i = 0; i < 50; i++) assert_int_equal(fill_after(d, QUANTUM_MS), 0);
    submit(d, "job_b", "ten_b");
    const char *runs = "job_a";
    for (int i = 0; i < 40; i++) {
        bool b = runs[4] == 'b';
        turns_b += b;
        if (fill_after(d, QUANTUM_MS) == 0) continue;
        assert_int_equal(d->actions.data[0].type, POLICY_YIELD);
        yielded(d, runs, b ? "ten_b" : "ten_a");
        runs = b ? "job_a" : "job_b";
        dispatched(d, 0, runs);
    }
    assert_in_range(turns_b, 18, 22);
}

static void one_job_that_waits_makes_one_give_way_and_that_of_the_richest(void **state)
{
    struct desk *d = *state;
    worker(d, "inc_a", 3, 0, false);
    submit(d, "job_rich", "ten_rich");
    dispatched(d, 0, "job_rich");
    assert_int_equal(fill_after(d, 2 * QUANTUM_MS), 0);
    submit(d, "job_a", "ten_a");
    submit(d, "job_b", "ten_b");
    assert_int_equal(fill_after(d, 0), 2);
    submit(d, "job_c", "ten_c");
    struct policy_event poor = job(POLICY_TENANT, "", "ten_c");
    poor.weight = 1;
    poor.max_concurrent = 5;
    step(d, poor);
    asked(d, QUANTUM_MS, "job_rich");
    assert_int_equal(fill_after(d, 100), 0);
}

static void a_word_that_was_lost_is_said_again_a_quantum_later(void **state)
{
    struct desk *d = *state;
    worker(d, "inc_a", 1, 0, false);
    submit(d, "job_a", "ten_a");
    dispatched(d, 0, "job_a");
    submit(d, "job_b", "ten_b");
    asked(d, QUANTUM_MS, "job_a");
    assert_int_equal(fill_after(d, QUANTUM_MS / 2), 0);
    asked(d, QUANTUM_MS / 2, "job_a");
}

static void nobody_gives_way_to_a_job_that_would_not_fit(void **state)
{
    struct desk *d = *state;
    worker(d, "inc_a", 2, 1000 * (int64_t)MIB, false);
    struct policy_event small = job(POLICY_JOB_QUEUED, "job_s1", "ten_a"),
                        big = job(POLICY_JOB_QUEUED, "job_big", "ten_b");
    small.memory_bytes = 300 * (int64_t)MIB;
    big.memory_bytes = 900 * (int64_t)MIB;
    step(d, small);
    name(small.job, "job_s2");
    step(d, small);
    assert_int_equal(fill_after(d, 0), 2);
    step(d, big);
    assert_int_equal(fill_after(d, QUANTUM_MS), 0); /* neither alone makes room enough */
    assert_int_equal(fill_after(d, QUANTUM_MS), 0);
    /* Once the worker is kept for it, both have to go when their quanta end. */
    fill_after(d, QUANTUM_MS);
    size_t n = fill_after(d, QUANTUM_MS);
    for (size_t i = 0; i < n; i++) assert_int_equal(d->actions.data[i].type, POLICY_YIELD);
    assert_true(n >= 1);
    const char *const names[] = {"job_s1", "job_s2"};
    for (int i = 0; i < 2; i++) {
        step(d, job(POLICY_JOB_ENDED, names[i], "ten_a"));
        name(small.job, names[i]);
        step(d, small);
        if (i == 0) fill_after(d, QUANTUM_MS); /* the place that is free meanwhile is kept */
    }
    dispatched(d, 0, "job_big");
}

static void a_job_that_cannot_yield_is_never_asked(void **state)
{
    struct desk *d = *state;
    worker(d, "inc_a", 1, 0, false);
    struct policy_event stubborn = job(POLICY_JOB_QUEUED, "job_a", "ten_a");
    stubborn.yieldable = false;
    step(d, stubborn);
    dispatched(d, 0, "job_a");
    submit(d, "job_b", "ten_b");
    for (int i = 0; i < 5; i++) assert_int_equal(fill_after(d, QUANTUM_MS), 0);
}

static void a_draining_worker_asks_nobody_and_a_tenant_at_its_limit_is_not_due(void **state)
{
    struct desk *d = *state;
    worker(d, "inc_a", 1, 0, false);
    submit(d, "job_a", "ten_a");
    dispatched(d, 0, "job_a");
    submit(d, "job_b", "ten_b");
    worker(d, "inc_a", 1, 0, true);
    assert_int_equal(fill_after(d, QUANTUM_MS), 0);
    worker(d, "inc_a", 1, 0, false);
    struct policy_event limit = job(POLICY_TENANT, "", "ten_b");
    limit.weight = 1;
    limit.max_concurrent = 0;
    step(d, limit);
    assert_int_equal(fill_after(d, QUANTUM_MS), 0);
    limit.max_concurrent = 1;
    step(d, limit);
    asked(d, QUANTUM_MS, "job_a");
}

static void a_job_that_ends_instead_of_yielding_leaves_no_promise_behind(void **state)
{
    struct desk *d = *state;
    worker(d, "inc_a", 1, 0, false);
    submit(d, "job_a", "ten_a");
    dispatched(d, 0, "job_a");
    submit(d, "job_b", "ten_b");
    asked(d, QUANTUM_MS, "job_a");
    step(d, job(POLICY_JOB_ENDED, "job_a", "ten_a"));
    dispatched(d, 0, "job_b");
    submit(d, "job_c", "ten_c"); /* later a third tenant, and ten_b wants another turn after it */
    asked(d, QUANTUM_MS, "job_b");
    yielded(d, "job_b", "ten_b");
    dispatched(d, 0, "job_c");
    fill_after(d, QUANTUM_MS);
    asked(d, QUANTUM_MS, "job_c");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_job_gives_way_at_the_end_of_its_quantum_and_resumes_when_it_is_due),
        TEST(a_job_that_is_alone_or_among_its_own_is_never_asked),
        TEST(a_tenant_that_comes_late_gets_no_more_than_its_share_from_then_on),
        TEST(one_job_that_waits_makes_one_give_way_and_that_of_the_richest),
        TEST(a_word_that_was_lost_is_said_again_a_quantum_later),
        TEST(nobody_gives_way_to_a_job_that_would_not_fit),
        TEST(a_job_that_cannot_yield_is_never_asked),
        TEST(a_draining_worker_asks_nobody_and_a_tenant_at_its_limit_is_not_due),
        TEST(a_job_that_ends_instead_of_yielding_leaves_no_promise_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
