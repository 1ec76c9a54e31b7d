/* One finished prediction on its way back: an encoded reply, and whom it goes to. */
#ifndef WORKER_REPLY_H
#define WORKER_REPLY_H

#include "base/buf.h"
#include "base/err.h"
#include "queue/message.h"
#include "worker/batcher.h"

/* A single allocation with its record's bytes behind it. */
struct reply {
    struct reply *next;
    void *to; /* of the work that it answers; borrowed */
    struct buf
        record; /* an encoded PREDICT_REPLY; its bytes are the reply's: neither disposed of nor added to */
};

/* An answer to w without outputs: code is an ERR_*. NULL when memory is out. */
struct reply *reply_of_error(struct work *w, const struct err *e, int code);
/* An answer with outputs; timing and code 0 are in m->reply. NULL when memory is out. */
struct reply *reply_of_outputs(struct work *w, const struct message *m);
void reply_free_list(struct reply *first);

#endif
