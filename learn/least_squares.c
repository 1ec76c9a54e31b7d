/* Gathers XᵀX and Xᵀy batch by batch and solves them by Cholesky's decomposition. */
#include "learn/least_squares.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

enum { BATCH_ROWS = 256 };

struct normal {
    size_t n, k;  /* floats a row with the constant 1 at the end; targets */
    double *a;    /* [n, n]: lower triangle of XᵀX, then its Cholesky factor */
    double *b;    /* [k, n]: Xᵀy, then the solution */
    float *input; /* [BATCH_ROWS, n − 1] */
    double *row;  /* [n] */
};

static void add_row(struct normal *m, const float *x, const double *y, const struct preprocess *p)
{
    for (size_t i = 0; i + 1 < m->n; i++) m->row[i] = (double)x[i];
    m->row[m->n - 1] = 1;
    for (size_t i = 0; i < m->n; i++) {
        double v = m->row[i], *to = m->a + i * m->n;
        if (v == 0) continue;
        for (size_t k = 0; k <= i; k++) to[k] += v * m->row[k];
        for (size_t t = 0; t < m->k; t++)
            m->b[t * m->n + i] += v * (y[t] - (double)p->target_mean[t]) / (double)p->target_std;
    }
}

static int gather(struct normal *m, const struct fit_request *q, struct err *e)
{
    const double *target = q->table->columns[q->preprocess->n_features].data;
    for (size_t at = 0; at < q->split->n_train; at += BATCH_ROWS) {
        size_t left = q->split->n_train - at, n = left < BATCH_ROWS ? left : BATCH_ROWS;
        const uint32_t *rows = q->split->train + at;
        int rc = watch_check(q->watch, e);
        if (rc || (rc = preprocess_rows(q->preprocess, q->table, rows, n, m->input, e))) return rc;
        for (size_t i = 0; i < n; i++)
            add_row(m, m->input + i * (m->n - 1), target + (size_t)rows[i] * m->k, q->preprocess);
    }
    return 0;
}

/* In place: the lower triangle of a becomes L with a = L·Lᵀ. False when a pivot is not positive. */
static bool cholesky(double *a, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k <= i; k++) {
            double sum = a[i * n + k];
            for (size_t j = 0; j < k; j++) sum -= a[i * n + j] * a[k * n + j];
            if (i == k && !(sum > 0)) return false;
            a[i * n + k] = i == k ? sqrt(sum) : sum / a[k * n + k];
        }
    }
    return true;
}

static void substitute(const double *l, size_t n, double *b)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < i; k++) b[i] -= l[i * n + k] * b[k];
        b[i] /= l[i * n + i];
    }
    for (size_t i = n; i-- > 0;) {
        for (size_t k = i + 1; k < n; k++) b[i] -= l[k * n + i] * b[k];
        b[i] /= l[i * n + i];
    }
}

/* The tiny ridge is relative to the mean of the diagonal, so that units don't matter; the constant's own
 * weight is left alone. */
static int solve(struct normal *m, double l2, double rows, struct err *e)
{
    double trace = 0;
    for (size_t i = 0; i < m->n; i++) trace += m->a[i * m->n + i];
    double ridge = l2 * rows + 1e-10 * trace / (double)m->n;
    for (size_t i = 0; i + 1 < m->n; i++) m->a[i * m->n + i] += ridge;
    m->a[m->n * m->n - 1] += 1e-12 * trace / (double)m->n;
    if (!cholesky(m->a, m->n))
        return err_set(e, ERR_INVALID, "spec.training.optimizer",
                       "least squares found no solution: the features are too large or depend on each other; "
                       "standardise them, or set training.l2");
    for (size_t t = 0; t < m->k; t++) substitute(m->a, m->n, m->b + t * m->n);
    return 0;
}

static int store(const struct normal *m, struct params *params, struct err *e)
{
    int kernel = params_find(params, "output/kernel"), bias = params_find(params, "output/bias");
    if (kernel < 0 || bias < 0)
        return err_set(e, ERR_INTERNAL, NULL, "the linear model has no kernel or no bias");
    float *w = params->data + params->entry[kernel].offset, *b = params->data + params->entry[bias].offset;
    for (size_t t = 0; t < m->k; t++) {
        for (size_t i = 0; i + 1 < m->n; i++) w[i * m->k + t] = (float)m->b[t * m->n + i];
        b[t] = (float)m->b[t * m->n + m->n - 1];
    }
    return 0;
}

int least_squares_run(const struct fit_request *q, struct params *params, struct err *e)
{
    struct normal m = {.n = (size_t)q->preprocess->width + 1, .k = (size_t)q->preprocess->target_width};
    int rc = 0;
    m.a = mem_try_alloc(m.n, m.n * sizeof *m.a);
    m.b = mem_try_alloc(m.n, m.k * sizeof *m.b);
    m.row = mem_try_alloc(m.n, sizeof *m.row);
    m.input = mem_try_alloc(m.n, BATCH_ROWS * sizeof *m.input);
    if (!m.a || !m.b || !m.row || !m.input)
        rc = err_set(e, ERR_NOMEM, NULL, "no memory for the normal equations");
    if (!rc) rc = gather(&m, q, e);
    if (!rc) rc = solve(&m, q->resolved->training.l2, (double)q->split->n_train, e);
    if (!rc) rc = store(&m, params, e);
    mem_free(m.a);
    mem_free(m.b);
    mem_free(m.row);
    mem_free(m.input);
    return rc;
}

void least_squares_raw_units(const struct preprocess *p, const float *kernel, const float *bias,
                             int64_t target, double *weight, double *intercept)
{
    int64_t k = p->target_width;
    double std = (double)p->target_std;
    *intercept = (double)bias[target];
    for (size_t i = 0; i < p->n_features; i++) {
        const struct feature *f = &p->features[i];
        bool one_hot = f->kind == FEATURE_CATEGORY || f->kind == FEATURE_INTEGER;
        for (int64_t j = 0; j < f->width; j++) {
            int64_t at = f->offset_in_row + j, of = f->n == 1 ? 0 : j;
            double w = (double)kernel[at * k + target];
            weight[at] = one_hot ? w * std : w * (double)f->scale[of] * std;
            if (!one_hot)
                *intercept += w * ((double)f->offset[of] - (double)f->shift[of] * (double)f->scale[of]);
        }
    }
    *intercept = *intercept * std + (double)p->target_mean[target];
}
