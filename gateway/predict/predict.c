/* The client's half of the predict road: from a request's headers to an encoded message, and every way in
 * which it ends. */
#include "gateway/predict/predict_impl.h"
#include "gateway/predict/shadow.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <event2/event.h>
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/num.h"
#include "gateway/http/envelope.h"

enum { BODY_LIMIT = 32 * 1024 * 1024, TIMEOUT_MS = 10000, TIMEOUT_MAX_MS = 60000, PENDING_MAX = 4096 };

/* ---- errors
 * ------------------------------------------------------------------------------------------------------- */

void predict_fail(struct exchange *x, const struct err *e)
{
    struct buf body = {0};
    struct json_writer w;
    char text[96];
    int status = http_status_of(e), retry_s = envelope_retry_after(e);
    const char *message = e->message;
    if (status == 500) { /* our insides stay inside */
        log_error("predict-failed", "request=%s reason=\"%s\"", exchange_request(x)->id, e->message);
        snprintf(text, sizeof text, "internal error; request %s", exchange_request(x)->id);
        message = text;
    }
    jw_init(&w, &body);
    jw_obj(&w);
    jw_kstr(&w, "error", message);
    jw_obj_end(&w);
    if (retry_s > 0) {
        char seconds[16];
        snprintf(seconds, sizeof seconds, "%d", retry_s);
        exchange_header(x, "Retry-After", seconds);
    }
    if (status == 401) exchange_header(x, "WWW-Authenticate", "Bearer");
    exchange_reply(x, status, "application/json", body.data, body.failed ? 0 : body.len);
    buf_dispose(&body);
}

/* As draft-ietf-httpapi-ratelimit-headers words it. */
void predict__tell_rate(struct predict_request *r)
{
    int64_t left, full_s;
    char text[96] = "\"requests\";r=";
    if (!admission_left(r->owner->admission, r->tenant_id, &left, &full_s)) return;
    size_t len = strlen(text);
    len += num_format_i64(text + len, left);
    memcpy(text + len, ";t=", 3);
    len += 3;
    len += num_format_i64(text + len, full_s);
    text[len] = '\0';
    exchange_header(r->x, "RateLimit", text);
}

static void count_failure(struct predict *p, int code)
{
    p->stats.failed++;
    if (code == ERR_LIMIT) p->stats.limited++;
    if (code == ERR_OVERLOAD || code == ERR_UNAVAILABLE) p->stats.overloaded++;
    if (code == ERR_TIMEOUT) p->stats.timed_out++;
}

/* A version is to blame for what happened once its call was on the road, and for no client's mistake. */
/* A full platform says nothing of a version. */
static void count_arm_failure(const struct predict_request *r, const struct err *e)
{
    if (r->arms && r->record.text.len > 0 && !r->owner->freeing && http_status_of(e) >= 500 &&
        e->code != ERR_OVERLOAD)
        arms_failed(r->arms, r->arm);
}

void predict__fail(struct predict_request *r, const struct err *e)
{
    struct exchange *x = r->x;
    count_failure(r->owner, e->code);
    count_arm_failure(r, e);
    predict__tell_rate(r);
    exchange_on_cancel(x, NULL, NULL);
    predict__end(r);
    predict_fail(x, e);
}

/* ---- the table of requests
 * ----------------------------------------------------------------------------------------- */

struct predict_request *predict__find(struct predict *p, uint64_t id)
{
    struct predict_request *r = p->buckets[id % PREDICT_BUCKETS];
    while (r && r->id != id) r = r->hash_next;
    return r;
}

static void table_add(struct predict *p, struct predict_request *r)
{
    r->id = p->next_id++;
    struct predict_request **slot = &p->buckets[r->id % PREDICT_BUCKETS];
    r->hash_next = *slot;
    *slot = r;
    r->prev = p->last;
    *(p->last ? &p->last->next : &p->first) = r;
    p->last = r;
    p->stats.pending++;
}

static void table_remove(struct predict *p, struct predict_request *r)
{
    struct predict_request **slot = &p->buckets[r->id % PREDICT_BUCKETS];
    while (*slot != r) slot = &(*slot)->hash_next;
    *slot = r->hash_next;
    *(r->prev ? &r->prev->next : &p->first) = r->next;
    *(r->next ? &r->next->prev : &p->last) = r->prev;
    p->stats.pending--;
}

void predict__end(struct predict_request *r)
{
    struct predict *p = r->owner;
    predict__recall(r);
    table_remove(p, r);
    if (r->admitted) admission_leave(p->admission, r->tenant_id, r->took_us);
    event_free(r->deadline);
    if (r->infer.signature) infer_dispose(&r->infer); /* before the route, whose signature it reads */
    shared_route_release(r->route);
    shared_route_release(r->shadow);
    arms_close(r->arms);
    record_dispose(&r->record);
    buf_dispose(&r->body);
    mem_free(r);
}

