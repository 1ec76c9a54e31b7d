/* TensorFlow Serving's REST predict body: rows ("instances") or columns ("inputs"), answered in kind. */
#include "gateway/predict/tfs_internal.h"

#include <stdio.h>
#include <string.h>
#include "base/json.h"
#include "base/mem.h"

enum { NAME_MAX_BYTES = TFS_NAME_MAX };

struct tensor_reader tfs__reader(struct infer *r, struct json_reader *json, size_t input, const char *path)
{
    const struct signature_tensor *spec = &r->signature->inputs[input];
    return (struct tensor_reader){.json = json,
                                  .spec = spec,
                                  .declared = spec->datatype,
                                  .base64_objects = true,
                                  .out = &r->inputs[input].owned,
                                  .path = path};
}

int tfs__find_input(const struct infer *r, const char *path, const char *name, size_t *out, struct err *e)
{
    int index = signature_input_find(r->signature, name);
    if (index < 0)
        return err_set(e, ERR_INVALID, path, "%s: the model has no input \"%.64s\"; its first is \"%.64s\"",
                       path, name, r->signature->inputs[0].name);
    *out = (size_t)index;
    return 0;
}

/* A lone {"b64":…} is a value, not an object of inputs. */
static bool is_object_of_inputs(const struct infer *r, const struct json_reader *json)
{
    struct json_reader ahead = *json;
    char name[NAME_MAX_BYTES];
    bool first = true;
    if (!json_take(&ahead, '{')) return false;
    bool named = json_member(&ahead, &first, name, sizeof name, NULL) == 1;
    return !named || strcmp(name, "b64") != 0 || signature_input_find(r->signature, "b64") >= 0;
}

/* ---- rows
 * -----------------------------------------------------------------------------------------------------------
 */

/* {"a":1,"b":"x"}: each input once. seen: a mark per input of the row that it was last given in. */
static int read_named_row(struct infer *r, struct json_reader *json, int64_t row, int64_t *seen,
                          struct err *e)
{
    char name[NAME_MAX_BYTES], path[TENSOR_PATH_MAX + 32], where[32];
    bool first = true;
    size_t given = 0;
    snprintf(where, sizeof where, "instances[%lld]", (long long)row);
    int rc = json_open(json, '{', where, e);
    if (rc) return rc;
    while ((rc = json_member(json, &first, name, sizeof name, e)) == 1) {
        size_t input = 0;
        if ((rc = tfs__find_input(r, where, name, &input, e))) return rc;
        snprintf(path, sizeof path, "%s.%.40s", where, name);
        if (seen[input] == row + 1) return err_set(e, ERR_INVALID, path, "%s: stands there twice", path);
        seen[input] = row + 1;
        struct tensor_reader t = tfs__reader(r, json, input, path);
        if ((rc = tensor_read_row(&t, e))) return rc;
        given++;
    }
    if (rc) return rc;
    for (size_t i = 0; i < r->signature->n_inputs && given < r->signature->n_inputs; i++)
        if (seen[i] != row + 1)
            return err_set(e, ERR_INVALID, where, "%s: the input \"%.64s\" is missing", where,
                           r->signature->inputs[i].name);
    return 0;
}

static int read_bare_row(struct infer *r, struct json_reader *json, int64_t row, struct err *e)
{
    char path[32];
    snprintf(path, sizeof path, "instances[%lld]", (long long)row);
    if (r->signature->n_inputs != 1)
        return err_set(e, ERR_INVALID, path,
                       "%s: the model has %zu inputs, so each instance must be an object of them by name",
                       path, r->signature->n_inputs);
    struct tensor_reader t = tfs__reader(r, json, 0, path);
    return tensor_read_row(&t, e);
}

static int read_instances(struct infer *r, struct json_reader *json, struct err *e)
{
    int64_t *seen = mem_try_alloc(r->signature->n_inputs, sizeof *seen);
    if (!seen) return err_set(e, ERR_NOMEM, NULL, "no memory for the request");
    bool first = true;
    int rc = json_open(json, '[', "instances", e);
    while (rc == 0 && (rc = json_element(json, &first, e)) == 1) {
        if (r->rows == MESSAGE_ROWS_MAX)
            rc = err_set(e, ERR_INVALID, "instances",
                         "instances: more than the %d rows that one request may hold", MESSAGE_ROWS_MAX);
        else
            rc = is_object_of_inputs(r, json) ? read_named_row(r, json, r->rows, seen, e)
                                              : read_bare_row(r, json, r->rows, e);
        r->rows++;
    }
    mem_free(seen);
    for (size_t i = 0; rc == 0 && i < r->signature->n_inputs; i++) {
        r->inputs[i].given = true;
        r->inputs[i].datatype = r->signature->inputs[i].datatype;
    }
    return rc;
}

/* ---- columns
 * -------------------------------------------------------------------------------------------------------- */

static int read_column(struct infer *r, struct json_reader *json, size_t input, const char *path,
                       struct err *e)
{
    int64_t rows;
    if (r->inputs[input].given) return err_set(e, ERR_INVALID, path, "%s: stands there twice", path);
    struct tensor_reader t = tfs__reader(r, json, input, path);
    int rc = tensor_read_rows(&t, -1, &rows, e);
    if (rc) return rc;
    if (r->rows && r->rows != rows)
        return err_set(e, ERR_INVALID, path, "%s: %lld rows where the inputs before it have %lld", path,
                       (long long)rows, (long long)r->rows);
    r->rows = rows;
    r->inputs[input].given = true;
    r->inputs[input].datatype = r->signature->inputs[input].datatype;
    return 0;
}

