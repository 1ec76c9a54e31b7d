/* Signatures: names of datatypes and of classes, JSON both ways. */
#include "learn/spec/signature.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

static const struct {
    const char *name;
    size_t bytes;
} datatypes[DATATYPE_COUNT] = {
    [DATATYPE_BOOL] = {"BOOL", 1},     [DATATYPE_UINT8] = {"UINT8", 1},   [DATATYPE_UINT16] = {"UINT16", 2},
    [DATATYPE_UINT32] = {"UINT32", 4}, [DATATYPE_UINT64] = {"UINT64", 8}, [DATATYPE_INT8] = {"INT8", 1},
    [DATATYPE_INT16] = {"INT16", 2},   [DATATYPE_INT32] = {"INT32", 4},   [DATATYPE_INT64] = {"INT64", 8},
    [DATATYPE_FP32] = {"FP32", 4},     [DATATYPE_FP64] = {"FP64", 8},     [DATATYPE_BYTES] = {"BYTES", 0},
};

const char *datatype_name(enum datatype t)
{
    return datatypes[t].name;
}

int datatype_of(const char *name)
{
    for (int i = 0; i < DATATYPE_COUNT; i++)
        if (datatypes[i].name[0] == name[0] && strcmp(datatypes[i].name, name) == 0) return i;
    return -1;
}

size_t datatype_bytes(enum datatype t)
{
    return datatypes[t].bytes;
}

void signature_classes_dispose(struct signature_classes *c)
{
    mem_free(c->json);
    mem_free(c->end);
    *c = (struct signature_classes){0};
}

static void free_list(struct signature_tensor *list, size_t n)
{
    for (size_t i = 0; list && i < n; i++) {
        mem_free(list[i].name);
        signature_classes_dispose(&list[i].classes);
    }
    mem_free(list);
}

void signature_free(struct signature *s)
{
    if (!s) return;
    free_list(s->inputs, s->n_inputs);
    free_list(s->outputs, s->n_outputs);
    mem_free(s);
}

int64_t signature_width(const struct signature_tensor *t)
{
    int64_t n = 1;
    for (int i = 1; i < t->rank; i++) n *= t->shape[i];
    return n;
}

static int find(const struct signature_tensor *list, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i].name, name) == 0) return (int)i;
    return -1;
}

int signature_input_find(const struct signature *s, const char *name)
{
    return find(s->inputs, s->n_inputs, name);
}

int signature_output_find(const struct signature *s, const char *name)
{
    return find(s->outputs, s->n_outputs, name);
}

/* ---- classes ---- */

/* Stops where there are too many bytes. */
static void write_names(struct buf *json, uint32_t *end, size_t n, const char *const *texts,
                        const int64_t *integers)
{
    struct json_writer w;
    char decimal[24];
    jw_init(&w, json);
    jw_arr(&w);
    for (size_t i = 0; i < n && json->len <= SIGNATURE_MAX_CLASSES_BYTES; i++) {
        if (!texts) snprintf(decimal, sizeof decimal, "%lld", (long long)integers[i]);
        jw_str(&w, texts ? texts[i] : decimal);
        end[i] = (uint32_t)json->len;
    }
    jw_arr_end(&w);
}

int signature_name_classes(struct signature_tensor *t, size_t n, const char *const *texts,
                           const int64_t *integers, struct err *e)
{
    struct buf json = {0};
    assert(t->rank > 1 && (int64_t)n == t->shape[t->rank - 1] && !t->classes.n);
    if (n > SIGNATURE_MAX_CLASSES) return 0;
    struct signature_classes c = {.n = n, .end = mem_try_alloc(n, sizeof *c.end)};
    if (c.end) write_names(&json, c.end, n, texts, integers);
    bool failed = !c.end || json.failed, fits = json.len <= SIGNATURE_MAX_CLASSES_BYTES;
    c.json_len = json.len;
    c.json = buf_steal(&json);
    if (!failed && fits)
        t->classes = c;
    else
        signature_classes_dispose(&c);
    return failed ? err_set(e, ERR_NOMEM, NULL, "no memory for the names of the classes") : 0;
}

/* ---- JSON ---- */

static void tensors_to_json(const struct signature_tensor *list, size_t n, bool classes,
                            struct json_writer *w)
{
    jw_arr(w);
    for (size_t i = 0; i < n; i++) {
        jw_obj(w);
        jw_kstr(w, "name", list[i].name);
        jw_kstr(w, "datatype", datatype_name(list[i].datatype));
        jw_name(w, "shape");
        jw_arr(w);
        for (int k = 0; k < list[i].rank; k++) jw_int(w, list[i].shape[k]);
        jw_arr_end(w);
        if (classes && list[i].classes.n) {
            jw_name(w, "classes");
            jw_raw(w, list[i].classes.json, list[i].classes.json_len);
        }
        jw_obj_end(w);
    }
    jw_arr_end(w);
}

void signature_tensors_to_json(const struct signature_tensor *list, size_t n, struct json_writer *w)
{
    tensors_to_json(list, n, false, w);
}

