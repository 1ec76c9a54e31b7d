/* Evaluate jobs, run in memory: cross-validation, and the scoring of a version that is there. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/mem.h"
#include "tests/unit/learn/jobs_aid.h"

/* ---- cross-validation ---- */

static void folds_are_measured_on_rows_that_they_never_saw(void **state)
{
    (void)state;
    struct buf csv = {0};
    struct heard h = {0};
    struct aid_result r;
    aid_flowers(&csv, 150, 1);
    jobs_succeed(
        &r, "evaluate",
        "{\"base\":{\"target\":\"species\",\"family\":\"logistic_regression\",\"preprocess\":[{\"op\":"
        "\"standardise\"}]},\"folds\":5}",
        csv.data, &h);
    const cJSON *folds = cJSON_GetObjectItemCaseSensitive(r.metrics, "folds");
    double sum = 0, square = 0;
    assert_int_equal(cJSON_GetArraySize(folds), 5);
    for (const cJSON *f = folds->child; f; f = f->next) {
        double a = jobs_number(f, "accuracy");
        assert_true(jobs_number(f, "rows") == 30 && jobs_number(f, "train_rows") == 120);
        sum += a;
        square += a * a;
    }
    jobs_near(aid_metric(&r, "accuracy"), sum / 5, 1e-12);
    jobs_near(aid_metric(&r, "std.accuracy"), sqrt(fmax(square / 5 - sum * sum / 25, 0)), 1e-7);
    assert_true(aid_metric(&r, "accuracy") > 0.85);
    assert_true(aid_metric(&r, "auc") > 0.95);
    double hits = 0, all = 0;
    const cJSON *rows = cJSON_GetObjectItemCaseSensitive(
        cJSON_GetObjectItemCaseSensitive(r.metrics, "confusion_matrix"), "rows");
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 3; k++) {
            double n = cJSON_GetArrayItem(cJSON_GetArrayItem(rows, i), k)->valuedouble;
            all += n;
            if (i == k) hits += n;
        }
    assert_true(all == 150); /* every row was predicted once */
    jobs_near(hits / all, aid_metric(&r, "accuracy"), 1e-12);
    assert_int_equal(r.artifact.len, 0);
    assert_true(h.fold_events > 5);
    assert_non_null(strstr(h.text, "fold 5 of 5: accuracy "));
    aid_result_dispose(&r);
    buf_dispose(&csv);
}

/* A column that is the row's number modulo nothing that can be learnt: an unseen row must not be known. */
static void labels_at_random_score_as_chance(void **state)
{
    (void)state;
    struct buf csv = {0};
    struct aid_random random = {.state = 5};
    struct aid_result r;
    buf_str(&csv, "a,b,c,d,species\n");
    for (int i = 0; i < 200; i++)
        buf_printf(&csv, "%.4f,%.4f,%.4f,%.4f,%s\n", aid_uniform(&random), aid_uniform(&random),
                   aid_uniform(&random), aid_uniform(&random), aid_uniform(&random) < 0.5 ? "x" : "y");
    jobs_succeed(&r, "evaluate",
                 "{\"base\":{\"target\":\"species\",\"architecture\":[{\"layer\":\"Dense\",\"units\":64,"
                 "\"activation\":"
                 "\"relu\"},{\"layer\":\"Dense\",\"units\":2}],\"training\":{\"epochs\":60}},\"folds\":4}",
                 csv.data, NULL);
    assert_true(fabs(aid_metric(&r, "accuracy") - 0.5) < 0.13);
    aid_result_dispose(&r);
    buf_dispose(&csv);
}

static void a_class_that_one_fold_holds_alone_is_named(void **state)
{
    (void)state;
    struct buf csv = {0};
    struct err e = {0};
    struct aid_result r;
    buf_str(&csv, "a,kind\n");
    for (int i = 0; i < 20; i++) buf_printf(&csv, "%d,%s\n", i, i == 7 ? "rare" : i % 2 ? "x" : "y");
    assert_int_equal(
        jobs_run(&r, "evaluate", "{\"base\":{\"target\":\"kind\"},\"folds\":4}", csv.data, NULL, &e),
        ERR_INVALID);
    assert_string_equal(e.field, "spec.folds");
    assert_non_null(strstr(e.message, "\"rare\""));
    buf_dispose(&csv);
}

/* ---- a version that is there ---- */

static void assess(struct aid_result *out, const struct aid_result *version, const char *csv, struct err *e,
                   int expected)
{
    struct aid_run q = {.type = "evaluate", .spec = "{}", .csv = csv, .model = &version->artifact};
    int rc = aid_train(out, &q, e);
    if (rc != expected) fail_msg("%d: %s: %s", rc, e->field, e->message);
}

