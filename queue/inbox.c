/* Pushing to and popping from inboxes, blocking. */
#include "queue/inbox.h"

#include <stdio.h>
#include <string.h>

void inbox_worker_key(char out[INBOX_KEY_MAX], const char *inc)
{
    snprintf(out, INBOX_KEY_MAX, "tnr:in:%s", inc);
}

/* RPUSH and PEXPIRE in one round trip; *length is the list's after the push. */
static int push_record(struct redis *r, const char *key, const struct buf *record, int64_t *length,
                       struct err *e)
{
    redisReply *reply;
    int rc = redis_append(r, e, "RPUSH %s %b", key, record->data, record->len);
    if (rc == 0) rc = redis_append(r, e, "PEXPIRE %s %d", key, INBOX_EXPIRE_MS);
    if (rc == 0) rc = redis_take(r, &reply, e);
    if (rc) return rc;
    rc = redis__reply_error(reply, e);
    *length = redis_reply_int(reply, 0);
    freeReplyObject(reply);
    int rc2 = redis_take_all(r, 1, rc ? NULL : e);
    return rc ? rc : rc2;
}

int inbox_push(struct redis *r, const char *key, const struct message *m, struct err *e)
{
    struct buf record = {0};
    message_encode(&record, m);
    if (record.failed) {
        buf_dispose(&record);
        return err_set(e, ERR_NOMEM, NULL, "no memory for a message");
    }
    int64_t length = 0;
    int rc = push_record(r, key, &record, &length, e);
    buf_dispose(&record);
    if (rc == 0 && length > INBOX_LEN_MAX) rc = redis_call(r, NULL, e, "LTRIM %s %d -1", key, -INBOX_LEN_MAX);
    return rc;
}

/* The records of a BLMPOP or LMPOP reply; nil: none. */
static struct inbox_batch batch_of(const redisReply *reply)
{
    struct inbox_batch b = {0};
    if (!reply || reply->type != REDIS_REPLY_ARRAY || reply->elements != 2) return b;
    if (reply->element[1]->type != REDIS_REPLY_ARRAY) return b;
    b.len = reply->element[1]->elements;
    b.records = reply->element[1];
    return b;
}

struct inbox_record inbox_batch_get(const struct inbox_batch *b, size_t i)
{
    const redisReply *item = b->records->element[i];
    return (struct inbox_record){.data = item->str, .len = item->str ? item->len : 0};
}

void inbox_batch_dispose(struct inbox_batch *b)
{
    if (b->reply) freeReplyObject(b->reply);
    memset(b, 0, sizeof *b);
}

int inbox_pop(struct redis *r, const char *key, size_t count, int block_ms, struct inbox_batch *out,
              struct err *e)
{
    memset(out, 0, sizeof *out);
    char seconds[32], many[24];
    snprintf(seconds, sizeof seconds, "%d.%03d", block_ms / 1000, block_ms % 1000);
    snprintf(many, sizeof many, "%zu", count);
    const char *blocking[] = {"BLMPOP", seconds, "1", key, "LEFT", "COUNT", many};
    const char *at_once[] = {"LMPOP", "1", key, "LEFT", "COUNT", many};
    redisReply *reply;
    /* BLMPOP with 0 would wait for ever. */
    int rc = block_ms > 0 ? redis_call_blocking(r, &reply, block_ms, 7, blocking, NULL, e)
                          : redis_call_argv(r, &reply, 6, at_once, NULL, e);
    if (rc) return rc;
    *out = batch_of(reply);
    out->reply = reply;
    return 0;
}
