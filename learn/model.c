/* Loaded versions and the sessions that predict with them; model_stage.c fills those. */
#include "learn/model.h"

#include <string.h>

#include "base/mem.h"
#include "learn/evaluate.h"
#include "learn/metrics.h"
#include "learn/model_impl.h"
#include "learn/precision.h"
#include "learn/translator.h"
#include "tensor/plan.h"
#include "tensor/run.h"

/* A batch is computed in runs of at most so many rows, whose memory stays in the caches. */
enum { RUN_ROWS = 128, FEWEST_ROWS = 8, RUN_BYTES = 128 << 20 };

/* Vectors written and read there lie in one line of the caches each, where rows are whole lines. */
enum { INPUT_ALIGN = 64 };

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
    size_t rows = (size_t)s->max_rows, width = (size_t)p->width, raw = (size_t)s->raw_width;
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
    s->input = mem_try_aligned(INPUT_ALIGN, rows * width * sizeof *s->input);
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
    s->raw_width = raw_width(m);
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
