/* Predictions that are answered later: priced by rows like any prediction, billed once, kept for a while. */
#include "scene.h"

#include <stdio.h>
#include <string.h>
#include "store/predict_job.h"
#include "store/version.h"

static char version_id[ID_MAX];

static int try_submit(const char *tenant_id, int64_t rows, const char *input, struct job *out, struct err *e)
{
    struct blob blob;
    scene_blob(scene.gateway, tenant_id, input, strlen(input), &blob);
    struct predict_job_new in = {.model = "asked",
                                 .version_id = version_id,
                                 .rows = rows,
                                 .input = &blob,
                                 .spec = "{\"protocol\":\"oip\"}"};
    int rc = db_begin(scene.gateway, tenant_id, e);
    if (!rc) rc = predict_job_submit(scene.gateway, &in, &pg_fixture_actor, &scene.arena, out, e);
    if (rc) {
        db_rollback(scene.gateway);
        return rc;
    }
    return db_commit(scene.gateway, e);
}

static int try_answer(const char *job_id, int64_t fence, const char *output, struct job_ended *out,
                      struct err *e)
{
    struct blob blob;
    scene_blob(scene.worker, scene.a.id, output, strlen(output), &blob);
    struct job_answer answer = {.output = &blob, .compute_us = 70};
    struct job_end end = {.state = JOB_SUCCEEDED, .answer = &answer};
    struct actor by = {.type = "worker", .id = scene.worker_id};
    int rc = db_begin(scene.worker, scene.a.id, e);
    if (!rc) rc = job_finish(scene.worker, job_id, fence, &end, &by, out, e);
    if (rc) {
        db_rollback(scene.worker);
        return rc;
    }
    return db_commit(scene.worker, e);
}

static int try_find(const char *tenant_id, const char *job_id, struct predict_job *out, struct err *e)
{
    int rc = db_begin(scene.gateway, tenant_id, e);
    if (!rc) rc = predict_job_find(scene.gateway, job_id, out, e);
    db_rollback(scene.gateway);
    return rc;
}

static int expire(int64_t keep_s, int64_t *n, struct err *e)
{
    int rc = db_begin_system(scene.scheduler, e);
    if (!rc) rc = predict_job_expire(scene.scheduler, keep_s, n, e);
    if (!rc) return db_commit(scene.scheduler, e);
    db_rollback(scene.scheduler);
    return rc;
}

static int set_up(void **state)
{
    struct job_ended made;
    if (scene_up(state)) return -1;
    scene_train(scene.a.id, scene.dataset, "asked", &made);
    memcpy(version_id, made.version_id, ID_MAX);
    return 0;
}

static void rows_asked_for_later_cost_what_rows_cost(void **state)
{
    (void)state;
    struct job j;
    struct job_ended ended;
    struct predict_job kept;
    struct err e = {0};
    struct plan plan = scene.a.plan, before = scene.a.plan;
    plan.predict_krows_micros = 2500;
    scene_plan(&plan);
    int64_t cost = 0;
    for (int i = 0; i < 2; i++) { /* 2.5 micro-units for each: the second one gets what the first one left */
        char text[32];
        snprintf(text, sizeof text, "question %d", i);
        assert_ok(try_submit(scene.a.id, 1, text, &j, &e), e);
        assert_string_equal(j.type, "predict");
        assert_int_equal(j.hold_micros, 3);
        assert_false(job_makes_version(&j));
        assert_ok(try_answer(j.id, scene_claim(scene.a.id, j.id), "answer", &ended, &e), e);
        cost += ended.cost_micros;
    }
    assert_int_equal(cost, 5);
    scene_plan(&before);
    scene_find(scene.a.id, j.id, &j);
    assert_int_equal(j.state, JOB_SUCCEEDED);
    assert_int_equal(j.cost_micros, ended.cost_micros);
    assert_non_null(strstr(j.result, "\"metrics\":{\"rows\":1,\"compute_us\":70}"));
    assert_non_null(strstr(j.result, version_id));
    assert_ok(try_find(scene.a.id, j.id, &kept, &e), e);
    assert_int_equal(kept.output.bytes, 6);
    assert_int_equal(scene_number("SELECT sum(requests) FROM usage_hours WHERE model = 'asked'"), 2);
    assert_int_equal(scene_number("SELECT sum(rows) FROM usage_hours WHERE model = 'asked'"), 2);
    scene_check_invariants();
}

static void an_answer_under_an_old_fence_is_neither_kept_nor_billed(void **state)
{
    (void)state;
    struct job j;
    struct job_ended ended;
    struct predict_job kept;
    struct err e = {0};
    assert_ok(try_submit(scene.a.id, 1000, "once", &j, &e), e);
    int64_t fence = scene_claim(scene.a.id, j.id);
    assert_err(ERR_STALE, try_answer(j.id, fence - 1, "too late", &ended, &e));
    assert_ok(try_find(scene.a.id, j.id, &kept, &e), e);
    assert_string_equal(kept.output.sha256, "");
    assert_ok(try_answer(j.id, fence, "in time", &ended, &e), e);
    assert_err(ERR_STALE, try_answer(j.id, fence, "again", &ended, &e));
    assert_ok(try_find(scene.a.id, j.id, &kept, &e), e);
    assert_int_equal(kept.output.bytes, 7);
    scene_check_invariants();
}

