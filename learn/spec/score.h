/* The figures that models can be compared by: names, direction, and which task has them. */
#ifndef LEARN_SPEC_SCORE_H
#define LEARN_SPEC_SCORE_H

#include <stdbool.h>
#include "base/err.h"
#include "base/json.h"
#include "learn/spec/spec.h"

enum score_kind {
    SCORE_AUTO,
    SCORE_LOSS,
    SCORE_ACCURACY,
    SCORE_PRECISION_MACRO,
    SCORE_RECALL_MACRO,
    SCORE_F1_MACRO,
    SCORE_F1_MICRO,
    SCORE_AUC,
    SCORE_LOG_LOSS,
    SCORE_MSE,
    SCORE_RMSE,
    SCORE_MAE,
    SCORE_R2,
    SCORE_EXACT_MATCH,
    SCORE_PERPLEXITY,
    SCORE_COUNT
};

const char *score_name(enum score_kind s); /* "accuracy" */
bool score_higher_is_better(enum score_kind s);

/* Whether models of that task have it. */
bool score_fits(enum score_kind s, enum task task);

/* Accuracy for classes, rmse for numbers, exact_match for texts. */
enum score_kind score_usual(enum task task);

/* Reads an optional field that names one, with or without "val_" in front: rows held back are what counts
 * either way. */
int score_opt(struct json_obj *o, const char *name, enum score_kind *out, struct err *e);

#endif
