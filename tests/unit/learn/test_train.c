/* Whole training runs: what they learn, how they end, and that they are repeatable. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/fs.h"
#include "base/mem.h"
#include "learn/safetensors.h"
#include "tests/unit/learn/aid.h"

static void train_or_fail(struct aid_result *out, const struct aid_run *run)
{
    struct err e = {0};
    if (aid_train(out, run, &e)) fail_msg("%s: %s", e.field, e.message);
}

/* y = 3x + 2 + noise, x far from 0. */
static void line(struct buf *out, size_t rows)
{
    struct aid_random r = {7};
    buf_str(out, "x,y\n");
    for (size_t i = 0; i < rows; i++) {
        double x = 100 + 10 * aid_uniform(&r);
        buf_printf(out, "%.6f,%.6f\n", x, 3 * x + 2 + 0.01 * aid_normal(&r));
    }
}

static void a_line_comes_back_in_its_own_units(void **state)
{
    static const char *const specs[] = {
        "{\"target\":\"y\",\"family\":\"linear_regression\"}",
        "{\"target\":\"y\",\"family\":\"linear_regression\",\"preprocess\":[{\"op\":\"scale\"}]}",
        "{\"target\":\"y\",\"family\":\"linear_regression\",\"training\":{\"optimizer\":{\"name\":\"sgd\","
        "\"learning_rate\":0.05},"
        "\"epochs\":60}}",
        "{\"target\":\"y\",\"family\":\"linear_regression\",\"training\":{\"optimizer\":{\"name\":\"adam\","
        "\"learning_rate\":0.01},"
        "\"epochs\":200}}",
    };
    struct buf csv = {0};
    (void)state;
    line(&csv, 1000);
    for (size_t i = 0; i < 4; i++) {
        struct aid_result r;
        train_or_fail(&r, &(struct aid_run){.spec = specs[i], .csv = csv.data});
        double slope = aid_metric(&r, "coefficients.x"), intercept = aid_metric(&r, "coefficients.intercept");
        if (!(fabs(slope - 3) < 0.01)) fail_msg("%s: slope %g", specs[i], slope);
        if (!(fabs(intercept - 2) < (i < 2 ? 0.1 : 1))) fail_msg("%s: intercept %g", specs[i], intercept);
        assert_true(aid_metric(&r, "r2") > 0.999);
        aid_result_dispose(&r);
    }
    buf_dispose(&csv);
}

static void categories_weigh_in_a_linear_regression(void **state)
{
    struct buf csv = {0};
    struct aid_random rnd = {3};
    struct aid_result r;
    (void)state;
    buf_str(&csv, "x,kind,y\n");
    for (int i = 0; i < 600; i++) {
        double x = aid_uniform(&rnd);
        buf_printf(&csv, "%.6f,%s,%.6f\n", x, i % 3 ? i % 3 == 1 ? "b" : "c" : "a",
                   5 * x + (i % 3 == 1 ? 10 : 0));
    }
    train_or_fail(&r, &(struct aid_run){.spec = "{\"target\":\"y\",\"family\":\"linear_regression\"}",
                                        .csv = csv.data});
    double a = aid_metric(&r, "coefficients.kind=a"), b = aid_metric(&r, "coefficients.kind=b"),
           c = aid_metric(&r, "coefficients.kind=c");
    assert_true(fabs(aid_metric(&r, "coefficients.x") - 5) < 0.01);
    assert_true(fabs(b - a - 10) < 0.01 && fabs(c - a) < 0.01);
    assert_true(aid_metric(&r, "rmse") < 0.01);
    aid_result_dispose(&r);
    buf_dispose(&csv);
}

