/* Hands a decoded request over to whoever keeps it, and writes its answer from what was kept. */
#include "gateway/predict/async.h"
#include "gateway/predict/predict_impl.h"

#include <stdio.h>
#include <string.h>
#include "base/json.h"
#include "base/mem.h"

enum { NOTE_TOKENS_MAX = 64 * 1024 };

/* ---- the note ---- */

static bool all_as_they_come(const struct infer *r)
{
    if (r->outputs_len != r->signature->n_outputs) return false;
    for (size_t i = 0; i < r->outputs_len; i++)
        if (r->outputs[i].index != i || r->outputs[i].binary) return false;
    return true;
}

void async_note(struct buf *out, const struct infer_protocol *protocol, const struct infer *r)
{
    struct json_writer w;
    jw_init(&w, out);
    jw_obj(&w);
    jw_kstr(&w, "protocol", protocol->name);
    jw_kint(&w, "rows", r->rows);
    if (r->columns) jw_kbool(&w, "columns", true);
    if (r->has_id) {
        jw_name(&w, "id");
        jw_strn(&w, r->id.len ? r->id.data : "", r->id.len);
    }
    if (!all_as_they_come(r)) {
        jw_name(&w, "outputs");
        jw_arr(&w);
        for (size_t i = 0; i < r->outputs_len; i++) {
            jw_obj(&w);
            jw_kstr(&w, "name", r->signature->outputs[r->outputs[i].index].name);
            if (r->outputs[i].binary) jw_kbool(&w, "binary", true);
            jw_obj_end(&w);
        }
        jw_arr_end(&w);
    }
    jw_obj_end(&w);
}

static int read_outputs(struct infer *r, const cJSON *outputs, struct err *e)
{
    const cJSON *item;
    r->outputs_len = 0;
    cJSON_ArrayForEach(item, outputs)
    {
        const cJSON *name = cJSON_GetObjectItemCaseSensitive(item, "name");
        int index = cJSON_IsString(name) ? signature_output_find(r->signature, name->valuestring) : -1;
        if (index < 0 || r->outputs_len == r->signature->n_outputs)
            return err_set(e, ERR_CORRUPT, NULL, "the kept request asks for an output that there is not");
        r->outputs[r->outputs_len++] = (struct infer_output){
            .index = (size_t)index, .binary = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(item, "binary"))};
    }
    return 0;
}

static int read_note(struct infer *r, const struct infer_protocol **protocol, const cJSON *note,
                     struct err *e)
{
    const cJSON *name = cJSON_GetObjectItemCaseSensitive(note, "protocol");
    const cJSON *rows = cJSON_GetObjectItemCaseSensitive(note, "rows");
    const cJSON *id = cJSON_GetObjectItemCaseSensitive(note, "id");
    const cJSON *outputs = cJSON_GetObjectItemCaseSensitive(note, "outputs");
    *protocol = cJSON_IsString(name) ? infer_protocol_find(name->valuestring) : NULL;
    if (!*protocol || !cJSON_IsNumber(rows) || rows->valuedouble < 1 || rows->valuedouble > MESSAGE_ROWS_MAX)
        return err_set(e, ERR_CORRUPT, NULL, "the kept request's note cannot be read");
    if ((*protocol)->suits && (*protocol)->suits(r->signature, e))
        return err_set(e, ERR_CORRUPT, NULL, "the kept request is not of this version");
    r->rows = (int64_t)rows->valuedouble;
    r->columns = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(note, "columns"));
    r->has_id = cJSON_IsString(id);
    if (r->has_id) buf_str(&r->id, id->valuestring);
    return outputs ? read_outputs(r, outputs, e) : 0;
}

/* ---- the answer ---- */

/* The encoders trust their outputs: they must be what the signature says, of the request's rows. */
static int check_outputs(const struct infer *r, const struct message *m, struct err *e)
{
    bool fits =
        m->type == MESSAGE_PREDICT_REPLY && m->reply.code == 0 && m->tensors_len == r->signature->n_outputs;
    for (size_t i = 0; fits && i < m->tensors_len; i++) {
        const struct signature_tensor *want = &r->signature->outputs[i];
        fits = (int)m->tensors[i].dtype == (int)want->datatype + 1 && m->tensors[i].ndim == want->rank &&
               m->tensors[i].dims[0] == r->rows;
    }
    return fits ? 0 : err_set(e, ERR_CORRUPT, NULL, "the kept answer does not fit the kept request");
}

static int encode(struct buf *out, size_t *json_len, const cJSON *note, const struct model_route *route,
                  const struct message *m, struct err *e)
{
    const struct infer_protocol *protocol;
    struct infer r;
    int rc = infer_init(&r, route->signature) ? 0 : err_set(e, ERR_NOMEM, NULL, "no memory for the answer");
    if (rc == 0) rc = read_note(&r, &protocol, note, e);
    if (rc == 0) rc = check_outputs(&r, m, e);
    if (rc == 0) {
        struct infer_answer a = {route, m->tensors, m->tensors_len};
        protocol->encode(&r, &a, out, json_len);
    }
    infer_dispose(&r);
    return rc == 0 && out->failed ? err_set(e, ERR_NOMEM, NULL, "no memory for the answer") : rc;
}

int async_encode(struct buf *out, size_t *json_len, const char *note, const struct model_route *route,
                 const void *reply, size_t len, struct err *e)
{
    struct message m;
    cJSON *tree = NULL;
    struct message_tensor *tensors = mem_try_alloc(MESSAGE_TENSORS_MAX, sizeof *tensors);
    *json_len = 0;
    int rc = tensors ? message_decode(&m, tensors, MESSAGE_TENSORS_MAX, reply, len, e)
                     : err_set(e, ERR_NOMEM, NULL, "no memory for the answer");
    if (rc == 0) rc = json_parse(&tree, note, strlen(note), NOTE_TOKENS_MAX, e);
    if (rc == 0) rc = encode(out, json_len, tree, route, &m, e);
    cJSON_Delete(tree);
    mem_free(tensors);
    return rc;
}

/* ---- handing over ---- */

static int check_note(const struct predict_request *r, const struct buf *note, struct err *e)
{
    if (r->infer.has_id && r->infer.id.len && memchr(r->infer.id.data, '\0', r->infer.id.len))
        return err_set(e, ERR_INVALID, "id", "id: must hold no NUL where the answer is asked for later");
    if (!note->failed) return 0;
    e->retry_after_ms = 1000;
    return err_set(e, ERR_OVERLOAD, NULL, "no memory for this request now");
}

void predict__defer(struct predict_request *r)
{
    struct exchange *x = r->x;
    predict_defer_fn defer = r->defer;
    struct predict_deferred d = {.rows = r->infer.rows};
    struct err e = {0};
    async_note(&d.note, r->protocol, &r->infer);
    if (check_note(r, &d.note, &e)) {
        buf_dispose(&d.note);
        predict__fail(r, &e);
        return;
    }
    snprintf(d.model, sizeof d.model, "%s", r->route->route.model);
    memcpy(d.version_id, r->route->route.version_id, ID_MAX);
    d.record = r->record.text;
    r->record.text = (struct buf){0};
    predict__tell_rate(r);
    exchange_on_cancel(x, NULL, NULL);
    predict__end(r);
    defer(x, &d);
}
