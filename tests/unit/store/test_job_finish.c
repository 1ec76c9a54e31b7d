/* How jobs end: once, under their fence, with version, money, event and audit row together. */
#include "scene.h"

#include <stdio.h>
#include <string.h>
#include "store/alias.h"
#include "store/invoice.h"
#include "store/job_event.h"
#include "store/ledger.h"
#include "store/model.h"
#include "store/version.h"

static void success_makes_version_model_and_live_alias(void **state)
{
    (void)state;
    struct job j;
    struct job_ended first, second;
    struct err e;
    struct model m;
    scene_submit(scene.a.id, scene.dataset, "digits", &j);
    scene_finish(scene.a.id, j.id, scene_claim(scene.a.id, j.id), JOB_SUCCEEDED, &first);
    assert_int_equal(first.version, 1);
    assert_true(first.alias_made);
    scene_train(scene.a.id, scene.dataset, "digits", &second);
    assert_int_equal(second.version, 2);
    assert_false(second.alias_made);

    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_ok(model_find(scene.gateway, "digits", &scene.arena, &m, &e), e);
    assert_ok(db_commit(scene.gateway, &e), e);
    assert_int_equal(m.latest_version, 2);
    assert_int_equal(m.n_aliases, 1);
    assert_string_equal(m.aliases[0].name, "live");
    assert_int_equal(m.aliases[0].version, 1);
    scene_find(scene.a.id, j.id, &j);
    assert_int_equal(j.state, JOB_SUCCEEDED);
    assert_non_null(strstr(j.result, first.version_id));
    assert_non_null(strstr(j.result, "\"accuracy\":0.5"));
    assert_true(j.finished_at_us >= j.started_at_us && j.started_at_us >= j.created_at_us);
    scene_check_invariants();
}

static void success_charges_at_least_one_second_and_captures_once(void **state)
{
    (void)state;
    struct job j;
    struct job_ended ended;
    struct err e;
    scene_submit(scene.a.id, scene.dataset, "priced", &j);
    assert_int_equal(j.hold_micros, 100 * scene.a.plan.train_second_micros);
    int64_t fence = scene_claim(scene.a.id, j.id);
    scene_finish(scene.a.id, j.id, fence, JOB_SUCCEEDED, &ended);
    assert_int_equal(ended.cost_micros % scene.a.plan.train_second_micros, 0);
    assert_true(ended.cost_micros >= scene.a.plan.train_second_micros);
    /* Again with the same fence: nothing may happen twice. */
    assert_err(ERR_STALE, scene_try_finish(scene.worker, scene.a.id, j.id, fence, JOB_SUCCEEDED, &ended, &e));
    char sql[256];
    snprintf(sql, sizeof sql, "SELECT count(*) FROM ledger_entries WHERE source = 'job:%s'", j.id);
    assert_int_equal(scene_number(sql), 2);
    snprintf(sql, sizeof sql, "SELECT count(*) FROM model_versions WHERE job_id = '%s'", j.id);
    assert_int_equal(scene_number(sql), 1);
    scene_check_invariants();
}

static void a_long_run_never_costs_more_than_its_hold(void **state)
{
    (void)state;
    struct job j;
    struct job_ended ended;
    char sql[256];
    scene_submit(scene.a.id, scene.dataset, "long", &j);
    int64_t fence = scene_claim(scene.a.id, j.id);
    snprintf(sql, sizeof sql, "UPDATE jobs SET started_at = now() - interval '1 day' WHERE id = '%s'", j.id);
    pg_fixture_exec(sql);
    scene_finish(scene.a.id, j.id, fence, JOB_SUCCEEDED, &ended);
    assert_int_equal(ended.cost_micros, j.hold_micros);
    scene_check_invariants();
}

static void a_running_time_is_charged_by_the_begun_second(void **state)
{
    (void)state;
    struct job j;
    struct job_ended ended;
    char sql[256];
    scene_submit(scene.a.id, scene.dataset, "seconds", &j);
    int64_t fence = scene_claim(scene.a.id, j.id);
    snprintf(sql, sizeof sql, "UPDATE jobs SET started_at = now() - interval '41.5 seconds' WHERE id = '%s'",
             j.id);
    pg_fixture_exec(sql);
    scene_finish(scene.a.id, j.id, fence, JOB_SUCCEEDED, &ended);
    int64_t seconds = ended.cost_micros / scene.a.plan.train_second_micros;
    assert_in_range(seconds, 42, 60);
    snprintf(sql, sizeof sql,
             "SELECT quantity FROM ledger_entries WHERE source = 'job:%s' AND account = 'receivable'", j.id);
    assert_int_equal(scene_number(sql), seconds);
}

