/* Puts a trained model into one file, and takes it out again without trusting a byte. */
#include "learn/artifact.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "learn/family.h"
#include "learn/safetensors.h"
#include "learn/translator.h"

#define FORMAT_NAME "tenor.model.1"
enum { MAX_TOKENS = 2000000, N_META = 7 };

void artifact_dispose(struct artifact *a)
{
    graph_free(a->graph);
    params_free(a->params);
    preprocess_free(a->preprocess);
    signature_free(a->signature);
    mem_free(a->metrics);
    mem_free(a->lineage);
    *a = (struct artifact){0};
}

/* ---- writing ---- */

static int write_tensors(const struct artifact *a, const struct safetensors_meta *meta, int fd,
                         uint64_t *bytes, struct err *e)
{
    size_t n = (size_t)a->params->n;
    struct safetensor *list = mem_try_alloc(n + 1, sizeof *list);
    if (!list) return err_set(e, ERR_NOMEM, NULL, "no memory to write the version");
    for (size_t i = 0; i < n; i++) {
        const struct params_entry *p = &a->params->entry[i];
        list[i] = (struct safetensor){.name = p->name,
                                      .dtype = "F32",
                                      .rank = p->shape.rank,
                                      .data = a->params->data + p->offset,
                                      .bytes = p->count * sizeof(float)};
        memcpy(list[i].dim, p->shape.dim, (size_t)p->shape.rank * sizeof *list[i].dim);
    }
    int rc = safetensors_write(fd, meta, N_META, list, n, bytes, e);
    mem_free(list);
    return rc;
}

int artifact_write(const struct artifact *a, int fd, uint64_t *bytes, struct err *e)
{
    struct buf graph = {0}, preprocess = {0}, signature = {0};
    struct json_writer w;
    int rc;
    jw_init(&w, &graph);
    graph_to_json(a->graph, &w);
    jw_init(&w, &preprocess);
    preprocess_to_json(a->preprocess, &w);
    jw_init(&w, &signature);
    signature_to_json(a->signature, &w);
    if (graph.failed || preprocess.failed || signature.failed) {
        rc = err_set(e, ERR_NOMEM, NULL, "no memory to describe the version");
    } else {
        const struct safetensors_meta meta[N_META] = {{"tenor.format", FORMAT_NAME},
                                                      {"tenor.graph", graph.data},
                                                      {"tenor.preprocess", preprocess.data},
                                                      {"tenor.signature", signature.data},
                                                      {"tenor.metrics", a->metrics},
                                                      {"tenor.lineage", a->lineage},
                                                      {"tenor.precision", precision_name(a->precision)}};
        rc = write_tensors(a, meta, fd, bytes, e);
    }
    buf_dispose(&graph);
    buf_dispose(&preprocess);
    buf_dispose(&signature);
    return rc;
}

/* ---- reading ---- */

static int corrupt(struct err *e, const char *what)
{
    return err_set(e, ERR_CORRUPT, NULL, "the version's file is not sound: %s", what);
}

/* A failure inside a part is the file's fault, not the caller's input. */
static int part_failed(int rc, const struct err *why, const char *key, struct err *e)
{
    if (rc == ERR_NOMEM || rc == ERR_TOO_LARGE) return err_set(e, rc, NULL, "%s", why->message);
    return err_set(e, ERR_CORRUPT, why->field, "the version's file is not sound: %s: %s", key, why->message);
}

static int take_text(const struct safetensors *s, const char *key, char **out, struct err *e)
{
    const char *text = safetensors_metadata(s, key);
    if (!text) return corrupt(e, "metadata is missing");
    size_t n = strlen(text) + 1;
    *out = mem_try_alloc(n, 1);
    if (!*out) return err_set(e, ERR_NOMEM, NULL, "no memory for the version's description");
    memcpy(*out, text, n);
    return 0;
}

static int take_json(const struct safetensors *s, const char *key, cJSON **out, struct err *e)
{
    struct err why = {0};
    const char *text = safetensors_metadata(s, key);
    if (!text) return corrupt(e, "metadata is missing");
    int rc = json_parse(out, text, strlen(text), MAX_TOKENS, &why);
    return rc ? part_failed(rc, &why, key, e) : 0;
}

