/* Loaded versions and the sessions that predict with them. */
#include "learn/model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "learn/artifact.h"
#include "learn/evaluate.h"
#include "learn/input.h"
#include "learn/metrics.h"
#include "learn/precision.h"
#include "learn/translator.h"
#include "tensor/plan.h"
#include "tensor/run.h"

/* A batch is computed in runs of at most so many rows, whose memory stays in the caches. */
enum { RUN_ROWS = 128, FEWEST_ROWS = 8, RUN_BYTES = 128 << 20 };

struct model {
    struct artifact artifact;      /* params are given up once the plan has packed them */
    struct plan *plan;             /* NULL with a translator */
    struct translator *translator; /* texts from texts; else NULL */
    int64_t run_rows;              /* computed at once */
    size_t bytes;
};

struct model_session {
    const struct model *model;
    struct run *run;                  /* or */
    struct translator_run *translate; /* of such models */
    int32_t *said;                    /* [run_rows, translator_steps] ids */
    int64_t max_rows, rows;           /* staged */
    float *input;                     /* [max_rows, preprocess width]: staged rows, preprocessed */
    float *raw;                       /* one row of raw numbers, for conversion */
    float *output;                    /* [max_rows, probabilities or targets] */
    int64_t *integers;                /* [max_rows] labels; NULL for texts and regression */
    struct buf texts;                 /* labels encoded one after the other */
    size_t *text_end;                 /* [max_rows]: where each one ends; NULL for integers and regression */
    size_t bytes;
};

static const struct preprocess *preprocess_of(const struct model *m)
{
    return m->artifact.preprocess;
}

static int64_t output_width(const struct model *m)
{
    return signature_width(&m->artifact.signature->outputs[0]);
}

/* ---- models ---- */

static size_t text_bytes(const char *s)
{
    return s ? strlen(s) + 1 : 0;
}

int model_plan(struct plan **out, const struct graph *g, const struct backend *backend, struct err *e)
{
    struct plan_options o = {.mode = PLAN_INFER, .max_batch = RUN_ROWS, .backend = backend};
    int rc;
    while ((rc = plan_create(out, g, &o, e)) == 0 && plan_bytes(*out)->arena > RUN_BYTES &&
           o.max_batch > FEWEST_ROWS) {
        plan_free(*out);
        *out = NULL;
        o.max_batch /= 2;
    }
    return rc;
}

/* Compiles what the artifact holds and loads its weights, which are given up then. */
static int compile(struct model *m, struct err *e)
{
    struct artifact *a = &m->artifact;
    const struct backend *backend = precision_backend(a->precision);
    int rc = model_plan(&m->plan, a->graph, backend, e);
    if (rc) return rc;
    m->run_rows = plan_max_batch(m->plan);
    if (a->preprocess->task == TASK_SEQUENCE) {
        plan_free(m->plan);
        m->plan = NULL;
        rc = translator_create(&m->translator, a->graph, a->params, a->preprocess, m->run_rows, backend, e);
        if (!rc) m->bytes = translator_bytes(m->translator);
    } else {
        rc = plan_load(m->plan, a->params, e);
        m->bytes = plan_bytes(m->plan)->packed;
    }
    params_free(a->params);
    a->params = NULL;
    return rc;
}

int model_load(struct model **out, const void *bytes, size_t len, size_t limit_bytes, struct err *e)
{
    struct model *m = mem_alloc(1, sizeof *m);
    int rc = artifact_read(&m->artifact, bytes, len, limit_bytes, e);
    *out = NULL;
    if (rc || (rc = compile(m, e))) {
        model_free(m);
        return rc;
    }
    m->bytes += sizeof *m + preprocess_bytes(preprocess_of(m)) + text_bytes(m->artifact.metrics) +
                text_bytes(m->artifact.lineage) + graph_bytes(m->artifact.graph) +
                (m->plan ? plan_own_bytes(m->plan) : 0);
    if (limit_bytes && m->bytes > limit_bytes) {
        rc = err_set(e, ERR_TOO_LARGE, NULL, "the version takes %zu bytes of memory; %zu are allowed",
                     m->bytes, limit_bytes);
        model_free(m);
        return rc;
    }
    *out = m;
    return 0;
}

void model_free(struct model *m)
{
    if (!m) return;
    plan_free(m->plan);
    translator_free(m->translator);
    artifact_dispose(&m->artifact);
    mem_free(m);
}

const struct signature *model_signature(const struct model *m)
{
    return m->artifact.signature;
}

const char *model_metrics_json(const struct model *m)
{
    return m->artifact.metrics;
}