static void flowers_are_told_apart_by_every_classifier(void **state)
{
    static const char *const specs[] = {
        "{\"target\":\"species\",\"family\":\"logistic_regression\"}",
        "{\"target\":\"species\",\"architecture\":[{\"layer\":\"Dense\",\"units\":16,\"activation\":\"relu\"}"
        ",{\"layer\":\"Dropout\","
        "\"rate\":0.1},{\"layer\":\"Dense\",\"units\":3}]}",
        "{\"target\":\"species\",\"preprocess\":[{\"op\":\"scale\"}],\"architecture\":[{\"layer\":\"Dense\","
        "\"units\":16},{\"layer\":"
        "\"LeakyReLU\"},{\"layer\":\"Dense\",\"units\":3},{\"layer\":\"Softmax\"}],\"training\":{"
        "\"optimizer\":{\"name\":\"sgd\","
        "\"learning_rate\":0.1,\"momentum\":0.9,\"nesterov\":true},\"epochs\":60}}",
    };
    struct buf csv = {0}, test = {0};
    (void)state;
    aid_flowers(&csv, 300, 1);
    aid_flowers(&test, 150, 2);
    for (size_t i = 0; i < 3; i++) {
        struct aid_result r;
        train_or_fail(&r, &(struct aid_run){.spec = specs[i], .csv = csv.data, .test_csv = test.data});
        if (!(aid_metric(&r, "accuracy") > 0.93))
            fail_msg("%s: accuracy %g", specs[i], aid_metric(&r, "accuracy"));
        assert_true(aid_metric(&r, "accuracy") == aid_metric(&r, "test.accuracy"));
        assert_true(aid_metric(&r, "test.rows") == 150);
        assert_string_equal(cJSON_GetObjectItem(r.metrics, "evaluated_on")->valuestring, "test");
        aid_result_dispose(&r);
    }
    buf_dispose(&csv);
    buf_dispose(&test);
}

static void one_sigmoid_unit_tells_two_classes_apart(void **state)
{
    struct buf csv = {0};
    struct aid_random rnd = {9};
    struct aid_result r;
    (void)state;
    buf_str(&csv, "x,y,in\n");
    for (int i = 0; i < 400; i++) {
        double x = aid_uniform(&rnd) - 0.5, y = aid_uniform(&rnd) - 0.5;
        buf_printf(&csv, "%.5f,%.5f,%d\n", x, y, x * y > 0);
    }
    train_or_fail(&r,
                  &(struct aid_run){
                      .spec = "{\"target\":\"in\",\"architecture\":[{\"layer\":\"Dense\",\"units\":16,"
                              "\"activation\":\"tanh\"},{\"layer\":\"Dense\",\"units\":1,\"activation\":"
                              "\"sigmoid\"}],\"training\":{\"epochs\":150,\"optimizer\":{\"name\":\"adam\","
                              "\"learning_rate\":0.01}}}",
                      .csv = csv.data});
    assert_true(aid_metric(&r, "train.accuracy") > 0.95);
    assert_true(aid_metric(&r, "validation.accuracy") > 0.85);
    aid_result_dispose(&r);
    buf_dispose(&csv);
}

static void the_same_request_gives_the_same_bytes(void **state)
{
    const char *spec = "{\"target\":\"species\",\"training\":{\"epochs\":3,\"seed\":11}}";
    const char *other = "{\"target\":\"species\",\"training\":{\"epochs\":3,\"seed\":12}}";
    const char *in_order =
        "{\"target\":\"species\",\"training\":{\"epochs\":3,\"seed\":11,\"shuffle\":false}}";
    struct buf csv = {0};
    struct aid_result a, b, c, d;
    (void)state;
    aid_flowers(&csv, 157, 1); /* the last batch is short */
    train_or_fail(&a, &(struct aid_run){.spec = spec, .csv = csv.data});
    train_or_fail(&b, &(struct aid_run){.spec = spec, .csv = csv.data});
    train_or_fail(&c, &(struct aid_run){.spec = other, .csv = csv.data});
    train_or_fail(&d, &(struct aid_run){.spec = in_order, .csv = csv.data});
    assert_int_equal(a.artifact.len, b.artifact.len);
    assert_memory_equal(a.artifact.data, b.artifact.data, a.artifact.len);
    assert_true(c.artifact.len != a.artifact.len ||
                memcmp(a.artifact.data, c.artifact.data, a.artifact.len) != 0);
    assert_true(aid_metric(&a, "loss") != aid_metric(&d, "loss")); /* another order of the same rows */
    aid_result_dispose(&a);
    aid_result_dispose(&b);
    aid_result_dispose(&c);
    aid_result_dispose(&d);
    buf_dispose(&csv);
}

