/* Who holds a job, and what happens when nobody does any more: claims, renewals, reaping, crashes, retries.
 */
#include "scene.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { RACERS = 6, RACES = 12 };

struct racer {
    struct db *db;
    pthread_barrier_t *gate;
    const char *job_id;
    int won, refused, other;
};

static void *race(void *arg)
{
    struct racer *r = arg;
    struct err e;
    int64_t fence;
    int attempt;
    pthread_barrier_wait(r->gate);
    int rc = db_begin_system(r->db, &e);
    if (!rc) rc = job_claim(r->db, scene.a.id, r->job_id, scene.worker_id, 60000, &fence, &attempt, &e);
    if (!rc)
        rc = db_commit(r->db, &e);
    else
        db_rollback(r->db);
    r->won += rc == 0;
    r->refused += rc == ERR_CONFLICT;
    r->other += rc != 0 && rc != ERR_CONFLICT;
    return NULL;
}

static void of_many_claims_exactly_one_wins(void **state)
{
    (void)state;
    struct racer racers[RACERS];
    pthread_barrier_t gate;
    pthread_barrier_init(&gate, NULL, RACERS);
    for (int i = 0; i < RACERS; i++)
        racers[i] = (struct racer){.db = pg_fixture_open(PG_SCHEDULER), .gate = &gate};
    for (int round = 0; round < RACES; round++) {
        struct job j;
        pthread_t threads[RACERS];
        int won = 0, refused = 0;
        scene_submit(scene.a.id, scene.dataset, "race", &j);
        for (int i = 0; i < RACERS; i++) {
            racers[i].job_id = j.id;
            racers[i].won = racers[i].refused = 0;
            pthread_create(&threads[i], NULL, race, &racers[i]);
        }
        for (int i = 0; i < RACERS; i++) {
            pthread_join(threads[i], NULL);
            won += racers[i].won;
            refused += racers[i].refused;
            assert_int_equal(racers[i].other, 0);
        }
        assert_int_equal(won, 1);
        assert_int_equal(refused, RACERS - 1);
        scene_find(scene.a.id, j.id, &j);
        assert_int_equal(j.fence, 1);
        assert_int_equal(j.attempt, 1);
        scene_finish(scene.a.id, j.id, j.fence, JOB_CANCELLED, NULL);
    }
    for (int i = 0; i < RACERS; i++) db_free(racers[i].db);
    pthread_barrier_destroy(&gate);
    scene_check_invariants();
}

static int try_renew(const char *id, int64_t fence, bool *cancel)
{
    struct err e;
    assert_ok(db_begin(scene.worker, scene.a.id, &e), e);
    int rc = job_renew(scene.worker, id, fence, 60000, cancel, &e);
    if (!rc)
        assert_ok(db_commit(scene.worker, &e), e);
    else
        db_rollback(scene.worker);
    return rc;
}

static int reap(struct job_reaped *first)
{
    struct err e;
    struct job_reaped *out;
    int n;
    assert_ok(db_begin_system(scene.scheduler, &e), e);
    assert_ok(job_reap(scene.scheduler, 100, &scene.arena, &out, &n, &e), e);
    assert_ok(db_commit(scene.scheduler, &e), e);
    if (n > 0 && first) *first = out[0];
    return n;
}

static int release(void)
{
    struct err e;
    int n;
    assert_ok(db_begin_system(scene.scheduler, &e), e);
    assert_ok(job_release(scene.scheduler, 100, &n, &e), e);
    assert_ok(db_commit(scene.scheduler, &e), e);
    return n;
}

