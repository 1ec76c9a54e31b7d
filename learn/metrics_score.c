/* One figure out of a set of metrics, by its name. */
#include <math.h>
#include <stdio.h>

#include "learn/metrics.h"

static double of_classes(const struct metrics *m, enum score_kind s)
{
    switch (s) {
    case SCORE_ACCURACY:
        return metrics_accuracy(m);
    case SCORE_PRECISION_MACRO:
        return metrics_macro(m).precision;
    case SCORE_RECALL_MACRO:
        return metrics_macro(m).recall;
    case SCORE_F1_MACRO:
        return metrics_macro(m).f1;
    case SCORE_F1_MICRO:
        return metrics_micro(m).f1;
    case SCORE_AUC:
        return metrics_auc(m);
    case SCORE_LOSS:
    case SCORE_LOG_LOSS:
        return metrics_loss(m);
    default:
        return NAN;
    }
}

static double of_numbers(const struct metrics *m, enum score_kind s)
{
    switch (s) {
    case SCORE_LOSS:
        return metrics_loss(m);
    case SCORE_MSE:
        return metrics_mse(m);
    case SCORE_RMSE:
        return sqrt(metrics_mse(m));
    case SCORE_MAE:
        return metrics_mae(m);
    case SCORE_R2:
        return metrics_r2(m);
    default:
        return NAN;
    }
}

static double of_texts(const struct metrics *m, enum score_kind s)
{
    switch (s) {
    case SCORE_LOSS:
        return metrics_loss(m);
    case SCORE_ACCURACY:
        return metrics_accuracy(m);
    case SCORE_EXACT_MATCH:
        return metrics_exact_match(m);
    case SCORE_PERPLEXITY:
        return metrics_perplexity(m);
    default:
        return NAN;
    }
}

double metrics_score(const struct metrics *m, enum score_kind s)
{
    if (m->texts) return of_texts(m, s);
    return m->classification ? of_classes(m, s) : of_numbers(m, s);
}

void metrics_scores_to_json(const struct metrics *m, const char *prefix, struct json_writer *w)
{
    char name[40];
    for (int s = SCORE_AUTO + 1; s < SCORE_COUNT; s++) {
        double value = metrics_score(m, (enum score_kind)s);
        snprintf(name, sizeof name, "%s%s", prefix, score_name((enum score_kind)s));
        if (isfinite(value)) jw_knum(w, name, value);
    }
}
