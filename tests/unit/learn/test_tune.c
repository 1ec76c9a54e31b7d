/* Tune jobs, run in memory: searches, and halving that pauses and goes on. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "tests/unit/learn/jobs_aid.h"

/* ---- searches ---- */

static const char *const six =
    "{\"base\":{\"target\":\"species\",\"architecture\":[{\"layer\":\"Dense\",\"units\":8,\"activation\":"
    "\"relu\"},"
    "{\"layer\":\"Dense\",\"units\":3}],\"training\":{\"epochs\":6}},\"trials\":6,\"seed\":4,\"parameters\":{"
    "\"training.optimizer.learning_rate\":{\"type\":\"log_uniform\",\"min\":1e-6,\"max\":0.05},"
    "\"architecture[0].units\":[4,16]}}";

/* A job over so many flowers of that seed. */
static void run_flowers(struct aid_result *r, const char *type, const char *spec, size_t rows, uint64_t seed,
                        struct heard *h)
{
    struct buf csv = {0};
    aid_flowers(&csv, rows, seed);
    jobs_succeed(r, type, spec, csv.data, h);
    buf_dispose(&csv);
}

/* Disposes of both. */
static void expect_same_model(struct aid_result *searched, struct aid_result *trained)
{
    char a[SHA256_HEX_LEN], b[SHA256_HEX_LEN];
    jobs_digest(&searched->artifact, a);
    jobs_digest(&trained->artifact, b);
    assert_string_equal(a, b);
    aid_result_dispose(searched);
    aid_result_dispose(trained);
}

static void the_best_trial_becomes_the_model(void **state)
{
    (void)state;
    struct heard h = {0};
    struct aid_result r;
    run_flowers(&r, "tune", six, 300, 1, &h);
    const cJSON *tune = cJSON_GetObjectItemCaseSensitive(r.metrics, "tune");
    int best = (int)jobs_number(tune, "best_trial");
    double score = jobs_number(tune, "best_score"), worst = 1;
    for (int i = 1; i <= 6; i++) {
        const cJSON *t = jobs_trial(&r, i);
        assert_string_equal(jobs_text(t, "state"), "finished");
        assert_true(jobs_number(t, "epochs") == 6);
        assert_true(jobs_number(t, "score") <= score);
        if (jobs_number(t, "score") < worst) worst = jobs_number(t, "score");
        assert_int_equal(h.epochs_of[i], 6);
    }
    assert_true(score > worst);
    assert_true(jobs_number(jobs_trial(&r, best), "score") == score);
    assert_true(aid_metric(&r, "validation.accuracy") == score);
    assert_true(r.artifact.len > 0);
    assert_string_equal(jobs_text(tune, "ended"), "complete");
    assert_non_null(strstr(h.text, "trial 6 of 6: val_accuracy "));
    assert_non_null(strstr(h.last_part, "\"parameters\":{\"training.optimizer.learning_rate\":"));
    aid_result_dispose(&r);
}

/* The same spec trained by hand gives the same weights: a search adds nothing of its own. */
static void a_trial_trains_as_its_spec_would_by_itself(void **state)
{
    (void)state;
    struct aid_result searched, trained;
    run_flowers(
        &searched, "tune",
        "{\"base\":{\"target\":\"species\",\"training\":{\"epochs\":4}},\"method\":\"grid\",\"parameters\":{"
        "\"training.batch_size\":[16]}}",
        200, 2, NULL);
    run_flowers(
        &trained, "train",
        "{\"target\":\"species\",\"training\":{\"epochs\":4,\"batch_size\":16,\"validation_split\":0.2}}",
        200, 2, NULL);
    expect_same_model(&searched, &trained);
}

static void the_same_seed_gives_the_same_model_and_another_seed_other_trials(void **state)
{
    (void)state;
    struct aid_result r[3];
    char other[1024], hex[3][SHA256_HEX_LEN];
    snprintf(other, sizeof other, "%s", six);
    memcpy(strstr(other, "\"seed\":4"), "\"seed\":5", 8);
    for (int i = 0; i < 3; i++) {
        run_flowers(&r[i], "tune", i < 2 ? six : other, 150, 3, NULL);
        jobs_digest(&r[i].artifact, hex[i]);
    }
    assert_string_equal(hex[0], hex[1]);
    char *x = cJSON_PrintUnformatted(cJSON_GetObjectItemCaseSensitive(jobs_trial(&r[0], 1), "parameters"));
    char *y = cJSON_PrintUnformatted(cJSON_GetObjectItemCaseSensitive(jobs_trial(&r[2], 1), "parameters"));
    assert_string_not_equal(x, y);
    cJSON_free(x);
    cJSON_free(y);
    for (int i = 0; i < 3; i++) aid_result_dispose(&r[i]);
}

