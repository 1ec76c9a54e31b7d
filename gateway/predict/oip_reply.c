/* The Open Inference Protocol's reply: the outputs that were asked for, as JSON or as raw bytes behind it. */
#include "gateway/predict/oip_internal.h"

#include "base/json.h"
#include "gateway/predict/tensor_json.h"

static void write_output(struct json_writer *w, struct buf *out, const struct signature_tensor *spec,
                         const struct message_tensor *t, bool binary)
{
    jw_obj(w);
    jw_kstr(w, "name", spec->name);
    jw_kstr(w, "datatype", datatype_name(spec->datatype));
    jw_name(w, "shape");
    jw_arr(w);
    for (int i = 0; i < t->ndim; i++) jw_int(w, t->dims[i]);
    jw_arr_end(w);
    if (binary) {
        jw_name(w, "parameters");
        jw_obj(w);
        jw_kint(w, "binary_data_size", (int64_t)t->data_len);
        jw_obj_end(w);
    } else {
        struct tensor_cursor c;
        tensor_cursor_init(&c, t);
        jw_name(w, "data");
        jw_raw(w, "", 0); /* the value itself goes straight into the buffer */
        tensor_write_flat(&c, out);
    }
    jw_obj_end(w);
}

void oip__encode(const struct infer *r, const struct infer_answer *a, struct buf *out, size_t *json_len)
{
    struct json_writer w;
    bool any_binary = false;
    jw_init(&w, out);
    jw_obj(&w);
    jw_kstr(&w, "model_name", a->route->model);
    jw_kint_str(&w, "model_version", a->route->version);
    if (r->has_id) {
        jw_name(&w, "id");
        jw_strn(&w, r->id.len ? r->id.data : "", r->id.len);
    }
    jw_name(&w, "outputs");
    jw_arr(&w);
    for (size_t i = 0; i < r->outputs_len; i++) {
        const struct infer_output *o = &r->outputs[i];
        write_output(&w, out, &r->signature->outputs[o->index], &a->tensors[o->index], o->binary);
        any_binary |= o->binary;
    }
    jw_arr_end(&w);
    jw_obj_end(&w);
    *json_len = any_binary ? out->len : 0;
    for (size_t i = 0; i < r->outputs_len; i++) {
        const struct infer_output *o = &r->outputs[i];
        if (o->binary) buf_append(out, a->tensors[o->index].data, a->tensors[o->index].data_len);
    }
}
