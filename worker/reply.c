/* Replies and the thread that delivers them.
 *
 * The list is shared under one lock. The batch that is being sent, the connection and the billing belong to
 * the reply thread. */
#include "worker/reply.h"

#include <pthread.h>
#include <string.h>
#include <time.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

enum { TIMEOUT_MS = 2000, BATCH_MAX = 512 };

#define EXPIRE_TEXT "60000" /* INBOX_EXPIRE_MS: sent with each batch, so not worth formatting each time */
_Static_assert(INBOX_EXPIRE_MS == 60000, "EXPIRE_TEXT says the same");

struct reply_queue {
    struct redis *redis; /* the thread's */
    struct usage *usage; /* borrowed */
    pthread_t thread;
    bool started;

    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct reply *first, *last;
    size_t waiting;
    int64_t lost;
    bool stopping, republish;
};

/* ---- one reply
 * -------------------------------------------------------------------------------------------------- */

static struct reply *encode(const struct message_predict *p, const struct message *m)
{
    struct reply *r = mem_try_alloc(1, sizeof *r);
    if (!r) return NULL;
    message_encode(&r->record, m);
    if (r->record.failed) {
        reply_free_list(r);
        return NULL;
    }
    inbox_loop_key(r->inbox, p->reply_inc, p->reply_loop);
    memcpy(r->tenant_id, p->tenant_id, ID_MAX);
    memcpy(r->version_id, p->version_id, ID_MAX);
    return r;
}

struct reply *reply_of_error(const struct message_predict *p, const char *worker_inc, const struct err *e,
                             int code)
{
    struct message m = {.type = MESSAGE_PREDICT_REPLY};
    m.reply.request_id = p->request_id;
    m.reply.code = code;
    memcpy(m.reply.worker_inc, worker_inc, strlen(worker_inc) + 1);
    if (e) {
        memcpy(m.reply.field, e->field, sizeof m.reply.field);
        memcpy(m.reply.message, e->message, sizeof m.reply.message);
    }
    return encode(p, &m);
}

