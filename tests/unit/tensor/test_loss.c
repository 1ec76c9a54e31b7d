/* Losses on numbers that can be worked out by hand: values, slopes, weights, and what they refuse. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "net.h"
#include "tensor/layer.h"
#include "tensor/op.h"

enum { WIDTH = 3, MAX_ROWS = 4 };

/* x + 0, where the 0 is a parameter: its gradient is the loss's by x, summed over the rows. */
struct scene {
    struct graph *g;
    struct plan *plan;
    struct params *params;
    struct run *run;
    float loss, slope[WIDTH];
};

struct example {
    const char *loss, *activation;
    struct layer_loss_details details; /* weights: 1 for some, else -1 */
    int64_t rows;
    float x[MAX_ROWS * WIDTH];
    const void *target;
    const float *weight;
};

static int build(struct scene *s, const struct example *c, struct err *e)
{
    struct shape full = shape_of(2, (int64_t[]){SHAPE_BATCH, WIDTH}), rows = full;
    bool classes = strcmp(c->loss, "sparse_categorical_crossentropy") == 0;
    struct param_spec zero = {.shape = shape_of(1, (int64_t[]){WIDTH}), .trainable = true};
    struct layer_loss_details d = c->details;
    int x, shift, y[NODE_MAX_OUTPUTS], target, act;
    if (classes) rows.rank = 1;
    must(graph_create(&s->g, e), e);
    must(graph_input(s->g, "x", DTYPE_F32, &full, &x, e), e);
    must(graph_input(s->g, "target", classes ? DTYPE_I32 : DTYPE_F32, &rows, &target, e), e);
    if (d.weights >= 0) must(graph_input(s->g, "weight", DTYPE_F32, &rows, &d.weights, e), e);
    must(graph_param(s->g, "zero", &zero, &shift, e), e);
    must(graph_op(s->g, "sum", "Add", (int[]){x, shift}, 2, NULL, 0, y, e), e);
    must(layer_activation(s->g, "act", y[0], c->activation, &act, e), e);
    must(graph_output(s->g, "y", act, e), e);
    return layer_loss_with(s->g, "loss", c->loss, &d, act, target, e);
}

static struct scene measure(const struct example *c)
{
    struct scene s = {0};
    struct err e = {0};
    struct plan_options o = {.mode = PLAN_TRAIN, .max_batch = MAX_ROWS, .optim = optim_defaults(OPTIM_SGD)};
    struct step step = {.feeds = (const void *[]){c->x, c->target, c->weight}, .rows = c->rows};
    must(build(&s, c, &e), &e);
    s.plan = net_plan(s.g, &o);
    s.params = net_params(s.g, 1);
    s.run = net_run(s.plan, s.params);
    must(run_gradients(s.run, &step, &s.loss, &e), &e);
    memcpy(s.slope, run_grads(s.run), sizeof s.slope);
    run_free(s.run);
    params_free(s.params);
    plan_free(s.plan);
    graph_free(s.g);
    return s;
}

static void near(double got, double want)
{
    if (!(fabs(got - want) <= 1e-6 * fmax(1, fabs(want)))) fail_msg("%.9g instead of %.9g", got, want);
}

static void classes_are_smoothed_and_weighted_as_the_formulas_say(void **state)
{
    struct example c = {.loss = "sparse_categorical_crossentropy",
                        .activation = "softmax",
                        .details = {.label_smoothing = 0.3, .weights = 1},
                        .rows = 2,
                        .target = (int32_t[]){0, 1},
                        .weight = (float[]){1, 3}};
    static const float p[] = {0.5F, 0.25F, 0.25F, 0.125F, 0.75F, 0.125F};
    (void)state;
    for (int i = 0; i < 6; i++) c.x[i] = logf(p[i]);
    /* row 0: truth (0.8, 0.1, 0.1); row 1, weight 3: truth (0.1, 0.8, 0.1) */
    double a = -(0.8 * log(0.5) + 0.2 * log(0.25)), b = -3 * (0.2 * log(0.125) + 0.8 * log(0.75));
    struct scene s = measure(&c);
    near((double)s.loss, (a + b) / 2);
    near((double)s.slope[0], (0.5 - 0.8 + 3 * (0.125 - 0.1)) / 2);
    near((double)s.slope[1], (0.25 - 0.1 + 3 * (0.75 - 0.8)) / 2);
    c.weight = (float[]){1, 0};
    near((double)measure(&c).loss, a / 2); /* out of the sum, not out of the count */
}

