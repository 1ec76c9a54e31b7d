/* The Open Inference Protocol's infer body, with the binary tensor extension: into tensors. */
#include "gateway/predict/oip_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "base/num.h"
#include "gateway/predict/json_reader.h"
#include "gateway/predict/tensor_json.h"

enum { NAME_MAX_BYTES = 256, ID_MAX_BYTES = 1024 };

/* One element of "inputs" while its members arrive in any order. */
struct parsed_input {
    char path[TENSOR_PATH_MAX]; /* "inputs[0]" */
    bool has_name, has_shape, has_datatype, has_data, read;
    char name[NAME_MAX_BYTES];
    int rank;
    int64_t shape[MESSAGE_DIMS_MAX];
    enum datatype datatype;
    bool half;               /* FP16, which is read as FP32 */
    struct json_reader data; /* where "data" begins */
    int64_t binary_len;      /* -1: not binary */
    int index;               /* in the signature */
};

struct decoder {
    struct infer *out;
    struct json_reader json;
    const char *raw, *raw_end; /* binary data that no input has taken yet */
    bool binary_output;        /* of outputs that do not say themselves */
};

/* "inputs[2]", for messages. */
static void write_path(char out[TENSOR_PATH_MAX], const char *list, size_t i)
{
    char *p = stpcpy(out, list);
    *p++ = '[';
    p += num_format_i64(p, (int64_t)i);
    memcpy(p, "]", 2);
}

static int invalid(struct err *e, const char *path, const char *name, const char *what)
{
    char field[96];
    snprintf(field, sizeof field, "%s%s%s", path, *path && *name ? "." : "", name);
    return err_set(e, ERR_INVALID, field, "%s: %s", *field ? field : "body", what);
}

static int unknown(struct err *e, const char *path, const char *name)
{
    return invalid(e, path, name, "unknown field");
}

/* ---- parameters: names that we don't know are let through, as the protocol has it
 * ----------------------------------- */

static int read_whole(struct json_reader *r, const char *path, const char *name, int64_t *out, struct err *e)
{
    double v;
    int rc = json_read_number(r, &v, e);
    if (rc) return rc;
    if (v < 0 || v != floor(v) || v > 9007199254740992.0)
        return invalid(e, path, name, "expected a whole number from 0");
    *out = (int64_t)v;
    return 0;
}

static int request_parameters(struct decoder *d, struct err *e)
{
    char name[NAME_MAX_BYTES];
    bool first = true;
    int rc = json_open(&d->json, '{', "parameters", e);
    while (rc == 0 && (rc = json_member(&d->json, &first, name, sizeof name, e)) == 1) {
        if (strcmp(name, "timeout") == 0)
            rc = read_whole(&d->json, "parameters", name, &d->out->timeout_us, e);
        else if (strcmp(name, "binary_data_output") == 0)
            rc = json_read_bool(&d->json, &d->binary_output, e);
        else
            rc = json_skip(&d->json, e);
        if (rc == 0) continue;
        return rc;
    }
    return rc;
}

static int input_parameters(struct decoder *d, struct parsed_input *in, struct err *e)
{
    char name[NAME_MAX_BYTES];
    bool first = true;
    int rc = json_open(&d->json, '{', "parameters", e);
    while (rc == 0 && (rc = json_member(&d->json, &first, name, sizeof name, e)) == 1) {
        if (strcmp(name, "binary_data_size") == 0)
            rc = read_whole(&d->json, in->path, "parameters.binary_data_size", &in->binary_len, e);
        else
            rc = json_skip(&d->json, e);
        if (rc) return rc;
    }
    return rc;
}

/* ---- inputs
 * ---------------------------------------------------------------------------------------------------------
 */

static int read_shape(struct decoder *d, struct parsed_input *in, struct err *e)
{
    bool first = true;
    in->rank = 0;
    int rc = json_open(&d->json, '[', "shape", e);
    if (rc) return err_under(e, in->path);
    while ((rc = json_element(&d->json, &first, e)) == 1) {
        if (in->rank == MESSAGE_DIMS_MAX) return invalid(e, in->path, "shape", "more than 8 dimensions");
        rc = read_whole(&d->json, in->path, "shape", &in->shape[in->rank++], e);
        if (rc) return rc;
    }
    in->has_shape = true;
    return rc;
}

static void shape_text(char *out, size_t cap, const int64_t *shape, int rank)
{
    size_t n = 0;
    out[0] = '\0';
    for (int i = 0; i < rank && n < cap; i++) {
        n += (size_t)snprintf(out + n, cap - n, i ? ",%lld" : "[%lld", (long long)shape[i]);
    }
    if (n < cap) snprintf(out + n, cap - n, rank ? "]" : "[]");
}

