/* A search or a cross-validation that is laid down anywhere and picked up again ends with the bits of one
 * that was left alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/clock.h"
#include "learn/spec/tune.h"
#include "tests/unit/learn/jobs_aid.h"
#include "tests/unit/learn/keeper.h"

#define SMALL                                                                                                \
    "\"target\":\"species\",\"architecture\":[{\"layer\":\"Dense\",\"units\":5},{\"layer\":\"ReLU\"},{"      \
    "\"layer\":\"Dropout\",\"rate\":0.2},{\"layer\":\"Dense\",\"units\":3}]"

static const char *const searches[] = {
    "{\"base\":{" SMALL ",\"training\":{\"epochs\":3,\"batch_size\":32," STOPPING
    "}},\"trials\":4,\"seed\":4,\"parameters\":{"
    "\"training.optimizer.learning_rate\":{\"type\":\"log_uniform\",\"min\":1e-4,\"max\":0.1}}}",
    "{\"base\":{" SMALL
    ",\"training\":{\"epochs\":9,\"batch_size\":64}},\"method\":\"halving\",\"trials\":9,\"metric\":\"val_"
    "loss\",\"parameters\":{"
    "\"training.optimizer.learning_rate\":{\"type\":\"log_uniform\",\"min\":1e-5,\"max\":0.05}}}",
    "{\"base\":{\"target\":\"a\",\"features\":[\"b\",\"c\"],\"training\":{\"epochs\":3,\"batch_size\":32}},"
    "\"method\":\"grid\",\"parameters\":{\"training.optimizer\":[{\"name\":\"sgd\",\"learning_rate\":100},{"
    "\"name\":\"sgd\",\"learning_rate\":0.01},{\"name\":\"adam\",\"learning_rate\":0.01}]}}",
    "{\"base\":{\"target\":\"a\",\"features\":[\"b\",\"c\"],\"family\":\"linear_regression\"},\"method\":"
    "\"grid\",\"parameters\":{\"training.l2\":[0,0.01,10]}}",
};

/* Runs it alone, then with a checkpoint wherever one is asked for, then again from each `stride`th of these.
 */
static void resumes_from_everywhere(struct aid_run run, size_t stride, size_t least_marks)
{
    struct aid_result alone, watched;
    struct keeper k;
    keeper_train(&alone, &run);
    keeper_open(&k);
    k.every = true;
    run.callbacks = keeper_callbacks(&k);
    keeper_train(&watched, &run);
    if (k.n < least_marks) fail_msg("%s: only %zu checkpoints", run.spec, k.n);
    jobs_same(&alone, &watched, run.spec, &k.mark[0]);
    k.every = false;
    for (size_t i = 0, n = k.n; i < n; i += stride) {
        struct aid_result again;
        run.resume = &k.file[i];
        k.seen = 0;
        keeper_train(&again, &run);
        if (k.refusals) fail_msg("%s: refused: %s", run.spec, k.why);
        assert_int_equal(k.seen, n - 1 - i); /* nothing was done twice */
        jobs_same(&alone, &again, run.spec, &k.mark[i]);
        aid_result_dispose(&again);
    }
    keeper_close(&k);
    aid_result_dispose(&alone);
    aid_result_dispose(&watched);
}

static void a_search_resumes_bit_identically_from_every_step_and_between_trials(void **state)
{
    static const size_t marks[] = {4 * 3 + 4, 50, 2 * 3 + 3, 3};
    struct buf csv = {0}, test = {0};
    (void)state;
    aid_flowers(&csv, 130, 1);
    aid_flowers(&test, 30, 2);
    for (size_t i = 0; i < sizeof searches / sizeof *searches; i++)
        resumes_from_everywhere(
            (struct aid_run){
                .type = "tune", .spec = searches[i], .csv = csv.data, .test_csv = i % 2 ? test.data : NULL},
            1, marks[i]);
    buf_dispose(&csv);
    buf_dispose(&test);
}

static const char *const validations[] = {
    "{\"base\":{" SMALL ",\"training\":{\"epochs\":2,\"batch_size\":32," STOPPING
    ",\"validation_split\":0.2}},\"folds\":3,\"stratified\":true}",
    "{\"base\":{\"target\":\"a\",\"features\":[\"b\",\"c\"],\"preprocess\":[{\"op\":\"standardise\"}],"
    "\"training\":{\"epochs\":2,\"batch_size\":32}},\"folds\":4}",
    "{\"base\":{\"target\":\"a\",\"features\":[\"b\",\"c\"],\"family\":\"linear_regression\"},\"folds\":5}",
};

