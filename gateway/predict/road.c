/* The worker's half of the predict road: sending to a holder, taking its answers, and sending again what was
 * lost on the way.
 *
 * Predictions are pure, so a request may be sent any number of times; the first answer counts. */
#include "gateway/predict/predict_impl.h"
#include "gateway/predict/shadow.h"

#include <string.h>
#include <event2/event.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/num.h"

enum { RETRY_MS = 100 };

static const char *const channels[] = {PLACEMENT_CHANNEL, CHANGED_CHANNEL};

/* ---- sending
 * ------------------------------------------------------------------------------------------------------ */

/* Nobody waits for its answer any more: one that is still on its way is dropped when it comes. */
static void tell_cancelled(const struct predict_request *r)
{
    struct message m = {.type = MESSAGE_PREDICT_CANCEL, .predict = {.request_id = r->id}};
    struct record record = {0};
    record_encode(&record, &m, NULL);
    if (!record.text.failed) link_send(r->port->link, &record);
    record_dispose(&record);
}

void predict__recall(struct predict_request *r)
{
    if (r->state == REQUEST_SENT) {
        r->port->outstanding--;
        if (r->port->link && !r->answered) tell_cancelled(r);
    }
    if (r->state == REQUEST_PLACING) holders_unwant(r->owner->holders, r->route->route.version_id);
    r->port = NULL;
    if (r->state > REQUEST_BODY) r->state = REQUEST_BODY; /* stands between two places */
}

static void wait_for_holder(struct predict_request *r)
{
    const struct model_route *route = &r->route->route;
    r->state = REQUEST_PLACING;
    holders_want(r->owner->holders, route->tenant_id, route->version_id, route->bytes);
}

