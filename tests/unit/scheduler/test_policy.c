/* The policy's rules one by one; their interplay is test_policy_sim.c's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "scheduler/policy.h"

enum { QUANTUM_MS = 10000 };

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
    config.ageing_ms = 1000;
    config.reserve_after_ms = 5000;
    config.load_retry_ms = 1000;
    config.load_again_ms = 100;
    config.load_tries = 3;
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

static struct policy_event event(enum policy_event_type type)
{
    return (struct policy_event){.type = type, .slots = 1, .weight = 1, .max_concurrent = 1000};
}

static void step(struct desk *d, struct policy_event ev)
{
    struct err e = {0};
    ev.now_ms = d->now;
    if (policy_step(d->p, &ev, &d->actions, &e) != 0) fail_msg("%s", e.message);
}

static void name(char *to, const char *text)
{
    snprintf(to, ID_MAX, "%s", text);
}

static void tenant(struct desk *d, const char *id, int64_t weight, int64_t most)
{
    struct policy_event ev = event(POLICY_TENANT);
    name(ev.tenant, id);
    ev.weight = weight;
    ev.max_concurrent = most;
    step(d, ev);
}

static void worker(struct desk *d, const char *id, int64_t slots, int64_t memory)
{
    struct policy_event ev = event(POLICY_WORKER_SEEN);
    name(ev.worker, id);
    ev.slots = slots;
    ev.memory_bytes = memory;
    ev.model_free_bytes = 1000;
    step(d, ev);
}

static struct policy_event queued(const char *job, const char *of)
{
    struct policy_event ev = event(POLICY_JOB_QUEUED);
    name(ev.job, job);
    name(ev.tenant, of);
    ev.estimate_ms = QUANTUM_MS;
    return ev;
}

static void submit(struct desk *d, const char *job, const char *of)
{
    step(d, queued(job, of));
}

static void ended(struct desk *d, const char *job, int64_t used_ms)
{
    struct policy_event ev = event(POLICY_JOB_ENDED);
    name(ev.job, job);
    ev.used_ms = used_ms;
    step(d, ev);
}

static void gone(struct desk *d, const char *job)
{
    struct policy_event ev = event(POLICY_JOB_GONE);
    name(ev.job, job);
    step(d, ev);
}

static size_t fill(struct desk *d)
{
    step(d, event(POLICY_FILL));
    return d->actions.len;
}

/* The one job that is dispatched now. */
static const char *next_job(struct desk *d)
{
    assert_int_equal(fill(d), 1);
    assert_int_equal(d->actions.data[0].type, POLICY_DISPATCH);
    return d->actions.data[0].job;
}

static int64_t vtime(struct desk *d, const char *id)
{
    int64_t v = -1;
    bool eligible;
    assert_true(policy_tenant_state(d->p, id, &v, &eligible));
    return v;
}

/* ---- fairness ---- */

static void slots_are_shared_by_weight(void **state)
{
    struct desk *d = *state;
    char id[ID_MAX];
    int heavy = 0;
    tenant(d, "ten_heavy", 3, 1000);
    tenant(d, "ten_light", 1, 1000);
    worker(d, "inc_a", 1, 0);
    for (int i = 0; i < 80; i++) {
        snprintf(id, sizeof id, "job_h%02d", i);
        submit(d, id, "ten_heavy");
        snprintf(id, sizeof id, "job_l%02d", i);
        submit(d, id, "ten_light");
    }
    for (int i = 0; i < 80; i++) {
        name(id, next_job(d));
        heavy += id[4] == 'h';
        d->now += QUANTUM_MS;
        ended(d, id, QUANTUM_MS);
    }
    assert_in_range(heavy, 59, 61);
}

