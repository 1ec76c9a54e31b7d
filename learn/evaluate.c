/* Runs the inference plan over a table in batches. */
#include "learn/evaluate.h"

#include "base/mem.h"
#include "learn/family.h"
#include "learn/seq2seq.h"
#include "tensor/plan.h"
#include "tensor/run.h"

enum { BATCH_ROWS = EVALUATOR_BATCH_ROWS };

struct evaluator {
    const struct preprocess *preprocess;
    struct plan *plan;
    struct run *run;
    float *input;         /* [BATCH_ROWS, width] */
    float *probabilities; /* [BATCH_ROWS, 2] for a sigmoid, else NULL */
    int32_t *truth;       /* [BATCH_ROWS] */
    double *values;       /* prediction, then truth: [2, BATCH_ROWS, target_width] */
    /* Texts: the decoder's ids and those that it should say [BATCH_ROWS, steps]; room for one row of the
     * target */
    int32_t *previous, *next, *ids;
};

static int open_texts(struct evaluator *v, struct err *e)
{
    size_t steps = (size_t)seq2seq_steps(v->preprocess);
    v->previous = mem_try_alloc(steps, BATCH_ROWS * sizeof *v->previous);
    v->next = mem_try_alloc(steps, BATCH_ROWS * sizeof *v->next);
    v->ids = mem_try_alloc(steps + 1, sizeof *v->ids);
    if (!v->previous || !v->next || !v->ids)
        return err_set(e, ERR_NOMEM, NULL, "no memory to evaluate the model");
    if (plan_input_count(v->plan) == 2 && plan_input_find(v->plan, SEQ2SEQ_PREVIOUS) >= 0) return 0;
    return err_set(e, ERR_INTERNAL, NULL, "the decoder has other inputs than it was built with");
}

int evaluator_create(struct evaluator **out, const struct graph *g, const struct preprocess *p,
                     const struct backend *backend, struct err *e)
{
    struct evaluator *v = mem_alloc(1, sizeof *v);
    struct plan_options o = {.mode = PLAN_INFER, .max_batch = BATCH_ROWS, .backend = backend};
    int rc;
    *out = NULL;
    v->preprocess = p;
    v->input = mem_try_alloc((size_t)p->width, BATCH_ROWS * sizeof *v->input);
    v->probabilities = mem_try_alloc(2 * BATCH_ROWS, sizeof *v->probabilities);
    v->truth = mem_try_alloc(BATCH_ROWS, sizeof *v->truth);
    v->values = mem_try_alloc((size_t)p->target_width + 1, 2 * BATCH_ROWS * sizeof *v->values);
    if (!v->input || !v->probabilities || !v->truth || !v->values)
        rc = err_set(e, ERR_NOMEM, NULL, "no memory to evaluate the model");
    else
        rc = plan_create(&v->plan, g, &o, e);
    if (!rc && p->task == TASK_SEQUENCE) rc = open_texts(v, e);
    if (rc)
        evaluator_free(v);
    else
        *out = v;
    return rc;
}

void evaluator_free(struct evaluator *v)
{
    if (!v) return;
    mem_free(v->previous);
    mem_free(v->next);
    mem_free(v->ids);
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

/* Fills the inputs of n rows. */
static int feed_rows(struct evaluator *v, const struct table *table, const uint32_t *rows, size_t n,
                     const void *feeds[2], struct err *e)
{
    feeds[0] = v->input;
    if (!v->previous) return preprocess_rows(v->preprocess, table, rows, n, v->input, e);
    seq2seq_rows(v->preprocess, table, rows, n, v->ids, (int32_t *)(void *)v->input, v->previous, v->next);
    feeds[plan_input_find(v->plan, FAMILY_INPUT)] = v->input;
    feeds[plan_input_find(v->plan, SEQ2SEQ_PREVIOUS)] = v->previous;
    return 0;
}

int evaluator_load(struct evaluator *v, const struct params *params, struct err *e)
{
    int rc = plan_load(v->plan, params, e);
    return rc || v->run ? rc : run_create(&v->run, v->plan, NULL, e);
}

int evaluator_add(struct evaluator *v, const struct evaluation *what, struct metrics *m, struct watch *watch,
                  struct err *e)
{
    const void *feeds[2] = {0};
    int rc = 0;
    for (size_t at = 0; at < what->n_rows && !rc; at += BATCH_ROWS) {
        size_t n = what->n_rows - at < BATCH_ROWS ? what->n_rows - at : BATCH_ROWS;
        const uint32_t *rows = what->rows + at;
        if ((rc = watch_check(watch, e)) || (rc = feed_rows(v, what->table, rows, n, feeds, e)) ||
            (rc = run_forward(v->run, feeds, (int64_t)n, e)))
            break;
        struct view y = run_output(v->run, 0);
        if (v->previous)
            metrics_add_texts(m, y.data, v->next, n, (size_t)y.shape.dim[1], (size_t)y.shape.dim[2]);
        else if (what->classes)
            add_classes(v, what, rows, n, &y, m);
        else
            add_values(v, what, rows, n, &y, m);
    }
    return rc;
}

int evaluator_run(struct evaluator *v, const struct params *params, const struct evaluation *what,
                  struct metrics *m, struct watch *watch, struct err *e)
{
    int rc = evaluator_load(v, params, e);
    metrics_clear(m);
    return rc ? rc : evaluator_add(v, what, m, watch, e);
}
