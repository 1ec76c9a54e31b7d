/* Makes replies. */
#include "worker/reply.h"

#include <string.h>
#include "base/mem.h"

struct reply *reply_of_outputs(struct work *w, const struct message *m)
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
    return r;
}

struct reply *reply_of_error(struct work *w, const struct err *e, int code)
{
    struct message m = {.type = MESSAGE_PREDICT_REPLY};
    m.reply.request_id = w->message.predict.request_id;
    m.reply.code = code;
    if (e) {
        memcpy(m.reply.field, e->field, sizeof m.reply.field);
        memcpy(m.reply.message, e->message, sizeof m.reply.message);
    }
    return reply_of_outputs(w, &m);
}

void reply_free_list(struct reply *first)
{
    for (struct reply *next; first; first = next) {
        next = first->next;
        buf_dispose(&first->record);
        mem_free(first);
    }
}