static int take_precision(const struct safetensors *s, enum precision *out, struct err *e)
{
    const char *text = safetensors_metadata(s, "tenor.precision");
    *out = PRECISION_F32;
    for (int p = PRECISION_F32; text && p < PRECISION_COUNT; p++) {
        if (strcmp(text, precision_name((enum precision)p)) != 0) continue;
        *out = (enum precision)p;
        return 0;
    }
    return text ? corrupt(e, "tenor.precision is none of f32, bf16, bf16x3") : 0;
}

static int read_parts(struct artifact *a, const struct safetensors *s, struct err *e)
{
    const char *format = safetensors_metadata(s, "tenor.format");
    cJSON *json = NULL;
    struct err why = {0};
    int rc;
    if (!format || strcmp(format, FORMAT_NAME) != 0) return corrupt(e, "it is no " FORMAT_NAME " file");
    if ((rc = take_json(s, "tenor.graph", &json, e))) return rc;
    rc = graph_from_json(&a->graph, json, "", &why);
    cJSON_Delete(json);
    if (rc) return part_failed(rc, &why, "tenor.graph", e);
    if ((rc = take_json(s, "tenor.preprocess", &json, e))) return rc;
    rc = preprocess_from_json(&a->preprocess, json, "", &why);
    cJSON_Delete(json);
    if (rc) return part_failed(rc, &why, "tenor.preprocess", e);
    if ((rc = take_json(s, "tenor.signature", &json, e))) return rc;
    rc = signature_from_json(&a->signature, json, "", &why);
    cJSON_Delete(json);
    if (rc) return part_failed(rc, &why, "tenor.signature", e);
    if ((rc = take_precision(s, &a->precision, e))) return rc;
    if ((rc = take_text(s, "tenor.metrics", &a->metrics, e))) return rc;
    return take_text(s, "tenor.lineage", &a->lineage, e);
}

static int read_weight(struct params *p, int i, const struct safetensor *t, struct err *e)
{
    const struct params_entry *entry = &p->entry[i];
    float *to = p->data + entry->offset;
    if (!t || strcmp(t->dtype, "F32") != 0 || t->rank != entry->shape.rank ||
        memcmp(t->dim, entry->shape.dim, (size_t)t->rank * sizeof *t->dim) != 0)
        return corrupt(e, "a weight is missing or has another shape than the graph says");
    memcpy(to, t->data, t->bytes);
    for (size_t k = 0; k < entry->count; k++)
        if (!isfinite(to[k])) return corrupt(e, "a weight is no finite number");
    return 0;
}

static int read_weights(struct artifact *a, const struct safetensors *s, size_t limit_bytes, struct err *e)
{
    size_t stored = 0;
    int rc;
    if (safetensors_count(s) != (size_t)graph_param_count(a->graph))
        return corrupt(e, "it holds other tensors than the graph says");
    for (size_t i = 0; i < safetensors_count(s); i++) stored += safetensors_at(s, i)->bytes;
    if (limit_bytes && stored > limit_bytes)
        return err_set(e, ERR_TOO_LARGE, NULL, "the version's weights take %zu bytes; %zu are allowed",
                       stored, limit_bytes);
    for (int i = 0; i < graph_param_count(a->graph);
         i++) { /* before memory is taken for them: the graph may claim anything */
        const struct value *v = graph_value(a->graph, graph_param_at(a->graph, i)->value);
        const struct safetensor *t = safetensors_find(s, v->name);
        size_t count;
        if (!t || !shape_count(&v->shape, 1, &count) || count != t->bytes / sizeof(float))
            return corrupt(e, "a weight is missing or has another size than the graph says");
    }
    if ((rc = params_create(&a->params, a->graph, e))) return rc;
    for (int i = 0; i < a->params->n; i++)
        if ((rc = read_weight(a->params, i, safetensors_find(s, a->params->entry[i].name), e))) return rc;
    return 0;
}

static bool same_tensor(const struct signature_tensor *t, const char *name, enum datatype datatype,
                        int64_t width)
{
    return strcmp(t->name, name) == 0 && t->datatype == datatype && signature_width(t) == width;
}

static bool takes_texts(const struct feature *f)
{
    return f->kind == FEATURE_CATEGORY || f->kind == FEATURE_TEXT;
}