/* ---- ways to end early
 * --------------------------------------------------------------------------------------------- */

static void on_cancel(struct exchange *x, void *arg)
{
    struct predict_request *r = arg;
    r->owner->stats.cancelled++;
    if (r->arms && r->state == REQUEST_SENT) arms_left(r->arms, r->arm, clock_mono_us() - r->sent_us);
    predict__end(r);
    exchange_reply(x, 499, NULL, NULL, 0); /* nobody reads it, but it finishes x */
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct predict_request *r = arg;
    struct err e = {0};
    if (r->state == REQUEST_PLACING) {
        err_set(&e, ERR_UNAVAILABLE, NULL, "no worker could take the model before the request's deadline");
        e.retry_after_ms = 1000;
    } else {
        err_set(&e, ERR_TIMEOUT, NULL, "the request's deadline passed before it was answered");
        if (r->state == REQUEST_SENT) r->took_us = ADMISSION_LATE;
    }
    predict__fail(r, &e);
}

void predict__set_deadline(struct predict_request *r, int64_t ms)
{
    struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};
    event_add(r->deadline, &tv);
}

/* ---- the body
 * ------------------------------------------------------------------------------------------------------ */

static void on_body(struct exchange *x, int rc, const struct err *body_err, char *body, size_t len, void *arg)
{
    (void)x;
    struct predict_request *r = arg;
    struct err e = {0};
    if (rc)
        e = *body_err;
    else
        rc = predict__take_body(r, body, len, &e);
    if (rc) {
        predict__fail(r, &e);
        return;
    }
    if (r->defer) {
        predict__defer(r);
        return;
    }
    struct predict *p = r->owner;
    uint64_t shadowed = r->shadow ? r->id : 0;
    predict__place(r);
    if (shadowed && (r = predict__find(p, shadowed))) shadow_send(r); /* it may have failed by now */
}

/* ---- admission and route
 * ------------------------------------------------------------------------------------------ */

static void on_route(void *arg, uint64_t id, int rc, struct shared_route *route, const struct err *e)
{
    struct predict_request *r = predict__find(arg, id);
    if (!r) return;
    if (rc) {
        predict__fail(r, e);
        return;
    }
    r->route = shared_route_turn(route);
    r->route->refs++;
    r->arms = arms_share(route->arms);
    r->arm = r->route == route ? ROLLOUT_PRIMARY : ROLLOUT_CANARY;
    r->shadow = r->route == route ? shared_route_shadow(route) : NULL;
    if (r->shadow) r->shadow->refs++;
    r->state = REQUEST_BODY;
    r->waited_us = clock_mono_us() - exchange_request(r->x)->arrived_us;
    exchange_collect(r->x, r->owner->config.body_limit_bytes, on_body, r);
}

static bool on_admission(void *arg, uint64_t id, int rc, const struct err *e)
{
    struct predict *p = arg;
    struct predict_request *r = predict__find(p, id);
    if (!r) return false;
    if (rc) {
        predict__fail(r, e);
        return false;
    }
    r->admitted = true;
    r->state = REQUEST_ROUTE;
    route_cache_find(p->routes, r->tenant_id, &r->ref, on_route, p, id);
    return true;
}

static bool is_allowed(const struct predict_caller *c, const char *model)
{
    if (!c->models) return true;
    for (size_t i = 0; i < c->models_len; i++)
        if (strcmp(c->models[i], model) == 0) return true;
    return false;
}

static int check_start(struct predict *p, const struct predict_caller *c, const struct model_ref *ref,
                       struct err *e)
{
    if (!is_allowed(c, ref->model)) return route_not_found(ref, e);
    if ((size_t)p->stats.pending < p->config.pending_max) return 0;
    e->retry_after_ms = (int)admission_wait_ms(p->admission, (int)p->stats.pending);
    return err_set(e, ERR_OVERLOAD, NULL, "%lld predictions are in flight already",
                   (long long)p->stats.pending);
}

