/* Counts and sums, and the figures made of them. */
#include "learn/metrics.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

enum { MATRIX_CLASSES = 100 };

int metrics_init(struct metrics *m, bool classification, size_t n_classes, struct err *e)
{
    *m = (struct metrics){.classification = classification, .n_classes = n_classes};
    if (classification) {
        size_t cells;
        if (mem_mul(n_classes, n_classes, &cells)) m->confusion = mem_try_alloc(cells, sizeof *m->confusion);
    } else {
        m->mean = mem_try_alloc(n_classes, 4 * sizeof *m->mean);
        if (m->mean)
            m->m2 = m->mean + n_classes, m->squared = m->m2 + n_classes, m->absolute = m->squared + n_classes;
    }
    return m->confusion || m->mean ? 0 : err_set(e, ERR_NOMEM, NULL, "no memory for metrics");
}

void metrics_clear(struct metrics *m)
{
    m->rows = m->tokens = m->hits = m->exact = 0;
    m->loss_sum = m->huber = m->token_loss = 0;
    m->kept = 0;
    if (m->confusion) memset(m->confusion, 0, m->n_classes * m->n_classes * sizeof *m->confusion);
    if (m->mean) memset(m->mean, 0, 4 * m->n_classes * sizeof *m->mean);
}

void metrics_dispose(struct metrics *m)
{
    mem_free(m->confusion);
    mem_free(m->mean);
    mem_free(m->scores);
    mem_free(m->truths);
    mem_free(m->ranking);
    *m = (struct metrics){0};
}

void metrics_minimise(struct metrics *m, enum objective_kind objective, double huber_delta)
{
    m->objective = objective;
    m->huber_delta = huber_delta;
}

size_t metrics_argmax(const float *p, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (p[i] > p[best]) best = i;
    return best;
}

void metrics_add_classes(struct metrics *m, const float *probabilities, const int32_t *truth, size_t rows)
{
    for (size_t i = 0; i < rows; i++) {
        const float *p = probabilities + i * m->n_classes;
        size_t t = (size_t)truth[i];
        m->confusion[t * m->n_classes + metrics_argmax(p, m->n_classes)]++;
        m->loss_sum -= log(fmax((double)p[t], 1e-15));
        if (m->kept == m->room) continue;
        memcpy(m->scores + m->kept * m->n_classes, p, m->n_classes * sizeof *p);
        m->truths[m->kept++] = truth[i];
    }
    m->rows += (int64_t)rows;
}

static double huber_of(double r, double delta)
{
    return r <= delta ? 0.5 * r * r : delta * (r - 0.5 * delta);
}

/* The truth's spread by Welford's update. */
void metrics_add_values(struct metrics *m, const double *prediction, const double *truth, size_t rows)
{
    for (size_t i = 0; i < rows; i++) {
        double n = (double)(m->rows + (int64_t)i + 1);
        for (size_t c = 0; c < m->n_classes; c++) {
            double t = truth[i * m->n_classes + c], r = prediction[i * m->n_classes + c] - t,
                   d = t - m->mean[c];
            m->mean[c] += d / n;
            m->m2[c] += d * (t - m->mean[c]);
            m->squared[c] += r * r;
            m->absolute[c] += fabs(r);
            if (m->objective == OBJECTIVE_HUBER) m->huber += huber_of(fabs(r), m->huber_delta);
        }
    }
    m->rows += (int64_t)rows;
}

static double ratio(double a, double b)
{
    return b > 0 ? a / b : 0;
}

struct class_scores metrics_class(const struct metrics *m, size_t c)
{
    int64_t hit = m->confusion[c * m->n_classes + c], truth = 0, predicted = 0;
    for (size_t i = 0; i < m->n_classes; i++) {
        truth += m->confusion[c * m->n_classes + i];
        predicted += m->confusion[i * m->n_classes + c];
    }
    struct class_scores s = {.support = truth};
    s.precision = ratio((double)hit, (double)predicted);
    s.recall = ratio((double)hit, (double)truth);
    s.f1 = ratio(2.0 * (double)hit, (double)(truth + predicted));
    return s;
}

struct class_scores metrics_macro(const struct metrics *m)
{
    struct class_scores sum = {.support = m->rows};
    double n = 0;
    for (size_t c = 0; c < m->n_classes; c++) {
        int64_t predicted = 0;
        for (size_t i = 0; i < m->n_classes; i++) predicted += m->confusion[i * m->n_classes + c];
        struct class_scores s = metrics_class(m, c);
        if (s.support == 0 && predicted == 0) continue;
        sum.precision += s.precision;
        sum.recall += s.recall;
        sum.f1 += s.f1;
        n++;
    }
    sum.precision = ratio(sum.precision, n);
    sum.recall = ratio(sum.recall, n);
    sum.f1 = ratio(sum.f1, n);
    return sum;
}

/* With one label a row, every false positive is another class's false negative: all three are the accuracy.
 */
