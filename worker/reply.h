/* One finished prediction on its way back: an encoded reply, whom it goes to, and what it costs whom. */
#ifndef WORKER_REPLY_H
#define WORKER_REPLY_H

#include <stdint.h>
#include "base/buf.h"
#include "base/err.h"
#include "queue/message.h"
#include "worker/batcher.h"

struct reply {
    struct reply *next;
    void *to;          /* of the work that it answers; borrowed */
    struct buf record; /* owned: an encoded PREDICT_REPLY */
    char tenant_id[ID_MAX], version_id[ID_MAX];
    int64_t rows, compute_us; /* to be billed; rows 0: nothing is */
};

/* An answer to w without outputs: code is an ERR_*. NULL when memory is out. */
struct reply *reply_of_error(struct work *w, const char *worker_inc, const struct err *e, int code);
/* An answer with outputs; timing and code 0 are in m->reply. NULL when memory is out. */
struct reply *reply_of_outputs(struct work *w, const struct message *m, int64_t compute_us);
void reply_free_list(struct reply *first);

#endif