static void each_thread_is_charged(void **state)
{
    (void)state;
    struct job j;
    struct job_ended ended;
    char sql[256];
    scene_submit(scene.a.id, scene.dataset, "threads", &j);
    int64_t fence = scene_claim(scene.a.id, j.id);
    snprintf(sql, sizeof sql,
             "UPDATE jobs SET threads = 3, started_at = now() - interval '9.5 seconds' WHERE id = '%s'",
             j.id);
    pg_fixture_exec(sql);
    scene_finish(scene.a.id, j.id, fence, JOB_SUCCEEDED, &ended);
    int64_t seconds = ended.cost_micros / scene.a.plan.train_second_micros;
    assert_in_range(seconds, 30, 60);
    assert_int_equal(seconds % 3, 0);
    snprintf(sql, sizeof sql,
             "SELECT quantity FROM ledger_entries WHERE source = 'job:%s' AND account = 'receivable'", j.id);
    assert_int_equal(scene_number(sql), seconds);
    scene_check_invariants();
}

static void failure_and_cancellation_cost_nothing(void **state)
{
    (void)state;
    struct job j;
    struct err e;
    struct job_ended ended;
    const enum job_state ends[] = {JOB_FAILED, JOB_CANCELLED};
    for (int i = 0; i < 2; i++) {
        scene_submit(scene.a.id, scene.dataset, "unborn", &j);
        scene_finish(scene.a.id, j.id, scene_claim(scene.a.id, j.id), ends[i], &ended);
        scene_find(scene.a.id, j.id, &j);
        assert_int_equal(j.state, ends[i]);
        assert_int_equal(j.cost_micros, 0);
        assert_int_equal(ended.version, 0);
    }
    scene_submit(scene.a.id, scene.dataset, "unborn", &j);
    scene_finish(scene.a.id, j.id, scene_claim(scene.a.id, j.id), JOB_FAILED, NULL);
    scene_find(scene.a.id, j.id, &j);
    assert_string_equal(j.error_code, "invalid");
    assert_string_equal(j.error_message, "a column is missing");
    assert_string_equal(j.error_param, "spec.target");
    struct model m;
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_err(ERR_NOT_FOUND, model_find(scene.gateway, "unborn", &scene.arena, &m, &e));
    db_rollback(scene.gateway);
    scene_check_invariants();
}

static void a_finish_under_an_old_fence_changes_nothing(void **state)
{
    (void)state;
    struct job j, after;
    struct err e;
    struct job_ended ended;
    scene_submit(scene.a.id, scene.dataset, "zombie", &j);
    int64_t old = scene_claim(scene.a.id, j.id);
    scene_expire_lease(j.id);
    struct job_reaped *reaped;
    int n, released;
    assert_ok(db_begin_system(scene.scheduler, &e), e);
    assert_ok(job_reap(scene.scheduler, 10, &scene.arena, &reaped, &n, &e), e);
    assert_ok(db_commit(scene.scheduler, &e), e);
    assert_int_equal(n, 1);
    pg_fixture_exec("UPDATE jobs SET run_after = now() WHERE state = 'retry_wait'");
    assert_ok(db_begin_system(scene.scheduler, &e), e);
    assert_ok(job_release(scene.scheduler, 10, &released, &e), e);
    assert_ok(db_commit(scene.scheduler, &e), e);
    int64_t fence = scene_claim(scene.a.id, j.id);
    assert_true(fence > old);

    int64_t versions = scene_number("SELECT count(*) FROM model_versions");
    int64_t entries = scene_number("SELECT count(*) FROM ledger_entries");
    assert_err(ERR_STALE, scene_try_finish(scene.worker, scene.a.id, j.id, old, JOB_SUCCEEDED, &ended, &e));
    assert_err(ERR_STALE, scene_try_finish(scene.worker, scene.a.id, j.id, old, JOB_FAILED, &ended, &e));
    assert_int_equal(scene_number("SELECT count(*) FROM model_versions"), versions);
    assert_int_equal(scene_number("SELECT count(*) FROM ledger_entries"), entries);
    scene_find(scene.a.id, j.id, &after);
    assert_int_equal(after.state, JOB_RUNNING);
    scene_finish(scene.a.id, j.id, fence, JOB_SUCCEEDED, &ended);
    assert_int_equal(ended.version, 1);
    scene_check_invariants();
}

