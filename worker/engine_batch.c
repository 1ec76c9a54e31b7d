/* Stages a batch's requests on a model session, runs it, and slices the outputs back into one reply per
 * request. */
#include "worker/engine_batch.h"

#include <string.h>
#include "base/clock.h"
#include "base/mem.h"

_Static_assert((int)MESSAGE_BOOL == (int)DATATYPE_BOOL + 1 && (int)MESSAGE_FP32 == (int)DATATYPE_FP32 + 1 &&
                   (int)MESSAGE_BYTES == (int)DATATYPE_BYTES + 1 && DATATYPE_COUNT == (int)MESSAGE_BYTES,
               "wire datatypes are the signature's, plus one");

/* A request on its way through the batch. */
struct item {
    struct work *work;
    struct buf *outputs; /* one per output: rows computed so far */
    size_t *offsets;     /* one per input: bytes staged so far */
    int rc;
    struct err err;
    int64_t compute_us, batch_rows;
};

struct segment {
    struct item *item;
    int64_t first_row, rows;
};

struct run {
    struct model_session *session;
    const struct signature *sig;
    struct item *items;
    size_t items_len;
    struct segment *segments;   /* of the run being staged: at most one per item */
    struct model_input *inputs; /* scratch, one per input */
    size_t segments_len;
    int64_t started_us;
    struct batch_counts *counts;
};

/* ---- staging
 * ------------------------------------------------------------------------------------------------------- */

