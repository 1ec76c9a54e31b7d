/* Stages a batch's requests on a model session, runs it, and slices the outputs into one reply per request.
 */
#include "worker/engine_batch.h"

#include <string.h>
#include "base/clock.h"
#include "base/mem.h"

_Static_assert((int)MESSAGE_BOOL == (int)DATATYPE_BOOL + 1 && (int)MESSAGE_FP32 == (int)DATATYPE_FP32 + 1 &&
                   (int)MESSAGE_BYTES == (int)DATATYPE_BYTES + 1 && DATATYPE_COUNT == (int)MESSAGE_BYTES,
               "wire datatypes are the signature's, plus one");

/* Rows of a request that are staged: all of it, or what there was room for. */
struct piece {
    struct work *work;
    int64_t from, first_row, rows; /* of the request; where they stand in the session; how many */
};

/* One after another the requests are staged and answered; at most one is staged in part, the last of a run.
 */
struct run {
    struct model_session *session;
    const struct signature *sig;
    struct batch_counts *counts;
    int64_t started_us;
    struct work *next; /* to be staged, from row `done` on */
    int64_t done;
    struct piece *pieces; /* of the run being staged: at most one of a request; owned, with the next three */
    size_t pieces_len;
    struct model_input *inputs; /* of the last piece: the next one's begin where these end */
    struct buf *kept;           /* outputs of a request in pieces, as far as they are computed */
    struct message answer;      /* its tensors are those of the signature */
    struct reply *replies;
    struct err err;
};

static bool is_last(const struct piece *p)
{
    return p->from + p->rows == p->work->message.predict.rows;
}

/* The next request is staged whole, or refused. */
static void go_on(struct run *r)
{
    r->next = r->next->next;
    r->done = 0;
}

/* ---- answering ---- */

static void add_reply(struct run *r, const struct work *w, struct reply *reply)
{
    r->counts->requests++;
    r->counts->queue_us += r->started_us - w->arrived_us;
    if (!reply) return;
    reply->next = r->replies;
    r->replies = reply;
}

static void refuse(struct run *r, struct work *w, int code)
{
    r->counts->failed++;
    add_reply(r, w, reply_of_error(w, &r->err, code));
}

/* r->answer's tensors have their bytes. */
static void answer(struct run *r, struct work *w)
{
    uint32_t rows = w->message.predict.rows;
    for (size_t o = 0; o < r->sig->n_outputs; o++) r->answer.tensors[o].dims[0] = rows;
    r->answer.reply.request_id = w->message.predict.request_id;
    r->answer.reply.queue_us = (uint32_t)(r->started_us - w->arrived_us);
    struct reply *reply = reply_of_outputs(w, &r->answer);
    if (!reply) {
        err_set(&r->err, ERR_NOMEM, NULL, "no memory for the answer");
        refuse(r, w, ERR_NOMEM);
        return;
    }
    r->counts->rows += rows;
    add_reply(r, w, reply);
}

/* ---- staging ---- */

static int check_shape(struct run *r, const struct work *w)
{
    if (w->message.tensors_len != r->sig->n_inputs)
        return err_set(&r->err, ERR_INVALID, "inputs", "%zu inputs where the model takes %zu",
                       w->message.tensors_len, r->sig->n_inputs);
    for (size_t i = 0; i < r->sig->n_inputs; i++) {
        size_t elements, width = (size_t)signature_width(&r->sig->inputs[i]);
        if (!message_tensor_elements(&w->message.tensors[i], &elements) ||
            elements != width * w->message.predict.rows)
            return err_set(&r->err, ERR_INVALID, r->sig->inputs[i].name,
                           "%zu elements where %u rows of %zu were expected", elements,
                           w->message.predict.rows, width);
    }
    return 0;
}

/* Bytes of the next `elements` elements at data; the record was checked when it was decoded. */
static size_t bytes_of(const struct message_tensor *t, const char *data, size_t elements)
{
    if (t->dtype != MESSAGE_BYTES) return elements * message_dtype_size(t->dtype);
    size_t bytes = 0;
    for (size_t i = 0; i < elements; i++) {
        uint32_t len;
        memcpy(&len, data + bytes, sizeof len);
        bytes += sizeof len + len;
    }
    return bytes;
}

static int stage(struct run *r, struct piece *p)
{
    int rc = p->from ? 0 : check_shape(r, p->work);
    if (rc) return rc;
    for (size_t i = 0; i < r->sig->n_inputs; i++) {
        const struct message_tensor *t = &p->work->message.tensors[i];
        struct model_input *in = &r->inputs[i];
        const char *data = p->from ? (const char *)in->data + in->bytes : t->data;
        size_t bytes = bytes_of(t, data, (size_t)(p->rows * signature_width(&r->sig->inputs[i])));
        *in = (struct model_input){(enum datatype)((int)t->dtype - 1), data, bytes};
    }
    return model_session_add(r->session, r->inputs, p->rows, &p->first_row, &r->err);
}

