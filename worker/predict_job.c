/* Asks the engine again and again until it answers, the job may not run any longer, or nobody wants to know.
 *
 * The question belongs to two: the thread that asks, which may stop waiting, and the serving thread that
 * answers it at some time. */
#include "worker/predict_job.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "queue/message.h"
#include "queue/placement.h"
#include "queue/redis_clock.h"
#include "worker/fetch.h"

enum { ASK_MS = 30000, AGAIN_MS = 50 };

struct question {
    atomic_int refs;
    int answered_fd;      /* eventfd: wakes who asks */
    atomic_bool answered; /* from then on the reply is theirs */
    struct buf reply;     /* owned; empty when it was dropped */
};

static void question_release(struct question *q)
{
    if (atomic_fetch_sub(&q->refs, 1) > 1) return;
    buf_dispose(&q->reply);
    close(q->answered_fd);
    mem_free(q);
}

static void on_reply(void *arg, const char *record, size_t len)
{
    struct question *q = arg;
    uint64_t one = 1;
    if (record) buf_append(&q->reply, record, len);
    atomic_store(&q->answered, true);
    if (write(q->answered_fd, &one, sizeof one) < 0)
        log_warn("wake_failed", "reason=\"%s\"", strerror(errno));
    question_release(q);
}

/* ---- the request ---- */

struct ask {
    struct slot *slot;
    struct run *run;
    const struct order *order;
    struct buf stored;              /* owned: the blob's bytes */
    struct message_tensor *tensors; /* owned: MESSAGE_TENSORS_MAX */
    struct message request;         /* points into both */
    int64_t began_ms, until_ms;
};

static int read_request(struct ask *a, struct err *e)
{
    const struct job *job = &a->order->job;
    a->tensors = mem_try_alloc(MESSAGE_TENSORS_MAX, sizeof *a->tensors);
    if (!a->tensors) return err_set(e, ERR_NOMEM, NULL, "no memory for the request");
    int rc = fetch_blob(a->slot->s->config.blobs, &a->order->key, &a->order->input, &a->stored, e);
    if (rc == 0)
        rc = message_decode(&a->request, a->tensors, MESSAGE_TENSORS_MAX, a->stored.data, a->stored.len, e);
    if (rc) return rc;
    const struct message_predict *p = &a->request.predict;
    if (a->request.type == MESSAGE_PREDICT && strcmp(p->tenant_id, job->tenant_id) == 0 &&
        strcmp(p->version_id, job->version_id) == 0)
        return 0;
    return err_set(e, ERR_CORRUPT, NULL, "the stored request is another job's");
}

/* ---- waiting ---- */

static bool is_over(enum run_wish w)
{
    return w >= RUN_LEAVE; /* making way for others is no use: it takes no slot */
}