struct reply *reply_of_outputs(const struct message_predict *p, const struct message *m, int64_t compute_us)
{
    struct reply *r = encode(p, m);
    if (!r) return NULL;
    r->rows = p->resent ? 0 : p->rows;
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

/* ---- sending a batch
 * -------------------------------------------------------------------------------------------- */

static void bill(struct reply_queue *q, const struct reply *batch)
{
    for (const struct reply *r = batch; r; r = r->next) {
        struct err e;
        if (r->rows && usage_add(q->usage, r->tenant_id, r->version_id, 1, r->rows, r->compute_us, &e))
            log_error("usage-lost", "tenant=%s version=%s rows=%lld reason=\"%s\"", r->tenant_id,
                      r->version_id, (long long)r->rows, e.message);
    }
}

/* One RPUSH with all of the batch's replies to the inbox of `to`, which is their first, and its PEXPIRE. */
static int append_inbox(struct reply_queue *q, const struct reply *batch, const struct reply *to,
                        struct err *e)
{
    const char *argv[2 + BATCH_MAX] = {"RPUSH", to->inbox};
    size_t lens[2 + BATCH_MAX] = {5, strlen(to->inbox)};
    int argc = 2;
    for (const struct reply *r = batch; r; r = r->next) {
        if (strcmp(r->inbox, to->inbox) != 0) continue;
        argv[argc] = r->record.data;
        lens[argc++] = r->record.len;
    }
    int rc = redis_append_argv(q->redis, argc, argv, lens, e);
    const char *expire[] = {"PEXPIRE", to->inbox, EXPIRE_TEXT};
    return rc ? rc : redis_append_argv(q->redis, 3, expire, NULL, e);
}

static bool is_first_of_inbox(const struct reply *batch, const struct reply *r)
{
    while (batch != r && strcmp(batch->inbox, r->inbox) != 0) batch = batch->next;
    return batch == r;
}

/* Every reply in the transaction must have been accepted, EXEC's own as well. */
static int check_exec(struct reply_queue *q, struct err *e)
{
    redisReply *reply;
    int rc = redis_take(q->redis, &reply, e);
    if (rc) return rc;
    rc = redis__reply_error(reply, e);
    if (rc == 0 && reply->type != REDIS_REPLY_ARRAY)
        rc = err_set(e, ERR_UNAVAILABLE, NULL, "EXEC did nothing");
    for (size_t i = 0; rc == 0 && i < reply->elements; i++) rc = redis__reply_error(reply->element[i], e);
    freeReplyObject(reply);
    return rc;
}

static int send_transaction(struct reply_queue *q, const struct reply *batch, struct err *e)
{
    size_t queued = 1, totals = 0;
    int rc = redis_append(q->redis, e, "MULTI");
    for (const struct reply *r = batch; r && rc == 0; r = r->next) {
        if (!is_first_of_inbox(batch, r)) continue;
        rc = append_inbox(q, batch, r, e);
        queued += 2;
    }
    if (rc == 0) rc = usage_append_dirty(q->usage, q->redis, &totals, e);
    if (rc == 0) rc = redis_append(q->redis, e, "EXEC");
    if (rc) return rc;
    rc = redis_take_all(q->redis, queued + totals, e);
    if (rc && !redis_connected(q->redis)) return rc;
    int exec_rc = check_exec(q, rc ? NULL : e);
    return rc ? rc : exec_rc;
}

/* *billed: whether the batch is in the totals already. */
static int send_batch(struct reply_queue *q, const struct reply *batch, bool *billed, struct err *e)
{
    int rc = redis_connect(q->redis, e);
    if (rc) return rc;
    if (!*billed) bill(q, batch);
    *billed = true;
    rc = send_transaction(q, batch, e);
    usage_confirm(q->usage, rc == 0);
    return rc;
}

/* ---- the thread
 * -------------------------------------------------------------------------------------------------- */

static struct reply *take_batch(struct reply_queue *q, size_t *n)
{
    struct reply *batch = q->first, **tail = &batch;
    for (*n = 0; *tail && *n < BATCH_MAX; ++*n) tail = &(*tail)->next;
    q->first = *tail;
    if (!q->first) q->last = NULL;
    *tail = NULL;
    return batch;
}

/* Waits ms, or until the queue stops. With the lock held. */
static void wait_backoff(struct reply_queue *q, int ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    while (!q->stopping && pthread_cond_timedwait(&q->wake, &q->lock, &until) == 0) continue;
}

/* Sends until it succeeds, the time is up, or the queue stops after one try. */
static bool deliver(struct reply_queue *q, const struct reply *batch)
{
    int64_t give_up = clock_mono_ms() + REPLY_GIVE_UP_MS;
    bool billed = false;
    struct err e = {0};
    while (send_batch(q, batch, &billed, &e)) {
        int ms = redis_backoff_ms(q->redis);
        pthread_mutex_lock(&q->lock);
        bool stopping = q->stopping;
        if (!stopping) wait_backoff(q, ms ? ms : 20);
        pthread_mutex_unlock(&q->lock);
        if (stopping || clock_mono_ms() >= give_up) {
            log_warn("replies-lost", "reason=\"%s\"", e.message);
            return false;
        }
    }
    return true;
}

static void *run(void *arg)
{
    struct reply_queue *q = arg;
    pthread_mutex_lock(&q->lock);
    for (;;) {
        while (!q->first && !q->republish && !q->stopping) pthread_cond_wait(&q->wake, &q->lock);
        if (!q->first && !q->republish) break;
        size_t n;
        struct reply *batch = take_batch(q, &n);
        bool all = q->republish;
        q->republish = false;
        pthread_mutex_unlock(&q->lock);
        if (all) usage_touch_all(q->usage);
        bool delivered = deliver(q, batch);
        reply_free_list(batch);
        pthread_mutex_lock(&q->lock);
        q->waiting -= n;
        if (!delivered) q->lost += (int64_t)n;
        if (!delivered && all && !q->stopping) q->republish = true;
    }
    pthread_mutex_unlock(&q->lock);
    return NULL;
}

int reply_queue_create(struct reply_queue **out, const struct redis_address *redis, struct usage *usage,
                       struct err *e)
{
    struct reply_queue *q = mem_try_alloc(1, sizeof *q);
    *out = q;
    if (!q) return err_set(e, ERR_NOMEM, NULL, "no memory for the reply queue");
    q->redis = redis_create(redis, TIMEOUT_MS);
    q->usage = usage;
    pthread_mutex_init(&q->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&q->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return 0;
}

int reply_queue_start(struct reply_queue *q, struct err *e)
{
    if (pthread_create(&q->thread, NULL, run, q)) return err_errno(e, ERR_INTERNAL, "start the reply thread");
    q->started = true;
    return 0;
}

void reply_queue_free(struct reply_queue *q)
{
    if (!q) return;
    pthread_mutex_lock(&q->lock);
    q->stopping = true;
    pthread_cond_broadcast(&q->wake);
    pthread_mutex_unlock(&q->lock);
    if (q->started) pthread_join(q->thread, NULL);
    reply_free_list(q->first);
    redis_free(q->redis);
    pthread_cond_destroy(&q->wake);
    pthread_mutex_destroy(&q->lock);
    mem_free(q);
}

void reply_put(struct reply_queue *q, struct reply *first)
{
    if (!first) return;
    size_t n = 1;
    struct reply *last = first;
    for (; last->next; last = last->next) n++;
    pthread_mutex_lock(&q->lock);
    *(q->last ? &q->last->next : &q->first) = first;
    q->last = last;
    q->waiting += n;
    pthread_cond_signal(&q->wake);
    pthread_mutex_unlock(&q->lock);
}

void reply_queue_republish(struct reply_queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->republish = true;
    pthread_cond_signal(&q->wake);
    pthread_mutex_unlock(&q->lock);
}

size_t reply_queue_waiting(struct reply_queue *q)
{
    pthread_mutex_lock(&q->lock);
    size_t n = q->waiting;
    pthread_mutex_unlock(&q->lock);
    return n;
}

int64_t reply_queue_lost(struct reply_queue *q)
{
    pthread_mutex_lock(&q->lock);
    int64_t n = q->lost;
    pthread_mutex_unlock(&q->lock);
    return n;
}
