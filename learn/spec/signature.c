/* Signatures: names of datatypes, JSON both ways. */
#include "learn/spec/signature.h"

#include <math.h>
#include <stdbool.h>
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
        if (strcmp(datatypes[i].name, name) == 0) return i;
    return -1;
}

size_t datatype_bytes(enum datatype t)
{
    return datatypes[t].bytes;
}

static void free_list(struct signature_tensor *list, size_t n)
{
    for (size_t i = 0; list && i < n; i++) mem_free(list[i].name);
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

static void list_to_json(const char *name, const struct signature_tensor *list, size_t n,
                         struct json_writer *w)
{
    jw_name(w, name);
    jw_arr(w);
    for (size_t i = 0; i < n; i++) {
        jw_obj(w);
        jw_kstr(w, "name", list[i].name);
        jw_kstr(w, "datatype", datatype_name(list[i].datatype));
        jw_name(w, "shape");
        jw_arr(w);
        for (int k = 0; k < list[i].rank; k++) jw_int(w, list[i].shape[k]);
        jw_arr_end(w);
        jw_obj_end(w);
    }
    jw_arr_end(w);
}

void signature_to_json(const struct signature *s, struct json_writer *w)
{
    jw_obj(w);
    list_to_json("inputs", s->inputs, s->n_inputs, w);
    list_to_json("outputs", s->outputs, s->n_outputs, w);
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

static int tensor_from_json(struct signature_tensor *t, const cJSON *node, const char *path, struct err *e)
{
    struct json_obj o;
    const char *name = NULL, *datatype = NULL;
    const cJSON *shape = NULL;
    char at[JSON_PATH_MAX];
    int rc;
    if ((rc = json_obj_open(&o, node, path, e)) ||
        (rc = json_take_str(&o, "name", 1, SIGNATURE_MAX_NAME, &name, e)) ||
        (rc = json_take_str(&o, "datatype", 1, 8, &datatype, e)) ||
        (rc = json_take_array(&o, "shape", 1, SIGNATURE_MAX_RANK, &shape, e)) || (rc = json_obj_close(&o, e)))
        return rc;
    t->name = mem_strdup(name);
    int type = datatype_of(datatype);
    json_path_name(at, path, "datatype");
    if (type < 0) return err_set(e, ERR_INVALID, at, "\"%s\" is no known datatype", datatype);
    t->datatype = (enum datatype)type;
    json_path_name(at, path, "shape");
    return shape_from_json(t, shape, at, e);
}

static int list_from_json(struct signature_tensor **list, size_t *n, struct json_obj *o, const char *name,
                          struct err *e)
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
        rc = tensor_from_json(&(*list)[(*n)++], item, at, e);
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
        (rc = list_from_json(&s->inputs, &s->n_inputs, &o, "inputs", e)) ||
        (rc = list_from_json(&s->outputs, &s->n_outputs, &o, "outputs", e)) || (rc = json_obj_close(&o, e)))
        signature_free(s);
    else
        *out = s;
    return rc;
}
