/* Makes replies. */
#include "worker/reply.h"

#include <string.h>
#include "base/mem.h"

static struct reply *encode(struct work *w, const struct message *m)
{
    struct reply *r = mem_try_alloc(1, sizeof *r);
    if (!r) return NULL;
    size_t bytes = sizeof *m;
    for (size_t i = 0; i < m->tensors_len; i++) bytes += m->tensors[i].data_len + sizeof *m->tensors;
    (void)buf_reserve(&r->record, bytes); /* one allocation instead of many that double */
    message_encode(&r->record, m);
    if (r->record.failed) {
        reply_free_list(r);
        return NULL;
    }
    r->to = w->from;
    w->answered = true;
    memcpy(r->tenant_id, w->message.predict.tenant_id, ID_MAX);
    memcpy(r->version_id, w->message.predict.version_id, ID_MAX);
    return r;
}

struct reply *reply_of_error(struct work *w, const char *worker_inc, const struct err *e, int code)
{
    struct message m = {.type = MESSAGE_PREDICT_REPLY};
    m.reply.request_id = w->message.predict.request_id;
    m.reply.code = code;
    memcpy(m.reply.worker_inc, worker_inc, strlen(worker_inc) + 1);
    if (e) {
        memcpy(m.reply.field, e->field, sizeof m.reply.field);
        memcpy(m.reply.message, e->message, sizeof m.reply.message);
    }
    return encode(w, &m);
}

struct reply *reply_of_outputs(struct work *w, const struct message *m, int64_t compute_us)
{
    struct reply *r = encode(w, m);
    if (!r) return NULL;
    r->rows = w->message.predict.resent ? 0 : w->message.predict.rows;
    r->compute_us = compute_us;
    return r;
}

void reply_free_list(struct reply *first)
{
    for (struct reply *next; first; first = next) {
        next = first->next;
        buf_dispose(&first->record);
        mem_free(first);
    }
}