static void early_stopping_restores_the_best_epoch(void **state)
{
    struct buf csv = {0};
    struct aid_random rnd = {4};
    struct aid_result r;
    (void)state;
    buf_str(&csv, "a,b,c,d,y\n"); /* noise alone: validation gets worse as training learns it by heart */
    for (int i = 0; i < 120; i++)
        buf_printf(&csv, "%.4f,%.4f,%.4f,%.4f,%.4f\n", aid_normal(&rnd), aid_normal(&rnd), aid_normal(&rnd),
                   aid_normal(&rnd), aid_normal(&rnd));
    train_or_fail(&r, &(struct aid_run){
                          .spec = "{\"target\":\"y\",\"training\":{\"epochs\":500,\"validation_split\":0.3,"
                                  "\"optimizer\":{\"name\":\"adam\",\"learning_rate\":0.01},"
                                  "\"early_stopping\":{\"patience\":5}}}",
                          .csv = csv.data});
    double epochs = aid_metric(&r, "epochs"), best = aid_metric(&r, "best_epoch"), least = INFINITY;
    assert_string_equal(cJSON_GetObjectItem(r.metrics, "stopped")->valuestring, "early");
    assert_true(epochs < 500 && epochs - best == 5);
    const cJSON *at, *history = cJSON_GetObjectItem(r.metrics, "history");
    assert_int_equal(cJSON_GetArraySize(history), (int)epochs);
    cJSON_ArrayForEach(at, history) least = fmin(least, cJSON_GetObjectItem(at, "val_loss")->valuedouble);
    assert_true(fabs(aid_metric(&r, "validation.loss") - least) <
                1e-9); /* the weights are those of the best epoch */
    aid_result_dispose(&r);
    buf_dispose(&csv);
}

static void divergence_ends_with_epoch_and_step(void **state)
{
    struct buf csv = {0};
    struct aid_result r;
    struct err e = {0};
    (void)state;
    line(&csv, 200);
    struct aid_run run = {
        .spec =
            "{\"target\":\"y\",\"preprocess\":[],\"architecture\":[{\"layer\":\"Dense\",\"units\":8},{"
            "\"layer\":"
            "\"Dense\",\"units\":1}],\"training\":{\"optimizer\":{\"name\":\"sgd\",\"learning_rate\":50}}}",
        .csv = csv.data};
    assert_int_equal(aid_train(&r, &run, &e), ERR_INVALID);
    assert_string_equal(e.field, "spec.training.optimizer.learning_rate");
    assert_non_null(strstr(e.message, "training diverged in epoch 1, step "));
    aid_result_dispose(&r);
    buf_dispose(&csv);
}

struct watcher {
    int epochs, reports, messages;
    int64_t cancel_at_epoch;
    bool cancel;
    char last_message[200];
};

static void on_progress(void *ctx, const struct train_progress *p)
{
    struct watcher *w = ctx;
    w->reports++;
    w->epochs += p->epoch_end;
    cJSON_Delete(aid_json(p->metrics_json));
    if (w->cancel_at_epoch && p->epoch_end && p->epoch == w->cancel_at_epoch) w->cancel = true;
}

static void on_message(void *ctx, const char *level, const char *text)
{
    struct watcher *w = ctx;
    w->messages++;
    snprintf(w->last_message, sizeof w->last_message, "%s: %s", level, text);
}

static bool is_cancelled(void *ctx)
{
    return ((struct watcher *)ctx)->cancel;
}

static void progress_comes_each_epoch_and_cancelling_ends_the_run(void **state)
{
    struct watcher w = {.cancel_at_epoch = 2};
    struct buf csv = {0};
    struct aid_result r;
    struct err e = {0};
    (void)state;
    aid_flowers(&csv, 3000, 1);
    struct aid_run run = {.spec = "{\"target\":\"species\",\"training\":{\"epochs\":100000}}",
                          .csv = csv.data,
                          .callbacks = {&w, on_progress, on_message, is_cancelled}};
    assert_int_equal(aid_train(&r, &run, &e), ERR_CANCELLED);
    assert_in_range(w.epochs, 2, 20); /* asked every 10 ms */
    aid_result_dispose(&r);
    w = (struct watcher){.cancel = true};
    assert_int_equal(aid_train(&r, &run, &e), ERR_CANCELLED); /* while reading */
    assert_int_equal(w.epochs, 0);
    aid_result_dispose(&r);
    buf_dispose(&csv);
}

