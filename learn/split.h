/* Which rows train and which are held back: a seeded shuffle, for classification stratified so that each
 * class is held back in proportion and never entirely. The same rows for the same seed. */
#ifndef LEARN_SPLIT_H
#define LEARN_SPLIT_H

#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "learn/spec/spec.h"

struct split {
    uint32_t *train, *validation; /* row indices, one allocation, owned */
    size_t n_train, n_validation;
};

struct split_request {
    const uint32_t *rows; /* the rows that have a target */
    size_t n_rows;
    const int32_t *classes; /* by row index; NULL for regression */
    size_t n_classes;
    double validation; /* share to hold back, [0, 0.9] */
    bool stratify;     /* ignored without classes */
    uint64_t seed;
};

/* ERR_INVALID when nothing would be left to train with, or when a class would be in the validation part alone
 * (not stratified): *lonely_class is its index then, else -1. */
int split_make(struct split *out, const struct split_request *q, int32_t *lonely_class, struct err *e);
void split_dispose(struct split *s);

/* k-fold: deals the rows of q (shuffled by q->seed; q->validation is not looked at) to folds 0 … folds − 1:
 * of[i] is the fold of q->rows[i], *of the caller's. Folds differ by at most one row; with classes and
 * stratify also in their rows of each class. */
int split_folds(uint8_t **of, const struct split_request *q, int folds, struct err *e);

/* The rows outside one fold as train, those in it as validation. ERR_INVALID as split_make's. */
int split_fold(struct split *out, const struct split_request *q, const uint8_t *of, int fold,
               int32_t *lonely_class, struct err *e);

/* Inside learn/split*.c: every class of the validation part must occur in the training part. */
int split__find_lonely(const struct split *s, const struct split_request *q, int32_t *lonely, struct err *e);

#endif