const char *model_lineage_json(const struct model *m)
{
    return m->artifact.lineage;
}

size_t model_bytes(const struct model *m)
{
    return m->bytes;
}

/* ---- sessions ---- */

static int64_t raw_width(const struct model *m)
{
    int64_t n = 0;
    for (size_t i = 0; i < preprocess_of(m)->n_features; i++) n += preprocess_of(m)->features[i].in_width;
    return n;
}

static bool session_room(struct model_session *s)
{
    const struct preprocess *p = preprocess_of(s->model);
    size_t rows = (size_t)s->max_rows, width = (size_t)p->width, raw = (size_t)raw_width(s->model);
    size_t out = (size_t)output_width(s->model);
    const struct translator *t = s->model->translator;
    if (!mem_mul(rows, (width + out) * sizeof(float), &s->bytes)) return false;
    s->bytes += sizeof *s + raw * sizeof(float) + rows * sizeof(int64_t);
    s->bytes += t ? translator_run_bytes(t) : plan_bytes(s->model->plan)->arena;
    if (t) {
        s->bytes += (size_t)s->model->run_rows * (size_t)translator_steps(t) * sizeof *s->said;
        s->said = mem_try_alloc((size_t)s->model->run_rows, (size_t)translator_steps(t) * sizeof *s->said);
        s->text_end = mem_try_alloc(rows, sizeof *s->text_end);
        if (!s->said || !s->text_end) return false;
    }
    s->input = mem_try_alloc(rows, width * sizeof *s->input);
    s->raw = mem_try_alloc(raw, sizeof *s->raw);
    s->output = mem_try_alloc(rows, out * sizeof *s->output);
    if (p->class_integers) s->integers = mem_try_alloc(rows, sizeof *s->integers);
    if (p->class_texts) s->text_end = mem_try_alloc(rows, sizeof *s->text_end);
    return s->input && s->raw && s->output && (s->integers || !p->class_integers) &&
           (s->text_end || !p->class_texts);
}

int model_session_create(struct model_session **out, const struct model *m, int64_t max_rows, struct err *e)
{
    struct model_session *s = mem_alloc(1, sizeof *s);
    int rc = 0;
    *out = NULL;
    s->model = m;
    s->max_rows = max_rows;
    if (max_rows < 1)
        rc = err_set(e, ERR_INVALID, "max_rows", "a session needs room for at least one row");
    else if (!session_room(s))
        rc = err_set(e, ERR_NOMEM, NULL, "no memory for %lld rows of predictions", (long long)max_rows);
    else if (m->translator)
        rc = translator_run_create(&s->translate, m->translator, e);
    else
        rc = run_create(&s->run, m->plan, NULL, e);
    if (rc)
        model_session_free(s);
    else
        *out = s;
    return rc;
}

void model_session_free(struct model_session *s)
{
    if (!s) return;
    run_free(s->run);
    translator_run_free(s->translate);
    mem_free(s->said);
    mem_free(s->input);
    mem_free(s->raw);
    mem_free(s->output);
    mem_free(s->integers);
    mem_free(s->text_end);
    buf_dispose(&s->texts);
    mem_free(s);
}

size_t model_session_bytes(const struct model_session *s)
{
    return s->bytes;
}

int64_t model_session_max_rows(const struct model_session *s)
{
    return s->max_rows;
}

void model_session_begin(struct model_session *s)
{
    s->rows = 0;
}

/* ---- staging ---- */

static int refuse_row(const struct model_session *s, size_t input, int64_t row, const struct feature *f,
                      struct err *e)
{
    if (preprocess_of(s->model)->ids_below)
        return err_set(e, ERR_INVALID, model_signature(s->model)->inputs[input].name,
                       "row %lld, \"%s\": the model takes whole numbers from 0 to %lld only", (long long)row,
                       f->name, (long long)preprocess_of(s->model)->ids_below - 1);
    const char *what = f->kind == FEATURE_INTEGER
                           ? "a missing value, or an integer that the training data does not have"
                       : f->kind == FEATURE_CATEGORY ? "a missing value"
                                                     : "a missing value (NaN)";
    return err_set(e, ERR_INVALID, model_signature(s->model)->inputs[input].name,
                   "row %lld, \"%s\": %s; the model was not trained to fill it", (long long)row, f->name,
                   what);
}

