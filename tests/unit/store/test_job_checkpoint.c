/* Checkpoints of jobs: who may lay one down, what becomes of its blob, and what time it makes count. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/store/pg_fixture.h"
#include "tests/unit/store/scene.h"

/* A running job whose attempt began so long ago. */
static int64_t run(const char *model, struct job *j, int seconds)
{
    char sql[256];
    scene_submit(scene.a.id, scene.dataset, model, j);
    int64_t fence = scene_claim(scene.a.id, j->id);
    snprintf(sql, sizeof sql, "UPDATE jobs SET started_at = now() - interval '%d seconds' WHERE id = '%s'",
             seconds, j->id);
    pg_fixture_exec(sql);
    return fence;
}

static struct blob store(const char *text)
{
    struct blob b;
    scene_blob(scene.worker, scene.a.id, text, strlen(text), &b);
    return b;
}

static int save(const struct job *j, int64_t fence, const struct blob *b, int64_t epoch)
{
    struct err e = {0};
    struct job_checkpoint c = {.blob = b, .epoch = epoch, .step = 7};
    assert_ok(db_begin(scene.worker, scene.a.id, &e), e);
    int rc = job_save(scene.worker, j->id, fence, &c, &e);
    if (rc)
        db_rollback(scene.worker);
    else
        assert_ok(db_commit(scene.worker, &e), e);
    return rc;
}

static void give_back(const struct job *j, int64_t fence, const struct blob *b, int64_t epoch)
{
    struct err e = {0};
    struct job_checkpoint c = {.blob = b, .epoch = epoch, .step = 7};
    assert_ok(db_begin(scene.worker, scene.a.id, &e), e);
    assert_ok(job_yield(scene.worker, j->id, fence, b ? &c : NULL, "another tenant was due", &e), e);
    assert_ok(db_commit(scene.worker, &e), e);
}

static void crash(const struct job *j, int64_t fence)
{
    struct err e = {0};
    enum job_state state;
    char sql[200];
    assert_ok(db_begin(scene.worker, scene.a.id, &e), e);
    assert_ok(job_crash(scene.worker, j->id, fence, "it crashed", &state, &e), e);
    assert_ok(db_commit(scene.worker, &e), e);
    assert_int_equal(state, JOB_RETRY_WAIT);
    snprintf(sql, sizeof sql, "UPDATE jobs SET state = 'queued', run_after = NULL WHERE id = '%s'", j->id);
    pg_fixture_exec(sql);
}

static int64_t events(const struct job *j, const char *like)
{
    char sql[300];
    snprintf(sql, sizeof sql, "SELECT count(*) FROM job_events WHERE job_id = '%s' AND message LIKE '%s'",
             j->id, like);
    return scene_number(sql);
}

static bool has_row(const struct blob *b)
{
    char sql[200];
    snprintf(sql, sizeof sql, "SELECT count(*) FROM blobs WHERE sha256 = '%s'", b->sha256);
    return scene_number(sql) == 1;
}

static int64_t collect(void)
{
    struct err e = {0};
    int64_t removed = 0;
    assert_ok(blob_collect(scene.scheduler, scene.blobs, 3600, &removed, &e), e);
    return removed;
}

static void a_job_that_yields_is_queued_with_its_checkpoint_its_hold_and_its_time(void **state)
{
    (void)state;
    struct job j;
    struct job_ended ended;
    int64_t fence = run("yields", &j, 100);
    struct blob b = store("where it stands");
    give_back(&j, fence, &b, 3);
    scene_find(scene.a.id, j.id, &j);
    assert_int_equal(j.state, JOB_QUEUED);
    assert_int_equal(j.crashes, 0);
    assert_string_equal(j.checkpoint_sha256, b.sha256);
    assert_int_equal(j.checkpoint_epoch, 3);
    assert_int_equal(j.checkpoint_step, 7);
    assert_int_equal(events(&j, "yielded at epoch 3, step 7: another tenant was due"), 1);
    scene_check_invariants(); /* the hold is open */

    fence = scene_claim(scene.a.id, j.id);
    scene_find(scene.a.id, j.id, &j);
    assert_true(j.used_before_ms >= 100000 && j.used_before_ms < 110000);
    assert_int_equal(events(&j, "resumed at epoch 3, step 7"), 1);
    scene_finish(scene.a.id, j.id, fence, JOB_SUCCEEDED, &ended);
    assert_true(ended.cost_micros >= 100 * j.price_micros && ended.cost_micros <= 110 * j.price_micros);
    scene_find(scene.a.id, j.id, &j);
    assert_string_equal(j.checkpoint_sha256, "");
    scene_check_invariants();
}