static void an_idle_tenant_banks_no_credit(void **state)
{
    struct desk *d = *state;
    char id[ID_MAX];
    int late = 0;
    worker(d, "inc_a", 1, 0);
    submit(d, "job_late_first", "ten_late");
    name(id, next_job(d));
    ended(d, id, QUANTUM_MS);
    for (int i = 0; i < 60; i++) {
        snprintf(id, sizeof id, "job_b%02d", i);
        submit(d, id, "ten_busy");
    }
    for (int i = 0; i < 40; i++) {
        name(id, next_job(d));
        ended(d, id, QUANTUM_MS);
    }
    for (int i = 0; i < 20; i++) {
        snprintf(id, sizeof id, "job_l%02d", i);
        submit(d, id, "ten_late");
    }
    for (int i = 0; i < 10; i++) {
        name(id, next_job(d));
        late += id[4] == 'l';
        ended(d, id, QUANTUM_MS);
    }
    assert_in_range(late, 4, 6);
}

static void the_end_of_a_job_settles_its_charge(void **state)
{
    struct desk *d = *state;
    tenant(d, "ten_a", 2, 1000);
    worker(d, "inc_a", 1, 0);
    submit(d, "job_a", "ten_a");
    next_job(d);
    assert_int_equal(vtime(d, "ten_a"), QUANTUM_MS * 1000 / 2);
    ended(d, "job_a", 400);
    assert_int_equal(vtime(d, "ten_a"), 400 * 1000 / 2);
}

static void a_job_that_outlives_its_charge_pays_the_next_quantum(void **state)
{
    struct desk *d = *state;
    worker(d, "inc_a", 1, 0);
    submit(d, "job_a", "ten_a");
    next_job(d);
    d->now += QUANTUM_MS - 1;
    fill(d);
    assert_int_equal(vtime(d, "ten_a"), QUANTUM_MS * 1000);
    d->now += 1;
    fill(d);
    assert_int_equal(vtime(d, "ten_a"), 2 * QUANTUM_MS * 1000);
    d->now += 3 * QUANTUM_MS;
    fill(d);
    assert_int_equal(vtime(d, "ten_a"), 5 * QUANTUM_MS * 1000);
}

static void a_claim_that_was_refused_costs_nothing(void **state)
{
    struct desk *d = *state;
    worker(d, "inc_a", 1, 0);
    submit(d, "job_a", "ten_a");
    next_job(d);
    gone(d, "job_a");
    assert_int_equal(vtime(d, "ten_a"), 0);
    submit(d, "job_b", "ten_a");
    assert_string_equal(next_job(d), "job_b");
}

static void memory_counts_when_it_is_the_scarcer_share(void **state)
{
    struct desk *d = *state;
    worker(d, "inc_a", 4, (int64_t)4 << 30);
    struct policy_event ev = queued("job_a", "ten_a");
    ev.memory_bytes = (int64_t)3 << 30;
    step(d, ev);
    next_job(d);
    assert_int_equal(vtime(d, "ten_a"), 3 * QUANTUM_MS * 1000);
}

/* ---- order inside a tenant ---- */

static void priority_goes_first_but_waiting_outweighs_it_in_time(void **state)
{
    struct desk *d = *state;
    worker(d, "inc_a", 1, 0);
    struct policy_event low = queued("job_low", "ten_a"), high = queued("job_high", "ten_a");
    high.priority = 5; /* worth 5,000 ms of waiting */
    low.queued_at_ms = 1000;
    high.queued_at_ms = 4000;
    step(d, low);
    step(d, high);
    assert_string_equal(next_job(d), "job_high");
    ended(d, "job_high", 1);
    high.queued_at_ms = 7000;
    step(d, high);
    assert_string_equal(next_job(d), "job_low");
}

static void a_tenant_never_runs_more_than_its_limit(void **state)
{
    struct desk *d = *state;
    tenant(d, "ten_a", 1, 2);
    worker(d, "inc_a", 8, 0);
    submit(d, "job_1", "ten_a");
    submit(d, "job_2", "ten_a");
    submit(d, "job_3", "ten_a");
    assert_int_equal(fill(d), 2);
    assert_int_equal(fill(d), 0);
    ended(d, "job_1", 10);
    assert_int_equal(fill(d), 1);
}

/* ---- workers ---- */