struct class_scores metrics_micro(const struct metrics *m)
{
    double a = metrics_accuracy(m);
    return (struct class_scores){.precision = a, .recall = a, .f1 = a, .support = m->rows};
}

double metrics_accuracy(const struct metrics *m)
{
    int64_t hits = 0;
    if (m->texts) return ratio((double)m->hits, (double)m->tokens);
    for (size_t c = 0; c < m->n_classes; c++) hits += m->confusion[c * m->n_classes + c];
    return ratio((double)hits, (double)m->rows);
}

static double mean_over_targets(const struct metrics *m, const double *sum)
{
    double total = 0;
    for (size_t c = 0; c < m->n_classes; c++) total += sum[c];
    return ratio(total, (double)m->rows * (double)m->n_classes);
}

double metrics_mse(const struct metrics *m)
{
    return mean_over_targets(m, m->squared);
}

double metrics_loss(const struct metrics *m)
{
    if (m->classification || m->texts) return ratio(m->loss_sum, (double)m->rows);
    if (m->objective == OBJECTIVE_MAE) return metrics_mae(m);
    if (m->objective == OBJECTIVE_HUBER) return ratio(m->huber, (double)m->rows * (double)m->n_classes);
    return metrics_mse(m);
}

double metrics_perplexity(const struct metrics *m)
{
    if (m->texts) return exp(ratio(m->token_loss, (double)m->tokens));
    return m->classification ? exp(metrics_loss(m)) : (double)NAN;
}

double metrics_mae(const struct metrics *m)
{
    return mean_over_targets(m, m->absolute);
}

double metrics_r2(const struct metrics *m)
{
    double total = 0;
    for (size_t c = 0; c < m->n_classes; c++) {
        if (m->m2[c] <= 0) return NAN;
        total += 1 - m->squared[c] / m->m2[c];
    }
    return total / (double)m->n_classes;
}

static void scores_to_json(const char *suffix, struct class_scores s, struct json_writer *w)
{
    char name[32];
    const double value[] = {s.precision, s.recall, s.f1};
    static const char *const what[] = {"precision", "recall", "f1"};
    for (int i = 0; i < 3; i++) {
        strcpy(name, what[i]);
        strcat(name, suffix);
        jw_knum(w, name, value[i]);
    }
}

void metrics_matrix_to_json(const struct metrics *m,
                            void (*label)(void *ctx, size_t c, struct json_writer *w), void *ctx,
                            struct json_writer *w)
{
    if (m->n_classes > MATRIX_CLASSES) return;
    jw_name(w, "confusion_matrix");
    jw_obj(w);
    jw_name(w, "labels");
    jw_arr(w);
    for (size_t c = 0; c < m->n_classes; c++) label(ctx, c, w);
    jw_arr_end(w);
    jw_name(w, "rows");
    jw_arr(w);
    for (size_t c = 0; c < m->n_classes; c++) {
        jw_arr(w);
        for (size_t i = 0; i < m->n_classes; i++) jw_int(w, m->confusion[c * m->n_classes + i]);
        jw_arr_end(w);
    }
    jw_arr_end(w);
    jw_obj_end(w);
}

static void classes_to_json(const struct metrics *m,
                            void (*label)(void *ctx, size_t c, struct json_writer *w), void *ctx,
                            struct json_writer *w)
{
    jw_name(w, "classes");
    jw_arr(w);
    for (size_t c = 0; c < m->n_classes; c++) {
        struct class_scores s = metrics_class(m, c);
        jw_obj(w);
        jw_name(w, "label");
        label(ctx, c, w);
        scores_to_json("", s, w);
        jw_kint(w, "support", s.support);
        jw_obj_end(w);
    }
    jw_arr_end(w);
}

void metrics_to_json(const struct metrics *m, void (*label)(void *ctx, size_t c, struct json_writer *w),
                     void *ctx, struct json_writer *w)
{
    jw_kint(w, "rows", m->rows);
    jw_knum(w, "loss", metrics_loss(m));
    if (m->texts) {
        metrics__texts_to_json(m, w);
        return;
    }
    if (!m->classification) {
        jw_knum(w, "mse", metrics_mse(m));
        jw_knum(w, "rmse", sqrt(metrics_mse(m)));
        jw_knum(w, "mae", metrics_mae(m));
        jw_knum(w, "r2", metrics_r2(m));
        return;
    }
    jw_knum(w, "log_loss", metrics_loss(m));
    double auc = metrics_auc(m);
    if (!isnan(auc)) jw_knum(w, "auc", auc);
    jw_knum(w, "accuracy", metrics_accuracy(m));
    scores_to_json("_macro", metrics_macro(m), w);
    scores_to_json("_micro", metrics_micro(m), w);
    if (m->n_classes > MATRIX_CLASSES) return;
    classes_to_json(m, label, ctx, w);
    metrics_matrix_to_json(m, label, ctx, w);
}