static void in_a_job_of_several_trainings_it_is_told_which_one(void **state)
{
    (void)state;
    struct job j;
    struct err e = {0};
    int64_t fence = run("searching", &j, 10);
    struct blob b = store("a search");
    struct job_checkpoint c = {.blob = &b, .epoch = 2, .step = 5, .part = "trial 3 of 6"};
    assert_ok(db_begin(scene.worker, scene.a.id, &e), e);
    assert_ok(job_yield(scene.worker, j.id, fence, &c, "another tenant was due", &e), e);
    assert_ok(db_commit(scene.worker, &e), e);
    assert_int_equal(events(&j, "yielded at trial 3 of 6, epoch 2, step 5: another tenant was due"), 1);
    fence = scene_claim(scene.a.id, j.id);
    assert_int_equal(events(&j, "resumed at trial 3 of 6, epoch 2, step 5"), 1);
    scene_finish(scene.a.id, j.id, fence, JOB_CANCELLED, NULL);
    assert_int_equal(scene_number("SELECT count(*) FROM jobs WHERE checkpoint_part IS NOT NULL"), 0);
}

static void a_stale_attempts_checkpoint_changes_nothing(void **state)
{
    (void)state;
    struct job j;
    int64_t old = run("stale", &j, 10);
    struct blob first = store("first"), late = store("late");
    give_back(&j, old, &first, 2);
    scene_claim(scene.a.id, j.id);
    assert_err(ERR_STALE, save(&j, old, &late, 9));
    scene_find(scene.a.id, j.id, &j);
    assert_string_equal(j.checkpoint_sha256, first.sha256);
    assert_false(has_row(&late)); /* its transaction is gone as a whole */
    scene_finish(scene.a.id, j.id, j.fence, JOB_CANCELLED, NULL);
}

static void only_the_time_that_a_checkpoint_stands_for_outlives_a_crash(void **state)
{
    (void)state;
    struct job j;
    struct job_ended ended;
    int64_t fence = run("crashes", &j, 50);
    struct blob b = store("after fifty seconds");
    assert_int_equal(save(&j, fence, &b, 5), 0);
    char sql[200];
    snprintf(sql, sizeof sql, "UPDATE jobs SET started_at = now() - interval '200 seconds' WHERE id = '%s'",
             j.id);
    pg_fixture_exec(sql); /* 150 seconds more, which are lost */
    crash(&j, fence);
    fence = scene_claim(scene.a.id, j.id);
    scene_find(scene.a.id, j.id, &j);
    assert_true(j.used_before_ms >= 50000 && j.used_before_ms < 60000);
    scene_finish(scene.a.id, j.id, fence, JOB_SUCCEEDED, &ended);
    assert_true(ended.cost_micros <= 60 * j.price_micros);
    scene_check_invariants();
}

static void a_checkpoint_that_may_have_made_the_run_crash_twice_is_forgotten(void **state)
{
    (void)state;
    struct job j;
    int64_t fence = run("poison", &j, 50);
    struct blob b = store("poison");
    assert_int_equal(save(&j, fence, &b, 5), 0);
    crash(&j, fence);
    scene_find(scene.a.id, j.id, &j);
    assert_string_equal(j.checkpoint_sha256, b.sha256);
    crash(&j, scene_claim(scene.a.id, j.id));
    scene_find(scene.a.id, j.id, &j);
    assert_string_equal(j.checkpoint_sha256, "");
    fence = scene_claim(scene.a.id, j.id);
    scene_find(scene.a.id, j.id, &j);
    assert_int_equal(j.used_before_ms, 0);
    scene_finish(scene.a.id, j.id, fence, JOB_SUCCEEDED, NULL);
    scene_check_invariants();
}