static int check_shape(struct decoder *d, const struct parsed_input *in, const struct signature_tensor *spec,
                       struct err *e)
{
    struct infer *out = d->out;
    bool same = in->rank == spec->rank;
    for (int i = 1; same && i < spec->rank; i++) same = in->shape[i] == spec->shape[i];
    if (!same) {
        char got[96], want[96], text[352];
        shape_text(got, sizeof got, in->shape, in->rank);
        shape_text(want, sizeof want, spec->shape, spec->rank);
        snprintf(text, sizeof text,
                 "input \"%.64s\" has shape %s where %s was expected (-1: any number of rows)", spec->name,
                 got, want);
        return invalid(e, in->path, "shape", text);
    }
    if (in->shape[0] < 1 || in->shape[0] > MESSAGE_ROWS_MAX)
        return invalid(e, in->path, "shape", "rows must be from 1 to 65536");
    if (out->rows && out->rows != in->shape[0])
        return invalid(e, in->path, "shape", "all inputs must have the same number of rows");
    out->rows = in->shape[0];
    return 0;
}

/* Name, shape and datatype are there: finds the input that they mean. */
static int check_header(struct decoder *d, struct parsed_input *in, struct err *e)
{
    const struct signature *s = d->out->signature;
    char text[320];
    if (!in->has_name) return invalid(e, in->path, "name", "is missing");
    if (!in->has_shape) return invalid(e, in->path, "shape", "is missing");
    if (!in->has_datatype) return invalid(e, in->path, "datatype", "is missing");
    in->index = signature_input_find(s, in->name);
    if (in->index < 0) {
        snprintf(text, sizeof text, "the model has no input \"%.64s\"; its first is \"%.64s\"", in->name,
                 s->inputs[0].name);
        return invalid(e, in->path, "name", text);
    }
    const struct signature_tensor *spec = &s->inputs[in->index];
    if (d->out->inputs[in->index].given) return invalid(e, in->path, "name", "this input was given twice");
    if (!tensor_datatype_fits(in->datatype, spec->datatype)) {
        snprintf(text, sizeof text, "input \"%.64s\" takes %s, not %s", spec->name,
                 datatype_name(spec->datatype), datatype_name(in->datatype));
        return invalid(e, in->path, "datatype", text);
    }
    return check_shape(d, in, spec, e);
}

/* Flat, or nested as the shape says: the first element tells. */
static int read_data(struct decoder *d, struct parsed_input *in, struct json_reader *r, struct err *e)
{
    struct infer_input *input = &d->out->inputs[in->index];
    char path[TENSOR_PATH_MAX + 8];
    snprintf(path, sizeof path, "%s.data", in->path);
    struct tensor_reader t = {.json = r,
                              .spec = &d->out->signature->inputs[in->index],
                              .declared = in->datatype,
                              .out = &input->owned,
                              .path = path};
    struct json_reader ahead = *r;
    int64_t rows;
    bool nested = json_take(&ahead, '[') && json_peek(&ahead) == '[';
    int rc = nested ? tensor_read_rows(&t, in->shape[0], &rows, e) : tensor_read_flat(&t, in->shape[0], e);
    input->datatype = t.spec->datatype;
    input->given = rc == 0;
    in->read = true;
    return rc;
}

/* Every FP16 is exactly an FP32: what no worker needs to know of. */
static int widen(struct infer_input *input, const char *raw, size_t n, struct err *e)
{
    char *room = buf_reserve(&input->owned, n * sizeof(float));
    if (!room) return err_set(e, ERR_NOMEM, NULL, "no memory for the request");
    for (size_t i = 0; i < n; i++) {
        uint16_t half;
        memcpy(&half, raw + i * sizeof half, sizeof half);
        float v = num_from_half(half);
        memcpy(room + i * sizeof v, &v, sizeof v);
    }
    input->owned.len += n * sizeof(float);
    return 0;
}

static int take_halves(struct decoder *d, struct parsed_input *in, struct err *e)
{
    struct infer_input *input = &d->out->inputs[in->index];
    size_t n = (size_t)(in->shape[0] * signature_width(&d->out->signature->inputs[in->index]));
    if ((size_t)in->binary_len != n * sizeof(uint16_t))
        return invalid(e, in->path, "parameters.binary_data_size",
                       "the bytes do not fit the shape and datatype");
    int rc = widen(input, d->raw, n, e);
    input->datatype = DATATYPE_FP32;
    input->given = true;
    d->raw += in->binary_len;
    return rc;
}