static int check_shape(const struct run *r, const struct work *w, struct err *e)
{
    if (w->message.tensors_len != r->sig->n_inputs)
        return err_set(e, ERR_INVALID, "inputs", "%zu inputs where the model takes %zu",
                       w->message.tensors_len, r->sig->n_inputs);
    for (size_t i = 0; i < r->sig->n_inputs; i++) {
        size_t elements, width = (size_t)signature_width(&r->sig->inputs[i]);
        if (!message_tensor_elements(&w->message.tensors[i], &elements) ||
            elements != width * w->message.predict.rows)
            return err_set(e, ERR_INVALID, r->sig->inputs[i].name,
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

static int stage(struct run *r, struct item *item, int64_t rows, int64_t *first_row)
{
    const struct message *m = &item->work->message;
    for (size_t i = 0; i < r->sig->n_inputs; i++) {
        const struct message_tensor *t = &m->tensors[i];
        const char *data = (const char *)t->data + item->offsets[i];
        size_t bytes = bytes_of(t, data, (size_t)(rows * signature_width(&r->sig->inputs[i])));
        r->inputs[i] = (struct model_input){(enum datatype)((int)t->dtype - 1), data, bytes};
        item->offsets[i] += bytes;
    }
    return model_session_add(r->session, r->inputs, rows, first_row, &item->err);
}

/* ---- running
 * ------------------------------------------------------------------------------------------------------- */

static void collect(struct run *r, struct segment *seg)
{
    struct item *item = seg->item;
    for (size_t o = 0; o < r->sig->n_outputs; o++) {
        struct model_output out = model_session_output(r->session, o, seg->first_row, seg->rows);
        buf_append(&item->outputs[o], out.data, out.bytes);
        if (item->outputs[o].failed)
            item->rc = err_set(&item->err, ERR_NOMEM, NULL, "no memory for the outputs");
    }
}

static void compute(struct run *r, int64_t staged)
{
    struct err e = {0};
    int64_t begin = clock_mono_us();
    int rc = model_session_run(r->session, &e);
    int64_t us = clock_mono_us() - begin;
    for (size_t i = 0; i < r->segments_len; i++) {
        struct segment *seg = &r->segments[i];
        seg->item->compute_us += us * seg->rows / staged;
        seg->item->batch_rows = staged;
        if (rc) {
            seg->item->rc = rc;
            seg->item->err = e;
        } else
            collect(r, seg);
    }
    r->counts->runs++;
    r->counts->compute_us += us;
}

/* Fills the session again and again until every item is computed or has failed. */
static void run_items(struct run *r)
{
    int64_t room = model_session_max_rows(r->session), done = 0;
    for (size_t i = 0; i < r->items_len;) {
        int64_t staged = 0;
        model_session_begin(r->session);
        r->segments_len = 0;
        while (i < r->items_len && staged < room) {
            struct item *item = &r->items[i];
            int64_t left = item->work->message.predict.rows - done,
                    rows = left < room - staged ? left : room - staged;
            struct segment seg = {.item = item, .rows = rows};
            if (item->rc == 0) item->rc = stage(r, item, rows, &seg.first_row);
            if (item->rc == 0) {
                r->segments[r->segments_len++] = seg;
                staged += rows;
                done += rows;
            }
            if (item->rc || done == item->work->message.predict.rows) {
                i++;
                done = 0;
            }
        }
        if (staged) compute(r, staged);
    }
}

/* ---- answering
 * ----------------------------------------------------------------------------------------------------- */

static struct reply *answer_outputs(const struct run *r, const struct item *item)
{
    const struct message_predict *p = &item->work->message.predict;
    struct message_tensor *tensors = mem_try_alloc(r->sig->n_outputs, sizeof *tensors);
    if (!tensors) return NULL;
    struct message m = {.type = MESSAGE_PREDICT_REPLY, .tensors = tensors, .tensors_len = r->sig->n_outputs};
    m.reply.request_id = p->request_id;
    m.reply.queue_us = (uint32_t)(r->started_us - item->work->arrived_us);
    m.reply.compute_us = (uint32_t)item->compute_us;
    m.reply.batch_rows = (uint32_t)item->batch_rows;
    for (size_t o = 0; o < r->sig->n_outputs; o++) {
        const struct signature_tensor *spec = &r->sig->outputs[o];
        struct message_tensor *t = &tensors[o];
        t->dtype = (enum message_dtype)((int)spec->datatype + 1);
        t->ndim = spec->rank;
        memcpy(t->dims, spec->shape, (size_t)spec->rank * sizeof *t->dims);
        t->dims[0] = p->rows;
        t->data = item->outputs[o].data;
        t->data_len = item->outputs[o].len;
    }
    struct reply *reply = reply_of_outputs(item->work, &m);
    mem_free(tensors);
    return reply;
}

static struct reply *answer(const struct run *r, const struct item *item)
{
    struct reply *reply = item->rc ? NULL : answer_outputs(r, item);
    r->counts->requests++;
    r->counts->queue_us += r->started_us - item->work->arrived_us;
    if (reply) {
        r->counts->rows += item->work->message.predict.rows;
        return reply;
    }
    r->counts->failed++;
    return reply_of_error(item->work, &item->err, item->rc ? item->rc : ERR_NOMEM);
}

static bool items_init(struct run *r, struct work *batch)
{
    for (struct work *w = batch; w; w = w->next) r->items_len++;
    r->items = mem_try_alloc(r->items_len, sizeof *r->items);
    r->segments = mem_try_alloc(r->items_len, sizeof *r->segments);
    r->inputs = mem_try_alloc(r->sig->n_inputs, sizeof *r->inputs);
    if (!r->items || !r->segments || !r->inputs) return false;
    struct item *item = r->items;
    for (struct work *w = batch; w; w = w->next, item++) {
        item->work = w;
        item->outputs = mem_try_alloc(r->sig->n_outputs, sizeof *item->outputs);
        item->offsets = mem_try_alloc(r->sig->n_inputs, sizeof *item->offsets);
        if (!item->outputs || !item->offsets) return false;
        item->rc = check_shape(r, w, &item->err);
    }
    return true;
}

static void items_dispose(struct run *r)
{
    for (size_t i = 0; r->items && i < r->items_len; i++) {
        for (size_t o = 0; r->items[i].outputs && o < r->sig->n_outputs; o++)
            buf_dispose(&r->items[i].outputs[o]);
        mem_free(r->items[i].outputs);
        mem_free(r->items[i].offsets);
    }
    mem_free(r->items);
    mem_free(r->segments);
    mem_free(r->inputs);
}

static struct reply *all_failed(struct work *batch, struct batch_counts *counts)
{
    struct reply *first = NULL;
    struct err e = {0};
    err_set(&e, ERR_OVERLOAD, NULL, "the worker has no memory for this prediction now");
    for (struct work *w = batch; w; w = w->next) {
        struct reply *reply = reply_of_error(w, &e, ERR_OVERLOAD);
        counts->requests++;
        counts->failed++;
        if (!reply) continue;
        reply->next = first;
        first = reply;
    }
    return first;
}

struct reply *engine__batch_run(struct model_session *s, const struct signature *sig, struct work *batch,
                                struct batch_counts *counts)
{
    struct run r = {.session = s, .sig = sig, .counts = counts, .started_us = clock_mono_us()};
    struct reply *first = NULL;
    if (!items_init(&r, batch)) {
        items_dispose(&r);
        return all_failed(batch, counts);
    }
    run_items(&r);
    for (size_t i = 0; i < r.items_len; i++) {
        struct reply *reply = answer(&r, &r.items[i]);
        if (!reply) continue;
        reply->next = first;
        first = reply;
    }
    items_dispose(&r);
    return first;
}
