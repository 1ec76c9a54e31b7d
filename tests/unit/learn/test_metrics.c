/* Each figure against one worked out by hand, and the split of the rows. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "learn/metrics.h"
#include "learn/split.h"

static void near(double got, double want)
{
    if (!(fabs(got - want) < 1e-9)) fail_msg("got %.12g, expected %.12g", got, want);
}

/* Truth and guesses of seven rows:  0→0 0→0 0→1 1→1 1→2 2→2 2→2 */
static void fill(struct metrics *m)
{
    static const int32_t truth[] = {0, 0, 0, 1, 1, 2, 2};
    static const float p[] = {0.5F,  0.25F, 0.25F, 0.5F, 0.25F, 0.25F, 0.25F, 0.5F,  0.25F, 0.25F, 0.5F,
                              0.25F, 0.25F, 0.25F, 0.5F, 0.25F, 0.25F, 0.5F,  0.25F, 0.25F, 0.5F};
    struct err e = {0};
    assert_int_equal(metrics_init(m, true, 3, &e), 0);
    metrics_add_classes(m, p, truth, 3); /* in two batches */
    metrics_add_classes(m, p + 9, truth + 3, 4);
}

static void classification_figures_are_those_of_the_confusion_matrix(void **state)
{
    struct metrics m;
    (void)state;
    fill(&m);
    near(metrics_accuracy(&m), 5.0 / 7);
    near(metrics_class(&m, 0).precision, 1);
    near(metrics_class(&m, 0).recall, 2.0 / 3);
    near(metrics_class(&m, 0).f1, 0.8);
    near(metrics_class(&m, 1).precision, 0.5);
    near(metrics_class(&m, 1).recall, 0.5);
    near(metrics_class(&m, 2).precision, 2.0 / 3);
    near(metrics_class(&m, 2).recall, 1);
    near(metrics_macro(&m).precision, (1 + 0.5 + 2.0 / 3) / 3);
    near(metrics_macro(&m).recall, (2.0 / 3 + 0.5 + 1) / 3);
    near(metrics_macro(&m).f1, (0.8 + 0.5 + 0.8) / 3);
    near(metrics_micro(&m).f1, 5.0 / 7);
    near(metrics_loss(&m), (5 * log(2) + 2 * log(4)) / 7);
    assert_int_equal(m.confusion[0 * 3 + 1], 1);
    assert_int_equal(m.confusion[1 * 3 + 2], 1);
    assert_int_equal(metrics_class(&m, 0).support, 3);
    metrics_clear(&m);
    near(metrics_accuracy(&m), 0);
    metrics_dispose(&m);
}

static void a_class_that_neither_occurs_nor_is_predicted_is_left_out_of_the_mean(void **state)
{
    struct metrics m;
    struct err e = {0};
    (void)state;
    assert_int_equal(metrics_init(&m, true, 3, &e), 0);
    metrics_add_classes(&m, (float[]){1, 0, 0, 0, 1, 0}, (int32_t[]){0, 1}, 2);
    near(metrics_macro(&m).f1, 1);
    near(metrics_class(&m, 2).f1, 0);
    metrics_dispose(&m);
}

static void regression_figures_match_their_formulas(void **state)
{
    static const double truth[] = {1, 2, 3, 6}, guess[] = {1.5, 2, 2, 7};
    struct metrics m;
    struct err e = {0};
    (void)state;
    assert_int_equal(metrics_init(&m, false, 1, &e), 0);
    metrics_add_values(&m, guess, truth, 1);
    metrics_add_values(&m, guess + 1, truth + 1, 3);
    near(metrics_loss(&m), (0.25 + 0 + 1 + 1) / 4);
    near(metrics_mae(&m), 2.5 / 4);
    near(metrics_r2(&m), 1 - 2.25 / 14); /* mean 3: 4 + 1 + 0 + 9 */
    metrics_clear(&m);
    metrics_add_values(&m, truth, truth, 1);
    assert_true(isnan(metrics_r2(&m)));
    metrics_dispose(&m);
}

static void the_loss_of_numbers_is_the_one_that_was_minimised(void **state)
{
    static const double truth[] = {1, 2, 3, 6}, guess[] = {1.5, 2, 2, 9};
    struct metrics m;
    struct err e = {0};
    (void)state;
    assert_int_equal(metrics_init(&m, false, 1, &e), 0);
    metrics_minimise(&m, OBJECTIVE_HUBER, 2);
    metrics_add_values(&m, guess, truth, 4);
    near(metrics_loss(&m), (0.125 + 0 + 0.5 + 2 * (3 - 1)) / 4);
    near(metrics_mse(&m), (0.25 + 0 + 1 + 9) / 4);
    metrics_minimise(&m, OBJECTIVE_MAE, 0);
    near(metrics_loss(&m), 4.5 / 4);
    metrics_dispose(&m);
}

/* The AUC of the scores of the second class. */
static double auc_of(const float *second, const int32_t *truth, size_t n)
{
    struct metrics m;
    struct err e = {0};
    float p[16];
    for (size_t i = 0; i < n; i++) p[2 * i] = 1 - second[i], p[2 * i + 1] = second[i];
    assert_int_equal(metrics_init(&m, true, 2, &e), 0);
    assert_int_equal(metrics_keep_scores(&m, n, &e), 0);
    metrics_add_classes(&m, p, truth, 1);
    metrics_add_classes(&m, p + 2, truth + 1, n - 1);
    double auc = metrics_auc(&m);
    metrics_dispose(&m);
    return auc;
}

