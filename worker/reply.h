/* The way back: finished predictions, sent to the gateways in batches by one thread.
 *
 *   predict threads ── reply_put ──▶ list ──▶ reply thread: MULTI · RPUSH per gateway loop · HSET usage ·
 * EXEC
 *
 * A batch whose EXEC was not seen to succeed is sent again: a gateway ignores what it no longer waits for,
 * and usage is set, not added. After REPLY_GIVE_UP_MS it is dropped; the gateways' deadlines have passed or
 * will tell. */
#ifndef WORKER_REPLY_H
#define WORKER_REPLY_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/buf.h"
#include "base/err.h"
#include "queue/inbox.h"
#include "queue/message.h"
#include "queue/usage.h"

enum { REPLY_GIVE_UP_MS = 10000 };

struct reply {
    struct reply *next;
    char inbox[INBOX_KEY_MAX];
    struct buf record; /* owned: an encoded PREDICT_REPLY */
    char tenant_id[ID_MAX], version_id[ID_MAX];
    int64_t rows, compute_us; /* to be billed; rows 0: nothing is */
};

/* An answer to p without outputs: code is an ERR_*. */
struct reply *reply_of_error(const struct message_predict *p, const char *worker_inc, const struct err *e,
                             int code);
/* An answer with outputs; timing and code 0 are in m->reply. NULL when memory is out. */
struct reply *reply_of_outputs(const struct message_predict *p, const struct message *m, int64_t compute_us);
void reply_free_list(struct reply *first);

struct reply_queue;

/* usage is borrowed; what a batch bills is added to it when the batch is first sent. */
int reply_queue_create(struct reply_queue **out, const struct redis_address *redis, struct usage *usage,
                       struct err *e);
int reply_queue_start(struct reply_queue *q, struct err *e);
void reply_queue_free(struct reply_queue *q); /* sends what is there once more, then joins */

void reply_put(struct reply_queue *q, struct reply *first); /* any thread; takes the whole list over */
void reply_queue_republish(struct reply_queue *q);          /* any thread: usage totals all go out again */
size_t reply_queue_waiting(struct reply_queue *q);          /* put, and neither delivered nor dropped */
int64_t reply_queue_lost(struct reply_queue *q);            /* dropped so far */

#endif