static void send_again(struct predict_request *r)
{
    r->owner->stats.resent++;
    predict__place(r);
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
    struct port *port = holders_pick(p->holders, r->route->route.version_id);
    int rc = port ? link_send(port->link, &r->record) : ERR_UNAVAILABLE;
    if (rc == 0) {
        r->state = REQUEST_SENT;
        r->attempts++;
        r->answered = false;
        r->port = port;
        port->outstanding++;
        r->sent_us = clock_mono_us();
    } else if (rc == ERR_UNAVAILABLE) {
        p->stats.placed_waits++;
        wait_for_holder(r);
    } else {
        err_set(&e, ERR_OVERLOAD, NULL, "too many requests wait for a worker that does not read them");
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

static void resend(struct predict *p, const struct port *port)
{
    for (struct predict_request *r = p->first, *next; r; r = next) {
        next = r->next;
        if (r->state == REQUEST_SENT && r->port == port) send_again(r);
    }
}

static void on_ready(void *arg, const char *version_id)
{
    place_waiting(arg, version_id);
}

static void on_lost(void *arg, struct port *port)
{
    struct predict *p = arg;
    shadow_on_lost(p->shadows, port);
    resend(arg, port);
}

void predict_forget(struct predict *p, const struct changed *c)
{
    route_cache_drop(p->routes, c);
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

static void count(struct predict_stats *s, const struct predict_request *r)
{
    s->answered++;
    s->rows += r->infer.rows;
    s->compute_us += r->compute_us;
    s->queue_us += r->queue_us;
    s->batch_rows += r->batch_rows;
}

static void reply(struct predict_request *r)
{
    struct exchange *x = r->x;
    struct buf body = r->body;
    size_t json_len = r->json_len;
    char text[NUM_TEXT_MAX + 1];
    r->body = (struct buf){0};
    count(&r->owner->stats, r);
    predict__tell_rate(r);
    exchange_on_cancel(x, NULL, NULL);
    predict__end(r);
    if (json_len) {
        text[num_format_i64(text, (int64_t)json_len)] = '\0';
        exchange_header(x, "Inference-Header-Content-Length", text);
    }
    exchange_reply(x, 200, json_len ? "application/octet-stream" : "application/json", body.data, body.len);
    buf_dispose(&body);
}

/* Replies may end other requests (a connection breaks) and bring new ones, but none that is answered already.
 */
static void settle(struct predict *p)
{
    size_t n = p->answered_len;
    struct predict_request *r;
    for (size_t i = 0; i < n; i++)
        if ((r = predict__find(p, p->answered[i])) != NULL)
            biller_count(p->biller, r->tenant_id, r->route->route.version_id, r->infer.rows, r->compute_us);
    biller_publish(p->biller);
    for (size_t i = 0; i < n; i++)
        if ((r = predict__find(p, p->answered[i])) != NULL) reply(r);
    p->answered_len = 0;
}

static void on_settle(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    settle(arg);
}

/* A turn's answers are counted together, and only then sent (gateway/predict/biller.h). */
static void settle_soon(struct predict_request *r)
{
    struct predict *p = r->owner;
    p->answered[p->answered_len++] = r->id;
    if (p->answered_len == PREDICT_TURN_MAX)
        settle(p);
    else
        event_active(p->settle, EV_TIMEOUT, 0);
}

/* The reply waits encoded: m's tensors do not live beyond the call. */
static void answer(struct predict_request *r, const struct message *m)
{
    struct infer_answer a = {&r->route->route, m->tensors, m->tensors_len};
    struct err e = {0};
    if (!outputs_fit(r, m)) {
        err_set(&e, ERR_INTERNAL, NULL, "a worker sent %zu outputs that do not fit %zu of %lld rows",
                m->tensors_len, r->infer.signature->n_outputs, (long long)r->infer.rows);
        predict__fail(r, &e);
        return;
    }
    r->protocol->encode(&r->infer, &a, &r->body, &r->json_len);
    if (r->body.failed) {
        err_set(&e, ERR_OVERLOAD, NULL, "no memory for the reply now");
        e.retry_after_ms = 1000;
        predict__fail(r, &e);
        return;
    }
    r->took_us = clock_mono_us() - r->sent_us;
    r->compute_us = m->reply.compute_us;
    r->queue_us = m->reply.queue_us;
    r->batch_rows = m->reply.batch_rows;
    if (r->arms) arms_answered(r->arms, r->arm, r->took_us);
    if (r->shadowed) shadow_on_primary(r->owner->shadows, r->id, m);
    predict__recall(r);
    event_del(r->deadline);
    r->state = REQUEST_ANSWERED;
    settle_soon(r);
}

static void on_reply(struct predict *p, const struct port *from, const struct message *m)
{
    struct predict_request *r = predict__find(p, m->reply.request_id);
    struct err e = {0};
    if (!r && shadow_on_reply(p->shadows, from, m)) return;
    if (!r || r->state != REQUEST_SENT || r->port != from) return; /* answered, gone or late */
    r->answered = true;
    if (m->reply.code == 0) {
        answer(r, m);
        return;
    }
    if (m->reply.code == ERR_STALE) {
        holders_forget(p->holders, r->route->route.version_id, from->worker->inc);
        predict__place(r);
        return;
    }
    err_set(&e, m->reply.code, m->reply.field[0] ? m->reply.field : NULL, "%s", m->reply.message);
    if (e.code == ERR_OVERLOAD) {
        r->took_us = ADMISSION_LATE;
        e.retry_after_ms = (int)admission_wait_ms(p->admission, (int)p->stats.pending);
    }
    predict__fail(r, &e);
}

static void on_record(void *arg, struct port *port, const char *data, size_t len)
{
    struct predict *p = arg;
    struct message m;
    struct err bad;
    int decoded = message_decode(&m, p->scratch, MESSAGE_TENSORS_MAX, data, len, &bad);
    if (decoded == 0 && m.type == MESSAGE_PREDICT_REPLY) {
        on_reply(p, port, &m);
        return;
    }
    log_warn("reply-refused", "reason=\"%s\"", decoded ? bad.message : "not a reply");
    link_refuse(port->link, "a malformed reply");
}

static void on_commands_state(void *arg, bool up)
{
    struct predict *p = arg;
    if (up) holders_poll(p->holders);
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct predict *p = arg;
    place_waiting(p, NULL);
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
    struct holders_config holders = {
        .on_ready = on_ready, .on_lost = on_lost, .on_record = on_record, .arg = p};
    link_key(holders.key, p->config.redis);
    p->commands = connect_as(p, "commands", on_commands_state);
    p->events = connect_as(p, "events", on_events_state);
    redis_async_subscribe(p->events, channels, 2, on_published, p);
    p->holders = holders_create(p->loop, p->commands, &holders);
    p->biller = biller_create(p->loop, p->commands, p->config.inc, p->config.loop_index);
    p->settle = event_new(loop_base(p->loop), -1, 0, on_settle, p);
    p->retry = event_new(loop_base(p->loop), -1, EV_PERSIST, on_retry, p);
    if (!p->retry || !p->settle)
        return err_set(e, ERR_NOMEM, NULL, "no memory for the events of the predict road");
    event_priority_set(p->settle, LOOP_PROMPT);
    event_add(p->retry, &(struct timeval){.tv_usec = RETRY_MS * 1000});
    return 0;
}

void predict__road_close(struct predict *p)
{
    if (p->retry) event_free(p->retry);
    if (p->settle) event_free(p->settle);
    biller_publish(p->biller); /* what was counted for shadows */
    redis_async_free(p->events);
    redis_async_free(p->commands);
    biller_free(p->biller);
    holders_free(p->holders);
}