static int take_binary(struct decoder *d, struct parsed_input *in, struct err *e)
{
    struct infer_input *input = &d->out->inputs[in->index];
    if (in->binary_len > d->raw_end - d->raw)
        return invalid(e, in->path, "parameters.binary_data_size",
                       "more bytes than the body holds behind its JSON");
    if (in->half) return take_halves(d, in, e);
    struct message_tensor t = {.dtype = (enum message_dtype)((int)in->datatype + 1), .ndim = in->rank};
    memcpy(t.dims, in->shape, sizeof t.dims);
    t.data = d->raw;
    t.data_len = (size_t)in->binary_len;
    if (!message_tensor_fits(&t))
        return invalid(e, in->path, "parameters.binary_data_size",
                       "the bytes do not fit the shape and datatype");
    input->datatype = in->datatype;
    input->raw = d->raw;
    input->raw_len = t.data_len;
    input->given = true;
    d->raw += in->binary_len;
    return 0;
}

static int input_member(struct decoder *d, struct parsed_input *in, const char *name, struct err *e)
{
    char datatype[16];
    if (strcmp(name, "name") == 0) {
        if (in->has_name) return invalid(e, in->path, name, "stands there twice");
        in->has_name = true;
        return json_read_text(&d->json, in->name, sizeof in->name, e);
    }
    if (strcmp(name, "shape") == 0)
        return in->has_shape ? invalid(e, in->path, name, "stands there twice") : read_shape(d, in, e);
    if (strcmp(name, "datatype") == 0) {
        if (in->has_datatype) return invalid(e, in->path, name, "stands there twice");
        int rc = json_read_text(&d->json, datatype, sizeof datatype, e);
        if (rc) return rc;
        in->half = strcmp(datatype, "FP16") == 0;
        int type = in->half ? DATATYPE_FP32 : datatype_of(datatype);
        if (type < 0)
            return invalid(e, in->path, name, "not a datatype of the protocol (FP32, INT64, BYTES, …)");
        in->datatype = (enum datatype)type;
        in->has_datatype = true;
        return 0;
    }
    if (strcmp(name, "parameters") == 0) return input_parameters(d, in, e);
    if (strcmp(name, "data") != 0) return unknown(e, in->path, name);
    if (in->has_data) return invalid(e, in->path, name, "stands there twice");
    in->has_data = true;
    in->data = d->json;
    if (!in->has_name || !in->has_shape || !in->has_datatype) return json_skip(&d->json, e);
    int rc = check_header(d, in, e);
    return rc ? rc : read_data(d, in, &d->json, e);
}

static int read_input(struct decoder *d, size_t i, struct err *e)
{
    struct parsed_input in = {.binary_len = -1};
    char name[NAME_MAX_BYTES];
    bool first = true;
    write_path(in.path, "inputs", i);
    int rc = json_open(&d->json, '{', in.path, e);
    if (rc) return rc;
    while ((rc = json_member(&d->json, &first, name, sizeof name, e)) == 1)
        if ((rc = input_member(d, &in, name, e))) return rc;
    if (rc) return rc;
    if (in.has_data && in.binary_len >= 0)
        return invalid(e, in.path, "data", "must not stand beside binary_data_size");
    if (in.read) return 0;
    if ((rc = check_header(d, &in, e))) return rc;
    if (in.binary_len >= 0) return take_binary(d, &in, e);
    if (!in.has_data) return invalid(e, in.path, "data", "is missing");
    return read_data(d, &in, &in.data, e);
}

static int read_inputs(struct decoder *d, struct err *e)
{
    bool first = true;
    int rc = json_open(&d->json, '[', "inputs", e);
    if (rc) return rc;
    for (size_t i = 0; (rc = json_element(&d->json, &first, e)) == 1; i++)
        if ((rc = read_input(d, i, e))) return rc;
    return rc;
}

/* ---- outputs
 * -------------------------------------------------------------------------------------------------------- */

static int output_parameters(struct json_reader *r, struct infer_output *out, struct err *e)
{
    char name[NAME_MAX_BYTES];
    bool first = true;
    int rc = json_open(r, '{', "parameters", e);
    if (rc) return rc;
    while ((rc = json_member(r, &first, name, sizeof name, e)) == 1) {
        out->chosen |= strcmp(name, "binary_data") == 0;
        rc = strcmp(name, "binary_data") == 0 ? json_read_bool(r, &out->binary, e) : json_skip(r, e);
        if (rc) return rc;
    }
    return rc;
}