/* Inputs must feed the preprocessing exactly. */
static bool inputs_fit(const struct artifact *a)
{
    const struct signature *s = a->signature;
    const struct preprocess *p = a->preprocess;
    int64_t raw = 0;
    bool columns = false;
    for (size_t i = 0; i < p->n_features; i++) {
        raw += p->features[i].in_width;
        columns = columns || takes_texts(&p->features[i]);
    }
    if (!columns) return s->n_inputs == 1 && same_tensor(&s->inputs[0], "input", DATATYPE_FP32, raw);
    if (s->n_inputs != p->n_features) return false;
    for (size_t i = 0; i < p->n_features; i++) {
        const struct feature *f = &p->features[i];
        enum datatype t = takes_texts(f) ? DATATYPE_BYTES : DATATYPE_FP32;
        if (f->in_width != 1 || s->inputs[i].rank != 1 || !same_tensor(&s->inputs[i], f->name, t, 1))
            return false;
    }
    return true;
}

/* And outputs must be what the preprocessing's classes or targets make of the network's. */
static bool outputs_fit(const struct artifact *a)
{
    const struct signature *s = a->signature;
    const struct preprocess *p = a->preprocess;
    if (p->task == TASK_SEQUENCE)
        return s->n_outputs == 1 && same_tensor(&s->outputs[0], "text", DATATYPE_BYTES, 1);
    if (p->task == TASK_REGRESSION)
        return s->n_outputs == 1 && same_tensor(&s->outputs[0], "prediction", DATATYPE_FP32, p->target_width);
    return s->n_outputs == 2 &&
           same_tensor(&s->outputs[0], "probabilities", DATATYPE_FP32, (int64_t)p->n_classes) &&
           same_tensor(&s->outputs[1], "label", p->class_integers ? DATATYPE_INT64 : DATATYPE_BYTES, 1);
}

/* Where its signature names classes, they are the preprocessing's, in that order. */
static int check_classes(const struct artifact *a, struct err *e)
{
    const struct preprocess *p = a->preprocess;
    const struct signature_classes *named = &a->signature->outputs[0].classes;
    bool same = !named->n;
    if (named->n && p->task == TASK_CLASSIFICATION) {
        struct signature_tensor own = {.rank = 2, .shape = {-1, (int64_t)p->n_classes}};
        int rc = signature_name_classes(&own, p->n_classes, (const char *const *)p->class_texts,
                                        p->class_integers, e);
        if (rc) return rc;
        same = own.classes.n && strcmp(own.classes.json, named->json) == 0;
        signature_classes_dispose(&own.classes);
    }
    for (size_t i = 1; i < a->signature->n_outputs; i++) same = same && !a->signature->outputs[i].classes.n;
    return same ? 0 : corrupt(e, "its signature names other classes than its preprocessing");
}

static bool network_fits(const struct artifact *a)
{
    const struct graph *g = a->graph;
    int in = graph_input_find(g, FAMILY_INPUT), out = graph_output_find(g, FAMILY_OUTPUT);
    if (a->preprocess->task == TASK_SEQUENCE) return translator_fits(g, a->preprocess);
    if (in < 0 || out < 0 || graph_output_count(g) != 1) return false;
    const struct value *x = graph_value(g, graph_input_value(g, in)),
                       *y = graph_value(g, graph_output_value(g, out));
    bool regression = a->preprocess->task == TASK_REGRESSION;
    int64_t want = regression ? a->preprocess->target_width : (int64_t)a->preprocess->n_classes;
    if (x->dtype != (a->preprocess->ids_below ? DTYPE_I32 : DTYPE_F32) || y->dtype != DTYPE_F32 ||
        !shape_batched(&x->shape) || !shape_batched(&y->shape))
        return false;
    if (shape_row_count(&x->shape) != (size_t)a->preprocess->width || y->shape.rank != 2) return false;
    return y->shape.dim[1] == want || (!regression && want == 2 && y->shape.dim[1] == 1);
}

int artifact_read(struct artifact *a, const void *bytes, size_t len, size_t limit_bytes, struct err *e)
{
    struct safetensors *s = NULL;
    *a = (struct artifact){0};
    int rc = safetensors_open(&s, bytes, len, e);
    if (!rc) rc = read_parts(a, s, e);
    if (!rc) rc = read_weights(a, s, limit_bytes, e);
    if (!rc && (!inputs_fit(a) || !outputs_fit(a)))
        rc = corrupt(e, "its signature does not go with its preprocessing");
    if (!rc) rc = check_classes(a, e);
    if (!rc && !network_fits(a)) rc = corrupt(e, "its network does not go with its preprocessing");
    safetensors_free(s);
    if (rc) artifact_dispose(a);
    return rc;
}
