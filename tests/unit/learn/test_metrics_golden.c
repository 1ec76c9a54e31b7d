/* Every figure against scikit-learn's, on predictions with ties and mistakes; and the folds that rows are
 * dealt to. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "learn/metrics.h"
#include "learn/split.h"
#include "tests/unit/learn/metrics_golden.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

static void expect_figures(const struct metrics *m, const struct golden_figure *f, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int s = SCORE_AUTO + 1;
        while (s < SCORE_COUNT && strcmp(score_name((enum score_kind)s), f[i].name) != 0) s++;
        assert_true(s < SCORE_COUNT);
        double got = metrics_score(m, (enum score_kind)s);
        if (!(fabs(got - f[i].value) < 1e-9)) fail_msg("%s: %.15g, not %.15g", f[i].name, got, f[i].value);
    }
}

static void expect_classes(size_t n, const float *p, const int32_t *truth, size_t rows,
                           const int64_t *confusion, const struct golden_figure *f, size_t n_figures,
                           double perplexity)
{
    struct metrics m;
    struct err e = {0};
    assert_int_equal(metrics_init(&m, true, n, &e), 0);
    assert_int_equal(metrics_keep_scores(&m, rows, &e), 0);
    metrics_add_classes(&m, p, truth, 7);
    metrics_add_classes(&m, p + 7 * n, truth + 7, rows - 7);
    expect_figures(&m, f, n_figures);
    assert_memory_equal(m.confusion, confusion, n * n * sizeof *confusion);
    assert_true(fabs(metrics_perplexity(&m) - perplexity) < 1e-8);
    metrics_dispose(&m);
}

static void figures_of_two_classes_are_those_of_scikit_learn(void **state)
{
    (void)state;
    expect_classes(2, two_p, two_truth, COUNT(two_truth), two_confusion, two_figures, COUNT(two_figures),
                   two_perplexity);
}

static void figures_of_four_classes_are_those_of_scikit_learn(void **state)
{
    (void)state;
    expect_classes(4, four_p, four_truth, COUNT(four_truth), four_confusion, four_figures,
                   COUNT(four_figures), four_perplexity);
}

static void expect_numbers(size_t targets, const double *guess, const double *truth, size_t cells,
                           const struct golden_figure *f, size_t n_figures)
{
    struct metrics m;
    struct err e = {0};
    assert_int_equal(metrics_init(&m, false, targets, &e), 0);
    metrics_add_values(&m, guess, truth, 3);
    metrics_add_values(&m, guess + 3 * targets, truth + 3 * targets, cells / targets - 3);
    expect_figures(&m, f, n_figures);
    assert_true(isnan(metrics_score(&m, SCORE_ACCURACY)));
    assert_true(isnan(metrics_perplexity(&m)));
    metrics_dispose(&m);
}

static void figures_of_numbers_are_those_of_scikit_learn(void **state)
{
    (void)state;
    expect_numbers(1, one_guess, one_truth, COUNT(one_truth), one_figures, COUNT(one_figures));
    expect_numbers(3, three_guess, three_truth, COUNT(three_truth), three_figures, COUNT(three_figures));
}

static void every_figure_of_a_task_is_written_by_its_name(void **state)
{
    (void)state;
    struct metrics m;
    struct err e = {0};
    struct buf b = {0};
    struct json_writer w;
    assert_int_equal(metrics_init(&m, false, 1, &e), 0);
    metrics_add_values(&m, (double[]){1, 3}, (double[]){1, 2}, 2);
    jw_init(&w, &b);
    jw_obj(&w);
    metrics_scores_to_json(&m, "val_", &w);
    jw_obj_end(&w);
    assert_string_equal(b.data,
                        "{\"val_loss\":0.5,\"val_mse\":0.5,\"val_rmse\":0.7071067811865476,\"val_mae\":0.5,"
                        "\"val_r2\":-1}");
    buf_dispose(&b);
    metrics_dispose(&m);
}

/* ---- folds ---- */

enum { ROWS = 103, FOLDS = 5 };

/* 50 rows of class 0, 30 of class 1, 23 of class 2, in an order without pattern; every other row of the
 * table. */
static void make_rows(uint32_t rows[ROWS], int32_t classes[2 * ROWS])
{
    for (uint32_t i = 0; i < ROWS; i++) {
        uint32_t at = i * 40 % ROWS;
        rows[i] = 2 * i;
        classes[2 * i] = at < 50 ? 0 : at < 80 ? 1 : 2;
        classes[2 * i + 1] = -1;
    }
}

static void stratified_folds_hold_each_class_in_exact_proportion(void **state)
{
    (void)state;
    static const int of_class[] = {50, 30, 23};
    uint32_t rows[ROWS];
    int32_t classes[2 * ROWS];
    uint8_t *of = NULL;
    struct err e = {0};
    int count[FOLDS][3] = {{0}}, all[FOLDS] = {0};
    make_rows(rows, classes);
    struct split_request q = {
        .rows = rows, .n_rows = ROWS, .classes = classes, .n_classes = 3, .stratify = true, .seed = 4};
    assert_int_equal(split_folds(&of, &q, FOLDS, &e), 0);
    for (int i = 0; i < ROWS; i++) {
        count[of[i]][classes[rows[i]]]++;
        all[of[i]]++;
    }
    for (int f = 0; f < FOLDS; f++) {
        assert_true(all[f] == ROWS / FOLDS || all[f] == ROWS / FOLDS + 1);
        for (int c = 0; c < 3; c++)
            assert_true(count[f][c] == of_class[c] / FOLDS || count[f][c] == of_class[c] / FOLDS + 1);
    }
    mem_free(of);
}

static void each_row_is_held_back_by_one_fold(void **state)
{
    (void)state;
    uint32_t rows[ROWS];
    int32_t classes[2 * ROWS], alone;
    uint8_t *of = NULL, *again = NULL;
    int held[2 * ROWS] = {0};
    struct err e = {0};
    make_rows(rows, classes);
    struct split_request q = {.rows = rows, .n_rows = ROWS, .seed = 4};
    assert_int_equal(split_folds(&of, &q, FOLDS, &e), 0);
    assert_int_equal(split_folds(&again, &q, FOLDS, &e), 0);
    assert_memory_equal(of, again, ROWS);
    for (int f = 0; f < FOLDS; f++) {
        struct split s;
        assert_int_equal(split_fold(&s, &q, of, f, &alone, &e), 0);
        assert_int_equal(s.n_train + s.n_validation, ROWS);
        for (size_t i = 0; i < s.n_validation; i++) held[s.validation[i]]++;
        for (size_t i = 0; i < s.n_train; i++) assert_int_equal(s.train[i] % 2, 0);
        split_dispose(&s);
    }
    for (int i = 0; i < 2 * ROWS; i++) assert_int_equal(held[i], i % 2 == 0);
    q.seed = 5;
    mem_free(again);
    assert_int_equal(split_folds(&again, &q, FOLDS, &e), 0);
    assert_memory_not_equal(of, again, ROWS);
    mem_free(of);
    mem_free(again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(figures_of_two_classes_are_those_of_scikit_learn),
        cmocka_unit_test(figures_of_four_classes_are_those_of_scikit_learn),
        cmocka_unit_test(figures_of_numbers_are_those_of_scikit_learn),
        cmocka_unit_test(every_figure_of_a_task_is_written_by_its_name),
        cmocka_unit_test(stratified_folds_hold_each_class_in_exact_proportion),
        cmocka_unit_test(each_row_is_held_back_by_one_fold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