static int read_columns(struct infer *r, struct json_reader *json, struct err *e)
{
    char name[NAME_MAX_BYTES], path[TENSOR_PATH_MAX];
    bool first = true;
    size_t input = 0;
    int rc;
    r->columns = true;
    if (json_peek(json) != '{') {
        if (r->signature->n_inputs != 1)
            return err_set(e, ERR_INVALID, "inputs",
                           "inputs: the model has %zu inputs, so this must be an object of them by name",
                           r->signature->n_inputs);
        return read_column(r, json, 0, "inputs", e);
    }
    json_take(json, '{');
    while ((rc = json_member(json, &first, name, sizeof name, e)) == 1) {
        if ((rc = tfs__find_input(r, "inputs", name, &input, e))) return rc;
        snprintf(path, sizeof path, "inputs.%.40s", name);
        if ((rc = read_column(r, json, input, path, e))) return rc;
    }
    return rc ? rc : infer_check_complete(r, e);
}

/* ---- the body
 * ------------------------------------------------------------------------------------------------------- */

int tfs__signature_name(struct json_reader *json, struct err *e)
{
    char name[NAME_MAX_BYTES];
    int rc = json_read_text(json, name, sizeof name, e);
    if (rc || !*name || strcmp(name, "serving_default") == 0) return rc;
    return err_set(e, ERR_INVALID, "signature_name",
                   "signature_name: a model has one signature, \"serving_default\", not \"%.64s\"", name);
}

static int body_member(struct infer *r, struct json_reader *json, const char *name, bool *has_signature,
                       bool *has_data, struct err *e)
{
    bool instances = strcmp(name, "instances") == 0, columns = strcmp(name, "inputs") == 0;
    if (strcmp(name, "signature_name") == 0) {
        if (*has_signature) return err_set(e, ERR_INVALID, name, "signature_name: stands there twice");
        *has_signature = true;
        return tfs__signature_name(json, e);
    }
    if (!instances && !columns) return err_set(e, ERR_INVALID, name, "%.64s: unknown field", name);
    if (*has_data)
        return err_set(e, ERR_INVALID, name,
                       "%s: only one of \"instances\" and \"inputs\" may stand, and only once", name);
    *has_data = true;
    return instances ? read_instances(r, json, e) : read_columns(r, json, e);
}

static int decode(struct infer *r, const char *body, size_t len, size_t json_len, struct err *e)
{
    struct json_reader json;
    char name[NAME_MAX_BYTES];
    bool first = true, has_signature = false, has_data = false;
    (void)json_len;
    json_reader_init(&json, body, len);
    int rc = json_open(&json, '{', "the body", e);
    if (rc) return rc;
    while ((rc = json_member(&json, &first, name, sizeof name, e)) == 1)
        if ((rc = body_member(r, &json, name, &has_signature, &has_data, e))) return rc;
    if (rc == 0) rc = json_end(&json, e);
    if (rc) return rc;
    if (!has_data)
        return err_set(e, ERR_INVALID, "instances",
                       "instances: missing; give rows as \"instances\" or columns as \"inputs\"");
    if (r->rows == 0)
        return err_set(e, ERR_INVALID, r->columns ? "inputs" : "instances",
                       "a request must have at least one row");
    return 0;
}

/* ---- the reply
 * ------------------------------------------------------------------------------------------------------ */

static void write_name(struct buf *out, const char *name)
{
    struct json_writer w;
    jw_init(&w, out);
    jw_str(&w, name);
    buf_char(out, ':');
}

static void encode_columns(const struct infer *r, const struct infer_answer *a, struct buf *out)
{
    buf_str(out, "{\"outputs\":");
    if (a->tensors_len > 1) buf_char(out, '{');
    for (size_t i = 0; i < a->tensors_len; i++) {
        struct tensor_cursor c;
        tensor_cursor_init(&c, &a->tensors[i]);
        if (i) buf_char(out, ',');
        if (a->tensors_len > 1) write_name(out, r->signature->outputs[i].name);
        tensor_write_rows(&c, out);
    }
    buf_str(out, a->tensors_len > 1 ? "}}" : "}");
}

static void encode_rows(const struct infer *r, const struct infer_answer *a, struct buf *out)
{
    struct tensor_cursor *cursors = mem_try_alloc(a->tensors_len, sizeof *cursors);
    if (!cursors) {
        out->failed = true;
        return;
    }
    for (size_t i = 0; i < a->tensors_len; i++) tensor_cursor_init(&cursors[i], &a->tensors[i]);
    buf_str(out, "{\"predictions\":[");
    for (int64_t row = 0; row < r->rows; row++) {
        if (row) buf_char(out, ',');
        if (a->tensors_len > 1) buf_char(out, '{');
        for (size_t i = 0; i < a->tensors_len; i++) {
            if (i) buf_char(out, ',');
            if (a->tensors_len > 1) write_name(out, r->signature->outputs[i].name);
            tensor_write_row(&cursors[i], out);
        }
        if (a->tensors_len > 1) buf_char(out, '}');
    }
    buf_str(out, "]}");
    mem_free(cursors);
}

static void encode(const struct infer *r, const struct infer_answer *a, struct buf *out, size_t *json_len)
{
    *json_len = 0;
    if (r->columns)
        encode_columns(r, a, out);
    else
        encode_rows(r, a, out);
}

const struct infer_protocol tfs_protocol = {"tfs", "instances", NULL, decode, encode};
