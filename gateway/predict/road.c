/* The worker's half of the predict road: sending to a holder, popping replies, and sending again what was
 * lost on the way.
 *
 * Predictions are pure, so a request may be sent any number of times; the first answer counts, and only a
 * first sending is billed. */
#include "gateway/predict/predict_impl.h"

#include <string.h>
#include <event2/event.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

enum { POP_BLOCK_MS = 1000, RETRY_MS = 100, EXPIRE_EVERY_MS = 1000 };

static const char *const channels[] = {PLACEMENT_CHANNEL, CHANGED_CHANNEL};

/* ---- sending
 * ------------------------------------------------------------------------------------------------------ */

void predict__recall(struct predict_request *r)
{
    if (r->state == REQUEST_SENT) r->worker->outstanding--;
    if (r->state == REQUEST_PLACING) holders_unwant(r->owner->holders, r->route->route.version_id);
    r->worker = NULL;
    if (r->state > REQUEST_BODY) r->state = REQUEST_BODY; /* stands between two places */
}

static void wait_for_holder(struct predict_request *r)
{
    const struct model_route *route = &r->route->route;
    r->state = REQUEST_PLACING;
    holders_want(r->owner->holders, route->tenant_id, route->version_id, route->bytes);
}

/* The worker may have it and may not: somebody is to compute it, and nobody to count it twice. */
static void send_again(struct predict_request *r)
{
    message_mark_resent(&r->record);
    r->owner->stats.resent++;
    predict__place(r);
}

struct push {
    struct predict *owner;
    uint64_t id;
    int attempt;
};

static void on_pushed(void *arg, int rc, const redisReply *reply, const struct err *e)
{
    (void)reply;
    struct push *push = arg;
    struct predict_request *r = push->owner->freeing ? NULL : predict__find(push->owner, push->id);
    bool current = r && r->state == REQUEST_SENT && r->attempts == push->attempt;
    mem_free(push);
    if (!rc || !current) return;
    if (rc == ERR_UNAVAILABLE) {
        message_mark_resent(&r->record);
        predict__recall(r);
        wait_for_holder(r); /* the retry timer sends it once Redis is back */
        return;
    }
    struct err failure = *e;
    failure.retry_after_ms = 1000;
    predict__fail(r, &failure);
}

/* An inbox that its worker has left behind must not stay in Redis for ever. */
static void renew_expiry(struct predict *p, struct worker *w)
{
    int64_t now = clock_mono_ms();
    if (now - w->expire_sent_ms < EXPIRE_EVERY_MS) return;
    w->expire_sent_ms = now;
    redis_async_call(p->commands, NULL, NULL, "PEXPIRE %s %d", w->inbox, INBOX_EXPIRE_MS);
}

static int push(struct predict_request *r, struct worker *w)
{
    struct predict *p = r->owner;
    struct push *push = mem_alloc(1, sizeof *push);
    *push = (struct push){p, r->id, ++r->attempts};
    const char *argv[] = {"RPUSH", w->inbox, r->record.data};
    size_t lens[] = {5, strlen(w->inbox), r->record.len};
    int rc = redis_async_argv(p->commands, 0, on_pushed, push, 3, argv, lens);
    if (rc) {
        r->attempts--;
        mem_free(push);
        return rc;
    }
    renew_expiry(p, w);
    return 0;
}

void predict__place(struct predict_request *r)
{
    struct predict *p = r->owner;
    struct err e = {0};
    predict__recall(r);
    if (r->attempts >= PREDICT_ATTEMPTS_MAX) {
        err_set(&e, ERR_UNAVAILABLE, NULL, "%d workers in turn could not answer", r->attempts);
        e.retry_after_ms = 1000;
        predict__fail(r, &e);
        return;
    }
    struct worker *w = holders_pick(p->holders, r->route->route.version_id);
    int rc = w ? push(r, w) : ERR_UNAVAILABLE;
    if (rc == 0) {
        r->state = REQUEST_SENT;
        r->worker = w;
        w->outstanding++;
    } else if (rc == ERR_UNAVAILABLE) {
        if (!w) p->stats.placed_waits++;
        wait_for_holder(r);
    } else {
        err_set(&e, ERR_OVERLOAD, NULL, "too many commands to Redis are in flight");
        e.retry_after_ms = 1000;
        predict__fail(r, &e);
    }
}

