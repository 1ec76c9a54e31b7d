/* Runs the inference plan over a table in batches. */
#include "learn/evaluate.h"

#include "base/mem.h"
#include "learn/family.h"
#include "tensor/plan.h"
#include "tensor/run.h"

enum { BATCH_ROWS = 256 };

struct evaluator {
    const struct preprocess *preprocess;
    struct plan *plan;
    struct run *run;
    float *input;         /* [BATCH_ROWS, width] */
    float *probabilities; /* [BATCH_ROWS, 2] for a sigmoid, else NULL */
    int32_t *truth;       /* [BATCH_ROWS] */
    double *values;       /* prediction, then truth: [2, BATCH_ROWS, target_width] */
};

int evaluator_create(struct evaluator **out, const struct graph *g, const struct preprocess *p, struct err *e)
{
    struct evaluator *v = mem_alloc(1, sizeof *v);
    struct plan_options o = {.mode = PLAN_INFER, .max_batch = BATCH_ROWS};
    int rc;
    *out = NULL;
    v->preprocess = p;
    v->input = mem_try_alloc((size_t)p->width, BATCH_ROWS * sizeof *v->input);
    v->probabilities = mem_try_alloc(2 * BATCH_ROWS, sizeof *v->probabilities);
    v->truth = mem_try_alloc(BATCH_ROWS, sizeof *v->truth);
    v->values = mem_try_alloc((size_t)p->target_width + 1, 2 * BATCH_ROWS * sizeof *v->values);
    if (!v->input || !v->probabilities || !v->truth || !v->values)
        rc = err_set(e, ERR_NOMEM, NULL, "no memory to evaluate the model");
    else if ((rc = plan_create(&v->plan, g, &o, e)) == 0)
        *out = v;
    if (rc) evaluator_free(v);
    return rc;
}

void evaluator_free(struct evaluator *v)
{
    if (!v) return;
    run_free(v->run);
    plan_free(v->plan);
    mem_free(v->input);
    mem_free(v->probabilities);
    mem_free(v->truth);
    mem_free(v->values);
    mem_free(v);
}

void evaluate_both_classes(const float *p, size_t rows, float *out)
{
    for (size_t i = 0; i < rows; i++) {
        out[2 * i] = 1 - p[i];
        out[2 * i + 1] = p[i];
    }
}

static void add_classes(struct evaluator *v, const struct evaluation *what, const uint32_t *rows, size_t n,
                        const struct view *y, struct metrics *m)
{
    const float *p = y->data;
    for (size_t i = 0; i < n; i++) v->truth[i] = what->classes[rows[i]];
    if (y->shape.dim[1] == 1) {
        evaluate_both_classes(p, n, v->probabilities);
        p = v->probabilities;
    }
    metrics_add_classes(m, p, v->truth, n);
}

static void add_values(struct evaluator *v, const struct evaluation *what, const uint32_t *rows, size_t n,
                       const struct view *y, struct metrics *m)
{
    const struct preprocess *p = v->preprocess;
    size_t width = (size_t)p->target_width;
    double *prediction = v->values, *truth = v->values + BATCH_ROWS * width;
    const double *target = what->table->columns[p->n_features].data;
    const float *out = y->data;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < width; k++) {
            prediction[i * width + k] = (double)(out[i * width + k] * p->target_std + p->target_mean[k]);
            truth[i * width + k] = target[(size_t)rows[i] * width + k];
        }
    metrics_add_values(m, prediction, truth, n);
}

static int load(struct evaluator *v, const struct params *params, struct err *e)
{
    int rc = plan_load(v->plan, params, e);
    return rc || v->run ? rc : run_create(&v->run, v->plan, NULL, e);
}

int evaluator_run(struct evaluator *v, const struct params *params, const struct evaluation *what,
                  struct metrics *m, struct watch *watch, struct err *e)
{
    const void *feed = v->input;
    int rc = load(v, params, e);
    metrics_clear(m);
    for (size_t at = 0; at < what->n_rows && !rc; at += BATCH_ROWS) {
        size_t n = what->n_rows - at < BATCH_ROWS ? what->n_rows - at : BATCH_ROWS;
        const uint32_t *rows = what->rows + at;
        if ((rc = watch_check(watch, e)) ||
            (rc = preprocess_rows(v->preprocess, what->table, rows, n, v->input, e)) ||
            (rc = run_forward(v->run, &feed, (int64_t)n, e)))
            break;
        struct view y = run_output(v->run, 0);
        if (what->classes)
            add_classes(v, what, rows, n, &y, m);
        else
            add_values(v, what, rows, n, &y, m);
    }
    return rc;
}