static void renewing_keeps_the_reaper_away_and_tells_of_a_cancellation(void **state)
{
    (void)state;
    struct job j;
    struct err e;
    bool cancel = true;
    char worker[ID_MAX];
    scene_submit(scene.a.id, scene.dataset, "renew", &j);
    int64_t fence = scene_claim(scene.a.id, j.id);
    scene_expire_lease(j.id);
    assert_int_equal(try_renew(j.id, fence, &cancel), 0);
    assert_false(cancel);
    assert_int_equal(reap(NULL), 0);
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_ok(job_cancel(scene.gateway, j.id, &pg_fixture_actor, &scene.arena, &j, worker, &e), e);
    assert_ok(db_commit(scene.gateway, &e), e);
    assert_int_equal(j.state, JOB_RUNNING);
    assert_string_equal(worker, scene.worker_id);
    assert_int_equal(try_renew(j.id, fence, &cancel), 0);
    assert_true(cancel);
    assert_err(ERR_STALE, try_renew(j.id, fence - 1, &cancel));
    assert_err(ERR_STALE, try_renew(j.id, fence + 1, &cancel));
    scene_finish(scene.a.id, j.id, fence, JOB_CANCELLED, NULL);
    assert_err(ERR_STALE, try_renew(j.id, fence, &cancel));
}

static void a_lost_lease_is_reaped_once_and_makes_the_fence_stale(void **state)
{
    (void)state;
    struct job j;
    struct job_reaped reaped;
    bool cancel;
    struct err e;
    scene_submit(scene.a.id, scene.dataset, "reap", &j);
    int64_t fence = scene_claim(scene.a.id, j.id);
    assert_int_equal(reap(NULL), 0);
    scene_expire_lease(j.id);
    assert_int_equal(reap(&reaped), 1);
    assert_string_equal(reaped.id, j.id);
    assert_string_equal(reaped.tenant_id, scene.a.id);
    assert_int_equal(reaped.state, JOB_RETRY_WAIT);
    assert_true(reaped.fence > fence);
    assert_int_equal(reap(NULL), 0);
    assert_err(ERR_STALE, try_renew(j.id, fence, &cancel));
    assert_ok(db_begin(scene.worker, scene.a.id, &e), e);
    assert_err(ERR_STALE, job_progress(scene.worker, j.id, fence, "{}", "info", "message", "late", NULL, &e));
    db_rollback(scene.worker);
    scene_find(scene.a.id, j.id, &j);
    assert_int_equal(j.crashes, 1);
    assert_true(j.run_after_us > 0);
    /* Back to the queue only when its time has come. */
    char sql[200];
    snprintf(sql, sizeof sql, "UPDATE jobs SET run_after = now() + interval '1 hour' WHERE id = '%s'", j.id);
    pg_fixture_exec(sql);
    assert_int_equal(release(), 0);
    snprintf(sql, sizeof sql, "UPDATE jobs SET run_after = now() WHERE id = '%s'", j.id);
    pg_fixture_exec(sql);
    assert_int_equal(release(), 1);
    scene_find(scene.a.id, j.id, &j);
    assert_int_equal(j.state, JOB_QUEUED);
    scene_finish(scene.a.id, j.id, scene_claim(scene.a.id, j.id), JOB_SUCCEEDED, NULL);
    scene_check_invariants();
}

static void the_third_crash_is_the_last(void **state)
{
    (void)state;
    struct job j;
    struct err e;
    enum job_state where;
    char sql[200];
    scene_submit(scene.a.id, scene.dataset, "poison", &j);
    for (int crash = 1; crash <= JOB_CRASHES_MAX; crash++) {
        int64_t fence = scene_claim(scene.a.id, j.id);
        assert_ok(db_begin(scene.worker, scene.a.id, &e), e);
        assert_ok(job_crash(scene.worker, j.id, fence, "the runner died of signal 11", &where, &e), e);
        assert_ok(db_commit(scene.worker, &e), e);
        assert_int_equal(where, crash < JOB_CRASHES_MAX ? JOB_RETRY_WAIT : JOB_DEAD);
        /* Told twice, counted once. */
        assert_ok(db_begin(scene.worker, scene.a.id, &e), e);
        assert_err(ERR_STALE, job_crash(scene.worker, j.id, fence, "again", &where, &e));
        db_rollback(scene.worker);
        snprintf(sql, sizeof sql,
                 "UPDATE jobs SET run_after = now() WHERE id = '%s' AND state = 'retry_wait'", j.id);
        pg_fixture_exec(sql);
        assert_int_equal(release(), crash < JOB_CRASHES_MAX);
    }
    scene_find(scene.a.id, j.id, &j);
    assert_int_equal(j.state, JOB_DEAD);
    assert_int_equal(j.crashes, JOB_CRASHES_MAX);
    assert_string_equal(j.error_code, "crashed");
    assert_string_equal(j.error_message, "the runner died of signal 11");
    snprintf(sql, sizeof sql, "SELECT count(*) FROM holds WHERE job_id = '%s' AND state = 'voided'", j.id);
    assert_int_equal(scene_number(sql), 1);
    scene_check_invariants();
}