/* Trained with a test dataset, and assessed on it again: these numbers are the same to the bit. */
static void train_and_assess(struct aid_result *trained, struct aid_result *again, const char *spec,
                             const char *const *names, size_t n)
{
    struct buf csv = {0}, test = {0};
    struct err e = {0};
    aid_flowers(&csv, 200, 5);
    aid_flowers(&test, 60, 6);
    struct aid_run q = {.csv = csv.data, .test_csv = test.data, .spec = spec};
    assert_int_equal(aid_train(trained, &q, &e), 0);
    assess(again, trained, test.data, &e, 0);
    for (size_t i = 0; i < n; i++) {
        double a = aid_metric(trained, names[i]), b = aid_metric(again, names[i]);
        if (!(a == b)) fail_msg("%s: %.17g when trained, %.17g now", names[i], a, b);
    }
    buf_dispose(&csv);
    buf_dispose(&test);
}

static void a_version_scores_as_its_training_said(void **state)
{
    (void)state;
    static const char *const names[] = {"loss",     "accuracy",        "auc",          "log_loss", "f1_macro",
                                        "f1_micro", "precision_macro", "recall_macro", "rows"};
    struct aid_result trained, again;
    train_and_assess(&trained, &again,
                     "{\"target\":\"species\",\"training\":{\"epochs\":5,\"early_stopping\":{},"
                     "\"validation_split\":0.2}}",
                     names, sizeof names / sizeof *names);
    assert_string_equal(jobs_text(again.metrics, "evaluated_on"), "dataset");
    char *x = cJSON_PrintUnformatted(cJSON_GetObjectItemCaseSensitive(trained.metrics, "confusion_matrix"));
    char *y = cJSON_PrintUnformatted(cJSON_GetObjectItemCaseSensitive(again.metrics, "confusion_matrix"));
    assert_string_equal(x, y);
    cJSON_free(x);
    cJSON_free(y);
    aid_result_dispose(&trained);
    aid_result_dispose(&again);
}

static void a_regression_scores_in_its_own_units_and_by_its_own_loss(void **state)
{
    (void)state;
    static const char *const names[] = {"loss", "mse", "rmse", "mae", "r2"};
    struct aid_result trained, again;
    train_and_assess(&trained, &again,
                     "{\"target\":\"a\",\"training\":{\"epochs\":5,\"loss\":\"huber\","
                     "\"huber_delta\":0.3}}",
                     names, sizeof names / sizeof *names);
    assert_true(aid_metric(&again, "loss") != aid_metric(&again, "mse"));
    aid_result_dispose(&trained);
    aid_result_dispose(&again);
}

static void a_dataset_with_fewer_categories_means_the_same_by_them(void **state)
{
    (void)state;
    struct buf csv = {0}, some = {0};
    struct err e = {0};
    struct aid_result trained, again;
    static const char *const colours[] = {"amber", "blue", "cyan"};
    buf_str(&csv, "colour,kind\n");
    buf_str(&some, "colour,kind\n");
    for (int i = 0; i < 90; i++)
        buf_printf(&csv, "%s,%s\n", colours[i % 3], i % 3 == 1 ? "cold" : i % 3 ? "wet" : "hot");
    for (int i = 0; i < 20; i++) buf_printf(&some, "cyan,wet\n");
    jobs_succeed(
        &trained, "train",
        "{\"target\":\"kind\",\"training\":{\"epochs\":60,\"optimizer\":{\"name\":\"adam\",\"learning_"
        "rate\":0.05}}}",
        csv.data, NULL);
    assess(&again, &trained, some.data, &e, 0); /* cyan is its category 0, and wet its class 0 */
    assert_true(aid_metric(&again, "accuracy") == 1);
    aid_result_dispose(&trained);
    aid_result_dispose(&again);
    buf_dispose(&csv);
    buf_dispose(&some);
}