static void jobs_spread_to_the_emptiest_worker(void **state)
{
    struct desk *d = *state;
    worker(d, "inc_small", 1, 0);
    worker(d, "inc_big", 3, 0);
    submit(d, "job_1", "ten_a");
    submit(d, "job_2", "ten_a");
    assert_int_equal(fill(d), 2);
    assert_string_equal(d->actions.data[0].worker, "inc_big");
    assert_string_equal(d->actions.data[1].worker, "inc_big");
}

static void a_draining_worker_gets_nothing_new(void **state)
{
    struct desk *d = *state;
    struct policy_event ev = event(POLICY_WORKER_SEEN);
    name(ev.worker, "inc_a");
    ev.draining = true;
    step(d, ev);
    submit(d, "job_1", "ten_a");
    assert_int_equal(fill(d), 0);
    worker(d, "inc_a", 1, 0);
    assert_int_equal(fill(d), 1);
}

static void a_lost_worker_takes_its_jobs_out_of_the_books(void **state)
{
    struct desk *d = *state;
    worker(d, "inc_a", 1, 0);
    submit(d, "job_1", "ten_a");
    next_job(d);
    struct policy_event lost = event(POLICY_WORKER_LOST);
    name(lost.worker, "inc_a");
    step(d, lost);
    assert_int_equal(policy_job_state(d->p, "job_1", NULL), POLICY_UNKNOWN);
    worker(d, "inc_b", 1, 0);
    submit(d, "job_1", "ten_a");
    assert_string_equal(next_job(d), "job_1");
    assert_string_equal(d->actions.data[0].worker, "inc_b");
}

static void a_rebuilt_scheduler_counts_what_runs_already(void **state)
{
    struct desk *d = *state;
    const char *where;
    worker(d, "inc_a", 1, 0);
    struct policy_event ev = queued("job_1", "ten_a");
    ev.type = POLICY_JOB_RUNNING;
    ev.used_ms = 25000;
    name(ev.worker, "inc_a");
    step(d, ev);
    step(d, ev);
    assert_int_equal(policy_job_state(d->p, "job_1", &where), POLICY_RUNNING);
    assert_string_equal(where, "inc_a");
    assert_int_equal(vtime(d, "ten_a"), 25000 * 1000);
    submit(d, "job_2", "ten_a");
    assert_int_equal(fill(d), 0);
    struct policy_counts c;
    policy_counts(d->p, &c);
    assert_int_equal(c.running, 1);
    assert_int_equal(c.queued, 1);
}

static void a_running_job_that_waits_again_gives_its_slot_back(void **state)
{
    struct desk *d = *state;
    worker(d, "inc_a", 1, 0);
    submit(d, "job_1", "ten_a");
    next_job(d);
    submit(d, "job_1", "ten_a");
    assert_string_equal(next_job(d), "job_1");
}

/* ---- memory ---- */

static void a_job_passed_over_for_long_gets_a_worker_kept_for_it(void **state)
{
    struct desk *d = *state;
    worker(d, "inc_a", 2, 1000);
    struct policy_event small = queued("job_s0", "ten_small"), big = queued("job_big", "ten_big");
    small.memory_bytes = 400;
    big.memory_bytes = 900;
    step(d, small);
    next_job(d);
    step(d, big);
    name(small.job, "job_s1");
    step(d, small);
    assert_string_equal(next_job(d), "job_s1"); /* fits beside the other, the big one does not */
    ended(d, "job_s0", 100);
    fill(d);
    d->now += 6000;
    fill(d); /* now it has waited long enough */
    name(small.job, "job_s2");
    step(d, small);
    assert_int_equal(fill(d), 0);
    ended(d, "job_s1", 100);
    assert_string_equal(next_job(d), "job_big");
}

static void a_job_too_big_for_every_worker_waits_for_a_bigger_one(void **state)
{
    struct desk *d = *state;
    worker(d, "inc_a", 1, 1000);
    struct policy_event big = queued("job_big", "ten_big");
    big.memory_bytes = 5000;
    step(d, big);
    assert_int_equal(fill(d), 0);
    int64_t v;
    bool eligible;
    assert_true(policy_tenant_state(d->p, "ten_big", &v, &eligible));
    assert_false(eligible); /* so that it holds nobody's virtual time back */
    submit(d, "job_1", "ten_other");
    assert_string_equal(next_job(d), "job_1");
    worker(d, "inc_b", 1, 8000);
    assert_string_equal(next_job(d), "job_big");
}

