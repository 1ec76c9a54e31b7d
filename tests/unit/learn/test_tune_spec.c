/* The specs of tune and evaluate jobs: what trials a search is made of, and what refusals say. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "learn/spec/put.h"
#include "learn/spec/review.h"
#include "learn/spec/tune.h"
#include "tests/unit/learn/aid.h"

static const char *const rows40 = "a,b,kind\n"
                                  "1,2,x\n2,1,y\n3,4,x\n4,3,y\n1,5,x\n2,6,y\n3,7,x\n4,8,y\n1,2,x\n2,1,y\n3,4,"
                                  "x\n4,3,y\n1,5,x\n2,6,y\n3,7,x\n4,8,y\n"
                                  "1,2,x\n2,1,y\n3,4,x\n4,3,y\n1,5,x\n2,6,y\n3,7,x\n4,8,y\n1,2,x\n2,1,y\n3,4,"
                                  "x\n4,3,y\n1,5,x\n2,6,y\n3,7,x\n4,8,y\n"
                                  "1,2,x\n2,1,y\n3,4,x\n4,3,y\n1,5,x\n2,6,y\n3,7,x\n4,8,y\n";

static struct tune_spec *tune(const char *text)
{
    cJSON *node = aid_json(text);
    struct tune_spec *t = NULL;
    struct err e = {0};
    if (tune_parse(&t, node, "spec", &e)) fail_msg("%s: %s in %s", e.field, e.message, text);
    cJSON_Delete(node);
    return t;
}

/* The trial's values as JSON; the caller's to free. */
static char *values(const struct tune_spec *t, int64_t trial)
{
    struct buf b = {0};
    struct json_writer w;
    jw_init(&w, &b);
    tune_trial_values(t, trial, &w);
    return buf_steal(&b);
}

static void expect_values(const struct tune_spec *t, int64_t trial, const char *json)
{
    char *text = values(t, trial);
    assert_string_equal(text, json);
    mem_free(text);
}

/* ---- paths ---- */

static void a_value_is_put_at_a_path_and_missing_objects_are_made(void **state)
{
    (void)state;
    struct err e = {0};
    cJSON *root =
        aid_json("{\"architecture\":[{\"units\":3},{\"units\":4}],\"training\":{\"optimizer\":\"sgd\"}}");
    cJSON *nine = cJSON_CreateNumber(9);
    assert_int_equal(spec_put(root, "architecture[1].units", nine, "f", &e), 0);
    assert_int_equal(spec_put(root, "training.optimizer.momentum", nine, "f", &e), 0);
    assert_int_equal(spec_put(root, "training.early_stopping.patience", nine, "f", &e), 0);
    assert_int_equal(spec_put(root, "family", nine, "f", &e), 0);
    char *text = cJSON_PrintUnformatted(root);
    assert_string_equal(
        text, "{\"architecture\":[{\"units\":3},{\"units\":9}],\"training\":{\"optimizer\":{\"name\":"
              "\"sgd\",\"momentum\":9},\"early_stopping\":{\"patience\":9}},\"family\":9}");
    assert_true(spec_at(root, "architecture[0].units")->valuedouble == 3);
    assert_null(spec_at(root, "architecture[2].units"));
    assert_null(spec_at(root, "training.epochs"));
    cJSON_free(text);
    cJSON_Delete(nine);
    cJSON_Delete(root);
}

static void paths_that_lead_nowhere_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",     ".a",     "a.",          "a..b",         "a[",      "a[]",
                                      "a[x]", "[0]",    "a[0]b",       "a.[0]",        "list[7]", "list[7].x",
                                      "n.x",  "list.x", "a[99999999]", "list[0].x[0]", "list[0]x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err e = {0};
        cJSON *root = aid_json("{\"n\":1,\"list\":[{}]}"), *one = cJSON_CreateNumber(1);
        if (spec_put(root, bad[i], one, "here", &e) != ERR_INVALID) fail_msg("accepted: %s", bad[i]);
        assert_string_equal(e.field, "here");
        cJSON_Delete(one);
        cJSON_Delete(root);
    }
}