static void the_area_under_the_roc_curve_counts_pairs_in_order(void **state)
{
    (void)state;
    /* of 2·2 pairs three are in order */
    near(auc_of((float[]){0.1F, 0.4F, 0.35F, 0.8F}, (int32_t[]){0, 0, 1, 1}, 4), 0.75);
    near(auc_of((float[]){0.1F, 0.2F, 0.8F, 0.9F}, (int32_t[]){0, 0, 1, 1}, 4), 1);
    near(auc_of((float[]){0.9F, 0.8F, 0.1F}, (int32_t[]){0, 0, 1}, 3), 0);
    /* pairs: 0.5 above 0.2; 0.5 as 0.5, a half; 0.7 above both */
    near(auc_of((float[]){0.2F, 0.5F, 0.5F, 0.7F}, (int32_t[]){0, 0, 1, 1}, 4), 3.5 / 4);
    assert_true(isnan(auc_of((float[]){0.2F, 0.5F}, (int32_t[]){1, 1}, 2)));
    assert_true(isnan(auc_of((float[]){0.2F, NAN}, (int32_t[]){1, 0}, 2)));
}

static void several_classes_are_ranked_one_against_the_rest(void **state)
{
    static const float p[] = {0.6F, 0.3F, 0.1F, 0.5F, 0.2F, 0.3F, 0.55F, 0.4F, 0.05F};
    struct metrics m;
    struct err e = {0};
    (void)state;
    assert_int_equal(metrics_init(&m, true, 3, &e), 0);
    metrics_add_classes(&m, p, (int32_t[]){0, 0, 1}, 3);
    assert_true(isnan(metrics_auc(&m))); /* nothing was kept */
    metrics_clear(&m);
    assert_int_equal(metrics_keep_scores(&m, 3, &e), 0);
    metrics_add_classes(&m, p, (int32_t[]){0, 0, 1}, 3);
    near(metrics_auc(&m),
         (0.5 + 1) / 2); /* class 0: 0.6 above 0.55, 0.5 not; class 1: above both; no class 2 */
    metrics_add_classes(&m, p, (int32_t[]){0, 0, 1}, 3);
    assert_true(isnan(metrics_auc(&m))); /* more rows than room */
    metrics_dispose(&m);
}

static void a_split_holds_back_each_class_in_proportion_and_leaves_one(void **state)
{
    enum { N = 103 };
    uint32_t rows[N];
    int32_t classes[N], lonely;
    struct split a, b;
    struct err e = {0};
    (void)state;
    for (int i = 0; i < N; i++)
        rows[i] = (uint32_t)i, classes[i] = i < 60 ? 0 : i < 100 ? 1 : i < 102 ? 2 : 3;
    struct split_request q = {.rows = rows,
                              .n_rows = N,
                              .classes = classes,
                              .n_classes = 4,
                              .validation = 0.2,
                              .stratify = true,
                              .seed = 5};
    assert_int_equal(split_make(&a, &q, &lonely, &e), 0);
    assert_int_equal(a.n_validation, 20);
    assert_int_equal(a.n_train, N - 20);
    size_t held[4] = {0};
    int seen[N] = {0};
    for (size_t i = 0; i < a.n_validation; i++) held[classes[a.validation[i]]]++, seen[a.validation[i]]++;
    for (size_t i = 0; i < a.n_train; i++) seen[a.train[i]]++;
    for (int i = 0; i < N; i++) assert_int_equal(seen[i], 1);
    assert_in_range(held[0], 11, 13);
    assert_in_range(held[1], 7, 9);
    assert_in_range(held[2], 0, 1);
    assert_int_equal(held[3], 0);
    assert_int_equal(split_make(&b, &q, &lonely, &e), 0);
    assert_memory_equal(a.train, b.train, a.n_train * sizeof *a.train);
    split_dispose(&b);
    q.seed = 6;
    assert_int_equal(split_make(&b, &q, &lonely, &e), 0);
    assert_true(memcmp(a.train, b.train, a.n_train * sizeof *a.train) != 0);
    split_dispose(&a);
    split_dispose(&b);
}

static void an_unstratified_split_that_isolates_a_class_names_it(void **state)
{
    enum { N = 10 };
    uint32_t rows[N];
    int32_t classes[N] = {0}, lonely;
    struct err e = {0};
    int refused = 0;
    (void)state;
    for (int i = 0; i < N; i++) rows[i] = (uint32_t)i;
    classes[4] = 1;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct split s;
        struct split_request q = {
            .rows = rows, .n_rows = N, .classes = classes, .n_classes = 2, .validation = 0.3, .seed = seed};
        if (split_make(&s, &q, &lonely, &e)) {
            assert_int_equal(lonely, 1);
            refused++;
            q.stratify = true;
            assert_int_equal(split_make(&s, &q, &lonely, &e), 0);
        }
        split_dispose(&s);
    }
    assert_in_range(refused, 5, 30); /* three in ten */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classification_figures_are_those_of_the_confusion_matrix),
        cmocka_unit_test(a_class_that_neither_occurs_nor_is_predicted_is_left_out_of_the_mean),
        cmocka_unit_test(regression_figures_match_their_formulas),
        cmocka_unit_test(the_loss_of_numbers_is_the_one_that_was_minimised),
        cmocka_unit_test(the_area_under_the_roc_curve_counts_pairs_in_order),
        cmocka_unit_test(several_classes_are_ranked_one_against_the_rest),
        cmocka_unit_test(a_split_holds_back_each_class_in_proportion_and_leaves_one),
        cmocka_unit_test(an_unstratified_split_that_isolates_a_class_names_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