static void jobs_too_big_for_every_worker_hold_up_none_of_their_own_tenant(void **state)
{
    struct desk *d = *state;
    worker(d, "inc_a", 1, 1000);
    struct policy_event big = queued("", "ten_a");
    big.memory_bytes = 5000;
    for (int i = 0; i < 40; i++) {
        snprintf(big.job, sizeof big.job, "job_big%02d", i);
        step(d, big);
    }
    submit(d, "job_small", "ten_a");
    assert_string_equal(next_job(d), "job_small");
    ended(d, "job_small", 100);
    assert_int_equal(fill(d), 0);
    submit(d, "job_smaller", "ten_a");
    assert_string_equal(next_job(d), "job_smaller");
    worker(d, "inc_b", 1, 8000);
    assert_string_equal(next_job(d), "job_big00"); /* in their old order */
}

/* ---- models ---- */

static void want(struct desk *d, const char *version)
{
    struct policy_event ev = event(POLICY_MODEL_WANTED);
    name(ev.version, version);
    name(ev.tenant, "ten_a");
    ev.model_bytes = 600;
    step(d, ev);
}

static void a_model_goes_to_the_worker_with_most_free_memory_once(void **state)
{
    struct desk *d = *state;
    worker(d, "inc_a", 1, 0);
    struct policy_event roomy = event(POLICY_WORKER_SEEN);
    name(roomy.worker, "inc_b");
    roomy.model_free_bytes = 1500;
    step(d, roomy);
    want(d, "ver_1");
    want(d, "ver_1");
    assert_int_equal(fill(d), 1);
    assert_int_equal(d->actions.data[0].type, POLICY_LOAD);
    assert_string_equal(d->actions.data[0].worker, "inc_b");
    want(d, "ver_1");
    assert_int_equal(fill(d), 0);
    want(d, "ver_2"); /* 900 are left on b, 1,000 on a */
    assert_int_equal(fill(d), 1);
    assert_string_equal(d->actions.data[0].worker, "inc_a");
}

static void a_load_without_an_answer_is_asked_of_another_worker_and_then_given_up(void **state)
{
    struct desk *d = *state;
    worker(d, "inc_a", 1, 0);
    worker(d, "inc_b", 1, 0);
    want(d, "ver_1");
    char asked[3][ID_MAX];
    for (int i = 0; i < 3; i++) {
        if (i > 0) { /* whoever was asked says that it has most room, as before */
            struct policy_event seen = event(POLICY_WORKER_SEEN);
            name(seen.worker, asked[i - 1]);
            seen.model_free_bytes = 5000;
            step(d, seen);
        }
        assert_int_equal(fill(d), 1);
        name(asked[i], d->actions.data[0].worker);
        assert_int_equal(fill(d), 0);
        d->now += 1000;
    }
    assert_string_not_equal(asked[0], asked[1]);
    assert_string_not_equal(asked[1], asked[2]);
    struct policy_counts c;
    fill(d);
    policy_counts(d->p, &c);
    assert_int_equal(c.loads, 0);
}

static void a_model_that_is_wanted_anew_is_asked_of_the_same_worker_at_once(void **state)
{
    struct desk *d = *state;
    worker(d, "inc_a", 1, 0);
    worker(d, "inc_b", 1, 0);
    want(d, "ver_1");
    assert_int_equal(fill(d), 1);
    char asked[ID_MAX];
    name(asked, d->actions.data[0].worker);
    d->now += 99; /* another gateway's question, most likely */
    want(d, "ver_1");
    assert_int_equal(fill(d), 0);
    for (int i = 0; i < 10; i++) { /* it does not count as a failure of that worker */
        d->now += 100;
        want(d, "ver_1");
        assert_int_equal(fill(d), 1);
        assert_string_equal(d->actions.data[0].worker, asked);
        assert_int_equal(fill(d), 0);
    }
}

