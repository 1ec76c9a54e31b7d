/* The codec of everything that travels through inboxes: a writer over struct buf and a reader that never
 * passes its end. */
#include "queue/message.h"

#include <assert.h>
#include <string.h>
#include "base/mem.h"

/* Both run on little-endian machines only, where memory is the wire format. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "records are written as they lie in memory");

/* ---- datatypes
 * ------------------------------------------------------------------------------------------------ */

static const uint8_t dtype_sizes[] = {
    [MESSAGE_BOOL] = 1,   [MESSAGE_UINT8] = 1, [MESSAGE_UINT16] = 2, [MESSAGE_UINT32] = 4,
    [MESSAGE_UINT64] = 8, [MESSAGE_INT8] = 1,  [MESSAGE_INT16] = 2,  [MESSAGE_INT32] = 4,
    [MESSAGE_INT64] = 8,  [MESSAGE_FP32] = 4,  [MESSAGE_FP64] = 8,   [MESSAGE_BYTES] = 0,
};

enum { DTYPES = sizeof dtype_sizes };

size_t message_dtype_size(enum message_dtype t)
{
    return (unsigned)t < DTYPES ? dtype_sizes[t] : 0;
}

bool message_tensor_elements(const struct message_tensor *t, size_t *out)
{
    *out = 1;
    for (int i = 0; i < t->ndim; i++)
        if (t->dims[i] < 0 || !mem_mul(*out, (size_t)t->dims[i], out)) return false;
    return true;
}

static bool bytes_fit(const struct message_tensor *t, size_t elements)
{
    const char *p = t->data;
    size_t left = t->data_len;
    for (size_t i = 0; i < elements; i++) {
        uint32_t len;
        if (left < sizeof len) return false;
        memcpy(&len, p, sizeof len);
        if (left - sizeof len < len) return false;
        p += sizeof len + len;
        left -= sizeof len + len;
    }
    return left == 0;
}

bool message_tensor_fits(const struct message_tensor *t)
{
    size_t elements, bytes;
    if (!message_tensor_elements(t, &elements)) return false;
    if (t->dtype == MESSAGE_BYTES) return bytes_fit(t, elements);
    return mem_mul(elements, message_dtype_size(t->dtype), &bytes) && bytes == t->data_len;
}

/* ---- writing
 * -------------------------------------------------------------------------------------------------- */

static void put(struct buf *b, const void *data, size_t len)
{
    buf_append(b, data, len);
}

static void put_u8(struct buf *b, unsigned v)
{
    buf_char(b, (char)v);
}

static void put_u16(struct buf *b, uint16_t v)
{
    put(b, &v, sizeof v);
}

static void put_u32(struct buf *b, uint32_t v)
{
    put(b, &v, sizeof v);
}

static void put_i64(struct buf *b, int64_t v)
{
    put(b, &v, sizeof v);
}

static void put_text(struct buf *b, const char *s)
{
    size_t len = strlen(s);
    assert(len <= UINT16_MAX);
    put_u16(b, (uint16_t)len);
    put(b, s, len);
}

/* The tensors whose bytes are left out. */
struct gaps {
    size_t least, len, max;
    struct message_gap *list;
};

static bool leaves_out(const struct gaps *g, const struct message_tensor *t)
{
    return g->len < g->max && t->data_len >= g->least;
}

static void put_tensors(struct buf *b, const struct message *m, struct gaps *g)
{
    assert(m->tensors_len <= MESSAGE_TENSORS_MAX);
    put_u16(b, (uint16_t)m->tensors_len);
    for (size_t i = 0; i < m->tensors_len; i++) {
        const struct message_tensor *t = &m->tensors[i];
        put_u8(b, t->dtype);
        put_u8(b, (unsigned)t->ndim);
        for (int d = 0; d < t->ndim; d++) put_i64(b, t->dims[d]);
        put_i64(b, (int64_t)t->data_len);
        if (leaves_out(g, t))
            g->list[g->len++] = (struct message_gap){.at = b->len, .tensor = i};
        else
            put(b, t->data, t->data_len);
    }
}

/* Where message_readdress looks: behind type and version. */
enum { REQUEST_ID_AT = 2, TENANT_AT = REQUEST_ID_AT + 8 };

static void put_predict(struct buf *b, const struct message *m, struct gaps *g)
{
    const struct message_predict *p = &m->predict;
    put(b, &p->request_id, sizeof p->request_id);
    put_text(b, p->tenant_id);
    put_text(b, p->version_id);
    put_i64(b, p->deadline_us);
    put_u32(b, p->rows);
    put_u32(b, p->max_batch_rows);
    put_u32(b, p->max_queue_delay_us);
    put_tensors(b, m, g);
}

