/* From a request's body to the record that goes to a worker. */
#include "gateway/predict/predict_impl.h"

#include <string.h>
#include "base/mem.h"
#include "base/num.h"
#include "queue/redis_clock.h"

static const char binary_header[] = "inference-header-content-length";

/* The JSON part's length of a body with binary tensors; SIZE_MAX when it is all JSON. */
static int json_length(const struct predict_request *r, size_t *out, struct err *e)
{
    *out = SIZE_MAX;
    const char *text =
        r->protocol == &oip_protocol ? request_header(exchange_request(r->x), binary_header) : NULL;
    int64_t n;
    if (!text) return 0;
    if (!num_parse_i64(text, 0, INT32_MAX, &n))
        return err_set(e, ERR_INVALID, "Inference-Header-Content-Length",
                       "the header Inference-Header-Content-Length must be a number of bytes, not \"%.32s\"",
                       text);
    *out = (size_t)n;
    return 0;
}

static void fill_tensors(struct predict_request *r, struct message *m)
{
    const struct signature *s = r->infer.signature;
    m->tensors = r->owner->scratch;
    m->tensors_len = s->n_inputs;
    for (size_t i = 0; i < s->n_inputs; i++) {
        const struct infer_input *in = &r->infer.inputs[i];
        struct message_tensor *t = &m->tensors[i];
        t->dtype = (enum message_dtype)((int)in->datatype + 1);
        t->ndim = s->inputs[i].rank;
        memcpy(t->dims, s->inputs[i].shape, (size_t)t->ndim * sizeof *t->dims);
        t->dims[0] = r->infer.rows;
        t->data = in->raw ? in->raw : in->owned.data;
        t->data_len = in->raw ? in->raw_len : in->owned.len;
    }
}

/* Large tensors are sent from where they lie, the body or memory of their own: owners[i] is what m's tensor i
 * lies in, or NULL when it is small. false: no memory. */
static bool find_owners(struct predict_request *r, const struct message *m, struct bytes **owners)
{
    struct bytes *body = NULL;
    bool good = true;
    for (size_t i = 0; i < m->tensors_len; i++) {
        struct infer_input *in = &r->infer.inputs[i];
        owners[i] = NULL;
        if (m->tensors[i].data_len < RECORD_LARGE) continue;
        if (in->raw && !body) {
            struct buf taken = exchange_take_body(r->x);
            body = bytes_share(&taken);
            buf_dispose(&taken);
        }
        owners[i] = in->raw ? bytes_hold(body) : bytes_share(&in->owned);
        good = good && owners[i];
    }
    bytes_drop(body);
    return good;
}

/* A body is held for raw tensors that are most of it, not for what stands around a few. */
static bool is_worth_holding(const struct predict_request *r, size_t body_len)
{
    size_t raw = 0;
    for (size_t i = 0; i < r->infer.signature->n_inputs; i++)
        if (r->infer.inputs[i].raw) raw += r->infer.inputs[i].raw_len;
    return raw == 0 || raw >= body_len / 2;
}

/* A record that is kept for later has all in one piece. */
static bool encode(struct predict_request *r, const struct message *m, size_t body_len)
{
    struct bytes **owners = r->owner->owners;
    if (r->defer || !is_worth_holding(r, body_len)) {
        record_encode(&r->record, m, NULL);
        return !r->record.text.failed;
    }
    bool good = find_owners(r, m, owners);
    if (good) record_encode(&r->record, m, owners);
    for (size_t i = 0; i < m->tensors_len; i++) bytes_drop(owners[i]);
    return good && !r->record.text.failed;
}

static int encode_record(struct predict_request *r, size_t body_len, int64_t timeout_ms, struct err *e)
{
    struct message m = {.type = MESSAGE_PREDICT};
    m.predict.request_id = r->id;
    memcpy(m.predict.tenant_id, r->tenant_id, ID_MAX);
    memcpy(m.predict.version_id, r->route->route.version_id, ID_MAX);
    m.predict.deadline_us = r->deadline_us = redis_clock_us() + timeout_ms * 1000;
    m.predict.rows = (uint32_t)r->infer.rows;
    m.predict.max_batch_rows = r->route->route.batching.max_rows;
    m.predict.max_queue_delay_us = r->route->route.batching.max_delay_us;
    fill_tensors(r, &m);
    bool good = encode(r, &m, body_len);
    for (size_t i = 0; i < m.tensors_len; i++) buf_dispose(&r->infer.inputs[i].owned);
    if (good) return 0;
    e->retry_after_ms = 1000;
    return err_set(e, ERR_OVERLOAD, NULL, "no memory for this request now");
}

/* What the client, or the platform, allows; what it waited for us before its body was asked for is part of
 * it. */
static int64_t time_left_ms(const struct predict_request *r)
{
    const struct predict_config *c = &r->owner->config;
    int64_t allowed_us = r->infer.timeout_us ? r->infer.timeout_us : c->timeout_ms * 1000;
    if (allowed_us > c->timeout_max_ms * 1000) allowed_us = c->timeout_max_ms * 1000;
    if (r->wait_ms > 0 && allowed_us > r->wait_ms * 1000) allowed_us = r->wait_ms * 1000;
    return r->waited_us < allowed_us ? (allowed_us - r->waited_us + 999) / 1000 : 0;
}

int predict__take_body(struct predict_request *r, const char *body, size_t len, struct err *e)
{
    size_t json_len;
    int rc = json_length(r, &json_len, e);
    if (rc) return rc;
    if (!infer_init(&r->infer, r->route->route.signature))
        return err_set(e, ERR_OVERLOAD, NULL, "no memory for this request now");
    rc = r->protocol->decode(&r->infer, body, len, json_len, e);
    if (rc) return rc;
    if (r->rows_max > 0 && r->infer.rows > r->rows_max)
        return err_set(
            e, ERR_INVALID, r->infer.columns ? "inputs" : r->protocol->rows_field,
            "%lld rows in one request, where the plan allows %lld (max_request_rows); send them in "
            "several requests",
            (long long)r->infer.rows, (long long)r->rows_max);
    int64_t left_ms = time_left_ms(r);
    predict__set_deadline(r, left_ms);
    return encode_record(r, len, left_ms, e);
}