/* ---- trials ---- */

static void a_grid_has_every_combination_once(void **state)
{
    (void)state;
    struct tune_spec *t = tune("{\"base\":{\"target\":\"kind\"},\"method\":\"grid\",\"parameters\":{"
                               "\"training.batch_size\":[8,16],"
                               "\"training.optimizer.learning_rate\":{\"type\":\"log_uniform\",\"min\":0.001,"
                               "\"max\":0.1}}}");
    assert_int_equal(t->trials, 6);
    expect_values(t, 1, "{\"training.batch_size\":8,\"training.optimizer.learning_rate\":0.001}");
    expect_values(t, 2, "{\"training.batch_size\":8,\"training.optimizer.learning_rate\":0.01}");
    expect_values(t, 6, "{\"training.batch_size\":16,\"training.optimizer.learning_rate\":0.1}");
    tune_free(t);
}

static void a_range_of_whole_numbers_narrower_than_its_points_gives_each_once(void **state)
{
    (void)state;
    struct tune_spec *t =
        tune("{\"base\":{\"target\":\"kind\"},\"method\":\"grid\",\"parameters\":{"
             "\"training.batch_size\":{\"type\":\"int\",\"min\":8,\"max\":10,\"points\":30}}}");
    assert_int_equal(t->trials, 3);
    expect_values(t, 1, "{\"training.batch_size\":8}");
    expect_values(t, 2, "{\"training.batch_size\":9}");
    expect_values(t, 3, "{\"training.batch_size\":10}");
    tune_free(t);
}

static void lists_alone_are_drawn_without_repeats(void **state)
{
    (void)state;
    struct tune_spec *t = tune("{\"base\":{\"target\":\"kind\"},\"trials\":100,\"parameters\":{"
                               "\"training.batch_size\":[1,2,4,8],\"training.l2\":[0,0.1,1]}}");
    assert_int_equal(t->trials, 12);
    for (int64_t i = 1; i <= 12; i++)
        for (int64_t k = 1; k < i; k++) {
            char *a = values(t, i), *b = values(t, k);
            assert_string_not_equal(a, b);
            mem_free(a);
            mem_free(b);
        }
    tune_free(t);
}

static void draws_stay_inside_their_ranges_and_depend_on_seed_and_number_alone(void **state)
{
    (void)state;
    static const char *const text =
        "{\"base\":{\"target\":\"kind\"},\"trials\":%d,\"seed\":%d,\"parameters\":{"
        "\"training.optimizer.learning_rate\":{\"type\":\"log_uniform\",\"min\":1e-4,"
        "\"max\":0.1},\"training.batch_size\":{\"type\":\"int\",\"min\":3,\"max\":5}}}";
    char some[512], more[512], other[512];
    snprintf(some, sizeof some, text, 20, 7);
    snprintf(more, sizeof more, text, 200, 7);
    snprintf(other, sizeof other, text, 20, 8);
    struct tune_spec *a = tune(some), *b = tune(more), *c = tune(other);
    int low = 0, seen[6] = {0};
    for (int64_t i = 1; i <= 200; i++) {
        char *v = values(b, i);
        cJSON *node = aid_json(v);
        double rate = node->child->valuedouble, batch = node->child->next->valuedouble;
        assert_true(rate >= 1e-4 && rate <= 0.1);
        low += rate < 0.003162; /* the middle of the range on its logarithmic scale */
        assert_true(batch == 3 || batch == 4 || batch == 5);
        seen[(int)batch]++;
        cJSON_Delete(node);
        mem_free(v);
    }
    assert_true(low > 70 && low < 130);
    assert_true(seen[3] > 40 && seen[4] > 40 && seen[5] > 40);
    int same = 0;
    for (int64_t i = 1; i <= 20; i++) {
        char *x = values(a, i), *y = values(b, i), *z = values(c, i);
        assert_string_equal(x, y);
        same += strcmp(x, z) == 0;
        mem_free(x);
        mem_free(y);
        mem_free(z);
    }
    assert_true(same < 3);
    tune_free(a);
    tune_free(b);
    tune_free(c);
}