static void put_reply(struct buf *b, const struct message *m, struct gaps *g)
{
    const struct message_predict_reply *r = &m->reply;
    put(b, &r->request_id, sizeof r->request_id);
    put_u8(b, (unsigned)-r->code);
    put_text(b, r->field);
    put_text(b, r->message);
    put_u32(b, r->queue_us);
    put_u32(b, r->compute_us);
    put_u32(b, r->batch_rows);
    put_tensors(b, m, g);
}

static void put_message(struct buf *out, const struct message *m, struct gaps *g)
{
    put_u8(out, m->type);
    put_u8(out, MESSAGE_VERSION);
    switch (m->type) {
    case MESSAGE_PREDICT:
        put_predict(out, m, g);
        return;
    case MESSAGE_PREDICT_REPLY:
        put_reply(out, m, g);
        return;
    case MESSAGE_PREDICT_CANCEL:
        put(out, &m->predict.request_id, sizeof m->predict.request_id);
        return;
    case MESSAGE_JOB_RUN:
    case MESSAGE_JOB_CANCEL:
    case MESSAGE_JOB_YIELD:
    case MESSAGE_JOB_ENDED:
    case MESSAGE_HINT:
        put_text(out, m->job.job_id);
        put_text(out, m->job.tenant_id);
        put_i64(out, m->job.fence);
        return;
    case MESSAGE_PLACE:
    case MESSAGE_MODEL_LOAD:
    case MESSAGE_MODEL_UNLOAD:
    case MESSAGE_MODEL_REPLICATE:
        put_text(out, m->model.version_id);
        put_text(out, m->model.tenant_id);
        put(out, &m->model.bytes, sizeof m->model.bytes);
        return;
    }
    assert(!"a message of no known type");
}

void message_encode(struct buf *out, const struct message *m)
{
    struct gaps none = {0};
    put_message(out, m, &none);
}

size_t message_encode_around(struct buf *out, const struct message *m, size_t least, struct message_gap *gaps,
                             size_t gaps_max)
{
    struct gaps g = {.least = least, .max = gaps_max, .list = gaps};
    put_message(out, m, &g);
    return g.len;
}

/* Ids are all of one length (base/ids.h), so the version's stands where the one before stood. */
void message_readdress(struct buf *predict, uint64_t request_id, const char *version_id)
{
    uint16_t tenant_len, version_len;
    char *at = predict->data + REQUEST_ID_AT;
    memcpy(at, &request_id, sizeof request_id);
    at = predict->data + TENANT_AT;
    memcpy(&tenant_len, at, sizeof tenant_len);
    at += sizeof tenant_len + tenant_len;
    memcpy(&version_len, at, sizeof version_len);
    assert(predict->data[0] == MESSAGE_PREDICT && strlen(version_id) == version_len);
    memcpy(at + sizeof version_len, version_id, version_len);
}

/* ---- reading: the first thing that does not fit makes every later read fail too
 * ------------------------------------ */

struct reader {
    const char *p, *end;
    bool bad;
};

static void get(struct reader *r, void *out, size_t len)
{
    if (r->bad || (size_t)(r->end - r->p) < len) {
        r->bad = true;
        memset(out, 0, len);
        return;
    }
    memcpy(out, r->p, len);
    r->p += len;
}

static unsigned get_u8(struct reader *r)
{
    uint8_t v;
    get(r, &v, sizeof v);
    return v;
}

static uint16_t get_u16(struct reader *r)
{
    uint16_t v;
    get(r, &v, sizeof v);
    return v;
}

static uint32_t get_u32(struct reader *r)
{
    uint32_t v;
    get(r, &v, sizeof v);
    return v;
}

static int64_t get_i64(struct reader *r)
{
    int64_t v;
    get(r, &v, sizeof v);
    return v;
}

/* A text of at most cap − 1 bytes without NUL. */
static void get_text(struct reader *r, char *out, size_t cap)
{
    size_t len = get_u16(r);
    out[0] = '\0';
    if (len >= cap) r->bad = true;
    if (r->bad) return;
    get(r, out, len);
    out[len] = '\0';
    if (r->bad || strlen(out) != len) r->bad = true;
}

static void get_id(struct reader *r, char out[ID_MAX], const char *prefix)
{
    get_text(r, out, ID_MAX);
    if (!r->bad && !id_valid(out, prefix)) r->bad = true;
}