/* Stages what there is room for of the next request, or refuses it. Returns the rows staged. */
static int64_t stage_next(struct run *r, int64_t room)
{
    struct piece *p = &r->pieces[r->pieces_len];
    int64_t left = r->next->message.predict.rows - r->done;
    *p = (struct piece){.work = r->next, .from = r->done, .rows = left < room ? left : room};
    int rc = stage(r, p);
    if (rc) {
        refuse(r, p->work, rc);
        go_on(r);
        return 0;
    }
    r->pieces_len++;
    r->done += p->rows;
    if (is_last(p)) go_on(r);
    return p->rows;
}

/* ---- running ---- */

/* A request that is computed at once is answered from the session; the pieces of others are put together. */
static int collect(struct run *r, const struct piece *p)
{
    bool whole = p->from == 0 && is_last(p);
    for (size_t o = 0; o < r->sig->n_outputs; o++) {
        struct model_output out = model_session_output(r->session, o, p->first_row, p->rows);
        if (!whole) {
            if (p->from == 0) buf_clear(&r->kept[o]);
            buf_append(&r->kept[o], out.data, out.bytes);
            if (r->kept[o].failed) return err_set(&r->err, ERR_NOMEM, NULL, "no memory for the outputs");
        }
        r->answer.tensors[o].data = whole ? out.data : r->kept[o].data;
        r->answer.tensors[o].data_len = whole ? out.bytes : r->kept[o].len;
    }
    return 0;
}

static void compute(struct run *r, int64_t staged)
{
    struct message_predict_reply *times = &r->answer.reply;
    int64_t begin = clock_mono_us();
    int run_rc = model_session_run(r->session, &r->err);
    int64_t us = clock_mono_us() - begin;
    times->batch_rows = (uint32_t)staged;
    for (size_t i = 0; i < r->pieces_len; i++) {
        const struct piece *p = &r->pieces[i];
        times->compute_us = (p->from ? times->compute_us : 0) + (uint32_t)(us * p->rows / staged);
        int rc = run_rc ? run_rc : collect(r, p);
        if (rc) {
            refuse(r, p->work, rc);
            if (!is_last(p)) go_on(r);
        } else if (is_last(p))
            answer(r, p->work);
    }
    r->counts->runs++;
    r->counts->compute_us += us;
}

/* Fills the session again and again until every request is answered. */
static void run_all(struct run *r)
{
    int64_t room = model_session_max_rows(r->session);
    while (r->next) {
        int64_t staged = 0;
        model_session_begin(r->session);
        r->pieces_len = 0;
        while (r->next && staged < room) staged += stage_next(r, room - staged);
        if (staged) compute(r, staged);
    }
}

/* ---- a batch ---- */

/* One allocation for all of a run's lists. */
static bool run_init(struct run *r)
{
    const struct signature *sig = r->sig;
    struct message_tensor *t;
    size_t works = 0;
    for (const struct work *w = r->next; w; w = w->next) works++;
    r->pieces = mem_try_alloc(1, works * sizeof *r->pieces + sig->n_inputs * sizeof *r->inputs +
                                     sig->n_outputs * (sizeof *r->kept + sizeof *t));
    if (!r->pieces) return false;
    r->inputs = (void *)(r->pieces + works);
    r->kept = (void *)(r->inputs + sig->n_inputs);
    t = (void *)(r->kept + sig->n_outputs);
    r->answer.type = MESSAGE_PREDICT_REPLY;
    r->answer.tensors = t;
    r->answer.tensors_len = sig->n_outputs;
    for (size_t o = 0; o < sig->n_outputs; o++, t++) {
        const struct signature_tensor *spec = &sig->outputs[o];
        t->dtype = (enum message_dtype)((int)spec->datatype + 1);
        t->ndim = spec->rank;
        memcpy(t->dims, spec->shape, (size_t)spec->rank * sizeof *t->dims);
    }
    return true;
}

static void run_dispose(struct run *r)
{
    for (size_t o = 0; o < r->sig->n_outputs; o++) buf_dispose(&r->kept[o]);
    mem_free(r->pieces);
}

struct reply *engine__batch_run(struct model_session *s, const struct signature *sig, struct work *batch,
                                struct batch_counts *counts)
{
    struct run r = {.session = s, .sig = sig, .counts = counts, .started_us = clock_mono_us(), .next = batch};
    if (run_init(&r)) {
        run_all(&r);
        run_dispose(&r);
        return r.replies;
    }
    err_set(&r.err, ERR_OVERLOAD, NULL, "the worker has no memory for this prediction now");
    for (; r.next; go_on(&r)) refuse(&r, r.next, ERR_OVERLOAD);
    return r.replies;
}