static void a_trial_is_the_base_with_its_values_and_rows_held_back(void **state)
{
    (void)state;
    struct err e = {0};
    struct schema *s = aid_csv(rows40);
    struct tune_spec *t =
        tune("{\"base\":{\"target\":\"kind\",\"architecture\":[{\"layer\":\"Dense\",\"units\":4},"
             "{\"layer\":\"Dense\",\"units\":2}]},\"method\":\"grid\",\"parameters\":{"
             "\"architecture[0].units\":{\"values\":[5,6]}}}");
    struct resolved *r = NULL;
    assert_int_equal(tune_trial_resolve(&r, t, 2, s, NULL, &e), 0);
    assert_int_equal(r->layers[0].units, 6);
    assert_true(r->training.validation_split == 0.2);
    resolved_free(r);
    tune_free(t);
    schema_free(s);
}

static void a_spec_written_out_reads_back_as_the_same_trials(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{\"base\":{\"target\":\"kind\"},\"method\":\"grid\",\"parameters\":{\"training.l2\":{\"type\":"
        "\"uniform\","
        "\"min\":0,\"max\":1,\"points\":5},\"training.batch_size\":[1,2]}}",
        "{\"base\":{\"target\":\"kind\"},\"trials\":7,\"seed\":3,\"metric\":\"val_f1_macro\",\"parameters\":{"
        "\"training.l2\":{\"type\":\"uniform\",\"min\":0,\"max\":1}}}",
        "{\"base\":{\"target\":\"kind\",\"training\":{\"epochs\":9}},\"method\":\"halving\",\"trials\":3,"
        "\"parameters\":{\"training.batch_size\":[1,2,3,4]}}"};
    for (size_t i = 0; i < 3; i++) {
        struct tune_spec *a = tune(texts[i]);
        struct buf json = {0};
        struct json_writer w;
        jw_init(&w, &json);
        tune_to_json(a, &w);
        struct tune_spec *b = tune(json.data);
        assert_int_equal(a->trials, b->trials);
        assert_int_equal(a->score, b->score);
        for (int64_t k = 1; k <= a->trials; k++) {
            char *x = values(a, k), *y = values(b, k);
            assert_string_equal(x, y);
            mem_free(x);
            mem_free(y);
        }
        buf_dispose(&json);
        tune_free(a);
        tune_free(b);
    }
}

/* ---- halving ---- */

static void each_rung_keeps_a_third_of_the_trials_for_thrice_the_epochs(void **state)
{
    (void)state;
    struct tune_rung r[TUNE_MAX_RUNGS];
    struct tune_spec *t =
        tune("{\"base\":{\"target\":\"kind\",\"training\":{\"epochs\":27}},\"method\":\"halving\","
             "\"trials\":27,\"parameters\":{\"training.l2\":{\"type\":\"uniform\",\"min\":0,"
             "\"max\":1}}}");
    assert_int_equal(tune_rungs(t, 27, r), 4);
    const int64_t trials[] = {27, 9, 3, 1}, epochs[] = {1, 3, 9, 27};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(r[i].trials, trials[i]);
        assert_int_equal(r[i].epochs, epochs[i]);
    }
    assert_int_equal(tune_rungs(t, 10, r), 3); /* fewer epochs than rungs would need */
    assert_int_equal(r[0].epochs, 2);
    assert_int_equal(r[1].epochs, 4);
    assert_int_equal(r[2].epochs, 10);
    assert_int_equal(r[2].trials, 3);
    assert_int_equal(tune_rungs(t, 1, r), 1);
    assert_int_equal(r[0].trials, 27);
    tune_free(t);
}