static void a_cross_validation_resumes_bit_identically_from_every_step_and_between_folds(void **state)
{
    static const size_t marks[] = {3 * 2 * 2 + 2, 4 * 2 * 3 + 3, 4};
    struct buf csv = {0};
    (void)state;
    aid_flowers(&csv, 130, 1);
    for (size_t i = 0; i < sizeof validations / sizeof *validations; i++)
        resumes_from_everywhere((struct aid_run){.type = "evaluate", .spec = validations[i], .csv = csv.data},
                                1, marks[i]);
    buf_dispose(&csv);
}

static void an_assessment_resumes_bit_identically_from_every_batch(void **state)
{
    static const char *const specs[] = {
        "{" SMALL ",\"training\":{\"epochs\":2}}",
        "{\"target\":\"a\",\"features\":[\"b\",\"c\"],\"architecture\":[{"
        "\"layer\":\"Dense\",\"units\":1}],\"training\":{\"epochs\":2,\"loss\":"
        "\"huber\"}}"};
    struct buf csv = {0}, other = {0};
    (void)state;
    aid_flowers(&csv, 130, 1);
    aid_flowers(&other, 256 * 3 + 7, 2);
    for (size_t i = 0; i < 2; i++) {
        struct aid_result trained;
        keeper_train(&trained, &(struct aid_run){.spec = specs[i], .csv = csv.data});
        resumes_from_everywhere(
            (struct aid_run){
                .type = "evaluate", .spec = "{\"version\":1}", .csv = other.data, .model = &trained.artifact},
            1, 3);
        aid_result_dispose(&trained);
    }
    buf_dispose(&csv);
    buf_dispose(&other);
}

/* ---- stopping ---- */

/* Stops a run at its nth question or report of an evaluation, whichever that is. */
struct stopper {
    struct keeper k;
    struct train_callbacks inner;
    size_t at, seen;
};

static void count(struct stopper *s)
{
    enum { QUESTION_NS = 6000000 };
    if (++s->seen != s->at) return;
    for (int64_t until_ns = clock_mono_ns() + QUESTION_NS; clock_mono_ns() < until_ns;) continue;
    s->k.stopping = true;
}

static bool on_save_due(void *ctx)
{
    count(ctx);
    return false;
}

static void on_progress(void *ctx, const struct train_progress *p)
{
    if (strcmp(p->phase, "evaluate") == 0) count(ctx);
}

static bool on_cancelled(void *ctx)
{
    const struct stopper *s = ctx;
    return s->inner.cancelled(s->inner.ctx);
}

static int on_save_to(void *ctx)
{
    const struct stopper *s = ctx;
    return s->inner.save_to(s->inner.ctx);
}

static void on_saved(void *ctx, const struct train_mark *mark)
{
    const struct stopper *s = ctx;
    s->inner.saved(s->inner.ctx, mark);
}

static void on_refused(void *ctx, const char *why)
{
    (void)ctx;
    fail_msg("refused: %s", why);
}

/* Attempt after attempt, each stopped at its nth event, until one ends: as long as the job gets anywhere.
 * Every stop leaves exactly one checkpoint. */
static size_t stopped_again_and_again(struct aid_run run, const struct aid_result *alone, size_t nth)
{
    struct buf last = {0};
    for (size_t attempt = 1;; attempt++) {
        struct stopper s = {.at = nth};
        struct aid_result r;
        struct err e = {0};
        keeper_open(&s.k);
        s.inner = keeper_callbacks(&s.k);
        run.callbacks = (struct train_callbacks){.ctx = &s,
                                                 .progress = on_progress,
                                                 .cancelled = on_cancelled,
                                                 .save_due = on_save_due,
                                                 .save_to = on_save_to,
                                                 .saved = on_saved,
                                                 .refused = on_refused};
        run.resume = last.len ? &last : NULL;
        int rc = aid_train(&r, &run, &e);
        if (rc != 0 && rc != ERR_CANCELLED) fail_msg("%s: %s", run.spec, e.message);
        if (rc == 0) jobs_same(alone, &r, run.spec, &(struct train_mark){.step = (int64_t)attempt});
        if (rc == ERR_CANCELLED) {
            assert_int_equal(s.k.n, 1);
            buf_clear(&last);
            buf_append(&last, s.k.file[0].data, s.k.file[0].len);
        }
        keeper_close(&s.k);
        aid_result_dispose(&r);
        if (attempt > 500) fail_msg("%s: stopped at event %zu each time, it gets nowhere", run.spec, nth);
        if (rc) continue;
        buf_dispose(&last);
        return attempt;
    }
}