static void cancel_job(struct job *j)
{
    struct err e;
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_ok(job_cancel(scene.gateway, j->id, &pg_fixture_actor, &scene.arena, j, NULL, &e), e);
    assert_ok(db_commit(scene.gateway, &e), e);
}

static void backing_off_waits_at_most_its_bound(void **state)
{
    (void)state;
    for (int crash = 1; crash < JOB_CRASHES_MAX; crash++) {
        for (int i = 0; i < 4; i++) {
            struct job j;
            char sql[200];
            scene_submit(scene.a.id, scene.dataset, "backoff", &j);
            scene_claim(scene.a.id, j.id);
            snprintf(sql, sizeof sql, "UPDATE jobs SET crashes = %d WHERE id = '%s'", crash - 1, j.id);
            pg_fixture_exec(sql);
            scene_expire_lease(j.id);
            assert_int_equal(reap(NULL), 1);
            snprintf(sql, sizeof sql, "SELECT us(run_after) - us(now()) FROM jobs WHERE id = '%s'", j.id);
            int64_t left_us = scene_number(sql);
            assert_true(left_us <= (INT64_C(1000000) << (crash - 1)));
            cancel_job(&j);
        }
    }
}

static void a_lost_job_whose_cancellation_was_asked_for_is_cancelled(void **state)
{
    (void)state;
    struct job j;
    struct job_reaped reaped;
    scene_submit(scene.a.id, scene.dataset, "lost", &j);
    scene_claim(scene.a.id, j.id);
    cancel_job(&j);
    scene_expire_lease(j.id);
    assert_int_equal(reap(&reaped), 1);
    assert_int_equal(reaped.state, JOB_CANCELLED);
    scene_check_invariants();
}

static void a_job_that_is_given_back_counts_no_crash(void **state)
{
    (void)state;
    struct job j;
    struct err e;
    scene_submit(scene.a.id, scene.dataset, "yield", &j);
    int64_t fence = scene_claim(scene.a.id, j.id);
    assert_ok(db_begin(scene.worker, scene.a.id, &e), e);
    assert_ok(job_yield(scene.worker, j.id, fence, NULL, "the worker is shutting down", &e), e);
    assert_ok(db_commit(scene.worker, &e), e);
    scene_find(scene.a.id, j.id, &j);
    assert_int_equal(j.state, JOB_QUEUED);
    assert_int_equal(j.crashes, 0);
    assert_true(j.fence > fence);
    assert_ok(db_begin(scene.worker, scene.a.id, &e), e);
    assert_err(ERR_STALE, job_yield(scene.worker, j.id, fence, NULL, "again", &e));
    db_rollback(scene.worker);
    scene_finish(scene.a.id, j.id, scene_claim(scene.a.id, j.id), JOB_SUCCEEDED, NULL);
    scene_check_invariants();
}