static void halving_is_estimated_below_training_every_trial_in_full(void **state)
{
    (void)state;
    static const char *const text =
        "{\"base\":{\"target\":\"kind\",\"training\":{\"epochs\":27}},\"method\":\"%s\","
        "\"trials\":27,\"parameters\":{\"training.l2\":{\"type\":\"uniform\",\"min\":0,"
        "\"max\":1}}}";
    char full[512], part[512];
    struct err e = {0};
    struct estimate a, b;
    enum score_kind score;
    struct schema *s = aid_csv(rows40);
    snprintf(full, sizeof full, text, "random");
    snprintf(part, sizeof part, text, "halving");
    struct tune_spec *x = tune(full), *y = tune(part);
    assert_int_equal(tune_check(&a, &score, x, s, NULL, &e), 0);
    assert_int_equal(score, SCORE_ACCURACY);
    assert_int_equal(tune_check(&b, &score, y, s, NULL, &e), 0);
    struct resolved *r = NULL;
    assert_int_equal(tune_trial_resolve(&r, x, 1, s, NULL, &e), 0);
    assert_true(fabs(a.seconds / r->estimate.seconds - 27) < 0.01);
    assert_true(b.seconds < a.seconds / 5); /* 27·1 + 9·2 + 3·6 + 1·18 epochs of 27·27 */
    assert_true(b.seconds > a.seconds / 12);
    assert_true(b.memory_bytes > a.memory_bytes);
    resolved_free(r);
    tune_free(x);
    tune_free(y);
    schema_free(s);
}

/* ---- refusals ---- */

/* Searches, and the field at fault. */
static const char *const senseless[][2] = {
    {"{\"parameters\":{}}", "spec.base"},
    {"{\"base\":{},\"parameters\":{}}", "spec.parameters"},
    {"{\"base\":{}}", "spec.parameters"},
    {"{\"base\":{},\"parameters\":{\"training.l2\":[]}}", "spec.parameters.training.l2"},
    {"{\"base\":{},\"parameters\":{\"training.l2\":5}}", "spec.parameters.training.l2"},
    {"{\"base\":{},\"parameters\":{\"training.l2\":{\"values\":[]}}}", "spec.parameters.training.l2.values"},
    {"{\"base\":{},\"parameters\":{\"training.l2\":{\"type\":\"normal\"}}}",
     "spec.parameters.training.l2.type"},
    {"{\"base\":{},\"parameters\":{\"training.l2\":{\"type\":\"uniform\",\"min\":0}}}",
     "spec.parameters.training.l2.max"},
    {"{\"base\":{},\"parameters\":{\"training.l2\":{\"type\":\"uniform\",\"min\":1,\"max\":1}}}",
     "spec.parameters.training.l2.max"},
    {"{\"base\":{},\"parameters\":{\"training.l2\":{\"type\":\"log_uniform\",\"min\":0,\"max\":1}}}",
     "spec.parameters.training.l2.min"},
    {"{\"base\":{},\"parameters\":{\"training.l2\":{\"type\":\"int\",\"min\":0.5,\"max\":1}}}",
     "spec.parameters.training.l2.min"},
    {"{\"base\":{},\"parameters\":{\"training.l2\":{\"type\":\"uniform\",\"min\":0,\"max\":1,\"points\":"
     "3}}}",
     "spec.parameters.training.l2.points"},
    {"{\"base\":{},\"parameters\":{\"target\":[\"a\",\"b\"]}}", "spec.parameters.target"},
    {"{\"base\":{},\"parameters\":{\"features[0]\":[\"a\",\"b\"]}}", "spec.parameters.features[0]"},
    {"{\"base\":{},\"parameters\":{\"training.validation_split\":[0.1]}}",
     "spec.parameters.training.validation_split"},
    {"{\"base\":{\"training\":{\"validation_split\":0}},\"parameters\":{\"training.l2\":[0]}}",
     "spec.base.training.validation_split"},
    {"{\"base\":{},\"method\":\"halving\",\"parameters\":{\"training.l2\":[0]}}",
     "spec.base.training.epochs"},
    {"{\"base\":{\"training\":{\"epochs\":3}},\"method\":\"halving\",\"parameters\":{\"training.epochs\":"
     "[0]}}",
     "spec.parameters.training.epochs"},
    {"{\"base\":{},\"method\":\"bayes\",\"parameters\":{\"training.l2\":[0]}}", "spec.method"},
    {"{\"base\":{},\"metric\":\"val_beauty\",\"parameters\":{\"training.l2\":[0]}}", "spec.metric"},
    {"{\"base\":{},\"trials\":257,\"parameters\":{\"training.l2\":[0]}}", "spec.trials"},
    {"{\"base\":{},\"method\":\"grid\",\"trials\":2,\"parameters\":{\"training.l2\":[0]}}",
     "spec.parameters"},
    {"{\"base\":{},\"trial\":2,\"parameters\":{\"training.l2\":[0]}}", "spec.trial"},
    {"{\"base\":{},\"method\":\"grid\",\"parameters\":{\"training.l2\":{\"type\":\"uniform\",\"min\":0,"
     "\"max\":1,"
     "\"points\":64},\"training.l1\":{\"type\":\"uniform\",\"min\":0,\"max\":1,\"points\":64}}}",
     "spec.parameters"},
};

