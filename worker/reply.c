/* Makes replies. */
#include "worker/reply.h"

#include <assert.h>
#include <string.h>
#include "base/mem.h"

/* Bytes of a record beside its texts, its tensors and their bytes: no more than this. */
enum { RECORD_HEAD = 64 };

struct reply *reply_of_outputs(struct work *w, const struct message *m)
{
    size_t bytes = RECORD_HEAD + strlen(m->reply.field) + strlen(m->reply.message);
    for (size_t i = 0; i < m->tensors_len; i++) bytes += m->tensors[i].data_len + sizeof *m->tensors;
    struct reply *r = mem_try_realloc(NULL, 1, sizeof *r + bytes);
    if (!r) return NULL;
    *r = (struct reply){.to = w->from};
    r->record = (struct buf){.data = (char *)(r + 1), .cap = bytes, .limit = bytes - 1};
    message_encode(&r->record, m);
    assert(!r->record.failed);
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
        mem_free(first);
    }
}