static void a_run_over_its_time_or_memory_is_ended(void **state)
{
    struct buf csv = {0};
    struct aid_result r;
    struct err e = {0};
    (void)state;
    aid_flowers(&csv, 300, 1);
    struct aid_run run = {.spec = "{\"target\":\"species\",\"training\":{\"epochs\":100000}}",
                          .csv = csv.data,
                          .seconds = 0.05};
    assert_int_equal(aid_train(&r, &run, &e), ERR_TIMEOUT);
    assert_string_equal(e.message, "the run took longer than its limit of 0.05 seconds");
    run.memory_bytes = 1 << 20;
    assert_int_equal(aid_train(&r, &run, &e), ERR_TOO_LARGE);
    assert_non_null(strstr(e.message, "1 MiB are allowed"));
    aid_result_dispose(&r);
    buf_dispose(&csv);
}

static void a_class_only_in_the_validation_part_is_named(void **state)
{
    struct buf csv = {0};
    int refused = 0;
    char spec[200];
    (void)state;
    buf_str(&csv, "x,k\n");
    for (int i = 0; i < 20; i++) buf_printf(&csv, "%d,%s\n", i, i == 3 ? "rare" : "often");
    for (int seed = 0; seed < 12; seed++) {
        struct aid_result r;
        struct err e = {0};
        snprintf(spec, sizeof spec,
                 "{\"target\":\"k\",\"family\":\"logistic_regression\",\"training\":{\"epochs\":1,"
                 "\"validation_split\":0.4,"
                 "\"stratify\":false,\"seed\":%d}}",
                 seed);
        if (aid_train(&r, &(struct aid_run){.spec = spec, .csv = csv.data}, &e)) {
            assert_string_equal(e.field, "spec.training.validation_split");
            assert_string_equal(
                e.message,
                "the class \"rare\" appears only in the validation part; set training.stratify to true, "
                "or give it more rows");
            refused++;
        }
        aid_result_dispose(&r);
    }
    assert_in_range(refused, 1, 11);
    buf_dispose(&csv);
}

static void rows_without_a_target_are_left_out_with_a_warning(void **state)
{
    struct watcher w = {0};
    struct aid_result r;
    (void)state;
    train_or_fail(&r, &(struct aid_run){.spec = "{\"target\":\"y\",\"family\":\"linear_regression\"}",
                                        .csv = "x,y\n1,5\n2,8\n3,\n4,14\n5,17\n",
                                        .callbacks = {.ctx = &w, .message = on_message}});
    assert_string_equal(w.last_message, "warn: 1 rows without a value of the target are left out");
    assert_true(aid_metric(&r, "train.rows") == 4);
    assert_true(fabs(aid_metric(&r, "coefficients.x") - 3) < 1e-4);
    aid_result_dispose(&r);
}

static void preprocessing_is_fitted_on_the_training_part_and_kept_in_the_version(void **state)
{
    struct aid_result r;
    struct safetensors *s = NULL;
    struct err e = {0};
    (void)state;
    /* the test rows are far away: they must not move mean or deviation */
    train_or_fail(
        &r,
        &(struct aid_run){
            .spec =
                "{\"target\":\"y\",\"family\":\"linear_regression\",\"training\":{\"validation_split\":0}}",
            .csv = "x,k,y\n1,a,1\n3,b,2\n5,a,3\n,b,4\n",
            .test_csv = "x,k,y\n1000,a,1\n"});
    assert_int_equal(safetensors_open(&s, r.artifact.data, r.artifact.len, &e), 0);
    assert_string_equal(safetensors_metadata(s, "tenor.preprocess"),
                        "{\"features\":[{\"name\":\"x\",\"kind\":\"number\",\"width\":1,\"fill\":[3],"
                        "\"shift\":[3],\"scale\":[0.61237246],"
                        "\"offset\":[0]},{\"name\":\"k\",\"kind\":\"category\",\"values\":[\"a\",\"b\"],"
                        "\"fill\":-1}],\"task\":"
                        "\"regression\",\"target_mean\":[2.5],\"target_std\":1.118034}");
    assert_string_equal(safetensors_metadata(s, "tenor.format"), "tenor.model.1");
    assert_non_null(safetensors_metadata(s, "tenor.graph"));
    assert_non_null(safetensors_metadata(s, "tenor.lineage"));
    safetensors_free(s);
    aid_result_dispose(&r);
}

