/* Submitting, finding, listing and cancelling jobs, and the quotas that a submission must not pass. */
#include "scene.h"

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { CLIENTS = 6, TRIES = 8 };

static int submit_with(struct job_new in, const char *tenant_id, struct job *out, struct err *e)
{
    assert_ok(db_begin(scene.gateway, tenant_id, e), *e);
    int rc = job_submit(scene.gateway, &in, &pg_fixture_actor, &scene.arena, out, e);
    if (!rc)
        assert_ok(db_commit(scene.gateway, e), *e);
    else
        db_rollback(scene.gateway);
    return rc;
}

static struct job_new usual(void)
{
    return (struct job_new){.type = "train",
                            .model = "m",
                            .dataset_id = scene.dataset,
                            .max_seconds = 60,
                            .memory_bytes = 1000,
                            .threads = 2,
                            .priority = 3,
                            .spec = "{ \"family\" : \"mlp\" }"};
}

static void a_submitted_job_is_queued_and_reads_back_as_it_came(void **state)
{
    (void)state;
    struct job j, found;
    struct err e;
    assert_ok(submit_with(usual(), scene.a.id, &j, &e), e);
    scene_find(scene.a.id, j.id, &found);
    assert_int_equal(found.state, JOB_QUEUED);
    assert_string_equal(found.spec, "{ \"family\" : \"mlp\" }");
    assert_string_equal(found.dataset_id, scene.dataset);
    assert_string_equal(found.test_dataset_id, "");
    assert_string_equal(found.tenant_id, scene.a.id);
    assert_int_equal(found.priority, 3);
    assert_int_equal(found.threads, 2);
    assert_int_equal(found.memory_bytes, 1000);
    assert_int_equal(found.hold_micros, 60 * 2 * scene.a.plan.train_second_micros); /* two threads */
    assert_int_equal(found.fence, 0);
    assert_null(found.progress);
    assert_null(found.result);
    char sql[200];
    snprintf(sql, sizeof sql,
             "SELECT count(*) FROM audit_log WHERE object_id = '%s' AND type = 'job.created'", j.id);
    assert_int_equal(scene_number(sql), 1);
    scene_check_invariants();
}

static void what_the_plan_can_never_run_is_refused_by_field(void **state)
{
    (void)state;
    struct job j;
    struct err e;
    struct job_new in = usual();
    in.max_seconds = scene.a.plan.max_job_seconds + 1;
    assert_err(ERR_INVALID, submit_with(in, scene.a.id, &j, &e));
    assert_string_equal(e.field, "max_seconds");
    in = usual();
    in.memory_bytes = scene.a.plan.max_job_memory_bytes + 1;
    assert_err(ERR_INVALID, submit_with(in, scene.a.id, &j, &e));
    assert_string_equal(e.field, "spec");
    in = usual();
    in.model = "No Such Name";
    assert_err(ERR_INVALID, submit_with(in, scene.a.id, &j, &e));
    assert_string_equal(e.field, "model");
    in = usual();
    in.priority = 11;
    assert_err(ERR_INVALID, submit_with(in, scene.a.id, &j, &e));
    in = usual();
    in.type = "mine";
    assert_err(ERR_INVALID, submit_with(in, scene.a.id, &j, &e));
    in = usual();
    in.spec = "{\"broken\":";
    assert_err(ERR_INVALID, submit_with(in, scene.a.id, &j, &e));
}

static void an_unknown_a_deleted_and_a_strangers_dataset_are_the_same_to_a_submission(void **state)
{
    (void)state;
    struct job j;
    struct err e, first;
    struct job_new in = usual();
    char id[ID_MAX];
    id_new(id, "ds_");
    in.dataset_id = id;
    assert_err(ERR_NOT_FOUND, submit_with(in, scene.a.id, &j, &first));
    assert_string_equal(first.field, "dataset");
    scene_dataset(scene.b.id, "theirs", id);
    assert_err(ERR_NOT_FOUND, submit_with(in, scene.a.id, &j, &e));
    assert_string_equal(e.message, first.message);
    scene_dataset(scene.a.id, "gone", id);
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_ok(dataset_delete(scene.gateway, id, &pg_fixture_actor, &e), e);
    assert_ok(db_commit(scene.gateway, &e), e);
    assert_err(ERR_NOT_FOUND, submit_with(in, scene.a.id, &j, &e));
    assert_string_equal(e.message, first.message);
    in = usual();
    in.test_dataset_id = id;
    assert_err(ERR_NOT_FOUND, submit_with(in, scene.a.id, &j, &e));
    assert_string_equal(e.field, "test_dataset");
}