static void claims_stop_at_the_plans_running_jobs(void **state)
{
    (void)state;
    struct tenant t;
    struct job j[3];
    struct err e;
    int64_t fence;
    int attempt;
    char dataset[ID_MAX];
    scene_tenant(&t);
    t.plan.max_running_jobs = 2;
    scene_plan(&t.plan);
    scene_dataset(t.id, "few", dataset);
    for (int i = 0; i < 3; i++) scene_submit(t.id, dataset, "few", &j[i]);
    scene_claim(t.id, j[0].id);
    fence = scene_claim(t.id, j[1].id);
    int64_t third;
    assert_ok(db_begin_system(scene.scheduler, &e), e);
    assert_err(ERR_LIMIT,
               job_claim(scene.scheduler, t.id, j[2].id, scene.worker_id, 1000, &third, &attempt, &e));
    db_rollback(scene.scheduler);
    scene_finish(t.id, j[1].id, fence, JOB_SUCCEEDED, NULL);
    scene_claim(t.id, j[2].id);
}

static void the_sweeps_see_every_tenants_jobs_page_by_page_but_no_suspended_ones(void **state)
{
    (void)state;
    struct tenant t;
    struct job j[5];
    struct err e;
    char dataset[ID_MAX], after[ID_MAX] = "";
    scene_tenant(&t);
    scene_dataset(t.id, "swept", dataset);
    for (int i = 0; i < 5; i++) scene_submit(t.id, dataset, "swept", &j[i]);
    scene_claim(t.id, j[0].id);
    for (int suspended = 0; suspended < 2; suspended++) {
        struct job_brief_list list;
        int seen = 0, strangers = 0;
        after[0] = '\0';
        assert_ok(db_begin_system(scene.scheduler, &e), e);
        do {
            assert_ok(job_sweep_queued(scene.scheduler, after[0] ? after : NULL, 2, &scene.arena, &list, &e),
                      e);
            for (int i = 0; i < list.n; i++) {
                assert_true(strcmp(list.items[i].id, after) > 0);
                memcpy(after, list.items[i].id, ID_MAX);
                seen += strcmp(list.items[i].tenant_id, t.id) == 0;
                strangers += strcmp(list.items[i].tenant_id, t.id) != 0;
            }
        } while (list.has_more);
        assert_int_equal(seen, suspended ? 0 : 4);
        assert_ok(job_sweep_running(scene.scheduler, NULL, 100, &scene.arena, &list, &e), e);
        bool found = false;
        for (int i = 0; i < list.n; i++) {
            if (strcmp(list.items[i].id, j[0].id) != 0) continue;
            found = true;
            assert_string_equal(list.items[i].worker, scene.worker_id);
            assert_int_equal(list.items[i].fence, 1);
            assert_int_equal(list.items[i].weight, t.plan.weight);
        }
        assert_true(found);
        struct job_brief brief;
        enum job_state where;
        assert_ok(job_brief_find(scene.scheduler, t.id, j[1].id, &brief, &where, &e), e);
        assert_int_equal(where, JOB_QUEUED);
        db_rollback(scene.scheduler);
        assert_ok(db_begin_system(scene.admin, &e), e);
        assert_ok(tenant_suspend(scene.admin, t.id, true, &pg_fixture_actor, &e), e);
        assert_ok(db_commit(scene.admin, &e), e);
    }
    int64_t fence;
    int attempt;
    assert_ok(db_begin_system(scene.scheduler, &e), e);
    assert_err(ERR_FORBIDDEN,
               job_claim(scene.scheduler, t.id, j[1].id, scene.worker_id, 1000, &fence, &attempt, &e));
    db_rollback(scene.scheduler);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_many_claims_exactly_one_wins),
        cmocka_unit_test(renewing_keeps_the_reaper_away_and_tells_of_a_cancellation),
        cmocka_unit_test(a_lost_lease_is_reaped_once_and_makes_the_fence_stale),
        cmocka_unit_test(the_third_crash_is_the_last),
        cmocka_unit_test(backing_off_waits_at_most_its_bound),
        cmocka_unit_test(a_lost_job_whose_cancellation_was_asked_for_is_cancelled),
        cmocka_unit_test(a_job_that_is_given_back_counts_no_crash),
        cmocka_unit_test(claims_stop_at_the_plans_running_jobs),
        cmocka_unit_test(the_sweeps_see_every_tenants_jobs_page_by_page_but_no_suspended_ones),
    };
    return cmocka_run_group_tests(tests, scene_up, scene_down);
}
