/* Feeds the network with rows of a table, preprocessed, and their target. */
#include "learn/fit_state.h"

#include <math.h>

#include "base/mem.h"
#include "learn/family.h"

static bool is_classification(const struct fit *f)
{
    return f->q->classes != NULL;
}

static void fill_classes(const struct fit *f, const uint32_t *rows, size_t n, void *to)
{
    bool sparse = f->training->loss == LOSS_CROSS_ENTROPY;
    for (size_t i = 0; i < n; i++)
        if (sparse)
            ((int32_t *)to)[i] = f->q->classes[rows[i]];
        else
            ((float *)to)[i] = (float)f->q->classes[rows[i]];
}

static void fill_values(const struct fit *f, const uint32_t *rows, size_t n, float *to)
{
    const struct preprocess *p = f->q->preprocess;
    size_t width = (size_t)p->target_width;
    const double *values = f->q->table->columns[p->n_features].data;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < width; k++)
            to[i * width + k] = (float)((values[(size_t)rows[i] * width + k] - (double)p->target_mean[k]) /
                                        (double)p->target_std);
}

static void fill_weights(const struct fit *f, const uint32_t *rows, size_t n, float *to)
{
    for (size_t i = 0; i < n; i++) to[i] = f->class_weight[f->q->classes[rows[i]]];
}

static int fill(void *ctx, const uint32_t *rows, size_t n, void *const *to, struct err *e)
{
    const struct fit *f = ctx;
    int rc = preprocess_rows(f->q->preprocess, f->q->table, rows, n, to[0], e);
    if (rc) return rc;
    if (is_classification(f))
        fill_classes(f, rows, n, to[1]);
    else
        fill_values(f, rows, n, to[1]);
    if (f->class_weight) fill_weights(f, rows, n, to[2]);
    return 0;
}

static double hits(void *ctx, const struct run *run, const uint32_t *rows, size_t n)
{
    const struct fit *f = ctx;
    double right = 0;
    if (!is_classification(f)) return 0;
    struct view y = run_output(run, 0);
    size_t width = (size_t)y.shape.dim[1];
    const float *p = y.data;
    for (size_t i = 0; i < n; i++) {
        size_t guess = width == 1 ? p[i] > 0.5F : metrics_argmax(p + i * width, width);
        right += guess == (size_t)f->q->classes[rows[i]];
    }
    return right;
}

/* Balanced: rows / (classes · rows of the class) of the training part, 0 for a class without rows. */
static int weigh_classes(struct fit *f, struct err *e)
{
    const struct fit_request *q = f->q;
    size_t n = q->preprocess->n_classes;
    int64_t *count = mem_try_alloc(n + 1, sizeof *count);
    f->class_weight = mem_try_alloc(n + 1, sizeof *f->class_weight);
    for (size_t i = 0; count && i < q->split->n_train; i++) count[q->classes[q->split->train[i]]]++;
    for (size_t c = 0; count && f->class_weight && c < n; c++)
        if (f->training->weighting == WEIGHTING_GIVEN)
            f->class_weight[c] = (float)f->training->class_weights[c];
        else if (count[c] > 0)
            f->class_weight[c] = (float)((double)q->split->n_train / ((double)n * (double)count[c]));
    bool ok = count && f->class_weight;
    mem_free(count);
    return ok ? 0 : err_set(e, ERR_NOMEM, NULL, "no memory for the class weights");
}

int fit__rows_feed(struct feed *out, struct fit *f, struct err *e)
{
    const struct preprocess *p = f->q->preprocess;
    size_t targets = p->target_width > 1 ? (size_t)p->target_width : 1;
    *out = (struct feed){
        .ctx = f,
        .n_inputs = 2,
        .input = {{FAMILY_INPUT, (size_t)p->width * sizeof(float)}, {FAMILY_TARGET, targets * sizeof(float)}},
        .fill = fill,
        .hits = hits};
    if (f->training->weighting == WEIGHTING_NONE) return 0;
    out->input[out->n_inputs++] = (struct feed_input){FAMILY_WEIGHT, sizeof(float)};
    return weigh_classes(f, e);
}

int fit__rows_measure(struct fit *f, struct epoch_scores *s, struct err *e)
{
    struct evaluation what = {.table = f->q->table,
                              .classes = f->q->classes,
                              .rows = f->q->split->validation,
                              .n_rows = f->q->split->n_validation};
    int rc = evaluator_run(f->q->evaluator, f->params, &what, &f->validation, f->q->watch, e);
    if (rc) return rc;
    s->val_loss = metrics_loss(&f->validation);
    if (is_classification(f)) s->val_accuracy = metrics_accuracy(&f->validation);
    if (!is_classification(f)) s->val_rmse = sqrt(metrics_mse(&f->validation));
    return 0;
}
