/* Settles what the loss is made of beyond the output: objective, label smoothing, and the weight of each
 * class, by its place instead of its name. */
#include "learn/spec/resolve.h"

#include <stdio.h>
#include <string.h>

#include "learn/spec/names.h"

static const char *field(const struct resolving *v, const char *name, char out[JSON_PATH_MAX])
{
    char up[JSON_PATH_MAX];
    resolve__path(v, "training", up);
    json_path_name(out, up, name);
    return out;
}

/* The class that a label names, or n_classes. */
static size_t class_of(const struct resolved *r, const char *label)
{
    char text[24];
    for (size_t c = 0; c < r->n_classes; c++) {
        const char *name = text;
        if (r->integer_labels)
            snprintf(text, sizeof text, "%lld", (long long)r->class_integers[c]);
        else
            name = r->class_texts[c];
        if (strcmp(name, label) == 0) return c;
    }
    return r->n_classes;
}

static int settle_weights(struct resolving *v, struct err *e)
{
    struct resolved *r = v->r;
    const struct training_spec *given = &v->spec->training;
    char path[JSON_PATH_MAX], at[JSON_PATH_MAX];
    double *weights = spec__alloc(&r->arena, r->n_classes, sizeof *weights, e);
    double sum = 0;
    if (!weights) return ERR_NOMEM;
    field(v, "class_weight", path);
    for (size_t c = 0; c < r->n_classes; c++) weights[c] = 1;
    for (size_t i = 0; i < given->n_class_weights; i++) {
        size_t c = class_of(r, given->class_weight_names[i]);
        json_path_name(at, path, given->class_weight_names[i]);
        if (c == r->n_classes)
            return err_set(e, ERR_INVALID, at, "the target has no class \"%.64s\"",
                           given->class_weight_names[i]);
        weights[c] = given->class_weights[i];
    }
    for (size_t c = 0; c < r->n_classes; c++) sum += weights[c];
    if (sum <= 0)
        return err_set(e, ERR_INVALID, path, "every class has the weight 0; nothing would be learnt");
    r->training.class_weights = weights;
    r->training.n_class_weights = r->n_classes;
    r->training.class_weight_names = NULL;
    return 0;
}

int resolve__objective(struct resolving *v, struct err *e)
{
    const struct training_spec *t = &v->r->training;
    bool classes = v->r->task == TASK_CLASSIFICATION;
    char path[JSON_PATH_MAX];
    if (classes && t->objective != OBJECTIVE_USUAL)
        return err_set(e, ERR_INVALID, field(v, "loss", path),
                       "the loss %s is for regression, and the target has classes; expected %s",
                       t->objective == OBJECTIVE_MAE ? "mae" : "huber", loss_name(t->loss));
    if (!classes && t->label_smoothing > 0)
        return err_set(e, ERR_INVALID, field(v, "label_smoothing", path),
                       "label_smoothing is for classification, and the target is a number");
    if (!classes && t->weighting != WEIGHTING_NONE)
        return err_set(e, ERR_INVALID, field(v, "class_weight", path),
                       "class_weight is for classification, and the target is a number");
    return t->weighting == WEIGHTING_GIVEN ? settle_weights(v, e) : 0;
}