/* ---- what the world tells
 * --------------------------------------------------------------------------------------------- */

/* Requests leave the list under these loops, but never the one after the one in hand. */
static void place_waiting(struct predict *p, const char *version_id)
{
    for (struct predict_request *r = p->first, *next; r; r = next) {
        next = r->next;
        if (r->state != REQUEST_PLACING) continue;
        if (!version_id || strcmp(r->route->route.version_id, version_id) == 0) predict__place(r);
    }
}

static void resend(struct predict *p, const struct worker *only)
{
    for (struct predict_request *r = p->first, *next; r; r = next) {
        next = r->next;
        if (r->state == REQUEST_SENT && (!only || r->worker == only)) send_again(r);
    }
}

static void on_ready(void *arg, const char *version_id)
{
    place_waiting(arg, version_id);
}

static void on_lost(void *arg, struct worker *w)
{
    resend(arg, w);
}

static void on_amnesia(void *arg)
{
    resend(arg, NULL);
}

static void on_published(void *arg, const char *channel, const char *data, size_t len)
{
    struct predict *p = arg;
    struct placement_change placed;
    struct changed changed;
    struct err e;
    if (strcmp(channel, PLACEMENT_CHANNEL) == 0) {
        if (placement_parse(&placed, data, len, &e) == 0) holders_placed(p->holders, &placed);
        return;
    }
    if (changed_parse(&changed, data, len, &e)) {
        log_warn("change-refused", "reason=\"%s\"", e.message);
        return;
    }
    route_cache_drop(p->routes, &changed);
    if (p->config.on_changed) p->config.on_changed(p->config.arg, &changed);
}

static void on_events_state(void *arg, bool up)
{
    struct predict *p = arg;
    struct changed all = {.kind = CHANGED_ALL};
    if (!up) return;
    route_cache_drop(p->routes, &all);
    if (p->config.on_changed) p->config.on_changed(p->config.arg, &all);
}

/* ---- replies
 * ------------------------------------------------------------------------------------------------------- */

/* The encoders walk as many rows as were asked for. */
static bool outputs_fit(const struct predict_request *r, const struct message *m)
{
    if (m->tensors_len != r->infer.signature->n_outputs) return false;
    for (size_t i = 0; i < m->tensors_len; i++)
        if (m->tensors[i].dims[0] != r->infer.rows) return false;
    return true;
}

static void answer(struct predict_request *r, const struct message *m)
{
    struct infer_answer a = {&r->route->route, m->tensors, m->tensors_len};
    struct buf body = {0};
    size_t json_len = 0;
    char text[24];
    struct err e = {0};
    if (!outputs_fit(r, m)) {
        err_set(&e, ERR_INTERNAL, NULL, "a worker sent %zu outputs that do not fit %zu of %lld rows",
                m->tensors_len, r->infer.signature->n_outputs, (long long)r->infer.rows);
        predict__fail(r, &e);
        return;
    }
    r->protocol->encode(&r->infer, &a, &body, &json_len);
    if (body.failed) {
        err_set(&e, ERR_OVERLOAD, NULL, "no memory for the reply now");
        e.retry_after_ms = 1000;
        predict__fail(r, &e);
    } else {
        struct exchange *x = r->x;
        r->owner->stats.answered++;
        predict__tell_rate(r);
        exchange_on_cancel(x, NULL, NULL);
        predict__end(r);
        if (json_len) {
            snprintf(text, sizeof text, "%zu", json_len);
            exchange_header(x, "Inference-Header-Content-Length", text);
        }
        exchange_reply(x, 200, json_len ? "application/octet-stream" : "application/json", body.data,
                       body.len);
    }
    buf_dispose(&body);
}