static int read_output(struct decoder *d, const char *path, struct err *e)
{
    struct json_reader *r = &d->json;
    char member[NAME_MAX_BYTES], name[NAME_MAX_BYTES] = "", text[320];
    struct infer_output out = {0};
    bool first = true, has_name = false;
    int rc = json_open(r, '{', path, e);
    if (rc) return rc;
    while ((rc = json_member(r, &first, member, sizeof member, e)) == 1) {
        if (strcmp(member, "name") == 0) {
            rc = json_read_text(r, name, sizeof name, e);
            has_name = true;
        } else
            rc = strcmp(member, "parameters") == 0 ? output_parameters(r, &out, e) : unknown(e, path, member);
        if (rc) return rc;
    }
    if (rc) return rc;
    if (!has_name) return invalid(e, path, "name", "is missing");
    int index = signature_output_find(d->out->signature, name);
    if (index < 0) {
        snprintf(text, sizeof text, "the model has no output \"%.64s\"", name);
        return invalid(e, path, "name", text);
    }
    out.index = (size_t)index;
    for (size_t i = 0; i < d->out->outputs_len; i++)
        if (d->out->outputs[i].index == out.index)
            return invalid(e, path, "name", "this output was asked for twice");
    d->out->outputs[d->out->outputs_len++] = out;
    return 0;
}

static int read_outputs(struct decoder *d, struct err *e)
{
    bool first = true;
    int rc = json_open(&d->json, '[', "outputs", e);
    if (rc) return rc;
    if (json_take(&d->json, ']')) return 0; /* none named: all */
    d->out->outputs_len = 0;
    for (size_t i = 0; (rc = json_element(&d->json, &first, e)) == 1; i++) {
        char path[TENSOR_PATH_MAX];
        write_path(path, "outputs", i);
        if ((rc = read_output(d, path, e))) return rc;
    }
    return rc;
}

/* binary_data_output may stand anywhere in the body, so it is looked at last. */
static void choose_forms(struct decoder *d)
{
    for (size_t i = 0; i < d->out->outputs_len; i++) {
        struct infer_output *o = &d->out->outputs[i];
        if (!o->chosen) o->binary = d->binary_output;
    }
}

/* ---- the body
 * ------------------------------------------------------------------------------------------------------- */

static int read_id(struct decoder *d, struct err *e)
{
    struct infer *out = d->out;
    int rc = json_read_string(&d->json, &out->id, e);
    if (rc) return rc;
    if (out->id.len > ID_MAX_BYTES) return invalid(e, "", "id", "longer than 1024 bytes");
    out->has_id = true;
    return 0;
}

enum { SEEN_ID = 1, SEEN_PARAMETERS = 2, SEEN_INPUTS = 4, SEEN_OUTPUTS = 8 };

static int body_member(struct decoder *d, const char *name, unsigned *seen, struct err *e)
{
    unsigned bit = strcmp(name, "id") == 0           ? SEEN_ID
                   : strcmp(name, "parameters") == 0 ? SEEN_PARAMETERS
                   : strcmp(name, "inputs") == 0     ? SEEN_INPUTS
                   : strcmp(name, "outputs") == 0    ? SEEN_OUTPUTS
                                                     : 0;
    if (!bit) return unknown(e, "", name);
    if (*seen & bit) return invalid(e, "", name, "stands there twice");
    *seen |= bit;
    switch (bit) {
    case SEEN_ID:
        return read_id(d, e);
    case SEEN_PARAMETERS:
        return request_parameters(d, e);
    case SEEN_INPUTS:
        return read_inputs(d, e);
    default:
        return read_outputs(d, e);
    }
}

static int decode(struct infer *r, const char *body, size_t len, size_t json_len, struct err *e)
{
    struct decoder d = {.out = r, .raw_end = body + len};
    char name[NAME_MAX_BYTES];
    bool first = true;
    unsigned seen = 0;
    if (json_len == SIZE_MAX) json_len = len;
    if (json_len > len)
        return err_set(e, ERR_INVALID, "Inference-Header-Content-Length",
                       "%zu bytes of JSON in a body of %zu", json_len, len);
    d.raw = body + json_len;
    json_reader_init(&d.json, body, json_len);
    int rc = json_open(&d.json, '{', "the body", e);
    if (rc) return rc;
    while ((rc = json_member(&d.json, &first, name, sizeof name, e)) == 1)
        if ((rc = body_member(&d, name, &seen, e))) return rc;
    if (rc == 0) rc = json_end(&d.json, e);
    if (rc) return rc;
    if (!(seen & SEEN_INPUTS)) return invalid(e, "", "inputs", "is missing");
    if (d.raw != d.raw_end)
        return invalid(e, "", "inputs",
                       "the body holds more binary data than the inputs' binary_data_size name");
    rc = infer_check_complete(r, e);
    if (rc == 0) choose_forms(&d);
    return rc;
}

const struct infer_protocol oip_protocol = {"oip", "inputs", NULL, decode, oip__encode};
