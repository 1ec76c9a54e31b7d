/* Numbers and texts of tensors, from JSON and to JSON, one element at a time without an intermediate tree. */
#include "gateway/predict/tensor_json.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "base/crypto.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/num_run.h"

/* ---- errors
 * ---------------------------------------------------------------------------------------------------------
 */

/* ERR_INVALID whose field is the element's path: inputs[0].data[3][17]. */
static int fail(const struct tensor_reader *t, struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int fail(const struct tensor_reader *t, struct err *e, const char *fmt, ...)
{
    char what[256], field[96];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    int n = snprintf(field, sizeof field, "%s", t->path);
    for (int i = 0; i < t->depth && n > 0 && (size_t)n < sizeof field; i++)
        n += snprintf(field + n, sizeof field - (size_t)n, "[%lld]", (long long)t->index[i]);
    return err_set(e, ERR_INVALID, field, "%s: %s", field, what);
}

/* What the next value is, for messages. */
static const char *found(struct json_reader *r)
{
    switch (json_peek(r)) {
    case '[':
        return "an array";
    case '{':
        return "an object";
    case '"':
        return "a string";
    case 't':
    case 'f':
        return "a boolean";
    case 'n':
        return "null";
    case '\0':
        return "the end of the text";
    default:
        return "a number";
    }
}

/* ---- scalars
 * ------------------------------------------------------------------------------------------------------ */

static const struct {
    double min, max;
} integer_range[DATATYPE_COUNT] = {
    [DATATYPE_BOOL] = {0, 1},
    [DATATYPE_UINT8] = {0, 255},
    [DATATYPE_UINT16] = {0, 65535},
    [DATATYPE_UINT32] = {0, 4294967295.0},
    [DATATYPE_UINT64] = {0, 18446744073709551616.0},
    [DATATYPE_INT8] = {-128, 127},
    [DATATYPE_INT16] = {-32768, 32767},
    [DATATYPE_INT32] = {-2147483648.0, 2147483647},
    [DATATYPE_INT64] = {-9223372036854775808.0, 9223372036854775808.0},
};

static const double exact_top = 9007199254740992.0; /* a double holds each integer up to here */

static const double float_top = 3.4028235677973366e38; /* from here on a double rounds to an infinite float */

static bool is_integer(enum datatype type, double v)
{
    return v == floor(v) && v >= integer_range[type].min && v <= integer_range[type].max;
}

/* Whether v may stand for a number of that type. */
static int check_integer(const struct tensor_reader *t, enum datatype type, double v, struct err *e)
{
    if (type == DATATYPE_FP32 || type == DATATYPE_FP64) return 0;
    if (!is_integer(type, v))
        return fail(t, e, "%.17g is not an integer from %.17g to %.17g, as %s needs", v,
                    integer_range[type].min, integer_range[type].max, datatype_name(type));
    return 0;
}

/* v was checked against the type. */
static void put_number(struct buf *out, enum datatype type, double v)
{
    union {
        float f32;
        double f64;
        int64_t i64;
        uint64_t u64;
    } x = {0};
    if (type == DATATYPE_FP32)
        x.f32 = (float)v;
    else if (type == DATATYPE_FP64)
        x.f64 = v;
    else if (v < 0)
        x.i64 = (int64_t)v;
    else
        x.u64 = (uint64_t)v;
    buf_append(out, &x, datatype_bytes(type)); /* little-endian: the low bytes come first */
}

static int read_number(struct tensor_reader *t, struct err *e)
{
    struct json_reader *r = t->json;
    double v;
    bool truth;
    char c = json_peek(r);
    bool is_float = t->spec->datatype == DATATYPE_FP32 || t->spec->datatype == DATATYPE_FP64;
    if (c == 'n' && is_float && json_take_null(r))
        v = NAN;
    else if ((c == 't' || c == 'f') && t->declared == DATATYPE_BOOL && json_read_bool(r, &truth, NULL) == 0)
        v = truth;
    else if (c == '-' || (c >= '0' && c <= '9')) {
        int rc = json_read_number(r, &v, e);
        if (rc == 0) rc = check_integer(t, t->declared, v, e);
        if (rc == 0) rc = check_integer(t, t->spec->datatype, v, e);
        if (rc) return rc;
        if (!is_float && fabs(v) > exact_top) return fail(t, e, "%.17g is too large to be read exactly", v);
        double top = t->spec->datatype == DATATYPE_FP32 ? float_top : 1.7976931348623157e308;
        if (!(fabs(v) < top || (top > 1e300 && fabs(v) <= top)))
            return fail(t, e, "the number does not fit into %s", datatype_name(t->spec->datatype));
    } else
        return fail(t, e, "expected a number, found %s", found(r));
    put_number(t->out, t->spec->datatype, v);
    return 0;
}

static int put_base64(struct tensor_reader *t, const struct buf *text, struct err *e)
{
    char *room = buf_reserve(t->out, text->len / 4 * 3 + 4);
    if (!room) return err_set(e, ERR_NOMEM, NULL, "no memory for the request");
    long n = crypto_unbase64((uint8_t *)room, text->len / 4 * 3 + 4, text->len ? text->data : "", text->len);
    if (n < 0) return fail(t, e, "the value of \"b64\" is not base64");
    t->out->len += (size_t)n;
    return 0;
}

/* {"b64":"…"} */
static int read_base64(struct tensor_reader *t, struct err *e)
{
    struct json_reader *r = t->json;
    struct buf text = {0};
    char name[8];
    bool first = true;
    json_take(r, '{');
    int rc = json_member(r, &first, name, sizeof name, e);
    if (rc == 0 || (rc == 1 && strcmp(name, "b64") != 0))
        rc = fail(t, e, "expected a string or {\"b64\": …}");
    if (rc == 1) rc = json_read_string(r, &text, e);
    if (rc == 0 && json_member(r, &first, name, sizeof name, e) != 0)
        rc = fail(t, e, "nothing may stand beside \"b64\"");
    if (rc == 0) rc = put_base64(t, &text, e);
    buf_dispose(&text);
    return rc;
}

/* A string; what is wrong with it is said of the element that it was to be. */
static int read_string(struct tensor_reader *t, struct err *e)
{
    struct err why = {0};
    int rc = json_read_string(t->json, t->out, &why);
    if (rc == ERR_INVALID) return fail(t, e, "\"%.64s\": %s", t->spec->name, why.message);
    return rc ? err_set(e, rc, NULL, "%s", why.message) : 0;
}

static int read_bytes(struct tensor_reader *t, struct err *e)
{
    size_t at = t->out->len;
    uint32_t len = 0;
    buf_append(t->out, &len, sizeof len);
    int rc = 0;
    char c = json_peek(t->json);
    if (c == '"')
        rc = read_string(t, e);
    else if (c == '{' && t->base64_objects)
        rc = read_base64(t, e);
    else if (c != 'n' || !json_take_null(t->json))
        rc = fail(t, e, "\"%.64s\" takes BYTES: expected a string, found %s", t->spec->name, found(t->json));
    if (rc) return rc;
    if (t->out->failed) return err_set(e, ERR_NOMEM, NULL, "no memory for the request");
    len = (uint32_t)(t->out->len - at - sizeof len); /* a body is far below 4 GiB */
    memcpy(t->out->data + at, &len, sizeof len);
    return 0;
}

static int read_scalar(struct tensor_reader *t, struct err *e)
{
    return t->spec->datatype == DATATYPE_BYTES ? read_bytes(t, e) : read_number(t, e);
}

/* ---- arrays
 * ------------------------------------------------------------------------------------------------------- */

/* How many elements the array has in all, when it has too many: *n is what was read so far. */
static int count_rest(struct tensor_reader *t, int64_t *n, bool *first, struct err *e)
{
    int rc;
    do {
        (*n)++;
        if ((rc = json_skip(t->json, e))) return rc;
    } while ((rc = json_element(t->json, first, e)) == 1);
    return rc;
}

/* Adds the first of n numbers to the floats at room, up to one that the datatypes do not take: how many. */
static size_t put_floats(const struct tensor_reader *t, char *room, const double *v, size_t n)
{
    bool is_float = t->declared == DATATYPE_FP32 || t->declared == DATATYPE_FP64;
    double largest = 0;
    for (size_t i = 0; i < n; i++) {
        float f = (float)v[i];
        double size = fabs(v[i]);
        largest = size > largest ? size : largest;
        memcpy(room + i * sizeof f, &f, sizeof f);
    }
    if (is_float && largest < float_top) return n;
    size_t fit = 0;
    while (fit < n && fabs(v[fit]) < float_top && (is_float || is_integer(t->declared, v[fit]))) fit++;
    return fit;
}

/* Takes numbers from where an array of floats has its next element, up to `most` of them: how many; the
 * reader is then on what follows the last one. It stops before whatever is no number that the datatypes take,
 * which the general way then reads or refuses. */
static int64_t read_floats(struct tensor_reader *t, int64_t most)
{
    enum { CHUNK = 256 };
    struct json_reader *r = t->json;
    double v[CHUNK];
    char c = json_peek(r);
    if (t->spec->datatype != DATATYPE_FP32 || (c != '-' && (c < '0' || c > '9'))) return 0;
    int64_t could = (r->end - r->p + 1) / 2; /* no more numbers than that stand in the rest of the text */
    char *room = buf_reserve(t->out, (size_t)(most < could ? most : could) * sizeof(float));
    size_t n = 0, got, fit;
    if (!room) return 0;
    do {
        struct num_run run = {r->start, r->p + (n > 0), r->end};
        size_t wanted = (size_t)most - n < CHUNK ? (size_t)most - n : CHUNK;
        got = num_run_take(&run, v, wanted);
        fit = put_floats(t, room + n * sizeof(float), v, got);
        if (fit < got) { /* once more, to stand before the one that does not fit */
            run.p = r->p + (n > 0);
            got = num_run_take(&run, v, fit);
        }
        if (got) r->p = run.p;
        n += got;
    } while (got == CHUNK && n < (size_t)most && *r->p == ',');
    t->out->len += n * sizeof(float);
    return (int64_t)n;
}

static int read_level(struct tensor_reader *t, int level, int64_t want, int64_t *got, struct err *e)
{
    int64_t most = want < 0 ? MESSAGE_ROWS_MAX : want;
    *got = 0;
    if (json_peek(t->json) != '[')
        return want < 0 ? fail(t, e, "expected an array of rows, found %s", found(t->json))
                        : fail(t, e, "expected an array of %lld values, found %s", (long long)want,
                               found(t->json));
    json_take(t->json, '[');
    bool innermost = level + 1 == t->spec->rank;
    if (innermost) *got = read_floats(t, most);
    bool first = *got == 0;
    int rc;
    while ((rc = json_element(t->json, &first, e)) == 1) {
        int64_t ignored, floats = innermost ? read_floats(t, most - *got) : 0;
        *got += floats;
        if (floats) continue;
        if (*got == most) {
            rc = count_rest(t, got, &first, e);
            break;
        }
        t->index[level] = (*got)++;
        t->depth = level + 1;
        rc = innermost ? read_scalar(t, e) : read_level(t, level + 1, t->spec->shape[level + 1], &ignored, e);
        if (rc) return rc;
    }
    t->depth = level;
    if (rc) return rc;
    if (*got > most && want < 0)
        return fail(t, e, "%lld rows where at most %lld are allowed", (long long)*got, (long long)most);
    if (want >= 0 && *got != want)
        return fail(t, e, "%lld values where %lld were expected", (long long)*got, (long long)want);
    return t->out->failed ? err_set(e, ERR_NOMEM, NULL, "no memory for the request") : 0;
}

int tensor_read_rows(struct tensor_reader *t, int64_t rows, int64_t *rows_read, struct err *e)
{
    t->depth = 0;
    return read_level(t, 0, rows, rows_read, e);
}

int tensor_read_row(struct tensor_reader *t, struct err *e)
{
    struct signature_tensor row = *t->spec; /* a tensor of one dimension less */
    row.rank--;
    memmove(row.shape, row.shape + 1, (size_t)row.rank * sizeof *row.shape);
    const struct signature_tensor *spec = t->spec;
    int64_t ignored;
    t->depth = 0;
    if (row.rank == 0) return read_scalar(t, e);
    t->spec = &row;
    int rc = read_level(t, 0, row.shape[0], &ignored, e);
    t->spec = spec;
    return rc;
}

int tensor_read_flat(struct tensor_reader *t, int64_t rows, struct err *e)
{
    struct signature_tensor flat = *t->spec;
    const struct signature_tensor *spec = t->spec;
    int64_t ignored;
    flat.rank = 1;
    t->depth = 0;
    t->spec = &flat;
    int rc = read_level(t, 0, rows * signature_width(spec), &ignored, e);
    t->spec = spec;
    return rc;
}

bool tensor_datatype_fits(enum datatype declared, enum datatype wanted)
{
    return declared == wanted || (wanted == DATATYPE_FP32 && declared != DATATYPE_BYTES);
}

/* ---- writing
 * ------------------------------------------------------------------------------------------------------ */

void tensor_cursor_init(struct tensor_cursor *c, const struct message_tensor *t)
{
    *c = (struct tensor_cursor){.tensor = t, .p = t->data};
}

static void write_float(struct buf *out, double v, bool single)
{
    char text[NUM_TEXT_MAX];
    if (!isfinite(v)) {
        buf_str(out, "null");
        return;
    }
    buf_append(out, text, single ? num_format_f32(text, (float)v) : num_format_f64(text, v));
}

static int64_t load_integer(const char *p, enum message_dtype t)
{
    int64_t v = 0;
    size_t size = message_dtype_size(t);
    memcpy(&v, p, size);
    int unused = 64 - (int)size * 8;
    bool is_signed = t >= MESSAGE_INT8 && t <= MESSAGE_INT64;
    return is_signed && unused ? (int64_t)((uint64_t)v << unused) >> unused : v;
}

static void write_text(struct tensor_cursor *c, struct buf *out)
{
    uint32_t len;
    struct json_writer w;
    memcpy(&len, c->p, sizeof len);
    jw_init(&w, out);
    jw_strn(&w, c->p + sizeof len, len);
    c->p += sizeof len + len;
}

static void write_scalar(struct tensor_cursor *c, struct buf *out)
{
    enum message_dtype t = c->tensor->dtype;
    float f32;
    double f64;
    switch (t) {
    case MESSAGE_BYTES:
        write_text(c, out);
        return;
    case MESSAGE_FP32:
        memcpy(&f32, c->p, sizeof f32);
        write_float(out, (double)f32, true);
        break;
    case MESSAGE_FP64:
        memcpy(&f64, c->p, sizeof f64);
        write_float(out, f64, false);
        break;
    case MESSAGE_BOOL:
        buf_str(out, *c->p ? "true" : "false");
        break;
    case MESSAGE_UINT64:
        buf_printf(out, "%llu", (unsigned long long)load_integer(c->p, t));
        break;
    default:
        buf_printf(out, "%lld", (long long)load_integer(c->p, t));
    }
    c->p += message_dtype_size(t);
}

static void write_level(struct tensor_cursor *c, int level, struct buf *out)
{
    const struct message_tensor *t = c->tensor;
    if (level == t->ndim) {
        write_scalar(c, out);
        return;
    }
    buf_char(out, '[');
    for (int64_t i = 0; i < t->dims[level]; i++) {
        if (i) buf_char(out, ',');
        write_level(c, level + 1, out);
    }
    buf_char(out, ']');
}

void tensor_write_row(struct tensor_cursor *c, struct buf *out)
{
    write_level(c, 1, out);
}

void tensor_write_rows(struct tensor_cursor *c, struct buf *out)
{
    write_level(c, 0, out);
}

void tensor_write_flat(struct tensor_cursor *c, struct buf *out)
{
    size_t elements = 0;
    message_tensor_elements(c->tensor, &elements);
    buf_char(out, '[');
    for (size_t i = 0; i < elements; i++) {
        if (i) buf_char(out, ',');
        write_scalar(c, out);
    }
    buf_char(out, ']');
}