void predict_run(struct predict *p, struct exchange *x, const struct predict_caller *c,
                 const struct model_ref *ref, const struct predict_options *o)
{
    static const struct infer_protocol *const protocols[] = {[PREDICT_OIP] = &oip_protocol,
                                                             [PREDICT_TFS] = &tfs_protocol,
                                                             [PREDICT_TFS_CLASSIFY] = &tfs_classify_protocol,
                                                             [PREDICT_TFS_REGRESS] = &tfs_regress_protocol};
    struct err e = {0};
    int rc = check_start(p, c, ref, &e);
    p->stats.requests++;
    if (rc) {
        count_failure(p, rc);
        predict_fail(x, &e);
        return;
    }
    struct predict_request *r = mem_alloc(1, sizeof *r);
    r->owner = p;
    r->x = x;
    r->protocol = protocols[o->protocol];
    r->wait_ms = o->wait_ms;
    r->defer = o->defer;
    memcpy(r->tenant_id, c->tenant_id, ID_MAX);
    r->rows_max = c->rows_max;
    r->ref = *ref;
    r->deadline = evtimer_new(loop_base(p->loop), on_deadline, r);
    event_priority_set(r->deadline, LOOP_PROMPT);
    table_add(p, r);
    predict__set_deadline(r, p->config.timeout_ms);
    exchange_on_cancel(x, on_cancel, r);
    admission_ask(p->admission, c, on_admission, p, r->id);
}

/* ---- routes for others
 * --------------------------------------------------------------------------------------------- */

struct route_question {
    model_route_fn fn;
    void *arg;
};

static void on_question(void *arg, uint64_t token, int rc, struct shared_route *route, const struct err *e)
{
    (void)token;
    struct route_question *q = arg;
    q->fn(q->arg, rc, rc ? NULL : &route->route, e);
    mem_free(q);
}

void predict_find_route(struct predict *p, const struct predict_caller *c, const struct model_ref *ref,
                        model_route_fn fn, void *arg)
{
    struct err e = {0};
    if (!is_allowed(c, ref->model)) {
        fn(arg, route_not_found(ref, &e), NULL, &e);
        return;
    }
    struct route_question *q = mem_alloc(1, sizeof *q);
    *q = (struct route_question){fn, arg};
    route_cache_find(p->routes, c->tenant_id, ref, on_question, q, 0);
}

void predict_route_done(struct predict *p, struct route_lookup *lookup, int rc, const struct route_answer *a,
                        const struct err *e)
{
    route_cache_done(p->routes, lookup, rc, a, e);
}

bool predict_is_placed(struct predict *p, const char *version_id)
{
    return holders_known(p->holders, version_id);
}

/* ---- life
 * -------------------------------------------------------------------------------------------------------- */

static void set_defaults(struct predict_config *c)
{
    if (!c->body_limit_bytes) c->body_limit_bytes = BODY_LIMIT;
    if (!c->timeout_ms) c->timeout_ms = TIMEOUT_MS;
    if (!c->timeout_max_ms) c->timeout_max_ms = TIMEOUT_MAX_MS;
    if (!c->pending_max) c->pending_max = PENDING_MAX;
}

int predict_create(struct predict **out, struct loop *loop, const struct predict_config *config,
                   struct err *e)
{
    struct predict *p = mem_alloc(1, sizeof *p);
    p->config = *config;
    set_defaults(&p->config);
    p->loop = loop;
    p->next_id = 1;
    p->scratch = mem_alloc(MESSAGE_TENSORS_MAX, sizeof *p->scratch);
    p->owners = mem_alloc(MESSAGE_TENSORS_MAX, sizeof *p->owners);
    int rc = predict__road_open(p, e);
    if (rc == 0) {
        p->book = arms_book_create(loop, p->commands);
        p->routes = route_cache_create(p, &p->config, p->book);
        p->shadows = shadows_create(p);
        p->admission = admission_create(p->commands, p->config.loops);
        *out = p;
        return 0;
    }
    predict_free(p);
    return rc;
}

void predict_free(struct predict *p)
{
    if (!p) return;
    struct err e = {0};
    err_set(&e, ERR_UNAVAILABLE, NULL, "the gateway is stopping");
    e.retry_after_ms = 1000;
    p->freeing = true;
    while (p->first) predict__fail(p->first, &e);
    shadows_free(p->shadows);
    predict__road_close(p);
    admission_free(p->admission);
    route_cache_free(p->routes);
    arms_book_free(p->book);
    mem_free(p->scratch);
    mem_free(p->owners);
    mem_free(p);
}

bool predict_ready(const struct predict *p)
{
    return redis_async_up(p->commands) || holders_linked(p->holders);
}

void predict_stats_add(struct predict_stats *sum, const struct predict_stats *one)
{
    sum->requests += one->requests;
    sum->answered += one->answered;
    sum->failed += one->failed;
    sum->limited += one->limited;
    sum->overloaded += one->overloaded;
    sum->timed_out += one->timed_out;
    sum->cancelled += one->cancelled;
    sum->resent += one->resent;
    sum->placed_waits += one->placed_waits;
    sum->rows += one->rows;
    sum->compute_us += one->compute_us;
    sum->queue_us += one->queue_us;
    sum->batch_rows += one->batch_rows;
    sum->pending += one->pending;
}

void predict_stats(const struct predict *p, struct predict_stats *out)
{
    *out = p->stats;
}
