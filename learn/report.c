/* Writes a run's results. */
#include "learn/report.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "learn/least_squares.h"

enum { MOST_COEFFICIENTS = 1000 };

static void label_to_json(void *ctx, size_t c, struct json_writer *w)
{
    const struct preprocess *p = ctx;
    if (p->class_integers)
        jw_int(w, p->class_integers[c]);
    else
        jw_str(w, p->class_texts[c]);
}

static void part_to_json(const char *name, const struct metrics *m, struct json_writer *w)
{
    if (!m) return;
    jw_name(w, name);
    jw_obj(w);
    jw_kint(w, "rows", m->rows);
    jw_knum(w, "loss", metrics_loss(m));
    if (m->texts) {
        metrics__texts_to_json(m, w);
    } else if (m->classification) {
        jw_knum(w, "accuracy", metrics_accuracy(m));
        jw_knum(w, "f1_macro", metrics_macro(m).f1);
    } else {
        jw_knum(w, "mae", metrics_mae(m));
        jw_knum(w, "r2", metrics_r2(m));
    }
    jw_obj_end(w);
}

/* "age", "species=setosa", "features[3]" */
static void coefficient_name(const struct feature *f, int64_t i, char *out, size_t cap)
{
    if (f->kind == FEATURE_CATEGORY)
        snprintf(out, cap, "%s=%s", f->name, f->categories[i]);
    else if (f->kind == FEATURE_INTEGER)
        snprintf(out, cap, "%s=%lld", f->name, (long long)f->integers[i]);
    else if (f->kind == FEATURE_TENSOR)
        snprintf(out, cap, "%s[%lld]", f->name, (long long)i);
    else
        snprintf(out, cap, "%s", f->name);
}

static void coefficients_to_json(const struct report *r, struct json_writer *w)
{
    const struct preprocess *p = r->preprocess;
    int kernel = params_find(r->params, "output/kernel"), bias = params_find(r->params, "output/bias");
    char name[SCHEMA_MAX_NAME + SCHEMA_MAX_CATEGORY + 2];
    double intercept;
    if (p->target_width != 1 || p->width > MOST_COEFFICIENTS || kernel < 0 || bias < 0) return;
    double *weight = mem_alloc((size_t)p->width, sizeof *weight);
    least_squares_raw_units(p, r->params->data + r->params->entry[kernel].offset,
                            r->params->data + r->params->entry[bias].offset, 0, weight, &intercept);
    jw_name(w, "coefficients");
    jw_obj(w);
    jw_knum(w, "intercept", intercept);
    for (size_t i = 0; i < p->n_features; i++) {
        const struct feature *f = &p->features[i];
        for (int64_t k = 0; k < f->width; k++) {
            coefficient_name(f, k, name, sizeof name);
            jw_knum(w, name, weight[f->offset_in_row + k]);
        }
    }
    jw_obj_end(w);
    mem_free(weight);
}

static void fit_to_json(const struct report *r, struct json_writer *w)
{
    if (!r->fit) {
        jw_kstr(w, "stopped", "solved");
        return;
    }
    jw_kint(w, "epochs", r->fit->epochs_run);
    jw_kint(w, "best_epoch", r->fit->best_epoch);
    jw_kstr(w, "stopped", r->fit->stopped_early ? "early" : "epochs");
    jw_name(w, "history");
    jw_raw(w, r->fit->history.data, r->fit->history.len);
}

/* What "auto" came to. */
static void picked_to_json(const struct training_spec *t, struct json_writer *w)
{
    if (!t->batch_auto && !t->epochs_auto && !t->optimizer.rate_auto) return;
    jw_name(w, "auto");
    jw_obj(w);
    if (t->batch_auto) jw_kint(w, "batch_size", t->batch_size);
    if (t->epochs_auto) jw_kint(w, "epochs", t->epochs);
    if (t->optimizer.rate_auto) jw_knum(w, "learning_rate", t->optimizer.learning_rate);
    jw_obj_end(w);
}

/* What was trained: less than estimated where a vocabulary came out smaller than it may be. */
static int64_t parameters_of(const struct params *p)
{
    int64_t n = 0;
    for (int i = 0; i < p->n; i++) n += p->entry[i].trainable ? (int64_t)p->entry[i].count : 0;
    return n;
}

void report_to_json(const struct report *r, struct json_writer *w)
{
    const struct metrics *best = r->test ? r->test : r->validation ? r->validation : r->train;
    jw_obj(w);
    jw_kstr(w, "evaluated_on", r->test ? "test" : r->validation ? "validation" : "train");
    metrics_to_json(best, label_to_json, (void *)(uintptr_t)r->preprocess, w);
    part_to_json("train", r->train, w);
    part_to_json("validation", r->validation, w);
    part_to_json("test", r->test, w);
    jw_kint(w, "parameters", parameters_of(r->params));
    if (r->fit) jw_kstr(w, "computed_in", precision_name(r->precision));
    fit_to_json(r, w);
    picked_to_json(&r->resolved->training, w);
    if (r->resolved->family == FAMILY_LINEAR_REGRESSION) coefficients_to_json(r, w);
    if (r->train_seconds >= 0) jw_knum(w, "train_seconds", r->train_seconds);
    jw_obj_end(w);
}

void report_assessment(const struct metrics *m, const struct preprocess *p, struct json_writer *w)
{
    jw_obj(w);
    jw_kstr(w, "evaluated_on", "dataset");
    metrics_to_json(m, label_to_json, (void *)(uintptr_t)p, w);
    jw_obj_end(w);
}

void report_confusion(const struct metrics *m, const struct preprocess *p, struct json_writer *w)
{
    metrics_matrix_to_json(m, label_to_json, (void *)(uintptr_t)p, w);
}
