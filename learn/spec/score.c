/* One table of the figures that models are compared by. */
#include "learn/spec/score.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    bool higher, classes, numbers, texts;
} scores[SCORE_COUNT] = {
    [SCORE_AUTO] = {"auto", false, true, true, true},
    [SCORE_LOSS] = {"loss", false, true, true, true},
    [SCORE_ACCURACY] = {"accuracy", true, true, false, true},
    [SCORE_PRECISION_MACRO] = {"precision_macro", true, true, false, false},
    [SCORE_RECALL_MACRO] = {"recall_macro", true, true, false, false},
    [SCORE_F1_MACRO] = {"f1_macro", true, true, false, false},
    [SCORE_F1_MICRO] = {"f1_micro", true, true, false, false},
    [SCORE_AUC] = {"auc", true, true, false, false},
    [SCORE_LOG_LOSS] = {"log_loss", false, true, false, false},
    [SCORE_MSE] = {"mse", false, false, true, false},
    [SCORE_RMSE] = {"rmse", false, false, true, false},
    [SCORE_MAE] = {"mae", false, false, true, false},
    [SCORE_R2] = {"r2", true, false, true, false},
    [SCORE_EXACT_MATCH] = {"exact_match", true, false, false, true},
    [SCORE_PERPLEXITY] = {"perplexity", false, false, false, true},
};

const char *score_name(enum score_kind s)
{
    return scores[s].name;
}

bool score_higher_is_better(enum score_kind s)
{
    return scores[s].higher;
}

bool score_fits(enum score_kind s, enum task task)
{
    if (task == TASK_SEQUENCE) return scores[s].texts;
    return task == TASK_CLASSIFICATION ? scores[s].classes : scores[s].numbers;
}

enum score_kind score_usual(enum task task)
{
    if (task == TASK_SEQUENCE) return SCORE_EXACT_MATCH;
    return task == TASK_CLASSIFICATION ? SCORE_ACCURACY : SCORE_RMSE;
}

static void list_names(char *out, size_t cap)
{
    size_t at = 0;
    out[0] = '\0';
    for (int i = 0; i < SCORE_COUNT && at < cap; i++) {
        int n = snprintf(out + at, cap - at, "%s%s", i ? ", " : "", scores[i].name);
        at += n > 0 ? (size_t)n : 0;
    }
}

int score_opt(struct json_obj *o, const char *name, enum score_kind *out, struct err *e)
{
    const char *text = NULL;
    char path[JSON_PATH_MAX], list[256];
    int rc = json_opt_str(o, name, 1, 64, &text, e);
    if (rc || !text) return rc;
    const char *bare = strncmp(text, "val_", 4) == 0 ? text + 4 : text;
    for (int i = 0; i < SCORE_COUNT; i++)
        if (strcmp(scores[i].name, bare) == 0) {
            *out = (enum score_kind)i;
            return 0;
        }
    json_path_name(path, o->path, name);
    list_names(list, sizeof list);
    return err_set(e, ERR_INVALID, path, "\"%.40s\" is no metric that is offered; expected one of %s", text,
                   list);
}
