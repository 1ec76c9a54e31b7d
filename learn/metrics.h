/* How good a model is: gathers predictions and truth in batches, then says the usual figures.
 *
 *   classification  loss (mean log loss), AUC, accuracy, precision/recall/F1 per class and as macro and micro
 * mean, confusion matrix regression      loss = mse, rmse, mae, r2 (1 − residual / total sum of squares, mean
 * over the targets)                       */
#ifndef LEARN_METRICS_H
#define LEARN_METRICS_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/err.h"
#include "base/json.h"
#include "learn/spec/score.h"
#include "learn/spec/spec.h"

struct metrics {
    bool classification;
    bool texts;                  /* what decoders say; neither classes nor numbers */
    int64_t tokens, hits, exact; /* TEXTS: tokens in all, of those right, and rows of which all were */
    double token_loss;           /* TEXTS: log loss, summed over tokens */
    size_t n_classes;            /* or targets a row */
    int64_t rows;
    double loss_sum;    /* log loss, summed over rows */
    int64_t *confusion; /* [n_classes, n_classes]: row is the truth, column the prediction; owned */
    double *mean, *m2, *squared,
        *absolute; /* per target: of the truth, then of the errors; owned (one block at mean) */
    enum objective_kind objective; /* what metrics_loss says of numbers */
    double huber_delta, huber;     /* in the target's own units; summed */
    float *scores;          /* [kept, n_classes] probabilities, for the area under the ROC curve; owned */
    int32_t *truths;        /* [kept]; owned */
    struct scored *ranking; /* [kept], to sort in; owned */
    size_t kept, room;
};

int metrics_init(struct metrics *m, bool classification, size_t n_classes, struct err *e);
int metrics_init_texts(struct metrics *m); /* 0; needs no memory */
void metrics_clear(struct metrics *m);
void metrics_dispose(struct metrics *m);

/* What metrics_loss is for numbers: mse as it begins, or mae, or huber with delta in the target's own units.
 */
void metrics_minimise(struct metrics *m, enum objective_kind objective, double huber_delta);

/* Keeps the probabilities of up to `rows` rows, so that metrics_auc can be asked for. Nothing where that
 * would take over 64 MiB or there are over 100 classes. Classification only. */
int metrics_keep_scores(struct metrics *m, size_t rows, struct err *e);

/* The chance that a row of a class is given more of it than a row of another (ties count half): with two
 * classes of the second, else the mean over the classes, one against the rest, that have both kinds of row.
 * NaN where no class has, or where the scores of some row were not kept. Sorts in m's own memory. */
double metrics_auc(const struct metrics *m);

/* probabilities [rows, n_classes], truth [rows] in [0, n_classes). The prediction is the first of the
 * largest. Log loss clips at 1e-15. */
void metrics_add_classes(struct metrics *m, const float *probabilities, const int32_t *truth, size_t rows);

/* Texts: probabilities [rows, steps, ids] of each next id, truth [rows, steps] with padding at its end. What
 * a decoder would say alone is right in full exactly where it is right at every step given the truth so far.
 */
void metrics_add_texts(struct metrics *m, const float *probabilities, const int32_t *truth, size_t rows,
                       size_t steps, size_t ids);
double metrics_exact_match(
    const struct metrics *m); /* the share of rows that are right in full; NaN without texts */

/* prediction, truth [rows, n_classes], in the target's own units. */
void metrics_add_values(struct metrics *m, const double *prediction, const double *truth, size_t rows);

/* Precision of a class never predicted, recall of one that never occurs, and their F1 are 0. */
struct class_scores {
    double precision, recall, f1;
    int64_t support;
};
struct class_scores metrics_class(const struct metrics *m, size_t c);
struct class_scores
metrics_macro(const struct metrics *m); /* mean over the classes that occur or are predicted */
struct class_scores metrics_micro(const struct metrics *m);
double metrics_accuracy(const struct metrics *m);
double metrics_loss(const struct metrics *m);
double metrics_mse(const struct metrics *m);
double metrics_mae(const struct metrics *m);
double metrics_r2(const struct metrics *m); /* NaN when the truth does not vary */

/* The figure of that name; NaN where there is none. */
double metrics_score(const struct metrics *m, enum score_kind s);

/* Every figure that there is, its name behind a prefix ("val_accuracy"), into the open object of w. */
void metrics_scores_to_json(const struct metrics *m, const char *prefix, struct json_writer *w);

/* exp of the mean log loss: of a model that says which token comes next, how many equally likely ones would
 * puzzle it as much. */
double metrics_perplexity(const struct metrics *m);

/* Names and values into the open object of w. labels writes label c; classes beyond 100 get no matrix. */
void metrics_to_json(const struct metrics *m, void (*label)(void *ctx, size_t c, struct json_writer *w),
                     void *ctx, struct json_writer *w);

/* The figures of texts alone, behind rows and loss. */
void metrics__texts_to_json(const struct metrics *m, struct json_writer *w);

/* Its "confusion_matrix" alone; nothing beyond 100 classes. */
void metrics_matrix_to_json(const struct metrics *m,
                            void (*label)(void *ctx, size_t c, struct json_writer *w), void *ctx,
                            struct json_writer *w);

/* The index of the first of the largest of n values. */
size_t metrics_argmax(const float *p, size_t n);

#endif