/* The single input of numbers: each row holds the features one after the other. */
static int stage_numbers(struct model_session *s, const struct model_input *in, int64_t rows, struct err *e)
{
    const struct preprocess *p = preprocess_of(s->model);
    const char *name = model_signature(s->model)->inputs[0].name;
    int64_t width = raw_width(s->model);
    for (int64_t row = 0; row < rows; row++) {
        float *to = s->input + (s->rows + row) * p->width, *raw = s->raw;
        int rc = input_numbers(in, row * width, width, s->raw, name, row, e);
        if (rc) return rc;
        for (size_t i = 0; i < p->n_features; i++) {
            const struct feature *f = &p->features[i];
            if (!preprocess_numbers(preprocess_of(s->model), f, raw, to + f->offset_in_row))
                return refuse_row(s, 0, row, f, e);
            raw += f->in_width;
        }
    }
    return 0;
}

static int stage_categories(struct model_session *s, size_t input, const struct model_input *in, int64_t rows,
                            struct err *e)
{
    const struct preprocess *p = preprocess_of(s->model);
    const struct feature *f = &p->features[input];
    struct input_texts texts = {.data = in->data, .left = in->bytes};
    for (int64_t row = 0; row < rows; row++) {
        const char *text;
        size_t len;
        input_next_text(&texts, &text, &len); /* input_check has walked them all */
        int32_t code = texts_code(&f->codes, text, len);
        if (code < 0 && len > 0)
            return err_set(
                e, ERR_INVALID, f->name,
                "row %lld, \"%s\": \"%.*s\" is none of the %zu categories that the model was trained "
                "with",
                (long long)row, f->name, (int)(len < 40 ? len : 40), text, f->n_values);
        if (!preprocess_code(f, code, s->input + (s->rows + row) * p->width + f->offset_in_row))
            return refuse_row(s, input, row, f, e);
    }
    return 0;
}

static int stage_texts(struct model_session *s, size_t input, const struct model_input *in, int64_t rows)
{
    const struct preprocess *p = preprocess_of(s->model);
    const struct feature *f = &p->features[input];
    struct input_texts texts = {.data = in->data, .left = in->bytes};
    for (int64_t row = 0; row < rows; row++) {
        const char *text;
        size_t len;
        input_next_text(&texts, &text, &len); /* input_check has walked them all */
        preprocess_text(f, text, len, s->input + (s->rows + row) * p->width + f->offset_in_row);
    }
    return 0;
}

static int stage_column(struct model_session *s, size_t input, const struct model_input *in, int64_t rows,
                        struct err *e)
{
    const struct preprocess *p = preprocess_of(s->model);
    const struct feature *f = &p->features[input];
    for (int64_t row = 0; row < rows; row++) {
        float raw;
        int rc = input_numbers(in, row, 1, &raw, f->name, row, e);
        if (rc) return rc;
        if (!preprocess_numbers(preprocess_of(s->model), f, &raw,
                                s->input + (s->rows + row) * p->width + f->offset_in_row))
            return refuse_row(s, input, row, f, e);
    }
    return 0;
}

int model_session_add(struct model_session *s, const struct model_input *inputs, int64_t rows,
                      int64_t *first_row, struct err *e)
{
    const struct signature *sig = model_signature(s->model);
    bool single = true;
    int rc = 0;
    if (rows < 1) return err_set(e, ERR_INVALID, NULL, "a request needs at least one row");
    if (rows > s->max_rows - s->rows)
        return err_set(e, ERR_TOO_LARGE, NULL, "%lld rows do not fit beside %lld; a batch holds %lld",
                       (long long)rows, (long long)s->rows, (long long)s->max_rows);
    for (size_t i = 0; i < sig->n_inputs && !rc; i++) {
        rc = input_check(&inputs[i], &sig->inputs[i], rows, e);
        if (sig->inputs[i].datatype == DATATYPE_BYTES) single = false;
    }
    if (!rc && single) {
        rc = stage_numbers(s, &inputs[0], rows, e);
    } else {
        for (size_t i = 0; i < sig->n_inputs && !rc; i++)
            rc = preprocess_of(s->model)->features[i].kind == FEATURE_TEXT
                     ? stage_texts(s, i, &inputs[i], rows)
                 : sig->inputs[i].datatype == DATATYPE_BYTES ? stage_categories(s, i, &inputs[i], rows, e)
                                                             : stage_column(s, i, &inputs[i], rows, e);
    }
    if (rc) return rc;
    *first_row = s->rows;
    s->rows += rows;
    return 0;
}

/* ---- computing ---- */