static void a_trial_that_diverges_fails_alone(void **state)
{
    (void)state;
    struct heard h = {0};
    struct aid_result r;
    run_flowers(
        &r, "tune",
        "{\"base\":{\"target\":\"a\",\"features\":[\"b\",\"c\"],\"training\":{\"epochs\":5}},"
        "\"method\":\"grid\",\"parameters\":{\"training.optimizer\":[{\"name\":\"sgd\",\"learning_rate\":"
        "0.01},"
        "{\"name\":\"sgd\",\"learning_rate\":100}]}}",
        150, 3, &h);
    assert_string_equal(jobs_text(jobs_trial(&r, 1), "state"), "finished");
    assert_string_equal(jobs_text(jobs_trial(&r, 2), "state"), "failed");
    assert_non_null(strstr(jobs_text(jobs_trial(&r, 2), "error"), "diverged"));
    assert_non_null(strstr(h.text, "warn: trial 2 of 2 failed: training diverged"));
    assert_true(jobs_number(cJSON_GetObjectItemCaseSensitive(r.metrics, "tune"), "best_trial") == 1);
    aid_result_dispose(&r);
}

static void a_search_whose_trials_all_fail_fails_with_the_first_reason(void **state)
{
    (void)state;
    struct buf csv = {0};
    struct err e = {0};
    struct aid_result r;
    aid_flowers(&csv, 150, 3);
    int rc = jobs_run(
        &r, "tune",
        "{\"base\":{\"target\":\"a\",\"features\":[\"b\"],\"training\":{\"epochs\":5}},\"parameters\":{"
        "\"training.optimizer\":[{\"name\":\"sgd\",\"learning_rate\":100},{\"name\":\"sgd\","
        "\"learning_rate\":99}]}}",
        csv.data, NULL, &e);
    assert_int_equal(rc, ERR_INVALID);
    assert_string_equal(e.field, "spec.parameters");
    assert_non_null(strstr(e.message, "every trial failed; the first: training diverged in epoch "));
    aid_result_dispose(&r);
    buf_dispose(&csv);
}

static void the_test_dataset_plays_no_part_in_the_choice(void **state)
{
    (void)state;
    struct buf csv = {0}, test = {0};
    struct err e = {0};
    struct aid_result with, without;
    char by_auc[1024]; /* which only the part that is looked at is kept for */
    aid_flowers(&csv, 200, 5);
    aid_flowers(&test, 60, 6);
    snprintf(by_auc, sizeof by_auc, "{\"metric\":\"auc\",%s", six + 1);
    struct aid_run q = {.type = "tune", .spec = by_auc, .csv = csv.data, .test_csv = test.data};
    if (aid_train(&with, &q, &e)) fail_msg("%s: %s", e.field, e.message);
    jobs_succeed(&without, "tune", by_auc, csv.data, NULL);
    assert_true(aid_metric(&with, "tune.best_trial") == aid_metric(&without, "tune.best_trial"));
    assert_true(aid_metric(&with, "tune.best_score") == aid_metric(&without, "auc"));
    assert_string_equal(jobs_text(with.metrics, "evaluated_on"), "test");
    assert_true(aid_metric(&with, "test.rows") == 60);
    aid_result_dispose(&with);
    aid_result_dispose(&without);
    buf_dispose(&csv);
    buf_dispose(&test);
}

static void cancelling_ends_a_search_inside_a_trial(void **state)
{
    (void)state;
    struct buf csv = {0};
    struct heard h = {.cancel_after = 8};
    struct err e = {0};
    struct aid_result r;
    aid_flowers(&csv, 2000, 5);
    assert_int_equal(jobs_run(&r, "tune", six, csv.data, &h, &e), ERR_CANCELLED);
    assert_int_equal(h.epochs_of[4], 0);
    aid_result_dispose(&r);
    buf_dispose(&csv);
}

/* ---- halving ---- */

static const char *const halving =
    "{\"base\":{\"target\":\"species\",\"architecture\":[{\"layer\":\"Dense\",\"units\":8,\"activation\":"
    "\"relu\"},"
    "{\"layer\":\"Dropout\",\"rate\":0.2},{\"layer\":\"Dense\",\"units\":3}],\"training\":{\"epochs\":9}},"
    "\"method\":\"halving\",\"trials\":9,\"metric\":\"val_loss\",\"parameters\":{"
    "\"training.optimizer.learning_rate\":{\"type\":\"log_uniform\",\"min\":1e-5,\"max\":0.05}}}";

