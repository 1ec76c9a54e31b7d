/* The options of training: what is read and refused, the formulas against figures worked out by hand, and
 * runs that show each option at work. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "learn/schedule.h"
#include "learn/spec/spec.h"
#include "tests/unit/learn/aid.h"

static const char *const TABLE = "x,kind,y\n1,a,1.5\n2,b,2.5\n3,a,3.5\n4,b,4.5\n";

static void near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance)) fail_msg("got %.12g, expected %.12g", got, want);
}

/* ---- reading ---- */

/* {"target":target,"family":…,"training":training} settled against csv. */
static int settle(struct resolved **out, const char *csv, const char *target, const char *training,
                  struct err *e)
{
    struct buf text = {0};
    struct schema *schema = aid_csv(csv);
    buf_printf(&text, "{\"target\":\"%s\",\"training\":%s}", target, training);
    int rc = aid_settle(out, text.data, schema, e);
    schema_free(schema);
    buf_dispose(&text);
    return rc;
}

static void options_that_make_no_sense_are_refused_by_path(void **state)
{
#define OPTIMIZER "spec.training.optimizer"
#define RATE      "{\"optimizer\":{\"name\":\"sgd\",\"learning_rate\":"
    static const char *const corpus[][4] = {
        {"kind", "{\"batch_size\":\"all\"}", "spec.training.batch_size", "whole number"},
        {"kind", "{\"epochs\":\"full\"}", "spec.training.epochs", "whole number"},
        {"kind", RATE "\"fast\"}}", OPTIMIZER ".learning_rate", "number"},
        {"kind", RATE "{\"name\":\"Linear\"}}}", OPTIMIZER ".learning_rate.name", "ExponentialDecay"},
        {"kind", RATE "{\"name\":\"ExponentialDecay\",\"initial_learning_rate\":0.1}}}",
         OPTIMIZER ".learning_rate.decay_rate", "missing"},
        {"kind", RATE "{\"name\":\"CosineDecay\",\"initial_learning_rate\":0.1,\"decay_rate\":0.5}}}",
         OPTIMIZER ".learning_rate.decay_rate", "there is no field"},
        {"kind", RATE "{\"name\":\"PiecewiseConstantDecay\",\"boundaries\":[5],\"values\":[0.1]}}}",
         OPTIMIZER ".learning_rate.values", "elements"},
        {"kind", RATE "{\"name\":\"PiecewiseConstantDecay\",\"boundaries\":[5,9],\"values\":[0.1,1]}}}",
         OPTIMIZER ".learning_rate.values", "2 values for 2 boundaries; expected one more: 3"},
        {"kind", RATE "{\"name\":\"PiecewiseConstantDecay\",\"boundaries\":[5,5],\"values\":[1,1,1]}}}",
         OPTIMIZER ".learning_rate.boundaries", "whole numbers of steps that grow"},
        {"kind",
         "{\"epochs\":2,\"optimizer\":{\"name\":\"sgd\",\"learning_rate\":{\"name\":\"Constant\","
         "\"initial_learning_rate\":1,\"warmup_steps\":2}}}",
         OPTIMIZER ".learning_rate.warmup_steps", "2 steps leaves nothing of the run's 2 steps"},
        {"kind", "{\"optimizer\":{\"name\":\"adam\",\"clipnorm\":1,\"clipvalue\":1}}", OPTIMIZER,
         "only one of"},
        {"kind", "{\"optimizer\":{\"name\":\"nesterov\",\"nesterov\":true}}", OPTIMIZER ".nesterov",
         "there is no field"},
        {"kind", "{\"loss\":\"mae\"}", "spec.training.loss", "mae is for regression"},
        {"kind", "{\"loss\":\"mae\",\"huber_delta\":1}", "spec.training.huber_delta", "there is no field"},
        {"kind", "{\"class_weight\":\"fair\"}", "spec.training.class_weight", "expected \"balanced\""},
        {"kind", "{\"class_weight\":{}}", "spec.training.class_weight", "expected \"balanced\""},
        {"kind", "{\"class_weight\":{\"c\":1}}", "spec.training.class_weight.c", "no class \"c\""},
        {"kind", "{\"class_weight\":{\"a\":-1}}", "spec.training.class_weight.a", "from 0"},
        {"kind", "{\"class_weight\":{\"a\":0,\"b\":0}}", "spec.training.class_weight", "every class"},
        {"kind", "{\"label_smoothing\":1}", "spec.training.label_smoothing", "0.999"},
        {"y", "{\"label_smoothing\":0.1}", "spec.training.label_smoothing", "for classification"},
        {"y", "{\"class_weight\":\"balanced\"}", "spec.training.class_weight", "for classification"},
        {"y", "{\"loss\":\"huber\",\"validation_split\":0.25,\"early_stopping\":{\"monitor\":\"rmse\"}}",
         "spec.training.early_stopping.monitor", "use val_rmse or loss"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof corpus / sizeof *corpus; i++) {
        struct err e = {0};
        struct resolved *r = NULL;
        if (settle(&r, TABLE, corpus[i][0], corpus[i][1], &e) == 0) fail_msg("accepted: %s", corpus[i][1]);
        if (strcmp(e.field, corpus[i][2]) != 0 || !strstr(e.message, corpus[i][3]))
            fail_msg("%s\n  gave %s: %s\n  not  %s: … %s", corpus[i][1], e.field, e.message, corpus[i][2],
                     corpus[i][3]);
    }
}

static char *rendered(const char *target, const char *training)
{
    struct err e = {0};
    struct resolved *r;
    struct buf out = {0};
    struct json_writer w;
    if (settle(&r, TABLE, target, training, &e)) fail_msg("%s: %s: %s", training, e.field, e.message);
    jw_init(&w, &out);
    training_to_json(r, &w);
    resolved_free(r);
    return buf_steal(&out);
}

static void settled_options_read_back_the_same(void **state)
{
    static const char *const corpus[][3] = {
        {"kind", "{\"batch_size\":\"full\",\"class_weight\":{\"b\":3},\"label_smoothing\":0.1,\"l1\":0.01}",
         "\"class_weight\":{\"b\":3}"},
        {"kind", "{\"class_weight\":\"balanced\",\"optimizer\":\"nesterov\"}",
         "\"class_weight\":\"balanced\""},
        {"y", "{\"loss\":\"huber\",\"huber_delta\":2,\"optimizer\":{\"name\":\"rmsprop\",\"clipvalue\":1}}",
         "\"loss\":\"huber\",\"huber_delta\":2"},
        {"y", "{\"loss\":\"mean_absolute_error\",\"optimizer\":{\"name\":\"adamw\",\"clipnorm\":1}}",
         "\"loss\":\"mae\""},
        {"kind",
         "{\"epochs\":9,\"optimizer\":{\"name\":\"sgd\",\"global_clipnorm\":1,\"learning_rate\":{"
         "\"name\":\"CosineDecay\",\"initial_learning_rate\":0.5,\"alpha\":0.1,\"warmup_steps\":2}}}",
         "\"decay_steps\":7"},
        {"kind",
         "{\"optimizer\":{\"name\":\"adam\",\"learning_rate\":{\"module\":\"keras.optimizers.schedules\","
         "\"class_name\":\"ExponentialDecay\",\"config\":{\"initial_learning_rate\":0.5,\"decay_steps\":10,"
         "\"decay_rate\":0.9,\"staircase\":true,\"name\":\"ExponentialDecay\"},\"registered_name\":null}}}",
         "\"name\":\"ExponentialDecay\",\"initial_learning_rate\":0.5,\"decay_steps\":10,\"decay_rate\":0.9,"
         "\"staircase\":true"},
        {"kind",
         RATE "{\"name\":\"PiecewiseConstantDecay\",\"boundaries\":[3,6],\"values\":[0.1,0.05,0.01]}}}",
         "\"boundaries\":[3,6],\"values\":[0.1,0.05,0.01]"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof corpus / sizeof *corpus; i++) {
        char *once = rendered(corpus[i][0], corpus[i][1]), *twice = rendered(corpus[i][0], once);
        assert_string_equal(once, twice);
        if (!strstr(once, corpus[i][2])) fail_msg("%s lacks %s", once, corpus[i][2]);
        mem_free(once);
        mem_free(twice);
    }
}

/* ---- formulas ---- */

static void schedules_follow_their_formulas(void **state)
{
    struct optimizer_spec o = {.learning_rate = 0.1};
    struct schedule_spec *s = &o.schedule;
    (void)state;
    near(schedule_rate(&o, 0), 0.1, 0);
    *s = (struct schedule_spec){.kind = SCHEDULE_EXPONENTIAL, .decay_steps = 100, .decay_rate = 0.25};
    near(schedule_rate(&o, 50), 0.05, 1e-15);
    near(schedule_rate(&o, 200), 0.00625, 1e-15);
    s->staircase = true;
    near(schedule_rate(&o, 99), 0.1, 1e-15);
    near(schedule_rate(&o, 199), 0.025, 1e-15);
    *s = (struct schedule_spec){.kind = SCHEDULE_COSINE, .decay_steps = 60, .alpha = 0.2};
    near(schedule_rate(&o, 0), 0.1, 1e-15);
    near(schedule_rate(&o, 20), 0.1 * (0.8 * 0.75 + 0.2), 1e-15); /* cos 60° is a half */
    near(schedule_rate(&o, 30), 0.1 * 0.6, 1e-15);
    near(schedule_rate(&o, 600), 0.02, 1e-15);
    s->warmup_steps = 4;
    near(schedule_rate(&o, 0), 0.02, 1e-15);
    near(schedule_rate(&o, 3), 0.08, 1e-15);
    near(schedule_rate(&o, 4), 0.1, 1e-15);
    near(schedule_rate(&o, 24), 0.08, 1e-15);
    *s = (struct schedule_spec){
        .kind = SCHEDULE_PIECEWISE, .n_boundaries = 2, .boundary = {2, 5}, .value = {0.3, 0.2, 0.1}};
    near(schedule_rate(&o, 2), 0.3, 0);
    near(schedule_rate(&o, 3), 0.2, 0);
    near(schedule_rate(&o, 5), 0.2, 0);
    near(schedule_rate(&o, 6), 0.1, 0);
}

/* ---- runs ---- */

static void train(struct aid_result *out, const char *csv, const char *head, const char *training)
{
    struct buf spec = {0};
    struct err e = {0};
    buf_printf(&spec, "{%s,\"training\":%s}", head, training);
    if (aid_train(out, &(struct aid_run){.spec = spec.data, .csv = csv}, &e))
        fail_msg("%s: %s: %s", training, e.field, e.message);
    buf_dispose(&spec);
}

static double trained(const char *csv, const char *head, const char *training, const char *metric)
{
    struct aid_result r;
    train(&r, csv, head, training);
    double v = aid_metric(&r, metric);
    aid_result_dispose(&r);
    return v;
}

#define FLOWERS                                                                                              \
    "\"target\":\"species\",\"architecture\":[{\"layer\":\"Dense\",\"units\":8,\"activation\":\"relu\"},"    \
    "{\"layer\":\"Dropout\",\"rate\":0.2},{\"layer\":\"Dense\",\"units\":3}]"

static void weights_of_one_and_vanishing_penalties_change_nothing(void **state)
{
    struct buf csv = {0};
    (void)state;
    aid_flowers(&csv, 200, 3);
    double plain = trained(csv.data, FLOWERS, "{\"epochs\":4}", "train.loss");
    near(trained(csv.data, FLOWERS, "{\"epochs\":4,\"class_weight\":{\"setosa\":1}}", "train.loss"), plain,
         1e-5);
    near(trained(csv.data, FLOWERS, "{\"epochs\":4,\"l1\":1e-12}", "train.loss"), plain, 1e-6);
    assert_true(fabs(trained(csv.data, FLOWERS, "{\"epochs\":4,\"l1\":0.05}", "train.loss") - plain) > 1e-3);
    double norm = trained(csv.data, FLOWERS, "{\"epochs\":4,\"l2\":0.01}", "train.loss");
    near(trained(csv.data, FLOWERS, "{\"epochs\":4,\"l2\":0.01,\"l1\":1e-12}", "train.loss"), norm, 1e-6);
    buf_dispose(&csv);
}

static void penalties_shrink_a_slope_as_far_as_theory_says(void **state)
{
    /* one feature and the target standardised, correlation 1: w minimises (1 − w)² + l1·|w| + l2·w² */
    static const struct {
        const char *training;
        double slope;
    } table[] = {{"\"l1\":0.5", 3 * (1 - 0.5 / 2)},
                 {"\"l2\":0.5", 3 / 1.5},
                 {"\"l1\":0.5,\"l2\":0.5", 3 * (1 - 0.5 / 2) / 1.5},
                 {"\"l1\":2.5", 0}};
    struct buf csv = {0};
    (void)state;
    buf_str(&csv, "x,y\n");
    for (int i = 0; i < 50; i++) buf_printf(&csv, "%d,%d\n", i, 3 * i + 7);
    for (size_t i = 0; i < 4; i++) {
        char training[200];
        snprintf(training, sizeof training,
                 "{%s,\"epochs\":300,\"batch_size\":\"full\",\"validation_split\":0,\"optimizer\":{\"name\":"
                 "\"sgd\",\"learning_rate\":{\"name\":\"ExponentialDecay\",\"initial_learning_rate\":0.1,"
                 "\"decay_rate\":0.01}}}",
                 table[i].training);
        near(trained(csv.data, "\"target\":\"y\",\"family\":\"linear_regression\"", training,
                     "coefficients.x"),
             table[i].slope, 0.02);
    }
    buf_dispose(&csv);
}

static void full_batch_and_single_sample_descent_take_their_steps(void **state)
{
    struct buf csv = {0};
    (void)state;
    aid_flowers(&csv, 100, 3);
    double full = trained(csv.data, FLOWERS, "{\"epochs\":5,\"batch_size\":\"full\"}", "train.loss");
    near(trained(csv.data, FLOWERS, "{\"epochs\":5,\"batch_size\":90}", "train.loss"), full, 0);
    double one = trained(csv.data, FLOWERS, "{\"epochs\":5,\"batch_size\":1}", "train.loss");
    assert_true(one < full); /* 450 updates instead of 5 */
    buf_dispose(&csv);
}

static void auto_says_what_it_picked(void **state)
{
    struct buf csv = {0};
    struct aid_result r;
    (void)state;
    aid_flowers(&csv, 300, 3);
    train(&r, csv.data, FLOWERS,
          "{\"epochs\":\"auto\",\"batch_size\":\"auto\",\"optimizer\":{\"name\":\"adam\","
          "\"learning_rate\":\"auto\"}}");
    near(aid_metric(&r, "auto.batch_size"), 16, 0);
    near(aid_metric(&r, "auto.epochs"), 200, 0); /* 5000 steps of 17 an epoch would be 295; at most 200 */
    near(aid_metric(&r, "auto.learning_rate"), 0.001 * sqrt(0.5), 1e-12);
    assert_true(aid_metric(&r, "accuracy") > 0.9);
    aid_result_dispose(&r);
    train(&r, csv.data, FLOWERS, "{\"epochs\":1}");
    assert_null(cJSON_GetObjectItem(r.metrics, "auto"));
    aid_result_dispose(&r);
    buf_dispose(&csv);
}

static void balanced_weights_find_the_rare_class(void **state)
{
    struct buf csv = {0};
    struct aid_random rnd = {11};
    const char *head = "\"target\":\"k\",\"family\":\"logistic_regression\"";
    (void)state;
    buf_str(&csv, "x,k\n");
    for (int i = 0; i < 600; i++)
        buf_printf(&csv, "%.4f,%s\n", aid_normal(&rnd) + (i % 12 ? 0 : 1.5), i % 12 ? "often" : "rare");
    double plain = trained(csv.data, head, "{\"epochs\":20,\"validation_split\":0}", "recall_macro");
    double balanced =
        trained(csv.data, head, "{\"epochs\":20,\"validation_split\":0,\"class_weight\":\"balanced\"}",
                "recall_macro");
    double given = trained(csv.data, head,
                           "{\"epochs\":20,\"validation_split\":0,\"class_weight\":{\"rare\":6,\"often\":"
                           "0.5454545454545454}}",
                           "recall_macro"); /* 600/(2·50) and 600/(2·550) */
    if (!(balanced > plain + 0.1)) fail_msg("%g, balanced %g", plain, balanced);
    near(given, balanced, 1e-12);
    buf_dispose(&csv);
}

/* y = 2x + 1, and every tenth row far off. */
static void outliers(struct buf *out)
{
    struct aid_random rnd = {5};
    buf_str(out, "x,y\n");
    for (int i = 0; i < 400; i++) {
        double x = aid_uniform(&rnd);
        buf_printf(out, "%.6f,%.6f\n", x, 2 * x + 1 + (i % 10 ? 0 : 20));
    }
}

static void robust_losses_do_not_follow_outliers(void **state)
{
    struct buf csv = {0};
    struct aid_result r;
    const char *head = "\"target\":\"y\",\"family\":\"linear_regression\"";
    (void)state;
    outliers(&csv);
    near(trained(csv.data, head, "{\"validation_split\":0}", "coefficients.intercept"), 3, 0.5);
    train(&r, csv.data, head, "{\"loss\":\"mae\",\"epochs\":200,\"validation_split\":0}");
    near(aid_metric(&r, "coefficients.intercept"), 1, 0.15);
    near(aid_metric(&r, "coefficients.x"), 2, 0.15);
    near(aid_metric(&r, "loss"), aid_metric(&r, "mae"), 0);
    near(aid_metric(&r, "loss"), 2, 0.1); /* a tenth of the rows is 20 off */
    aid_result_dispose(&r);
    near(trained(csv.data, head, "{\"loss\":\"huber\",\"huber_delta\":0.01,\"epochs\":200}",
                 "coefficients.intercept"),
         1, 0.15);
    buf_dispose(&csv);
}

static void clipping_tames_a_rate_that_diverges(void **state)
{
#define WILD "{\"epochs\":3,\"optimizer\":{\"name\":\"sgd\",\"learning_rate\":50%s}}"
    static const char *const limits[] = {",\"clipnorm\":0.001", ",\"clipvalue\":0.0001",
                                         ",\"global_clipnorm\":0.001"};
    const char *head =
        "\"target\":\"y\",\"preprocess\":[],\"architecture\":[{\"layer\":\"Dense\",\"units\":8},"
        "{\"layer\":\"Dense\",\"units\":1}]";
    struct buf csv = {0};
    (void)state;
    buf_str(&csv, "x,y\n");
    for (int i = 0; i < 200; i++) buf_printf(&csv, "%d,%d\n", 100 + i, 3 * i);
    for (size_t i = 0; i < 3; i++) {
        char training[200];
        snprintf(training, sizeof training, WILD, limits[i]);
        assert_true(isfinite(trained(csv.data, head, training, "train.loss")));
    }
    buf_dispose(&csv);
}

static void every_optimiser_and_schedule_learns(void **state)
{
    static const char *const optimizers[] = {
        "\"nesterov\"", "{\"name\":\"rmsprop\",\"learning_rate\":0.01}",
        "{\"name\":\"adamw\",\"learning_rate\":0.01,\"weight_decay\":0.01}",
        "{\"name\":\"adam\",\"learning_rate\":{\"name\":\"CosineDecay\",\"initial_learning_rate\":0.02,"
        "\"warmup_steps\":20}}",
        "{\"name\":\"sgd\",\"momentum\":0.9,\"nesterov\":true,\"learning_rate\":{\"name\":"
        "\"PiecewiseConstantDecay\",\"boundaries\":[100,200],\"values\":[0.1,0.05,0.01]}}"};
    struct buf csv = {0};
    (void)state;
    aid_flowers(&csv, 300, 3);
    for (size_t i = 0; i < 5; i++) {
        char training[400];
        snprintf(training, sizeof training, "{\"epochs\":40,\"label_smoothing\":%g,\"optimizer\":%s}",
                 i % 2 ? 0.1 : 0.0, optimizers[i]);
        double got = trained(csv.data, FLOWERS, training, "train.accuracy");
        if (!(got > 0.93)) fail_msg("%s: accuracy %g", training, got);
    }
    buf_dispose(&csv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_that_make_no_sense_are_refused_by_path),
        cmocka_unit_test(settled_options_read_back_the_same),
        cmocka_unit_test(schedules_follow_their_formulas),
        cmocka_unit_test(weights_of_one_and_vanishing_penalties_change_nothing),
        cmocka_unit_test(penalties_shrink_a_slope_as_far_as_theory_says),
        cmocka_unit_test(full_batch_and_single_sample_descent_take_their_steps),
        cmocka_unit_test(auto_says_what_it_picked),
        cmocka_unit_test(balanced_weights_find_the_rare_class),
        cmocka_unit_test(robust_losses_do_not_follow_outliers),
        cmocka_unit_test(clipping_tames_a_rate_that_diverges),
        cmocka_unit_test(every_optimiser_and_schedule_learns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