static void yes_or_no_is_smoothed_and_weighted_as_the_formulas_say(void **state)
{
    struct example c = {.loss = "binary_crossentropy",
                        .activation = "sigmoid",
                        .details = {.label_smoothing = 0.2, .weights = 1},
                        .rows = 1,
                        .x = {-logf(3), 0, logf(3)}, /* 1/4, 1/2, 3/4 */
                        .target = (float[]){1, 0, 1},
                        .weight = (float[]){3, 1, 0}};
    (void)state;
    struct scene s = measure(&c);
    double first = -3 * (0.9 * log(0.25) + 0.1 * log(0.75));
    near((double)s.loss, (first - log(0.5)) / 3);
    near((double)s.slope[0], 3 * (0.25 - 0.9) / 3);
    near((double)s.slope[1], (0.5 - 0.1) / 3);
    near((double)s.slope[2], 0);
}

static void absolute_and_huber_losses_bend_where_they_should(void **state)
{
    struct example c = {.loss = "mae",
                        .activation = "linear",
                        .details = {.huber_delta = 2, .weights = -1},
                        .rows = 1,
                        .x = {1, 2, 3},
                        .target = (float[]){1, 1.5F, 6}};
    (void)state;
    struct scene s = measure(&c);
    near((double)s.loss, (0 + 0.5 + 3) / 3);
    assert_true(s.slope[0] == 0); /* the corner */
    near((double)s.slope[1], 1.0 / 3);
    near((double)s.slope[2], -1.0 / 3);
    c.loss = "huber";
    s = measure(&c);
    near((double)s.loss, (0 + 0.125 + 2 * (3 - 1)) / 3);
    near((double)s.slope[1], 0.5 / 3);
    near((double)s.slope[2], -2.0 / 3);
}

static void what_is_no_number_stays_none(void **state)
{
    static const char *const losses[][2] = {{"mse", "linear"},
                                            {"mae", "linear"},
                                            {"huber", "linear"},
                                            {"binary_crossentropy", "sigmoid"},
                                            {"sparse_categorical_crossentropy", "softmax"}};
    (void)state;
    for (size_t i = 0; i < 5; i++) {
        struct example c = {.loss = losses[i][0],
                            .activation = losses[i][1],
                            .details = {.huber_delta = 1, .weights = -1},
                            .rows = 1,
                            .x = {0.5F, NAN, 1},
                            .target = (float[]){0, 1, 0}};
        struct scene s = measure(&c);
        assert_true(isnan(s.loss));
        assert_true(isnan(s.slope[1]));
    }
}

static void a_loss_refuses_what_it_does_not_take(void **state)
{
    static const struct {
        const char *loss, *activation, *says;
        double smoothing;
        int weights;
    } corpus[] = {
        {"mse", "linear", "no label smoothing and no weights", 0.1, -1},
        {"huber", "linear", "no label smoothing and no weights", 0, 1},
        {"sparse_categorical_crossentropy", "sigmoid", "with activation softmax", 0, -1},
        {"binary_crossentropy", "linear", "with activation sigmoid", 0, -1},
        {"hinge", "linear", "unknown loss 'hinge'", 0, -1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof corpus / sizeof corpus[0]; i++) {
        struct scene s = {0};
        struct err e = {0};
        struct example c = {.loss = corpus[i].loss,
                            .activation = corpus[i].activation,
                            .details = {corpus[i].smoothing, 1, corpus[i].weights}};
        assert_int_equal(build(&s, &c, &e), ERR_INVALID);
        assert_string_equal(e.field, "loss");
        if (!strstr(e.message, corpus[i].says)) fail_msg("%s: %s", corpus[i].loss, e.message);
        graph_free(s.g);
    }
}

static void weights_of_another_shape_are_refused(void **state)
{
    struct shape full = shape_of(2, (int64_t[]){SHAPE_BATCH, WIDTH}),
                 rows = shape_of(1, (int64_t[]){SHAPE_BATCH});
    int x, label, weight, y[NODE_MAX_OUTPUTS];
    struct graph *g;
    struct err e = {0};
    (void)state;
    must(graph_create(&g, &e), &e);
    must(graph_input(g, "x", DTYPE_F32, &full, &x, &e), &e);
    must(graph_input(g, "label", DTYPE_I32, &rows, &label, &e), &e);
    must(graph_input(g, "weight", DTYPE_F32, &full, &weight, &e), &e);
    assert_int_equal(graph_op(g, "y", "SoftmaxCrossEntropy", (int[]){x, label, weight}, 3, NULL, 0, y, &e),
                     ERR_INVALID);
    assert_non_null(strstr(e.message, "input 2"));
    graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes_are_smoothed_and_weighted_as_the_formulas_say),
        cmocka_unit_test(yes_or_no_is_smoothed_and_weighted_as_the_formulas_say),
        cmocka_unit_test(absolute_and_huber_losses_bend_where_they_should),
        cmocka_unit_test(what_is_no_number_stays_none),
        cmocka_unit_test(a_loss_refuses_what_it_does_not_take),
        cmocka_unit_test(weights_of_another_shape_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