static void another_tenant_sees_neither_question_nor_answer(void **state)
{
    (void)state;
    struct job j;
    struct predict_job kept;
    struct err e = {0};
    assert_ok(try_submit(scene.a.id, 1, "mine", &j, &e), e);
    assert_err(ERR_NOT_FOUND, try_find(scene.b.id, j.id, &kept, &e));
    assert_true(try_submit(scene.b.id, 1, "about your version", &j, &e) < 0);
}

static void what_was_answered_long_ago_is_collected_and_what_waits_is_not(void **state)
{
    (void)state;
    struct job done, waits;
    struct job_ended ended;
    struct predict_job kept;
    struct err e = {0};
    int64_t n, removed;
    assert_ok(try_submit(scene.a.id, 1, "old question", &done, &e), e);
    assert_ok(try_answer(done.id, scene_claim(scene.a.id, done.id), "old answer", &ended, &e), e);
    assert_ok(try_submit(scene.a.id, 1, "open question", &waits, &e), e);
    assert_ok(expire(PREDICT_JOB_KEEP_S, &n, &e), e);
    assert_int_equal(n, 0);
    assert_ok(blob_collect(scene.scheduler, scene.blobs, -1, &removed, &e), e);
    assert_ok(try_find(scene.a.id, done.id, &kept, &e), e);
    assert_ok(expire(-1, &n, &e), e);
    assert_true(n >= 1);
    assert_err(ERR_NOT_FOUND, try_find(scene.a.id, done.id, &kept, &e));
    assert_ok(blob_collect(scene.scheduler, scene.blobs, -1, &removed, &e), e);
    assert_true(removed >= 2);
    assert_ok(try_find(scene.a.id, waits.id, &kept, &e), e);
    scene_check_invariants();
}

/* Of one store: datasets, versions, requests and answers. */
static void a_version_that_is_deleted_meanwhile_is_not_asked(void **state)
{
    (void)state;
    struct job j;
    struct job_ended made;
    struct err e = {0};
    char kept[ID_MAX], id[ID_MAX];
    memcpy(kept, version_id, ID_MAX);
    for (int i = 0; i < 2; i++) /* the first one is what the alias "live" points at */
        scene_train(scene.a.id, scene.dataset, "gone", &made);
    memcpy(version_id, made.version_id, ID_MAX);
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_ok(version_delete(scene.gateway, "gone", 2, &pg_fixture_actor, id, &e), e);
    assert_ok(db_commit(scene.gateway, &e), e);
    assert_int_equal(try_submit(scene.a.id, 1, "too late", &j, &e), ERR_NOT_FOUND);
    assert_string_equal(e.field, "version");
    memcpy(version_id, kept, ID_MAX);
}

static void kept_requests_count_towards_the_plans_storage(void **state)
{
    (void)state;
    struct job j;
    struct err e = {0};
    struct plan plan = scene.a.plan, before = scene.a.plan;
    int64_t room = 0;
    plan.max_storage_bytes =
        25 +
        scene_number("SELECT (SELECT sum(bytes) FROM datasets WHERE deleted_at IS NULL)::bigint + (SELECT "
                     "sum(bytes) FROM model_versions WHERE deleted_at IS NULL)::bigint + (SELECT "
                     "coalesce(sum(b.bytes), 0) FROM predict_jobs p JOIN blobs b ON b.sha256 IN "
                     "(p.input_sha256, p.output_sha256))::bigint");
    scene_plan(&plan);
    int rc = 0, taken = 0;
    for (; taken < 8 && rc == 0; taken += rc == 0) {
        char text[32];
        snprintf(text, sizeof text, "ten bytes %d", taken);
        rc = try_submit(scene.a.id, 1, text, &j, &e);
    }
    assert_err(ERR_LIMIT, rc);
    assert_string_equal(e.field, "storage");
    assert_true(e.retry_after_ms > 0);
    assert_int_equal(taken, 2); /* of eleven bytes each */
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_ok(dataset_room(scene.gateway, &room, &e), e);
    assert_ok(db_commit(scene.gateway, &e), e);
    assert_int_equal(room, 3);
    scene_plan(&before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_asked_for_later_cost_what_rows_cost),
        cmocka_unit_test(an_answer_under_an_old_fence_is_neither_kept_nor_billed),
        cmocka_unit_test(another_tenant_sees_neither_question_nor_answer),
        cmocka_unit_test(what_was_answered_long_ago_is_collected_and_what_waits_is_not),
        cmocka_unit_test(a_version_that_is_deleted_meanwhile_is_not_asked),
        cmocka_unit_test(kept_requests_count_towards_the_plans_storage),
    };
    return cmocka_run_group_tests(tests, set_up, scene_down);
}