/* ---- quotas under fire ---- */

struct client {
    struct db *db;
    const struct tenant *t;
    const char *dataset;
    pthread_barrier_t *gate;
    int accepted, limited, other;
    bool names; /* each submission for a model of its own */
};

static void *submit_many(void *arg)
{
    struct client *c = arg;
    pthread_barrier_wait(c->gate);
    for (int i = 0; i < TRIES; i++) {
        struct job j;
        struct err e;
        char model[STORE_NAME_MAX] = "m";
        if (c->names) id_new(model, "m-");
        int rc = scene_try_submit(c->db, c->t->id, c->dataset, model, &j, &e);
        c->accepted += rc == 0;
        c->limited += rc == ERR_LIMIT && e.retry_after_ms > 0;
        c->other += rc != 0 && (rc != ERR_LIMIT || e.retry_after_ms <= 0);
    }
    return NULL;
}

static int submit_at_once(const struct tenant *t, bool names)
{
    struct client clients[CLIENTS];
    pthread_t threads[CLIENTS];
    pthread_barrier_t gate;
    char dataset[ID_MAX];
    int accepted = 0, limited = 0;
    scene_dataset(t->id, "d", dataset);
    pthread_barrier_init(&gate, NULL, CLIENTS);
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = (struct client){
            .db = pg_fixture_open(PG_GATEWAY), .t = t, .dataset = dataset, .gate = &gate, .names = names};
        pthread_create(&threads[i], NULL, submit_many, &clients[i]);
    }
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(threads[i], NULL);
        accepted += clients[i].accepted;
        limited += clients[i].limited;
        assert_int_equal(clients[i].other, 0);
        db_free(clients[i].db);
    }
    pthread_barrier_destroy(&gate);
    assert_int_equal(accepted + limited, CLIENTS * TRIES);
    return accepted;
}

static void concurrent_submissions_never_pass_the_queue_quota(void **state)
{
    (void)state;
    struct tenant t;
    scene_tenant(&t);
    t.plan.max_queued_jobs = 7;
    scene_plan(&t.plan);
    assert_int_equal(submit_at_once(&t, false), 7);
    char sql[200];
    snprintf(sql, sizeof sql, "SELECT count(*) FROM jobs WHERE tenant_id = '%s'", t.id);
    assert_int_equal(scene_number(sql), 7);
}

static void concurrent_submissions_never_pass_the_model_quota(void **state)
{
    (void)state;
    struct tenant t;
    scene_tenant(&t);
    t.plan.max_models = 4;
    scene_plan(&t.plan);
    assert_int_equal(submit_at_once(&t, true), 4);
}

static void concurrent_submissions_never_pass_the_budget(void **state)
{
    (void)state;
    struct tenant t;
    scene_tenant(&t);
    /* Each job of the scene holds 100 seconds. */
    t.plan.month_budget_micros = 3 * 100 * t.plan.train_second_micros + 1;
    scene_plan(&t.plan);
    assert_int_equal(submit_at_once(&t, false), 3);
}

static void a_spent_budget_says_when_it_opens_again(void **state)
{
    (void)state;
    struct tenant t;
    struct job j;
    struct err e;
    char dataset[ID_MAX];
    scene_tenant(&t);
    t.plan.month_budget_micros = 50 * t.plan.train_second_micros;
    scene_plan(&t.plan);
    scene_dataset(t.id, "d", dataset);
    assert_err(ERR_LIMIT, scene_try_submit(scene.gateway, t.id, dataset, "m", &j, &e));
    assert_string_equal(e.field, "budget");
    int64_t left_ms = scene_number("SELECT (us(month_start() + interval '1 month') - us(now())) / 1000");
    assert_true(e.retry_after_ms >= (left_ms > INT_MAX ? INT_MAX : left_ms) - 1);
}