static void on_reply(struct predict *p, const struct message *m)
{
    struct predict_request *r = predict__find(p, m->reply.request_id);
    struct err e = {0};
    if (!r || (r->state != REQUEST_SENT && r->state != REQUEST_PLACING)) return; /* answered, gone or late */
    if (m->reply.code == 0) {
        answer(r, m);
        return;
    }
    if (m->reply.code == ERR_STALE) {
        if (r->state != REQUEST_SENT || strcmp(r->worker->inc, m->reply.worker_inc) != 0)
            return; /* sent on already */
        holders_forget(p->holders, r->route->route.version_id, m->reply.worker_inc);
        predict__place(r);
        return;
    }
    err_set(&e, m->reply.code, m->reply.field[0] ? m->reply.field : NULL, "%s", m->reply.message);
    if (e.code == ERR_OVERLOAD) e.retry_after_ms = 1000;
    predict__fail(r, &e);
}

static void start_pop(struct predict *p);

static void on_popped(void *arg, int rc, const redisReply *reply, const struct err *e)
{
    struct predict *p = arg;
    p->popping = false;
    if (p->freeing) return;
    if (rc) {
        log_warn("pop-failed", "loop=%d reason=\"%s\"", p->config.loop_index, e->message);
        return; /* the retry timer pops again */
    }
    struct inbox_batch batch = inbox_batch_of(reply);
    for (size_t i = 0; i < batch.len; i++) {
        struct inbox_record record = inbox_batch_get(&batch, i);
        struct message m;
        struct err bad;
        int decoded = message_decode(&m, p->scratch, MESSAGE_TENSORS_MAX, record.data, record.len, &bad);
        if (decoded == 0 && m.type == MESSAGE_PREDICT_REPLY)
            on_reply(p, &m);
        else
            log_warn("reply-refused", "reason=\"%s\"", decoded ? bad.message : "not a reply");
    }
    start_pop(p);
}

static void start_pop(struct predict *p)
{
    if (p->popping || p->freeing) return;
    const char *argv[] = {"BLMPOP", "1", "1", p->inbox_key, "LEFT", "COUNT", "256"};
    p->popping = redis_async_argv(p->inbox, POP_BLOCK_MS, on_popped, p, 7, argv, NULL) == 0;
}

static void on_commands_state(void *arg, bool up)
{
    struct predict *p = arg;
    if (up) holders_poll(p->holders);
}

/* A pop that was under way when the connection broke may have taken replies with it. */
static void on_inbox_state(void *arg, bool up)
{
    struct predict *p = arg;
    if (!up) return;
    start_pop(p);
    if (p->inbox_was_up) resend(p, NULL);
    p->inbox_was_up = true;
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct predict *p = arg;
    if (redis_async_up(p->inbox)) start_pop(p);
    if (redis_async_up(p->commands)) place_waiting(p, NULL);
}

/* ---- life
 * ---------------------------------------------------------------------------------------------------------
 */

static struct redis_async *connect_as(struct predict *p, const char *name,
                                      void (*on_state)(void *arg, bool up))
{
    struct redis_async_config c = {.address = p->config.redis, .name = name, .on_state = on_state, .arg = p};
    return redis_async_create(p->loop, &c);
}

int predict__road_open(struct predict *p, struct err *e)
{
    struct holders_config holders = {.inc = p->config.inc,
                                     .loop_index = p->config.loop_index,
                                     .on_ready = on_ready,
                                     .on_lost = on_lost,
                                     .on_amnesia = on_amnesia,
                                     .arg = p};
    inbox_loop_key(p->inbox_key, p->config.inc, p->config.loop_index);
    p->commands = connect_as(p, "commands", on_commands_state);
    p->inbox = connect_as(p, "inbox", on_inbox_state);
    p->events = connect_as(p, "events", on_events_state);
    redis_async_subscribe(p->events, channels, 2, on_published, p);
    p->holders = holders_create(p->loop, p->commands, &holders);
    p->retry = event_new(loop_base(p->loop), -1, EV_PERSIST, on_retry, p);
    if (!p->retry) return err_set(e, ERR_NOMEM, NULL, "no memory for a timer of the predict road");
    event_add(p->retry, &(struct timeval){.tv_usec = RETRY_MS * 1000});
    return 0;
}

void predict__road_close(struct predict *p)
{
    if (p->retry) event_free(p->retry);
    redis_async_free(p->events);
    redis_async_free(p->inbox);
    redis_async_free(p->commands);
    holders_free(p->holders);
}