static void npy_head(struct buf *out, const char *dict)
{
    buf_append(out, "\x93NUMPY\x01\x00", 8);
    buf_append(out, (char[]){(char)strlen(dict), 0}, 2);
    buf_str(out, dict);
}

static double fitted_mean(const struct aid_result *r)
{
    struct safetensors *s = NULL;
    struct err e = {0};
    assert_int_equal(safetensors_open(&s, r->artifact.data, r->artifact.len, &e), 0);
    cJSON *p = aid_json(safetensors_metadata(s, "tenor.preprocess"));
    const cJSON *feature = cJSON_GetObjectItem(p, "features")->child;
    double mean = cJSON_GetObjectItem(feature, "shift")->child->valuedouble;
    cJSON_Delete(p);
    safetensors_free(s);
    return mean;
}

static void rows_held_back_for_validation_do_not_move_the_preprocessing(void **state)
{
    struct buf csv = {0};
    struct aid_result r;
    (void)state;
    buf_str(&csv, "x,y\n");
    for (int i = 0; i < 10; i++)
        buf_printf(&csv, "%d,%d\n", 1 << i, i); /* a sum tells which rows are in it */
    train_or_fail(&r, &(struct aid_run){.spec = "{\"target\":\"y\",\"family\":\"linear_regression\","
                                                "\"training\":{\"validation_split\":0.5}}",
                                        .csv = csv.data});
    assert_true(aid_metric(&r, "train.rows") == 5);
    double sum = fitted_mean(&r) * 5;
    assert_true(fabs(sum - round(sum)) < 1e-3);
    assert_int_equal(__builtin_popcount((unsigned)lround(sum)), 5);
    aid_result_dispose(&r);
    buf_dispose(&csv);
}

static void several_targets_are_learnt_together(void **state)
{
    struct buf f = {0}, l = {0};
    struct aid_random rnd = {5};
    struct aid_result r;
    (void)state;
    npy_head(&f, "{'descr': '<f4', 'fortran_order': False, 'shape': (200, 3), }");
    npy_head(&l, "{'descr': '<f8', 'fortran_order': False, 'shape': (200, 2), }");
    for (int i = 0; i < 200; i++) {
        float x[3];
        for (int k = 0; k < 3; k++) x[k] = (float)aid_normal(&rnd);
        double y[2] = {(double)(x[0] - 2 * x[1]), 100 + 30 * (double)x[2]};
        buf_append(&f, x, sizeof x);
        buf_append(&l, y, sizeof y);
    }
    train_or_fail(
        &r, &(struct aid_run){.spec = "{\"family\":\"linear_regression\"}", .features = &f, .labels = &l});
    assert_true(aid_metric(&r, "r2") > 0.9999);
    aid_result_dispose(&r);
    buf_dispose(&f);
    buf_dispose(&l);
}

/* The first rows of one of Fashion-MNIST's files, as an IDX file. */
static bool fashion(struct buf *out, const char *name, size_t row_bytes, uint32_t rows)
{
    char path[200], command[300];
    struct buf all = {0};
    snprintf(path, sizeof path, "/usr/share/datasets/fashion-mnist/%s.gz", name);
    if (access(path, R_OK) != 0) return false;
    snprintf(command, sizeof command, "zcat %s", path);
    FILE *p = popen(command, "r");
    assert_non_null(p);
    size_t head = row_bytes > 1 ? 16 : 8, want = head + rows * row_bytes;
    char *to = buf_reserve(&all, want);
    assert_int_equal(fread(to, 1, want, p), want);
    pclose(p);
    uint32_t dim[3] = {rows, 28, 28};
    aid_idx(out, row_bytes > 1 ? 3 : 1, dim, (const uint8_t *)to + head, rows * row_bytes);
    buf_dispose(&all);
    return true;
}

