/* What the types of jobs differ in: searches make versions, evaluations measure them. */
#include "scene.h"

#include <stdio.h>
#include <string.h>
#include "store/model.h"

static int try_submit(const char *tenant_id, const char *type, const char *model, const char *version_id,
                      struct job *out, struct err *e)
{
    struct job_new in = {.type = type,
                         .model = model,
                         .dataset_id = scene.dataset,
                         .version_id = version_id,
                         .max_seconds = 100,
                         .memory_bytes = 1 << 20,
                         .estimate_ms = 2500,
                         .threads = 1,
                         .spec = "{}"};
    int rc = db_begin(scene.gateway, tenant_id, e);
    if (!rc) rc = job_submit(scene.gateway, &in, &pg_fixture_actor, &scene.arena, out, e);
    if (rc) {
        db_rollback(scene.gateway);
        return rc;
    }
    return db_commit(scene.gateway, e);
}

static int finish_without_version(const char *job_id, int64_t fence, struct job_ended *out, struct err *e)
{
    struct job_end end = {.state = JOB_SUCCEEDED, .metrics = "{\"accuracy\":0.75}"};
    struct actor by = {.type = "worker", .id = scene.worker_id};
    int rc = db_begin(scene.worker, scene.a.id, e);
    if (!rc) rc = job_finish(scene.worker, job_id, fence, &end, &by, out, e);
    if (rc) {
        db_rollback(scene.worker);
        return rc;
    }
    return db_commit(scene.worker, e);
}

static void an_evaluation_is_charged_and_makes_no_version(void **state)
{
    (void)state;
    struct job j;
    struct job_ended made, ended;
    struct err e = {0};
    scene_train(scene.a.id, scene.dataset, "measured", &made);
    assert_ok(try_submit(scene.a.id, "evaluate", "measured", made.version_id, &j, &e), e);
    assert_string_equal(j.type, "evaluate");
    assert_string_equal(j.version_id, made.version_id);
    assert_int_equal(j.estimate_ms, 2500);
    assert_false(job_makes_version(&j));
    assert_ok(finish_without_version(j.id, scene_claim(scene.a.id, j.id), &ended, &e), e);
    assert_true(ended.cost_micros >= scene.a.plan.train_second_micros);
    assert_int_equal(ended.version, 0);
    scene_find(scene.a.id, j.id, &j);
    assert_int_equal(j.state, JOB_SUCCEEDED);
    assert_string_equal(j.result, "{\"version\":null,\"version_id\":null,\"metrics\":{\"accuracy\":0.75}}");
    assert_int_equal(scene_number("SELECT latest_version FROM models WHERE name = 'measured'"), 1);
    scene_check_invariants();
}

static void a_search_makes_a_version_like_a_training(void **state)
{
    (void)state;
    struct job j;
    struct job_ended ended;
    struct err e = {0};
    assert_ok(try_submit(scene.a.id, "tune", "searched", NULL, &j, &e), e);
    assert_true(job_makes_version(&j));
    scene_finish(scene.a.id, j.id, scene_claim(scene.a.id, j.id), JOB_SUCCEEDED, &ended);
    assert_int_equal(ended.version, 1);
    scene_check_invariants();
}

static void another_tenant_s_version_cannot_be_evaluated(void **state)
{
    (void)state;
    struct job j;
    struct job_ended made;
    struct err e = {0};
    char theirs[ID_MAX];
    scene_dataset(scene.b.id, "theirs", theirs);
    scene_train(scene.b.id, theirs, "theirs", &made);
    assert_true(try_submit(scene.a.id, "evaluate", "theirs", made.version_id, &j, &e) < 0);
    assert_int_equal(scene_number("SELECT count(*) FROM jobs WHERE model = 'theirs' AND type = 'evaluate'"),
                     0);
}

static void evaluations_do_not_count_as_models(void **state)
{
    (void)state;
    struct job j;
    struct err e = {0};
    int64_t models = scene_number("SELECT count(*) FROM models");
    struct plan tight = scene.a.plan, before = scene.a.plan;
    tight.max_models = models > 1 ? models : 1;
    scene_plan(&tight);
    assert_ok(try_submit(scene.a.id, "evaluate", "no-model-of-that-name", NULL, &j, &e), e);
    scene_plan(&before);
    assert_err(ERR_INVALID, try_submit(scene.a.id, "explain", "m", NULL, &j, &e));
    assert_string_equal(e.field, "type");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_evaluation_is_charged_and_makes_no_version),
        cmocka_unit_test(a_search_makes_a_version_like_a_training),
        cmocka_unit_test(another_tenant_s_version_cannot_be_evaluated),
        cmocka_unit_test(evaluations_do_not_count_as_models),
    };
    return cmocka_run_group_tests(tests, scene_up, scene_down);
}
