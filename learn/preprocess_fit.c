/* Fits preprocessing: gathers each column's statistics over the training part and folds a feature's steps
 * into one. */
#include "learn/preprocess.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "learn/data/stats.h"

struct fit {
    const struct resolved *r;
    const struct schema *schema;
    const struct table *table;
    const uint32_t *rows;
    size_t n_rows;
};

static double cell(const struct table_column *c, uint32_t row, int64_t element)
{
    size_t at = (size_t)row * (size_t)c->width + (size_t)element;
    switch (c->cells) {
    case CELLS_F32:
        return (double)((const float *)c->data)[at];
    case CELLS_F64:
        return ((const double *)c->data)[at];
    case CELLS_U8:
        return ((const uint8_t *)c->data)[at];
    case CELLS_TEXT: /* fit_text counts its words */
        return NAN;
    case CELLS_CODE:
        break;
    }
    return (double)((const int32_t *)c->data)[at];
}

static struct stats element_stats(const struct fit *v, const struct table_column *c, int64_t element)
{
    struct stats s = {0};
    for (size_t i = 0; i < v->n_rows; i++) {
        double x = cell(c, v->rows[i], element);
        if (!isnan(x)) stats_add(&s, x);
    }
    return s;
}

static int number_order(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The most frequent value of a scalar column, the smallest of several; NaN when there is none. CODE columns:
 * -1 is missing. */
static int most_frequent(const struct fit *v, const struct table_column *c, double *out, struct err *e)
{
    double *all = mem_try_alloc(v->n_rows + 1, sizeof *all);
    size_t n = 0, best = 0;
    if (!all) return err_set(e, ERR_NOMEM, NULL, "no memory to count values");
    for (size_t i = 0; i < v->n_rows; i++) {
        double x = cell(c, v->rows[i], 0);
        if (!isnan(x) && !(c->cells == CELLS_CODE && x < 0)) all[n++] = x;
    }
    qsort(all, n, sizeof *all, number_order);
    *out = NAN;
    for (size_t i = 0, run; i < n; i += run) {
        for (run = 1; i + run < n && all[i + run] == all[i];) run++;
        if (run > best) *out = all[i];
        if (run > best) best = run;
    }
    mem_free(all);
    return 0;
}

static int no_value(const struct fit *v, const struct feature_spec *f, struct err *e)
{
    return err_set(e, ERR_INVALID, "dataset", "the column \"%s\" has no value in the training part",
                   v->schema->columns[f->column].name);
}

/* The running form of one element: raw x → (x − shift)·scale + offset. */
struct affine {
    double shift, scale, offset, fill;
};

static void fold_step(struct affine *a, const struct step_spec *t, const struct stats *s, double frequent)
{
    switch (t->op) {
    case STEP_STANDARDISE: {
        double std = stats_std(s) * fabs(a->scale);
        a->shift = s->mean;
        a->scale = std > 0 ? a->scale / std : 1;
        a->offset = 0;
        break;
    }
    case STEP_SCALE: {
        double span = (s->max - s->min) * fabs(a->scale);
        a->shift = a->scale >= 0 ? s->min : s->max;
        a->scale = span > 0 ? a->scale * (t->max - t->min) / span : 1;
        a->offset = t->min;
        break;
    }
    case STEP_RESCALE:
        a->scale *= t->factor;
        a->offset = a->offset * t->factor + t->offset;
        break;
    case STEP_IMPUTE: /* in the units that the steps before it have made; kept in raw units */
        if (t->impute == IMPUTE_MEAN) a->fill = s->mean;
        if (t->impute == IMPUTE_MOST_FREQUENT) a->fill = frequent;
        if (t->impute == IMPUTE_CONSTANT) a->fill = (t->value - a->offset) / a->scale + a->shift;
        break;
    case STEP_ONE_HOT:
    case STEP_TOKENISE:
        break;
    }
}

static bool needs_data(const struct fit *v, const struct feature_spec *f)
{
    for (size_t i = 0; i < f->n_steps; i++)
        if (v->r->steps[f->steps[i]].op != STEP_RESCALE) return true;
    return false;
}

static int fit_element(const struct fit *v, const struct feature_spec *f, const struct table_column *c,
                       struct feature *out, int64_t element, struct err *e)
{
    struct affine a = {.scale = 1, .fill = NAN};
    struct stats s = {0};
    double frequent = NAN;
    int rc = 0;
    if (needs_data(v, f)) {
        s = element_stats(v, c, element);
        if (s.n == 0) return no_value(v, f, e);
    }
    for (size_t i = 0; i < f->n_steps && !rc; i++) {
        const struct step_spec *t = &v->r->steps[f->steps[i]];
        if (t->op == STEP_IMPUTE && t->impute == IMPUTE_MOST_FREQUENT) rc = most_frequent(v, c, &frequent, e);
        fold_step(&a, t, &s, frequent);
    }
    out->fill[element] = (float)a.fill;
    out->shift[element] = (float)a.shift;
    out->scale[element] = (float)a.scale;
    out->offset[element] = (float)a.offset;
    return rc;
}

static int fit_numbers(const struct fit *v, const struct feature_spec *f, const struct table_column *c,
                       struct feature *out, struct err *e)
{
    out->n = needs_data(v, f) ? c->width : 1;
    size_t n = (size_t)out->n;
    out->fill = mem_try_alloc(n, sizeof(float));
    out->shift = mem_try_alloc(n, sizeof(float));
    out->scale = mem_try_alloc(n, sizeof(float));
    out->offset = mem_try_alloc(n, sizeof(float));
    if (!out->fill || !out->shift || !out->scale || !out->offset)
        return err_set(e, ERR_NOMEM, NULL, "no memory for statistics");
    int rc = 0;
    for (int64_t i = 0; i < out->n && !rc; i++) rc = fit_element(v, f, c, out, i, e);
    return rc;
}

static int fit_values(const struct fit *v, const struct feature_spec *f, const struct table_column *c,
                      struct feature *out, struct err *e)
{
    const struct column *column = &v->schema->columns[f->column];
    double frequent = NAN;
    int rc = 0;
    out->fill_code = -1;
    out->n_values = (size_t)f->width;
    if (out->kind == FEATURE_CATEGORY) {
        out->categories = mem_alloc(out->n_values, sizeof *out->categories);
        for (size_t i = 0; i < out->n_values; i++) out->categories[i] = mem_strdup(column->categories[i]);
        if (!texts_load(&out->codes, out->categories, out->n_values))
            return err_set(e, ERR_NOMEM, NULL, "no memory for categories");
    } else {
        out->integers = mem_alloc(out->n_values, sizeof *out->integers);
        memcpy(out->integers, column->classes, out->n_values * sizeof *out->integers);
    }
    for (size_t i = 0; i < f->n_steps && !rc; i++) {
        const struct step_spec *t = &v->r->steps[f->steps[i]];
        if (t->op != STEP_IMPUTE) continue;
        if ((rc = most_frequent(v, c, &frequent, e))) return rc;
        if (isnan(frequent)) return no_value(v, f, e);
        for (size_t k = 0; k < out->n_values; k++)
            if (c->cells == CELLS_CODE ? (double)k == frequent : (double)out->integers[k] == frequent)
                out->fill_code = (int32_t)k;
    }
    return rc;
}

static int learn_words(const struct fit *v, const struct text_options *o, const struct table_column *c,
                       struct feature *out, struct err *e)
{
    struct vocabulary_learner *l = NULL;
    int rc = vocabulary_learner_create(&l, o, e);
    for (size_t i = 0; i < v->n_rows && !rc; i++) {
        size_t len;
        const char *text = table_text(c, v->rows[i], &len);
        rc = vocabulary_learner_add(l, text, len, e);
    }
    if (!rc) rc = vocabulary_learn(&out->vocabulary, l, e);
    vocabulary_learner_free(l);
    return rc;
}

/* The vocabulary comes from the training part; the ids are those of all rows. */
static int fit_text(const struct fit *v, const struct text_options *o, const struct table_column *c,
                    struct feature *out, struct err *e)
{
    int rc = learn_words(v, o, c, out, e);
    if (rc) return rc;
    out->in_width = 1;
    out->ids = mem_try_alloc((size_t)v->table->rows, (size_t)out->width * sizeof *out->ids);
    if (!out->ids)
        return err_set(e, ERR_NOMEM, NULL, "no memory for the ids of %lld texts", (long long)v->table->rows);
    for (int64_t i = 0; i < v->table->rows; i++) {
        size_t len;
        const char *text = table_text(c, i, &len);
        vocabulary_encode(out->vocabulary, text, len, out->ids + i * out->width);
    }
    out->encoded = v->table;
    return 0;
}

struct table_want preprocess_want_text(const struct column *train, const struct column *test)
{
    int64_t bytes = test && test->text_bytes > train->text_bytes ? test->text_bytes : train->text_bytes;
    return (struct table_want){.name = train->name, .cells = CELLS_TEXT, .width = 1, .text_bytes = bytes};
}

static int fit_feature(const struct fit *v, size_t index, struct feature *out, struct err *e)
{
    const struct feature_spec *f = &v->r->features[index];
    const struct column *column = &v->schema->columns[f->column];
    const struct table_column *c = &v->table->columns[index];
    out->name = mem_strdup(column->name);
    out->in_width = c->width;
    out->width = f->width;
    out->offset_in_row = f->offset;
    out->kind = f->text                           ? FEATURE_TEXT
                : column->type == COLUMN_CATEGORY ? FEATURE_CATEGORY
                : f->one_hot                      ? FEATURE_INTEGER
                : column->type == COLUMN_TENSOR   ? FEATURE_TENSOR
                                                  : FEATURE_NUMBER;
    if (f->text) return fit_text(v, &v->r->steps[f->steps[0]].text, c, out, e);
    return f->one_hot ? fit_values(v, f, c, out, e) : fit_numbers(v, f, c, out, e);
}

/* Regression targets are brought to mean 0 and a common deviation of 1, unless the output's activation bounds
 * them: learning rates then mean the same whatever the units. */
static int fit_target(const struct fit *v, struct preprocess *p, struct err *e)
{
    const struct table_column *c = &v->table->columns[v->r->n_features];
    double variance = 0;
    p->target_width = v->r->target_width;
    p->target_std = 1;
    p->target_mean = mem_try_alloc((size_t)p->target_width, sizeof *p->target_mean);
    if (!p->target_mean) return err_set(e, ERR_NOMEM, NULL, "no memory for the target");
    if (v->r->layers[v->r->n_layers - 1].activation != ACTIVATION_LINEAR) return 0;
    for (int64_t i = 0; i < p->target_width; i++) {
        struct stats s = element_stats(v, c, i);
        p->target_mean[i] = (float)s.mean;
        variance += stats_std(&s) * stats_std(&s) / (double)p->target_width;
    }
    float std = (float)sqrt(variance);
    if (std > 0 && isfinite(std)) p->target_std = std;
    return 0;
}

/* The texts that a decoder is to say. */
static int fit_target_text(const struct fit *v, struct feature *out, struct err *e)
{
    out->name = mem_strdup(v->schema->columns[v->r->target].name);
    out->kind = FEATURE_TEXT;
    out->width = v->r->target_text.length;
    return fit_text(v, &v->r->target_text, &v->table->columns[v->r->n_features], out, e);
}

static void copy_classes(const struct resolved *r, struct preprocess *p)
{
    p->n_classes = r->n_classes;
    if (r->integer_labels) {
        p->class_integers = mem_alloc(r->n_classes, sizeof *p->class_integers);
        memcpy(p->class_integers, r->class_integers, r->n_classes * sizeof *p->class_integers);
        return;
    }
    p->class_texts = mem_alloc(r->n_classes, sizeof *p->class_texts);
    for (size_t i = 0; i < r->n_classes; i++) p->class_texts[i] = mem_strdup(r->class_texts[i]);
}

int preprocess_fit(struct preprocess **out, const struct resolved *r, const struct schema *s,
                   const struct table *table, const uint32_t *rows, size_t n_rows, struct err *e)
{
    struct fit v = {r, s, table, rows, n_rows};
    struct preprocess *p = mem_alloc(1, sizeof *p);
    int rc = 0;
    *out = NULL;
    p->kernels = kernels_best();
    p->task = r->task;
    p->ids_below = r->ids_below;
    p->features = mem_alloc(r->n_features, sizeof *p->features);
    for (; p->n_features < r->n_features && !rc; p->n_features++) {
        rc = fit_feature(&v, p->n_features, &p->features[p->n_features], e);
        p->width += r->features[p->n_features].width;
    }
    if (!rc && p->task == TASK_CLASSIFICATION) copy_classes(r, p);
    if (!rc && p->task == TASK_REGRESSION) rc = fit_target(&v, p, e);
    if (!rc && p->task == TASK_SEQUENCE) rc = fit_target_text(&v, &p->target, e);
    if (rc)
        preprocess_free(p);
    else
        *out = p;
    return rc;
}