static void a_job_that_is_stopped_again_and_again_gets_there(void **state)
{
    struct buf csv = {0};
    struct aid_result alone;
    (void)state;
    aid_flowers(&csv, 130, 1);
    for (size_t i = 0; i < 7; i++) {
        struct aid_run run = {.type = i < 4 ? "tune" : "evaluate",
                              .spec = i < 4 ? searches[i] : validations[i - 4],
                              .csv = csv.data};
        keeper_train(&alone, &run);
        for (size_t nth = i == 3 || i == 6 ? 3 : 4, attempts = 2; attempts > 1; nth += 1 + nth / 4)
            attempts = stopped_again_and_again(run, &alone, nth);
        aid_result_dispose(&alone);
    }
    buf_dispose(&csv);
}

/* The first evaluation of a halving is of a trial that has paused. */
static void a_trial_that_is_stopped_while_it_is_measured_goes_on_from_there(void **state)
{
    struct buf csv = {0};
    struct aid_result alone;
    (void)state;
    aid_flowers(&csv, 130, 1);
    for (size_t i = 0; i < 3; i++) {
        struct aid_run run = {.type = "tune", .spec = searches[i], .csv = csv.data};
        struct aid_result r;
        struct err e = {0};
        struct keeper k;
        keeper_train(&alone, &run);
        keeper_open(&k);
        k.stopped_in_evaluation = true;
        run.callbacks = keeper_callbacks(&k);
        assert_int_equal(aid_train(&r, &run, &e), ERR_CANCELLED);
        assert_int_equal(k.n, 1);
        k.stopping = k.stopped_in_evaluation = false;
        run.resume = &k.file[0];
        keeper_train(&r, &run);
        jobs_same(&alone, &r, run.spec, &k.mark[0]);
        assert_int_equal(k.refusals, 0);
        aid_result_dispose(&r);
        aid_result_dispose(&alone);
        keeper_close(&k);
    }
    buf_dispose(&csv);
}

/* ---- memory ---- */

#define WIDE                                                                                                 \
    "{\"target\":\"species\",\"architecture\":[{\"layer\":\"Dense\",\"units\":500},{\"layer\":"              \
    "\"BatchNormalization\"},{\"layer\":\"ReLU\"},{\"layer\":\"Dense\",\"units\":300},{\"layer\":\"Dense\"," \
    "\"units\":3}],\"training\":{\"epochs\":3,\"batch_size\":64,\"validation_split\":0.2," STOPPING "}}"

static size_t largest_checkpoint(struct aid_run run)
{
    struct aid_result r;
    struct keeper k;
    size_t most = 0;
    keeper_open(&k);
    k.every = true;
    run.callbacks = keeper_callbacks(&k);
    keeper_train(&r, &run);
    for (size_t i = 0; i < k.n; i++) most = k.file[i].len > most ? k.file[i].len : most;
    keeper_close(&k);
    aid_result_dispose(&r);
    return most;
}

static void the_estimate_counts_on_two_files_of_the_largest_checkpoint(void **state)
{
    static const char search[] = "{\"base\":" WIDE ",\"method\":\"halving\",\"trials\":5,\"parameters\":{"
                                 "\"training.l2\":{\"type\":\"uniform\",\"min\":0,\"max\":0.1}}}";
    struct buf csv = {0};
    struct err e = {0};
    struct resolved *r;
    struct tune_spec *t;
    struct estimate need;
    enum score_kind score;
    cJSON *node = aid_json(search);
    (void)state;
    aid_flowers(&csv, 150, 1);
    struct schema *s = aid_csv(csv.data);
    assert_int_equal(aid_settle(&r, WIDE, s, &e), 0);
    size_t one = largest_checkpoint((struct aid_run){.spec = WIDE, .csv = csv.data});
    assert_in_range(one, r->estimate.checkpoint_bytes / 2, r->estimate.checkpoint_bytes);
    assert_int_equal(tune_parse(&t, node, "spec", &e), 0);
    assert_int_equal(tune_check(&need, &score, t, s, NULL, &e), 0);
    size_t all = largest_checkpoint((struct aid_run){.type = "tune", .spec = search, .csv = csv.data});
    assert_true(all > 3 * one);
    /* both files, and in memory what waits */
    assert_true(need.memory_bytes >= r->estimate.memory_bytes - 2 * r->estimate.checkpoint_bytes + 3 * all);
    resolved_free(r);
    tune_free(t);
    cJSON_Delete(node);
    schema_free(s);
    buf_dispose(&csv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_search_resumes_bit_identically_from_every_step_and_between_trials),
        cmocka_unit_test(a_cross_validation_resumes_bit_identically_from_every_step_and_between_folds),
        cmocka_unit_test(an_assessment_resumes_bit_identically_from_every_batch),
        cmocka_unit_test(a_job_that_is_stopped_again_and_again_gets_there),
        cmocka_unit_test(the_estimate_counts_on_two_files_of_the_largest_checkpoint),
        cmocka_unit_test(a_trial_that_is_stopped_while_it_is_measured_goes_on_from_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
