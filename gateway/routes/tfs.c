/* TensorFlow Serving's own view of a version: its status by label, and its signature as a signature_def. */
#include "gateway/routes/routes.h"

#include <stdio.h>
#include <string.h>
#include "base/num.h"
#include "gateway/routes/models.h"
#include "learn/spec/signature.h"
#include "store/version.h"

enum { TOKENS_MAX = 200000 };

static const char *const tf_types[DATATYPE_COUNT] = {
    [DATATYPE_BOOL] = "DT_BOOL",     [DATATYPE_UINT8] = "DT_UINT8",   [DATATYPE_UINT16] = "DT_UINT16",
    [DATATYPE_UINT32] = "DT_UINT32", [DATATYPE_UINT64] = "DT_UINT64", [DATATYPE_INT8] = "DT_INT8",
    [DATATYPE_INT16] = "DT_INT16",   [DATATYPE_INT32] = "DT_INT32",   [DATATYPE_INT64] = "DT_INT64",
    [DATATYPE_FP32] = "DT_FLOAT",    [DATATYPE_FP64] = "DT_DOUBLE",   [DATATYPE_BYTES] = "DT_STRING",
};

/* The version that the path means: by its number, by a label, or the one that answers when none is named. */
static int find(struct api_call *c, bool label, struct version *v, struct err *e)
{
    int64_t number = 0;
    const char *text = api_param(c, 1);
    int rc = models__check_name(c, e);
    if (rc == 0 && text != NULL && !label && !num_parse_i64(text, 1, INT64_MAX, &number))
        rc = err_set(e, ERR_NOT_FOUND, "version", "there is no such version");
    if (rc == 0) rc = api_begin(c, e);
    if (rc != 0) return rc;
    rc = version_find(c->db, api_param(c, 0), number, label ? text : NULL, c->arena, v, e);
    if (rc == 0) rc = version_require_served(v, e);
    rc = api_end(c, rc, e);
    return rc == ERR_NOT_FOUND && strcmp(e->field, "version_policy") != 0 ? models__not_found(rc, e) : rc;
}

/* ---- metadata ---- */

static void tensors_write(struct json_writer *w, const char *noun, const struct signature_tensor *tensors,
                          size_t n)
{
    char text[SIGNATURE_MAX_NAME + 8];
    jw_name(w, noun);
    jw_obj(w);
    for (size_t i = 0; i < n; i++) {
        const struct signature_tensor *t = &tensors[i];
        jw_name(w, t->name);
        jw_obj(w);
        jw_kstr(w, "dtype", tf_types[t->datatype]);
        jw_name(w, "tensor_shape");
        jw_obj(w);
        jw_name(w, "dim");
        jw_arr(w);
        for (int d = 0; d < t->rank; d++) {
            jw_obj(w);
            snprintf(text, sizeof(text), "%lld", (long long)t->shape[d]);
            jw_kstr(w, "size", text);
            jw_kstr(w, "name", "");
            jw_obj_end(w);
        }
        jw_arr_end(w);
        jw_kbool(w, "unknown_rank", false);
        jw_obj_end(w);
        snprintf(text, sizeof(text), "%.*s:0", SIGNATURE_MAX_NAME, t->name);
        jw_kstr(w, "name", text);
        jw_obj_end(w);
    }
    jw_obj_end(w);
}

static void metadata_write(struct json_writer *w, const struct version *v, const struct signature *s)
{
    char number[24];
    snprintf(number, sizeof(number), "%lld", (long long)v->number);
    jw_obj(w);
    jw_name(w, "model_spec");
    jw_obj(w);
    jw_kstr(w, "name", v->model);
    jw_kstr(w, "signature_name", "");
    jw_kstr(w, "version", number);
    jw_obj_end(w);
    jw_name(w, "metadata");
    jw_obj(w);
    jw_name(w, "signature_def");
    jw_obj(w);
    jw_name(w, "signature_def");
    jw_obj(w);
    jw_name(w, "serving_default");
    jw_obj(w);
    tensors_write(w, "inputs", s->inputs, s->n_inputs);
    tensors_write(w, "outputs", s->outputs, s->n_outputs);
    jw_kstr(w, "method_name", "tensorflow/serving/predict");
    jw_obj_end(w);
    jw_obj_end(w);
    jw_obj_end(w);
    jw_obj_end(w);
    jw_obj_end(w);
}

static int metadata(struct api_call *c, bool label, struct err *e)
{
    struct version v;
    struct signature *s = NULL;
    cJSON *tree = NULL;
    int rc = find(c, label, &v, e);
    if (rc != 0) return rc;
    rc = json_parse(&tree, v.signature, strlen(v.signature), TOKENS_MAX, e);
    if (rc == 0) rc = signature_from_json(&s, tree, "signature", e);
    cJSON_Delete(tree);
    if (rc != 0) return err_set(e, ERR_CORRUPT, NULL, "a version's signature cannot be read: %s", e->message);
    metadata_write(api_reply(c, 200), &v, s);
    signature_free(s);
    return 0;
}

int tfs_metadata(struct api_call *c, struct err *e)
{
    return metadata(c, false, e);
}

int tfs_metadata_label(struct api_call *c, struct err *e)
{
    return metadata(c, true, e);
}

/* ---- status ---- */

int tfs_status_label(struct api_call *c, struct err *e)
{
    struct version v;
    char number[24];
    int rc = find(c, true, &v, e);
    if (rc != 0) return rc;
    snprintf(number, sizeof(number), "%lld", (long long)v.number);
    struct json_writer *w = api_reply(c, 200);
    jw_obj(w);
    jw_name(w, "model_version_status");
    jw_arr(w);
    jw_obj(w);
    jw_kstr(w, "version", number);
    jw_kstr(w, "state", "AVAILABLE");
    jw_name(w, "status");
    jw_obj(w);
    jw_kstr(w, "error_code", "OK");
    jw_kstr(w, "error_message", "");
    jw_obj_end(w);
    jw_obj_end(w);
    jw_arr_end(w);
    jw_obj_end(w);
    return 0;
}