/* Until fd (−1: none) is readable, the wish is one to stop, or so long. True: fd is. */
static bool wait_for(const struct ask *a, int fd, int64_t ms)
{
    int64_t until_ms = clock_mono_ms() + ms;
    struct pollfd fds[] = {{.fd = a->run->wake_fd, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
    for (int64_t left = ms; left > 0 && !is_over(run_wish_of(a->slot->s, a->run));
         left = until_ms - clock_mono_ms()) {
        if (poll(fds, 2, (int)left) <= 0) continue;
        if (fds[1].revents) return true;
        uint64_t ignored;
        if (read(a->run->wake_fd, &ignored, sizeof ignored) < 0 && errno != EAGAIN) return false;
    }
    return false;
}

static bool ask_once(struct ask *a, struct buf *reply)
{
    struct question *q = mem_alloc(1, sizeof *q);
    struct buf record = {0};
    q->answered_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    a->request.predict.deadline_us = redis_clock_us() + ASK_MS * 1000;
    message_encode(&record, &a->request);
    if (q->answered_fd < 0 || record.failed) {
        buf_dispose(&record);
        if (q->answered_fd >= 0) close(q->answered_fd);
        mem_free(q);
        return false;
    }
    atomic_init(&q->refs, 2);
    engine_call(*a->slot->s->config.engine, &record, on_reply, q);
    bool answered = wait_for(a, q->answered_fd, ASK_MS) && atomic_load(&q->answered);
    if (answered) {
        *reply = q->reply;
        q->reply = (struct buf){0};
    }
    question_release(q);
    return answered && reply->len > 0 && !reply->failed;
}

/* ---- the outcome ---- */

static void fail(struct outcome *out, const struct err *why)
{
    out->type = OUTCOME_FAILED;
    out->why = *why;
}

/* The version is not here: it is asked for. True: it does not come, and that was it. A failure that may pass
 * ends the attempt, for another one that waits without a place, unless it is older than the attempt: then the
 * version is tried again first, as soon as the engine does. */
static bool does_not_come(struct outcome *out, const struct ask *a)
{
    struct engine *g = *a->slot->s->config.engine;
    const struct job *job = &a->order->job;
    struct err why = {0};
    engine_load(g, job->tenant_id, job->version_id);
    int64_t failed_ms = engine_load_failed_ms(g, job->tenant_id, job->version_id, &why);
    bool final = placement_failure_is_final(why.code);
    if (failed_ms == 0 || (!final && failed_ms < a->began_ms)) return false;
    out->type = final ? OUTCOME_FAILED : OUTCOME_CRASHED;
    err_set(&out->why, why.code, NULL, "%s the version: %s",
            final ? "no worker can serve" : "the worker cannot serve", placement_failure_told(&why));
    return true;
}

/* True: that was it. What may be otherwise in a moment is asked again. */
static bool settle(struct outcome *out, struct ask *a, struct buf *reply)
{
    struct message m;
    struct err e = {0};
    struct message_tensor *tensors = mem_try_alloc(MESSAGE_TENSORS_MAX, sizeof *tensors);
    int rc = tensors ? message_decode(&m, tensors, MESSAGE_TENSORS_MAX, reply->data, reply->len, &e)
                     : err_set(&e, ERR_NOMEM, NULL, "no memory for the answer");
    mem_free(tensors);
    if (rc) {
        fail(out, &e);
        return true;
    }
    if (m.reply.code == ERR_STALE) return does_not_come(out, a);
    if (m.reply.code == ERR_OVERLOAD || m.reply.code == ERR_NOMEM) return false;
    if (m.reply.code == 0) {
        out->type = OUTCOME_DONE;
        out->answer = *reply;
        out->compute_us = m.reply.compute_us;
        *reply = (struct buf){0};
        return true;
    }
    err_set(&e, m.reply.code, m.reply.field[0] ? m.reply.field : NULL, "%s", m.reply.message);
    fail(out, &e);
    return true;
}

/* Why nobody waits any more; false: somebody does. */
static bool stopped(struct outcome *out, const struct ask *a)
{
    struct err e = {0};
    switch (run_wish_of(a->slot->s, a->run)) {
    case RUN_CANCEL:
        out->type = OUTCOME_CANCELLED;
        return true;
    case RUN_LOST:
        out->type = OUTCOME_LOST;
        return true;
    case RUN_LEAVE:
        out->type = OUTCOME_YIELDED;
        return true;
    case RUN_ON:
    case RUN_YIELD:
        break;
    }
    if (clock_mono_ms() < a->until_ms) return false;
    err_set(&e, ERR_TIMEOUT, NULL, "the version could not be asked within the job's %lld seconds",
            (long long)a->order->job.max_seconds);
    fail(out, &e);
    return true;
}

static void ask_until_answered(struct outcome *out, struct ask *a)
{
    struct buf reply = {0};
    while (!stopped(out, a)) {
        bool settled = ask_once(a, &reply) && settle(out, a, &reply);
        buf_dispose(&reply);
        if (settled && run_wish_of(a->slot->s, a->run) < RUN_CANCEL) return;
        if (!settled) (void)wait_for(a, -1, AGAIN_MS);
    }
}

void predict_job_run(struct outcome *out, struct slot *slot, struct run *run, const struct order *order)
{
    struct ask a = {.slot = slot, .run = run, .order = order, .began_ms = clock_mono_ms()};
    struct err e = {0};
    a.until_ms = a.began_ms + order->job.max_seconds * 1000;
    int rc = read_request(&a, &e);
    log_info("job_started", "job=%s fence=%lld attempt=%d", run->job_id, (long long)run->fence,
             order->job.attempt);
    if (rc == ERR_NOMEM || rc == ERR_IO || rc == ERR_TOO_LARGE) {
        out->type = OUTCOME_CRASHED; /* another worker, or this one later, may do better */
        out->why = e;
    } else if (rc) {
        fail(out, &e);
    } else {
        ask_until_answered(out, &a);
    }
    buf_dispose(&a.stored);
    mem_free(a.tensors);
}
