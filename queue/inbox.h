/* Inboxes: one Redis list per worker, and one for the leading scheduler. Pushed at the
 * right, popped in batches at the left. A list that nobody pops expires INBOX_EXPIRE_MS after its last push,
 * so a dead process leaves nothing behind. */
#ifndef QUEUE_INBOX_H
#define QUEUE_INBOX_H

#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/err.h"
#include "base/ids.h"
#include "queue/message.h"
#include "queue/redis.h"

enum { INBOX_KEY_MAX = 80, INBOX_EXPIRE_MS = 60000, INBOX_LEN_MAX = 100000, INBOX_POP_MAX = 1024 };
#define INBOX_SCHEDULER "tnr:in:scheduler"

void inbox_worker_key(char out[INBOX_KEY_MAX], const char *inc); /* tnr:in:<inc> */

/* Encodes and pushes, blocking. An inbox beyond INBOX_LEN_MAX loses its oldest records (everything in it can
 * be asked for again). */
int inbox_push(struct redis *r, const char *key, const struct message *m, struct err *e);

/* What a pop returned: records borrowed from the reply that the batch owns. A zeroed batch is valid to
 * dispose of. */
struct inbox_batch {
    redisReply *reply;         /* owned */
    const redisReply *records; /* borrowed from the reply */
    size_t len;
};
struct inbox_record {
    const char *data;
    size_t len;
};
struct inbox_record inbox_batch_get(const struct inbox_batch *b, size_t i);
void inbox_batch_dispose(struct inbox_batch *b);

/* Takes up to count records, oldest first, waiting at most block_ms for the first (0: does not wait). An
 * empty batch is success. Records are gone from Redis then: what must not be lost lives in Postgres. */
int inbox_pop(struct redis *r, const char *key, size_t count, int block_ms, struct inbox_batch *out,
              struct err *e);

#endif