static void searches_that_make_no_sense_are_refused_by_field(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof senseless / sizeof *senseless; i++) {
        struct err e = {0};
        struct tune_spec *t = NULL;
        cJSON *node = aid_json(senseless[i][0]);
        if (tune_parse(&t, node, "spec", &e) == 0) fail_msg("accepted: %s", senseless[i][0]);
        if (strcmp(e.field, senseless[i][1]) != 0)
            fail_msg("%s\n  gave %s: %s\n  not  %s", senseless[i][0], e.field, e.message, senseless[i][1]);
        assert_null(t);
        cJSON_Delete(node);
    }
}

static void the_first_trial_that_cannot_fit_the_data_is_named(void **state)
{
    (void)state;
    static const char *const corpus[][3] = {
        {"{\"base\":{\"target\":\"kind\",\"architecture\":[{\"layer\":\"Dense\",\"units\":4},{\"layer\":"
         "\"Dense\","
         "\"units\":2}]},\"method\":\"grid\",\"parameters\":{\"architecture[1].units\":[2,3]}}",
         "spec.base.architecture[1].units", "trial 2 (architecture[1].units=3): "},
        {"{\"base\":{\"target\":\"kind\"},\"method\":\"grid\",\"parameters\":{\"training.batch_size\":[4,-1]}"
         "}",
         "spec.base.training.batch_size", "trial 2 (training.batch_size=-1): "},
        {"{\"base\":{\"target\":\"kind\"},\"method\":\"grid\",\"parameters\":{\"architecture[0].units\":[4]}"
         "}",
         "spec.parameters.architecture[0].units", "trial 1 (architecture[0].units=4): "},
        {"{\"base\":{\"target\":\"a\",\"family\":\"linear_regression\"},\"method\":\"grid\",\"parameters\":{"
         "\"family\":[\"linear_regression\",\"logistic_regression\"]}}",
         "spec.parameters", "trial 2 (family=\"logistic_regression\"): "},
        {"{\"base\":{\"target\":\"kind\"},\"metric\":\"r2\",\"parameters\":{\"training.l2\":[0]}}",
         "spec.metric", "classification has no r2"},
    };
    struct schema *s = aid_csv(rows40);
    for (size_t i = 0; i < sizeof corpus / sizeof *corpus; i++) {
        struct err e = {0};
        struct estimate need;
        enum score_kind score;
        struct tune_spec *t = tune(corpus[i][0]);
        if (tune_check(&need, &score, t, s, NULL, &e) == 0) fail_msg("accepted: %s", corpus[i][0]);
        if (strcmp(e.field, corpus[i][1]) != 0 || strncmp(e.message, corpus[i][2], strlen(corpus[i][2])) != 0)
            fail_msg("%s\n  gave %s: %s\n  not  %s: %s…", corpus[i][0], e.field, e.message, corpus[i][1],
                     corpus[i][2]);
        tune_free(t);
    }
    schema_free(s);
}

/* ---- evaluate ---- */