void signature_to_json(const struct signature *s, struct json_writer *w)
{
    jw_obj(w);
    jw_name(w, "inputs");
    tensors_to_json(s->inputs, s->n_inputs, false, w);
    jw_name(w, "outputs");
    tensors_to_json(s->outputs, s->n_outputs, true, w);
    jw_obj_end(w);
}

static int shape_from_json(struct signature_tensor *t, const cJSON *list, const char *path, struct err *e)
{
    double total = 1;
    for (const cJSON *n = list->child; n; n = n->next) {
        double v = cJSON_IsNumber(n) ? n->valuedouble : 0;
        bool ok = t->rank == 0 ? v == -1 : v >= 1 && v <= 1 << 30 && v == floor(v);
        total *= v;
        if (!ok || fabs(total) > 1 << 30)
            return err_set(e, ERR_INVALID, path,
                           "a shape is -1 and then sizes of at least 1, of at most 2^30 in all");
        t->shape[t->rank++] = (int64_t)v;
    }
    return 0;
}

static int classes_from_json(struct signature_tensor *t, const cJSON *list, const char *path, struct err *e)
{
    size_t n = (size_t)cJSON_GetArraySize(list), read = 0;
    int64_t last = t->shape[t->rank - 1]; /* -1 where there is none but the rows */
    if ((int64_t)n != last)
        return err_set(e, ERR_INVALID, path,
                       "classes are as many as the shape's last dimension has, besides the rows; not %zu", n);
    const char **texts = mem_try_alloc(n, sizeof *texts);
    if (!texts) return err_set(e, ERR_NOMEM, path, "no memory for the names of the classes");
    for (const cJSON *item = list->child; item && cJSON_IsString(item); item = item->next)
        texts[read++] = item->valuestring;
    int rc = read == n ? signature_name_classes(t, n, texts, NULL, e)
                       : err_set(e, ERR_INVALID, path, "the name of a class is a text");
    mem_free(texts);
    return rc || t->classes.n
               ? rc
               : err_set(e, ERR_INVALID, path, "the names of classes may take at most %d bytes",
                         SIGNATURE_MAX_CLASSES_BYTES);
}

static int tensor_from_json(struct signature_tensor *t, const cJSON *node, bool output, const char *path,
                            struct err *e)
{
    struct json_obj o;
    const char *name = NULL, *datatype = NULL;
    const cJSON *shape = NULL, *classes = NULL;
    char at[JSON_PATH_MAX];
    int rc;
    if ((rc = json_obj_open(&o, node, path, e)) ||
        (rc = json_take_str(&o, "name", 1, SIGNATURE_MAX_NAME, &name, e)) ||
        (rc = json_take_str(&o, "datatype", 1, 8, &datatype, e)) ||
        (rc = json_take_array(&o, "shape", 1, SIGNATURE_MAX_RANK, &shape, e)) ||
        (output && (rc = json_opt_array(&o, "classes", 1, SIGNATURE_MAX_CLASSES, &classes, e))) ||
        (rc = json_obj_close(&o, e)))
        return rc;
    t->name = mem_strdup(name);
    int type = datatype_of(datatype);
    json_path_name(at, path, "datatype");
    if (type < 0) return err_set(e, ERR_INVALID, at, "\"%s\" is no known datatype", datatype);
    t->datatype = (enum datatype)type;
    json_path_name(at, path, "shape");
    if ((rc = shape_from_json(t, shape, at, e)) || !classes) return rc;
    json_path_name(at, path, "classes");
    return classes_from_json(t, classes, at, e);
}

static int list_from_json(struct signature_tensor **list, size_t *n, struct json_obj *o, const char *name,
                          bool output, struct err *e)
{
    const cJSON *array = NULL;
    char path[JSON_PATH_MAX], at[JSON_PATH_MAX];
    int rc = json_take_array(o, name, 1, SIGNATURE_MAX_TENSORS, &array, e);
    if (rc) return rc;
    json_path_name(path, o->path, name);
    *list = mem_try_alloc((size_t)cJSON_GetArraySize(array), sizeof **list);
    if (!*list) return err_set(e, ERR_NOMEM, path, "no memory for the signature");
    for (const cJSON *item = array->child; item && !rc; item = item->next) {
        json_path_index(at, path, *n);
        rc = tensor_from_json(&(*list)[(*n)++], item, output, at, e);
    }
    return rc;
}

int signature_from_json(struct signature **out, const cJSON *node, const char *path, struct err *e)
{
    struct json_obj o;
    struct signature *s = mem_alloc(1, sizeof *s);
    int rc;
    *out = NULL;
    if ((rc = json_obj_open(&o, node, path, e)) ||
        (rc = list_from_json(&s->inputs, &s->n_inputs, &o, "inputs", false, e)) ||
        (rc = list_from_json(&s->outputs, &s->n_outputs, &o, "outputs", true, e)) ||
        (rc = json_obj_close(&o, e)))
        signature_free(s);
    else
        *out = s;
    return rc;
}