static void take_output(struct model_session *s, int64_t at, int64_t rows)
{
    const struct preprocess *p = preprocess_of(s->model);
    struct view y = run_output(s->run, 0);
    const float *from = y.data;
    int64_t width = output_width(s->model);
    float *to = s->output + at * width;
    if (p->task == TASK_REGRESSION) {
        for (int64_t i = 0; i < rows; i++)
            for (int64_t k = 0; k < width; k++)
                to[i * width + k] = from[i * width + k] * p->target_std + p->target_mean[k];
    } else if (y.shape.dim[1] == 1) {
        evaluate_both_classes(from, (size_t)rows, to);
    } else {
        memcpy(to, from, (size_t)(rows * width) * sizeof *to);
    }
}

static void put_text(struct buf *out, const char *text)
{
    size_t len = strlen(text);
    for (int i = 0; i < 4; i++) buf_char(out, (char)(len >> (8 * i)));
    buf_append(out, text, len);
}

static int take_labels(struct model_session *s, struct err *e)
{
    const struct preprocess *p = preprocess_of(s->model);
    if (p->task == TASK_REGRESSION) return 0;
    buf_clear(&s->texts);
    for (int64_t i = 0; i < s->rows; i++) {
        size_t c = metrics_argmax(s->output + i * (int64_t)p->n_classes, p->n_classes);
        if (s->integers) {
            s->integers[i] = p->class_integers[c];
        } else {
            put_text(&s->texts, p->class_texts[c]);
            s->text_end[i] = s->texts.len;
        }
    }
    return s->texts.failed ? err_set(e, ERR_NOMEM, NULL, "no memory for the labels") : 0;
}

/* Appends an id list as a text behind its length. */
static void put_said(struct model_session *s, const int32_t *ids)
{
    size_t at = s->texts.len;
    buf_append(&s->texts, "\0\0\0\0", 4);
    vocabulary_decode(preprocess_of(s->model)->target.vocabulary, ids, translator_steps(s->model->translator),
                      &s->texts);
    if (s->texts.failed) return;
    size_t len = s->texts.len - at - 4;
    for (size_t i = 0; i < 4; i++) s->texts.data[at + i] = (char)(len >> (8 * i));
}

static int say_all(struct model_session *s, struct err *e)
{
    int64_t width = preprocess_of(s->model)->width, steps = translator_steps(s->model->translator);
    buf_clear(&s->texts);
    int64_t most = s->model->run_rows;
    for (int64_t at = 0; at < s->rows; at += most) {
        int64_t rows = s->rows - at < most ? s->rows - at : most;
        const void *ids = s->input + at * width; /* int32_t in the floats' place */
        int rc = translator_say(s->translate, ids, rows, s->said, e);
        if (rc) return rc;
        for (int64_t i = 0; i < rows; i++) {
            put_said(s, s->said + i * steps);
            s->text_end[at + i] = s->texts.len;
        }
    }
    return s->texts.failed ? err_set(e, ERR_NOMEM, NULL, "no memory for the texts") : 0;
}

int model_session_run(struct model_session *s, struct err *e)
{
    if (s->translate) return say_all(s, e);
    int64_t width = preprocess_of(s->model)->width;
    int64_t most = s->model->run_rows;
    for (int64_t at = 0; at < s->rows; at += most) {
        int64_t rows = s->rows - at < most ? s->rows - at : most;
        const void *feed = s->input + at * width;
        int rc = run_forward(s->run, &feed, rows, e);
        if (rc) return rc;
        take_output(s, at, rows);
    }
    return take_labels(s, e);
}

struct model_output model_session_output(const struct model_session *s, size_t index, int64_t first_row,
                                         int64_t rows)
{
    if (index == 0 && !s->translate) {
        int64_t width = output_width(s->model);
        return (struct model_output){DATATYPE_FP32, s->output + first_row * width,
                                     (size_t)(rows * width) * sizeof(float)};
    }
    if (s->integers)
        return (struct model_output){DATATYPE_INT64, s->integers + first_row, (size_t)rows * sizeof(int64_t)};
    size_t begin = first_row ? s->text_end[first_row - 1] : 0;
    size_t end = rows ? s->text_end[first_row + rows - 1] : begin;
    return (struct model_output){DATATYPE_BYTES, s->texts.data + begin, end - begin};
}

int model_predict(struct model_session *s, const struct model_input *inputs, int64_t rows,
                  struct model_output *outputs, struct err *e)
{
    int64_t first;
    int rc;
    model_session_begin(s);
    if ((rc = model_session_add(s, inputs, rows, &first, e)) || (rc = model_session_run(s, e))) return rc;
    for (size_t i = 0; i < model_signature(s->model)->n_outputs; i++)
        outputs[i] = model_session_output(s, i, first, rows);
    return 0;
}