static void ended_jobs_cannot_be_changed_by_anybody(void **state)
{
    (void)state;
    struct job j;
    struct err e;
    char sql[256];
    scene_submit(scene.a.id, scene.dataset, "final", &j);
    scene_finish(scene.a.id, j.id, scene_claim(scene.a.id, j.id), JOB_SUCCEEDED, NULL);
    struct db *super = pg_fixture_open(PG_SUPER);
    const char *const changes[] = {
        "UPDATE jobs SET state = 'queued', finished_at = NULL WHERE id = ",
        "UPDATE jobs SET cost_micros = 0 WHERE id = ",
        "UPDATE holds SET state = 'voided', captured_micros = NULL WHERE job_id = ",
        "DELETE FROM job_events WHERE job_id = ",
        "UPDATE model_versions SET bytes = 0 WHERE job_id = ",
        "UPDATE ledger_entries SET amount_micros = 0 WHERE source = 'job:' || ",
        "DELETE FROM ledger_entries WHERE source = 'job:' || ",
    };
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        snprintf(sql, sizeof sql, "%s'%s'", changes[i], j.id);
        assert_ok(db_begin_system(super, &e), e);
        assert_err(ERR_CONFLICT, db_exec_text(super, sql, &e));
        db_rollback(super);
    }
    db_free(super);
}

static void the_events_tell_the_whole_story_in_order(void **state)
{
    (void)state;
    struct job j;
    struct err e;
    struct job_event_list list;
    scene_submit(scene.a.id, scene.dataset, "story", &j);
    int64_t fence = scene_claim(scene.a.id, j.id);
    assert_ok(db_begin(scene.worker, scene.a.id, &e), e);
    assert_ok(job_progress(scene.worker, j.id, fence, "{\"epoch\":1}", "info", "metrics", "epoch 1",
                           "{\"loss\":1}", &e),
              e);
    assert_ok(job_progress(scene.worker, j.id, fence, "{\"epoch\":2}", NULL, NULL, NULL, NULL, &e), e);
    assert_ok(db_commit(scene.worker, &e), e);
    scene_finish(scene.a.id, j.id, fence, JOB_SUCCEEDED, NULL);

    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_ok(job_event_list(scene.gateway, j.id, &(struct page){.limit = 10}, &scene.arena, &list, &e), e);
    assert_int_equal(list.n, 4);
    const char *const said[] = {"queued", "running", "epoch 1", "succeeded"};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(list.items[i].seq, i + 1);
        assert_string_equal(list.items[i].message, said[i]);
    }
    assert_string_equal(list.items[2].type, "metrics");
    assert_string_equal(list.items[2].data, "{\"loss\":1}");
    struct page p = {.after = list.items[1].id, .limit = 1};
    struct job_event_list next;
    assert_ok(job_event_list(scene.gateway, j.id, &p, &scene.arena, &next, &e), e);
    assert_int_equal(next.n, 1);
    assert_int_equal(next.items[0].seq, 3);
    assert_true(next.has_more);
    p = (struct page){.before = list.items[3].id, .limit = 2};
    assert_ok(job_event_list(scene.gateway, j.id, &p, &scene.arena, &next, &e), e);
    assert_int_equal(next.items[0].seq, 2);
    assert_int_equal(next.items[1].seq, 3);
    db_rollback(scene.gateway);
    scene_find(scene.a.id, j.id, &j);
    assert_string_equal(j.progress, "{\"epoch\":2}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(success_makes_version_model_and_live_alias),
        cmocka_unit_test(success_charges_at_least_one_second_and_captures_once),
        cmocka_unit_test(a_long_run_never_costs_more_than_its_hold),
        cmocka_unit_test(a_running_time_is_charged_by_the_begun_second),
        cmocka_unit_test(each_thread_is_charged),
        cmocka_unit_test(failure_and_cancellation_cost_nothing),
        cmocka_unit_test(a_finish_under_an_old_fence_changes_nothing),
        cmocka_unit_test(ended_jobs_cannot_be_changed_by_anybody),
        cmocka_unit_test(the_events_tell_the_whole_story_in_order),
    };
    return cmocka_run_group_tests(tests, scene_up, scene_down);
}