static struct review_spec *review(const char *text)
{
    cJSON *node = aid_json(text);
    struct review_spec *s = NULL;
    struct err e = {0};
    if (review_parse(&s, node, "spec", &e)) fail_msg("%s: %s in %s", e.field, e.message, text);
    cJSON_Delete(node);
    return s;
}

static void a_fold_is_what_is_held_back_unless_the_run_stops_by_a_validation_part(void **state)
{
    (void)state;
    static const struct {
        const char *training;
        int64_t train, validation;
    } cases[] = {{"{}", 32, 0},
                 {"{\"validation_split\":0.25}", 24, 8},
                 {"{\"early_stopping\":{}}", 29, 3},
                 {"{\"early_stopping\":{\"monitor\":\"loss\"}}", 32, 0}};
    struct schema *s = aid_csv(rows40);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256];
        struct err e = {0};
        struct resolved *r = NULL;
        snprintf(text, sizeof text, "{\"base\":{\"target\":\"kind\",\"training\":%s}}", cases[i].training);
        struct review_spec *v = review(text);
        assert_int_equal(v->folds, 5);
        if (review_resolve(&r, v, s, &e)) fail_msg("%s: %s", e.field, e.message);
        assert_int_equal(r->train_rows, cases[i].train);
        assert_int_equal(r->validation_rows, cases[i].validation);
        resolved_free(r);
        review_free(v);
    }
    schema_free(s);
}

static void evaluations_that_make_no_sense_are_refused_by_field(void **state)
{
    (void)state;
    static const char *const corpus[][2] = {
        {"{\"folds\":5}", "spec.base"},
        {"{\"version\":0}", "spec.version"},
        {"{\"version\":1,\"alias\":\"live\"}", "spec.alias"},
        {"{\"base\":{},\"folds\":1}", "spec.folds"},
        {"{\"base\":{},\"folds\":51}", "spec.folds"},
        {"{\"base\":{},\"version\":1}", "spec.version"},
        {"{\"base\":[]}", "spec.base"},
    };
    for (size_t i = 0; i < sizeof corpus / sizeof *corpus; i++) {
        struct err e = {0};
        struct review_spec *s = NULL;
        cJSON *node = aid_json(corpus[i][0]);
        if (review_parse(&s, node, "spec", &e) == 0) fail_msg("accepted: %s", corpus[i][0]);
        assert_string_equal(e.field, corpus[i][1]);
        cJSON_Delete(node);
    }
    struct err e = {0};
    struct resolved *r = NULL;
    struct schema *few = aid_csv("a,kind\n1,x\n2,y\n3,x\n");
    struct review_spec *s = review("{\"base\":{\"target\":\"kind\"},\"folds\":2}");
    assert_int_equal(review_resolve(&r, s, few, &e), ERR_INVALID);
    assert_string_equal(e.field, "spec.folds");
    review_free(s);
    schema_free(few);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_is_put_at_a_path_and_missing_objects_are_made),
        cmocka_unit_test(paths_that_lead_nowhere_are_refused),
        cmocka_unit_test(a_grid_has_every_combination_once),
        cmocka_unit_test(a_range_of_whole_numbers_narrower_than_its_points_gives_each_once),
        cmocka_unit_test(lists_alone_are_drawn_without_repeats),
        cmocka_unit_test(draws_stay_inside_their_ranges_and_depend_on_seed_and_number_alone),
        cmocka_unit_test(a_trial_is_the_base_with_its_values_and_rows_held_back),
        cmocka_unit_test(a_spec_written_out_reads_back_as_the_same_trials),
        cmocka_unit_test(each_rung_keeps_a_third_of_the_trials_for_thrice_the_epochs),
        cmocka_unit_test(halving_is_estimated_below_training_every_trial_in_full),
        cmocka_unit_test(searches_that_make_no_sense_are_refused_by_field),
        cmocka_unit_test(the_first_trial_that_cannot_fit_the_data_is_named),
        cmocka_unit_test(a_fold_is_what_is_held_back_unless_the_run_stops_by_a_validation_part),
        cmocka_unit_test(evaluations_that_make_no_sense_are_refused_by_field),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