static void a_model_that_is_up_is_not_asked_for_again(void **state)
{
    struct desk *d = *state;
    worker(d, "inc_a", 1, 0);
    want(d, "ver_1");
    assert_int_equal(fill(d), 1);
    struct policy_event up = event(POLICY_MODEL_UP);
    name(up.version, "ver_1");
    step(d, up);
    d->now += 5000;
    assert_int_equal(fill(d), 0);
}

/* ---- faults ---- */

static void numbers_out_of_bounds_are_refused(void **state)
{
    struct desk *d = *state;
    struct err e = {0};
    struct policy_event ev = event(POLICY_TENANT);
    ev.weight = 0;
    assert_int_equal(policy_step(d->p, &ev, &d->actions, &e), ERR_INVALID);
    ev = queued("job_1", "ten_a");
    ev.priority = POLICY_PRIORITY_MAX + 1;
    assert_int_equal(policy_step(d->p, &ev, &d->actions, &e), ERR_INVALID);
    ev = queued("job_1", "ten_a");
    ev.slots = 0;
    assert_int_equal(policy_step(d->p, &ev, &d->actions, &e), ERR_INVALID);
}

/* One life with the nth allocation failing; every event is repeated until it is taken. */
static void live_with_failure(size_t nth)
{
    void *state;
    assert_int_equal(set_up(&state), 0);
    struct desk *d = state;
    struct policy_event life[] = {event(POLICY_WORKER_SEEN),  event(POLICY_TENANT),
                                  queued("job_1", "ten_a"),   queued("job_2", "ten_a"),
                                  event(POLICY_MODEL_WANTED), event(POLICY_FILL)};
    name(life[0].worker, "inc_a");
    life[0].slots = 4;
    name(life[1].tenant, "ten_a");
    name(life[4].version, "ver_1");
    size_t dispatched = 0;
    mem_fail_at(nth, false);
    for (size_t i = 0; i < sizeof life / sizeof *life; i++) {
        int rc = ERR_NOMEM;
        for (int tries = 0; rc != 0 && tries < 3; tries++) {
            struct err e = {0};
            life[i].now_ms = d->now;
            rc = policy_step(d->p, &life[i], &d->actions, &e);
            assert_true(rc == 0 || (rc == ERR_NOMEM && e.message[0]));
            for (size_t k = 0; k < d->actions.len; k++)
                dispatched += d->actions.data[k].type == POLICY_DISPATCH;
        }
        assert_int_equal(rc, 0);
    }
    mem_fail_at(0, false);
    assert_int_equal(dispatched, 2);
    tear_down(&state);
}

static void a_failed_allocation_loses_no_job_and_dispatches_none_twice(void **state)
{
    (void)state;
    for (size_t nth = 1; nth <= 20; nth++) live_with_failure(nth);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(slots_are_shared_by_weight, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_idle_tenant_banks_no_credit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_end_of_a_job_settles_its_charge, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_job_that_outlives_its_charge_pays_the_next_quantum, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_claim_that_was_refused_costs_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(memory_counts_when_it_is_the_scarcer_share, set_up, tear_down),
        cmocka_unit_test_setup_teardown(priority_goes_first_but_waiting_outweighs_it_in_time, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_tenant_never_runs_more_than_its_limit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(jobs_spread_to_the_emptiest_worker, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_draining_worker_gets_nothing_new, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_lost_worker_takes_its_jobs_out_of_the_books, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_rebuilt_scheduler_counts_what_runs_already, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_running_job_that_waits_again_gives_its_slot_back, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_job_passed_over_for_long_gets_a_worker_kept_for_it, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_job_too_big_for_every_worker_waits_for_a_bigger_one, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(jobs_too_big_for_every_worker_hold_up_none_of_their_own_tenant,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_model_goes_to_the_worker_with_most_free_memory_once, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_load_without_an_answer_is_asked_of_another_worker_and_then_given_up,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_model_that_is_wanted_anew_is_asked_of_the_same_worker_at_once,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_model_that_is_up_is_not_asked_for_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(numbers_out_of_bounds_are_refused, set_up, tear_down),
        cmocka_unit_test(a_failed_allocation_loses_no_job_and_dispatches_none_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