static void halving_stops_losers_and_goes_on_with_winners(void **state)
{
    (void)state;
    struct heard h = {0};
    struct aid_result r;
    int after[10] = {0}, total = 0;
    run_flowers(&r, "tune", halving, 300, 1, &h);
    for (int i = 1; i <= 9; i++) {
        int epochs = (int)jobs_number(jobs_trial(&r, i), "epochs");
        assert_true(epochs == 1 || epochs == 3 || epochs == 9);
        assert_string_equal(jobs_text(jobs_trial(&r, i), "state"), epochs == 9 ? "finished" : "stopped");
        assert_int_equal(h.epochs_of[i], epochs); /* none was trained twice: they paused and went on */
        after[epochs]++;
        total += h.epochs_of[i];
    }
    assert_int_equal(after[1], 6);
    assert_int_equal(after[3], 2);
    assert_int_equal(after[9], 1);
    assert_int_equal(total, 9 + 3 * 2 + 6);
    int best = (int)aid_metric(&r, "tune.best_trial");
    assert_true(jobs_number(jobs_trial(&r, best), "epochs") == 9);
    aid_result_dispose(&r);
}

static void a_trial_that_paused_ends_as_if_it_had_not(void **state)
{
    (void)state;
    struct aid_result searched, trained;
    char spec[1024];
    run_flowers(&searched, "tune", halving, 300, 1, NULL);
    const cJSON *best = jobs_trial(&searched, (int)aid_metric(&searched, "tune.best_trial"));
    double rate =
        jobs_number(cJSON_GetObjectItemCaseSensitive(best, "parameters"), "training.optimizer.learning_rate");
    snprintf(
        spec, sizeof spec,
        "{\"target\":\"species\",\"architecture\":[{\"layer\":\"Dense\",\"units\":8,\"activation\":\"relu\"},"
        "{\"layer\":\"Dropout\",\"rate\":0.2},{\"layer\":\"Dense\",\"units\":3}],\"training\":{\"epochs\":9,"
        "\"validation_split\":0.2,\"optimizer\":{\"name\":\"adam\",\"learning_rate\":%.17g}}}",
        rate);
    run_flowers(&trained, "train", spec, 300, 1, NULL);
    expect_same_model(&searched, &trained);
}

static void when_time_runs_out_the_best_so_far_is_taken(void **state)
{
    (void)state;
    struct buf csv = {0};
    struct err e = {0};
    struct heard h = {0};
    struct aid_result r;
    aid_flowers(&csv, 3000, 1);
    struct aid_run q = {.type = "tune",
                        .csv = csv.data,
                        .seconds = 3,
                        .callbacks = {.ctx = &h, .progress = heard_progress, .message = heard_message},
                        .spec = "{\"base\":{\"target\":\"species\",\"training\":{\"epochs\":5000}},"
                                "\"method\":\"grid\",\"parameters\":{"
                                "\"training.epochs\":[2,5000,6000]}}"};
    if (aid_train(&r, &q, &e)) fail_msg("%s: %s", e.field, e.message);
    assert_string_equal(jobs_text(cJSON_GetObjectItemCaseSensitive(r.metrics, "tune"), "ended"), "time");
    assert_true(aid_metric(&r, "tune.best_trial") == 1);
    assert_string_equal(jobs_text(jobs_trial(&r, 1), "state"), "finished");
    assert_string_equal(jobs_text(jobs_trial(&r, 2), "state"), "stopped");
    assert_string_equal(jobs_text(jobs_trial(&r, 3), "state"), "stopped");
    assert_true(r.artifact.len > 0);
    assert_non_null(strstr(h.text, "warn: the time is nearly up"));
    aid_result_dispose(&r);
    buf_dispose(&csv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_best_trial_becomes_the_model),
        cmocka_unit_test(a_trial_trains_as_its_spec_would_by_itself),
        cmocka_unit_test(the_same_seed_gives_the_same_model_and_another_seed_other_trials),
        cmocka_unit_test(a_trial_that_diverges_fails_alone),
        cmocka_unit_test(a_search_whose_trials_all_fail_fails_with_the_first_reason),
        cmocka_unit_test(the_test_dataset_plays_no_part_in_the_choice),
        cmocka_unit_test(cancelling_ends_a_search_inside_a_trial),
        cmocka_unit_test(halving_stops_losers_and_goes_on_with_winners),
        cmocka_unit_test(a_trial_that_paused_ends_as_if_it_had_not),
        cmocka_unit_test(when_time_runs_out_the_best_so_far_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