static void datasets_that_do_not_fit_the_version_are_refused(void **state)
{
    (void)state;
    static const char *const corpus[][2] = {
        {"a,b,c,d\n1,2,3,4\n5,6,7,8\n", "no column \"species\", which the version predicts"},
        {"a,b,c,species\n1,2,3,setosa\n1,2,3,setosa\n", "no column \"d\", which the version takes"},
        {"a,b,c,d,species\n1,2,3,4,tulip\n1,2,3,4,tulip\n", "does not know \"tulip\" of column \"species\""},
        {"a,b,c,d,species\n1,2,3,x,1\n1,2,3,y,2\n", "\"d\" is no number column"},
        {"a,b,c,d,species\n1,2,3,4,1\n1,2,3,4,2\n", "\"species\" is no category column"},
    };
    struct buf csv = {0};
    struct aid_result trained, r;
    aid_flowers(&csv, 100, 5);
    jobs_succeed(&trained, "train", "{\"target\":\"species\",\"training\":{\"epochs\":1}}", csv.data, NULL);
    for (size_t i = 0; i < sizeof corpus / sizeof *corpus; i++) {
        struct err e = {0};
        assess(&r, &trained, corpus[i][0], &e, ERR_INVALID);
        assert_string_equal(e.field, "dataset");
        if (!strstr(e.message, corpus[i][1])) fail_msg("%s\n  not %s", e.message, corpus[i][1]);
    }
    struct err e = {0};
    trained.artifact.data[trained.artifact.len / 2] ^= 1;
    trained.artifact.len -= 5;
    assess(&r, &trained, csv.data, &e, ERR_CORRUPT);
    aid_result_dispose(&trained);
    buf_dispose(&csv);
}

/* ---- texts ---- */

static void make_notes(struct buf *csv, int rows, int from)
{
    static const char *const words[2][4] = {{"meeting", "agenda", "patch", "lunch"},
                                            {"prize", "cash", "offer", "click"}};
    buf_str(csv, "kind,note\n");
    for (int i = from; i < from + rows; i++) {
        int kind = i * 7 % 3 == 0;
        buf_printf(csv, "%s,%s the %s of %s %d\n", kind ? "spam" : "ham", words[kind][i % 4],
                   words[kind][i / 4 % 4], words[kind][i / 16 % 4], i);
    }
}

static const char *const notes_base =
    "{\"target\":\"kind\",\"features\":[\"note\"],\"preprocess\":[{\"op\":\"tokenise\",\"vocabulary\":50,"
    "\"length\":8}],\"architecture\":[{\"layer\":\"Embedding\",\"output_dim\":4,\"mask_zero\":true},{"
    "\"layer\":"
    "\"GlobalAveragePooling1D\"},{\"layer\":\"Dense\",\"units\":2}],\"training\":{\"epochs\":6,\"batch_"
    "size\":16,"
    "\"optimizer\":{\"name\":\"adam\",\"learning_rate\":0.05}}}";

static void texts_are_searched_crossed_and_scored_too(void **state)
{
    (void)state;
    struct buf csv = {0}, test = {0};
    struct err e = {0};
    struct aid_result searched, crossed, trained, again;
    char spec[1024];
    make_notes(&csv, 1200, 0); /* more different texts than a column has categories */
    make_notes(&test, 60, 5000);
    snprintf(spec, sizeof spec,
             "{\"base\":%s,\"method\":\"grid\",\"parameters\":{\"preprocess[0].vocabulary\":[5,40]}}",
             notes_base);
    jobs_succeed(&searched, "tune", spec, csv.data, NULL);
    assert_true(aid_metric(&searched, "tune.best_score") > 0.95);
    snprintf(spec, sizeof spec, "{\"base\":%s,\"folds\":3}", notes_base);
    jobs_succeed(&crossed, "evaluate", spec, csv.data, NULL);
    assert_true(aid_metric(&crossed, "accuracy") > 0.95);
    struct aid_run q = {.csv = csv.data, .test_csv = test.data, .spec = notes_base};
    if (aid_train(&trained, &q, &e)) fail_msg("%s: %s", e.field, e.message);
    assess(&again, &trained, test.data, &e, 0); /* where the few notes look like categories */
    assert_true(aid_metric(&again, "loss") == aid_metric(&trained, "loss"));
    aid_result_dispose(&searched);
    aid_result_dispose(&crossed);
    aid_result_dispose(&trained);
    aid_result_dispose(&again);
    buf_dispose(&csv);
    buf_dispose(&test);
}