static void get_tensor(struct reader *r, struct message_tensor *t)
{
    memset(t, 0, sizeof *t);
    unsigned dtype = get_u8(r), ndim = get_u8(r);
    if (dtype == 0 || dtype >= DTYPES || ndim == 0 || ndim > MESSAGE_DIMS_MAX) r->bad = true;
    if (r->bad) return;
    t->dtype = (enum message_dtype)dtype;
    t->ndim = (int)ndim;
    for (unsigned d = 0; d < ndim; d++) t->dims[d] = get_i64(r);
    int64_t len = get_i64(r);
    if (r->bad || len < 0 || len > r->end - r->p) {
        r->bad = true;
        return;
    }
    t->data = r->p;
    t->data_len = (size_t)len;
    r->p += len;
    if (!message_tensor_fits(t)) r->bad = true;
}

static void get_tensors(struct reader *r, struct message *m, struct message_tensor *tensors, size_t cap)
{
    size_t n = get_u16(r);
    if (n > cap || n > MESSAGE_TENSORS_MAX) r->bad = true;
    for (size_t i = 0; i < n && !r->bad; i++) get_tensor(r, &tensors[i]);
    m->tensors = tensors;
    m->tensors_len = r->bad ? 0 : n;
}

static void get_predict(struct reader *r, struct message_predict *p)
{
    get(r, &p->request_id, sizeof p->request_id);
    get_id(r, p->tenant_id, "ten");
    get_id(r, p->version_id, "ver");
    p->deadline_us = get_i64(r);
    p->rows = get_u32(r);
    p->max_batch_rows = get_u32(r);
    p->max_queue_delay_us = get_u32(r);
    if (p->rows == 0 || p->rows > MESSAGE_ROWS_MAX || p->max_batch_rows > MESSAGE_BATCH_ROWS_MAX ||
        p->max_queue_delay_us > MESSAGE_QUEUE_DELAY_MAX_US)
        r->bad = true;
}

/* Inputs all have the request's rows. */
static void check_rows(struct reader *r, const struct message *m)
{
    for (size_t i = 0; i < m->tensors_len; i++)
        if (m->tensors[i].dims[0] != (int64_t)m->predict.rows) r->bad = true;
}

static void get_reply(struct reader *r, struct message_predict_reply *p)
{
    get(r, &p->request_id, sizeof p->request_id);
    p->code = -(int)get_u8(r);
    if (p->code < ERR_INTERNAL) r->bad = true;
    get_text(r, p->field, sizeof p->field);
    get_text(r, p->message, sizeof p->message);
    p->queue_us = get_u32(r);
    p->compute_us = get_u32(r);
    p->batch_rows = get_u32(r);
}

static void get_body(struct reader *r, struct message *m, struct message_tensor *tensors, size_t cap)
{
    switch (m->type) {
    case MESSAGE_PREDICT:
        get_predict(r, &m->predict);
        get_tensors(r, m, tensors, cap);
        check_rows(r, m);
        return;
    case MESSAGE_PREDICT_REPLY:
        get_reply(r, &m->reply);
        get_tensors(r, m, tensors, cap);
        return;
    case MESSAGE_PREDICT_CANCEL:
        get(r, &m->predict.request_id, sizeof m->predict.request_id);
        return;
    case MESSAGE_JOB_RUN:
    case MESSAGE_JOB_CANCEL:
    case MESSAGE_JOB_YIELD:
    case MESSAGE_JOB_ENDED:
    case MESSAGE_HINT:
        get_id(r, m->job.job_id, "job");
        get_id(r, m->job.tenant_id, "ten");
        m->job.fence = get_i64(r);
        return;
    case MESSAGE_PLACE:
    case MESSAGE_MODEL_LOAD:
    case MESSAGE_MODEL_UNLOAD:
    case MESSAGE_MODEL_REPLICATE:
        get_id(r, m->model.version_id, "ver");
        get_id(r, m->model.tenant_id, "ten");
        get(r, &m->model.bytes, sizeof m->model.bytes);
        return;
    }
    r->bad = true;
}

int message_decode(struct message *out, struct message_tensor *tensors, size_t cap, const void *data,
                   size_t len, struct err *e)
{
    struct reader r = {.p = data, .end = (const char *)data + len};
    memset(out, 0, sizeof *out);
    unsigned type = get_u8(&r), version = get_u8(&r);
    out->type = (enum message_type)type;
    if (r.bad)
        return err_set(e, ERR_CORRUPT, NULL, "a record of %zu bytes is too short to be a message", len);
    if (version != MESSAGE_VERSION)
        return err_set(e, ERR_CORRUPT, NULL, "a message of version %u where %d is spoken", version,
                       MESSAGE_VERSION);
    get_body(&r, out, tensors, cap);
    if (r.bad || r.p != r.end)
        return err_set(e, ERR_CORRUPT, NULL, "a message of type %u and %zu bytes is malformed near byte %zu",
                       type, len, (size_t)(r.p - (const char *)data));
    return 0;
}