static void a_suspended_tenant_submits_nothing(void **state)
{
    (void)state;
    struct tenant t;
    struct job j;
    struct err e;
    char dataset[ID_MAX];
    scene_tenant(&t);
    scene_dataset(t.id, "d", dataset);
    assert_ok(db_begin_system(scene.admin, &e), e);
    assert_ok(tenant_suspend(scene.admin, t.id, true, &pg_fixture_actor, &e), e);
    assert_ok(db_commit(scene.admin, &e), e);
    assert_err(ERR_FORBIDDEN, scene_try_submit(scene.gateway, t.id, dataset, "m", &j, &e));
}

/* ---- a submission that meets a deletion ---- */

struct meeting {
    const char *dataset;
    int rc;
    struct err e;
};

static void *submit_into(void *arg)
{
    struct meeting *m = arg;
    struct job j;
    m->rc = scene_try_submit(scene.worker, scene.a.id, m->dataset, "m", &j, &m->e);
    return NULL;
}

static void a_submission_waits_for_the_deletion_of_its_dataset_and_then_finds_it_gone(void **state)
{
    (void)state;
    struct err e;
    char dataset[ID_MAX];
    struct meeting m = {.dataset = dataset};
    pthread_t thread;
    scene_dataset(scene.a.id, "meeting", dataset);
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_ok(dataset_delete(scene.gateway, dataset, &pg_fixture_actor, &e), e);
    pthread_create(&thread, NULL, submit_into, &m);
    while (scene_number("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") == 0)
        continue;
    assert_ok(db_commit(scene.gateway, &e), e);
    pthread_join(thread, NULL);
    assert_err(ERR_NOT_FOUND, m.rc);
    assert_string_equal(m.e.field, "dataset");
}

/* ---- lists ---- */

static void lists_page_both_ways_without_gap_or_repetition(void **state)
{
    (void)state;
    struct tenant t;
    struct job j[7];
    struct err e;
    struct job_list list;
    char dataset[ID_MAX];
    scene_tenant(&t);
    scene_dataset(t.id, "d", dataset);
    for (int i = 0; i < 7; i++) scene_submit(t.id, dataset, i % 2 ? "odd" : "even", &j[i]);
    assert_ok(db_begin(scene.gateway, t.id, &e), e);
    struct page p = {.limit = 3};
    for (int at = 6; at >= 0; p.after = list.items[list.n - 1].id) {
        assert_ok(job_list(scene.gateway, &p, -1, NULL, &scene.arena, &list, &e), e);
        assert_int_equal(list.has_more, at >= 3);
        for (int i = 0; i < list.n; i++) assert_string_equal(list.items[i].id, j[at--].id);
    }
    p = (struct page){.before = j[1].id, .limit = 2};
    assert_ok(job_list(scene.gateway, &p, -1, NULL, &scene.arena, &list, &e), e);
    assert_int_equal(list.n, 2);
    assert_true(list.has_more);
    assert_string_equal(list.items[0].id, j[3].id);
    assert_string_equal(list.items[1].id, j[2].id);
    assert_ok(
        job_list(scene.gateway, &(struct page){.limit = 10}, JOB_QUEUED, "odd", &scene.arena, &list, &e), e);
    assert_int_equal(list.n, 3);
    assert_ok(
        job_list(scene.gateway, &(struct page){.limit = 10}, JOB_RUNNING, NULL, &scene.arena, &list, &e), e);
    assert_int_equal(list.n, 0);
    db_rollback(scene.gateway);
}