static void pairs_of_texts_are_crossed_and_scored_too(void **state)
{
    (void)state;
    static const char *const base =
        "{\"family\":\"seq2seq\",\"target\":\"target\",\"features\":[\"source\"],\"preprocess\":[{\"op\":"
        "\"tokenise\","
        "\"mode\":\"character\",\"length\":8,\"columns\":[\"source\"]},{\"op\":\"tokenise\",\"mode\":"
        "\"character\","
        "\"length\":6,\"columns\":[\"target\"]}],\"architecture\":{\"encoder\":[{\"layer\":"
        "\"TokenAndPositionEmbedding\",\"embedding_dim\":8,\"mask_zero\":true},{\"layer\":"
        "\"TransformerEncoder\","
        "\"intermediate_dim\":8,\"num_heads\":2}],\"decoder\":[{\"layer\":\"TokenAndPositionEmbedding\","
        "\"embedding_dim\":8,\"mask_zero\":true},{\"layer\":\"TransformerDecoder\",\"intermediate_dim\":8,"
        "\"num_heads\":2}]},\"training\":{\"epochs\":2,\"batch_size\":16}}";
    struct buf csv = {0}, test = {0};
    struct err e = {0};
    struct aid_result crossed, trained, again;
    char spec[1200];
    buf_str(&csv, "source,target\n");
    buf_str(&test, "source,target\n");
    for (int i = 0; i < 120; i++)
        buf_printf(i % 4 ? &csv : &test, "x%dy,t%d\n", 100 + i * 7 % 120, (100 + i * 7 % 120) % 10);
    snprintf(spec, sizeof spec, "{\"base\":%s,\"folds\":2}", base);
    jobs_succeed(&crossed, "evaluate", spec, csv.data, NULL);
    assert_true(aid_metric(&crossed, "exact_match") >= 0 && aid_metric(&crossed, "perplexity") > 1);
    struct aid_run q = {.csv = csv.data, .test_csv = test.data, .spec = base};
    if (aid_train(&trained, &q, &e)) fail_msg("%s: %s", e.field, e.message);
    assess(&again, &trained, test.data, &e, 0);
    assert_true(aid_metric(&again, "perplexity") == aid_metric(&trained, "perplexity"));
    assert_true(aid_metric(&again, "tokens") == aid_metric(&trained, "tokens"));
    aid_result_dispose(&crossed);
    aid_result_dispose(&trained);
    aid_result_dispose(&again);
    buf_dispose(&csv);
    buf_dispose(&test);
}

/* ---- memory ---- */

/* Runs with the 1st, 2nd, … allocation failing, until nothing fails any more. */
static void sweep(const struct aid_run *run)
{
    int well = 0; /* in a row: some failures are got over */
    for (size_t nth = 1; well < 5; nth += 1 + nth / 40) {
        struct aid_run q = *run;
        struct aid_result r;
        struct err e = {0};
        q.fail_at = nth;
        int rc = aid_train(&r, &q, &e);
        if (!rc) aid_result_dispose(&r);
        well = rc ? 0 : well + 1;
        if (rc && rc != ERR_NOMEM && rc != ERR_TOO_LARGE && rc != ERR_INVALID)
            fail_msg("%zu: %d %s", nth, rc, e.message);
        if (nth > 200000) fail_msg("no end");
    }
}

static void memory_that_runs_out_ends_each_kind_of_job_with_an_error(void **state)
{
    (void)state;
    struct buf csv = {0};
    struct aid_result trained;
    aid_flowers(&csv, 30, 1);
    sweep(&(struct aid_run){
        .type = "tune",
        .csv = csv.data,
        .spec = "{\"base\":{\"target\":\"species\",\"training\":{\"epochs\":3}},"
                "\"method\":\"halving\",\"trials\":3,\"parameters\":{\"training.l2\":[0,0.1,1]}}"});
    sweep(&(struct aid_run){
        .type = "evaluate",
        .csv = csv.data,
        .spec = "{\"base\":{\"target\":\"species\",\"training\":{\"epochs\":1}},\"folds\":2}"});
    jobs_succeed(&trained, "train", "{\"target\":\"species\",\"training\":{\"epochs\":1}}", csv.data, NULL);
    sweep(&(struct aid_run){.type = "evaluate", .csv = csv.data, .spec = "{}", .model = &trained.artifact});
    aid_result_dispose(&trained);
    buf_dispose(&csv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folds_are_measured_on_rows_that_they_never_saw),
        cmocka_unit_test(labels_at_random_score_as_chance),
        cmocka_unit_test(a_class_that_one_fold_holds_alone_is_named),
        cmocka_unit_test(a_version_scores_as_its_training_said),
        cmocka_unit_test(a_regression_scores_in_its_own_units_and_by_its_own_loss),
        cmocka_unit_test(a_dataset_with_fewer_categories_means_the_same_by_them),
        cmocka_unit_test(datasets_that_do_not_fit_the_version_are_refused),
        cmocka_unit_test(texts_are_searched_crossed_and_scored_too),
        cmocka_unit_test(pairs_of_texts_are_crossed_and_scored_too),
        cmocka_unit_test(memory_that_runs_out_ends_each_kind_of_job_with_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