static void a_network_learns_real_pictures(void **state)
{
    struct buf f = {0}, l = {0}, tf = {0}, tl = {0};
    struct aid_result r;
    (void)state;
    if (!fashion(&f, "train-images-idx3-ubyte", 784, 6000)) skip();
    fashion(&l, "train-labels-idx1-ubyte", 1, 6000);
    fashion(&tf, "t10k-images-idx3-ubyte", 784, 1000);
    fashion(&tl, "t10k-labels-idx1-ubyte", 1, 1000);
    train_or_fail(
        &r,
        &(struct aid_run){
            .spec = "{\"architecture\":[{\"layer\":\"Flatten\"},{\"layer\":\"Dense\",\"units\":128,"
                    "\"activation\":\"relu\"},{\"layer\":\"Dense\",\"units\":128,\"activation\":\"relu\"},"
                    "{\"layer\":\"Dense\",\"units\":10}],\"training\":{\"epochs\":4}}",
            .features = &f,
            .labels = &l,
            .test_features = &tf,
            .test_labels = &tl});
    assert_true(aid_metric(&r, "accuracy") > 0.80);
    assert_true(aid_metric(&r, "parameters") == 784 * 128 + 128 + 128 * 128 + 128 + 1290);
    aid_result_dispose(&r);
    buf_dispose(&f);
    buf_dispose(&l);
    buf_dispose(&tf);
    buf_dispose(&tl);
}

static void no_memory_at_any_point_ends_the_run_with_an_error(void **state)
{
    struct buf csv = {0};
    (void)state;
    aid_flowers(&csv, 30, 1);
    for (size_t n = 1; n < 4000; n += 1 + n / 16) {
        struct err e = {0};
        struct train_result r;
        cJSON *spec = aid_json(
            "{\"target\":\"species\",\"training\":{\"epochs\":1,\"early_stopping\":{\"monitor\":\"loss\"}}}");
        struct schema *s = aid_csv(csv.data);
        char *text = aid_schema_json(s);
        cJSON *schema = aid_json(text);
        struct train_callbacks none = {0};
        struct train_request q = {
            .spec = spec, .schema = schema, .n_inputs = 1, .artifact_fd = aid_memfd("", 0)};
        q.inputs[0] = (struct train_input){.role = "table", .fd = aid_memfd(csv.data, csv.len)};
        mem_fail_at(n, false);
        int rc = train_run(&r, &q, &none, &e);
        mem_fail_at(0, false);
        if (rc) assert_true(e.code == rc && e.message[0]);
        train_result_dispose(&r);
        close(q.inputs[0].fd);
        close(q.artifact_fd);
        cJSON_Delete(spec);
        cJSON_Delete(schema);
        mem_free(text);
        schema_free(s);
        if (!rc) { /* past the last allocation */
            buf_dispose(&csv);
            assert_true(n > 50);
            return;
        }
    }
    fail_msg("the run never succeeded");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_comes_back_in_its_own_units),
        cmocka_unit_test(categories_weigh_in_a_linear_regression),
        cmocka_unit_test(flowers_are_told_apart_by_every_classifier),
        cmocka_unit_test(one_sigmoid_unit_tells_two_classes_apart),
        cmocka_unit_test(the_same_request_gives_the_same_bytes),
        cmocka_unit_test(early_stopping_restores_the_best_epoch),
        cmocka_unit_test(divergence_ends_with_epoch_and_step),
        cmocka_unit_test(progress_comes_each_epoch_and_cancelling_ends_the_run),
        cmocka_unit_test(a_run_over_its_time_or_memory_is_ended),
        cmocka_unit_test(a_class_only_in_the_validation_part_is_named),
        cmocka_unit_test(rows_without_a_target_are_left_out_with_a_warning),
        cmocka_unit_test(preprocessing_is_fitted_on_the_training_part_and_kept_in_the_version),
        cmocka_unit_test(rows_held_back_for_validation_do_not_move_the_preprocessing),
        cmocka_unit_test(several_targets_are_learnt_together),
        cmocka_unit_test(a_network_learns_real_pictures),
        cmocka_unit_test(no_memory_at_any_point_ends_the_run_with_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