static void a_job_that_restarts_forgets_its_checkpoint_and_its_time(void **state)
{
    (void)state;
    struct job j;
    struct err e = {0};
    int64_t fence = run("restarts", &j, 50);
    struct blob b = store("of no use");
    give_back(&j, fence, &b, 5);
    fence = scene_claim(scene.a.id, j.id);
    assert_ok(db_begin(scene.worker, scene.a.id, &e), e);
    assert_ok(job_restart(scene.worker, j.id, fence, "the checkpoint is not sound", &e), e);
    assert_ok(db_commit(scene.worker, &e), e);
    scene_find(scene.a.id, j.id, &j);
    assert_string_equal(j.checkpoint_sha256, "");
    assert_int_equal(j.used_before_ms, 0);
    assert_int_equal(events(&j, "the checkpoint is not sound"), 1);
    assert_ok(db_begin(scene.worker, scene.a.id, &e), e);
    assert_err(ERR_STALE, job_restart(scene.worker, j.id, fence - 1, "x", &e));
    db_rollback(scene.worker);
    scene_finish(scene.a.id, j.id, fence, JOB_CANCELLED, NULL);
}

static void replaced_checkpoints_are_collected_at_once_and_the_newest_never(void **state)
{
    (void)state;
    struct job j;
    int64_t fence = run("collected", &j, 5);
    struct blob first = store("the first of two"), second = store("the second of two");
    assert_int_equal(save(&j, fence, &first, 1), 0);
    collect();
    assert_true(has_row(&first));
    assert_int_equal(save(&j, fence, &second, 2), 0);
    assert_int_equal(collect(), 1); /* a file, though it is younger than the grace of uploads */
    assert_false(has_row(&first));
    assert_true(has_row(&second));
    scene_finish(scene.a.id, j.id, fence, JOB_FAILED, NULL);
    assert_int_equal(collect(), 1);
    assert_false(has_row(&second));
}

static void another_tenant_cannot_lay_down_a_checkpoint(void **state)
{
    (void)state;
    struct job j;
    struct err e = {0};
    int64_t fence = run("mine", &j, 5);
    struct blob b;
    scene_blob(scene.worker, scene.b.id, "theirs", 6, &b);
    struct job_checkpoint c = {.blob = &b, .epoch = 1};
    assert_ok(db_begin(scene.worker, scene.b.id, &e), e);
    assert_err(ERR_STALE, job_save(scene.worker, j.id, fence, &c, &e));
    db_rollback(scene.worker);
    scene_finish(scene.a.id, j.id, fence, JOB_CANCELLED, NULL);
}

static void a_job_cancelled_while_it_yields_ends_without_a_checkpoint(void **state)
{
    (void)state;
    struct job j;
    char sql[200];
    int64_t fence = run("cancelled", &j, 5);
    struct blob b = store("never used");
    snprintf(sql, sizeof sql, "UPDATE jobs SET cancel_requested = true WHERE id = '%s'", j.id);
    pg_fixture_exec(sql);
    give_back(&j, fence, &b, 1);
    scene_find(scene.a.id, j.id, &j);
    assert_int_equal(j.state, JOB_CANCELLED);
    assert_string_equal(j.checkpoint_sha256, "");
    scene_check_invariants();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_that_yields_is_queued_with_its_checkpoint_its_hold_and_its_time),
        cmocka_unit_test(in_a_job_of_several_trainings_it_is_told_which_one),
        cmocka_unit_test(a_stale_attempts_checkpoint_changes_nothing),
        cmocka_unit_test(only_the_time_that_a_checkpoint_stands_for_outlives_a_crash),
        cmocka_unit_test(a_checkpoint_that_may_have_made_the_run_crash_twice_is_forgotten),
        cmocka_unit_test(a_job_that_restarts_forgets_its_checkpoint_and_its_time),
        cmocka_unit_test(replaced_checkpoints_are_collected_at_once_and_the_newest_never),
        cmocka_unit_test(another_tenant_cannot_lay_down_a_checkpoint),
        cmocka_unit_test(a_job_cancelled_while_it_yields_ends_without_a_checkpoint),
    };
    return cmocka_run_group_tests(tests, scene_up, scene_down);
}