static void a_cursor_that_is_no_id_of_the_list_is_refused_by_name(void **state)
{
    (void)state;
    struct err e;
    struct job_list list;
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_err(ERR_INVALID, job_list(scene.gateway, &(struct page){.after = "'; --", .limit = 1}, -1, NULL,
                                     &scene.arena, &list, &e));
    assert_string_equal(e.field, "after");
    assert_err(ERR_INVALID, job_list(scene.gateway, &(struct page){.before = scene.dataset, .limit = 1}, -1,
                                     NULL, &scene.arena, &list, &e));
    assert_string_equal(e.field, "before");
    assert_err(ERR_INVALID,
               job_list(scene.gateway, &(struct page){.limit = 0}, -1, NULL, &scene.arena, &list, &e));
    assert_string_equal(e.field, "limit");
    db_rollback(scene.gateway);
}

/* ---- cancelling ---- */

static void cancelling_a_waiting_job_ends_it_and_frees_its_hold(void **state)
{
    (void)state;
    struct job j;
    struct err e;
    char worker[ID_MAX], sql[200];
    scene_submit(scene.a.id, scene.dataset, "c", &j);
    for (int twice = 0; twice < 2; twice++) {
        assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
        assert_ok(job_cancel(scene.gateway, j.id, &pg_fixture_actor, &scene.arena, &j, worker, &e), e);
        assert_ok(db_commit(scene.gateway, &e), e);
        assert_int_equal(j.state, JOB_CANCELLED);
        assert_string_equal(worker, "");
    }
    snprintf(sql, sizeof sql, "SELECT count(*) FROM holds WHERE job_id = '%s' AND state = 'voided'", j.id);
    assert_int_equal(scene_number(sql), 1);
    int64_t fence;
    int attempt;
    assert_ok(db_begin_system(scene.scheduler, &e), e);
    assert_err(ERR_CONFLICT,
               job_claim(scene.scheduler, scene.a.id, j.id, scene.worker_id, 1000, &fence, &attempt, &e));
    db_rollback(scene.scheduler);
    scene_check_invariants();
}

static void cancelling_an_ended_job_is_a_conflict(void **state)
{
    (void)state;
    struct job j;
    struct err e;
    scene_submit(scene.a.id, scene.dataset, "c", &j);
    scene_finish(scene.a.id, j.id, scene_claim(scene.a.id, j.id), JOB_SUCCEEDED, NULL);
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_err(ERR_CONFLICT, job_cancel(scene.gateway, j.id, &pg_fixture_actor, &scene.arena, &j, NULL, &e));
    db_rollback(scene.gateway);
}

static void state_names_and_states_are_each_others_inverse(void **state)
{
    (void)state;
    for (int s = JOB_QUEUED; s <= JOB_DEAD; s++)
        assert_int_equal(job_state_of(job_state_name((enum job_state)s)), s);
    assert_int_equal(job_state_of("asleep"), -1);
    assert_false(job_state_ended(JOB_RETRY_WAIT));
    assert_true(job_state_ended(JOB_DEAD));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_submitted_job_is_queued_and_reads_back_as_it_came),
        cmocka_unit_test(what_the_plan_can_never_run_is_refused_by_field),
        cmocka_unit_test(an_unknown_a_deleted_and_a_strangers_dataset_are_the_same_to_a_submission),
        cmocka_unit_test(concurrent_submissions_never_pass_the_queue_quota),
        cmocka_unit_test(concurrent_submissions_never_pass_the_model_quota),
        cmocka_unit_test(concurrent_submissions_never_pass_the_budget),
        cmocka_unit_test(a_spent_budget_says_when_it_opens_again),
        cmocka_unit_test(a_suspended_tenant_submits_nothing),
        cmocka_unit_test(a_submission_waits_for_the_deletion_of_its_dataset_and_then_finds_it_gone),
        cmocka_unit_test(lists_page_both_ways_without_gap_or_repetition),
        cmocka_unit_test(a_cursor_that_is_no_id_of_the_list_is_refused_by_name),
        cmocka_unit_test(cancelling_a_waiting_job_ends_it_and_frees_its_hold),
        cmocka_unit_test(cancelling_an_ended_job_is_a_conflict),
        cmocka_unit_test(state_names_and_states_are_each_others_inverse),
    };
    return cmocka_run_group_tests(tests, scene_up, scene_down);
}
