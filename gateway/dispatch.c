/* Takes each request through the route table to its handler, and each refusal to its shape. */
#include "gateway/dispatch.h"

#include <assert.h>
#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "gateway/api_call.h"
#include "gateway/auth.h"
#include "gateway/http/envelope.h"
#include "gateway/http/handoff.h"
#include "queue/rate.h"

enum { STATUS_GONE = 499 }; /* in the metrics: the client left before its answer */

/* What dispatch knows of a request while it is on its loop; in the exchange's arena. */
struct visit {
    struct gateway_loop *l;
    struct route_match match;
    struct principal *who;  /* borrowed while a LOOP handler is being called */
    struct principal *held; /* owned reference; NULL unless dispatch_hold */
};

/* ---- refusals ---- */

void dispatch_reply(struct exchange *x, int status, const char *content_type, const struct buf *body)
{
    assert(!body->failed);
    exchange_reply(x, status, content_type, body->data, body->len);
}

void dispatch_fail(struct exchange *x, enum route_dialect dialect, const struct err *e)
{
    struct err shown = *e;
    api_public_err(&shown, exchange_request(x)->id);
    if (dialect == DIALECT_PLAIN)
        predict_fail(x, &shown);
    else
        exchange_fail(x, &shown);
}

/* Paths of the inference protocols, for requests that found no row. */
static enum route_dialect dialect_of(const struct request *r)
{
    if (r->segments_len == 0) return DIALECT_TENOR;
    const char *verb = strrchr(r->segments[r->segments_len - 1], ':');
    bool tfs = verb != NULL && (strcmp(verb, ":predict") == 0 || strcmp(verb, ":classify") == 0 ||
                                strcmp(verb, ":regress") == 0);
    return tfs || strcmp(r->segments[0], "v2") == 0 ? DIALECT_PLAIN : DIALECT_TENOR;
}

static void fail_path(struct exchange *x)
{
    struct err e = {0};
    err_set(&e, ERR_NOT_FOUND, NULL, "there is nothing at this path; /openapi.json lists what there is");
    dispatch_fail(x, dialect_of(exchange_request(x)), &e);
}

static void fail_method(struct exchange *x, const char *allow)
{
    const struct request *r = exchange_request(x);
    struct buf body = {0};
    char message[160];
    snprintf(message, sizeof(message), "%s is not offered here; this path takes %s",
             http_method_name(r->method), allow);
    exchange_header(x, "Allow", allow);
    if (dialect_of(r) == DIALECT_PLAIN) {
        struct json_writer w;
        jw_init(&w, &body);
        jw_obj(&w);
        jw_kstr(&w, "error", message);
        jw_obj_end(&w);
    } else {
        envelope_write(&body, 405, "method_not_allowed", NULL, message);
    }
    dispatch_reply(x, 405, "application/json", &body);
    buf_dispose(&body);
}

/* ---- checks that need no key ---- */

static int check_query(const struct route *route, const struct request *r, struct err *e)
{
    bool twice;
    const char *name = route_unknown_query(route, r, &twice);
    if (name == NULL) return 0;
    if (twice)
        return err_set(e, ERR_INVALID, name, "the query parameter %.64s is there more than once", name);
    if (route->query[0] == '\0')
        return err_set(e, ERR_INVALID, name, "unknown query parameter %.64s; this path takes none", name);
    return err_set(e, ERR_INVALID, name, "unknown query parameter %.64s; known are %s", name, route->query);
}

static int check_body(const struct route *route, const struct request *r, struct err *e)
{
    if (!r->has_body || route->body_limit > 0) return 0;
    return err_set(e, ERR_INVALID, "body", "this request takes no body");
}

static int check_scope(const struct route *route, const struct principal *who, struct err *e)
{
    char names[256];
    if ((who->scopes & route->scopes) != 0) return 0;
    return err_set(e, ERR_FORBIDDEN, NULL, "this API key lacks the scope %s",
                   route_scopes_text(route->scopes, names, sizeof(names)));
}

/* ---- the pools ---- */

/* A request's way through a pool: made on the loop, used by the pool thread, freed on the loop. */
struct ticket {
    struct gateway *g;
    const struct route *route;
    struct principal *who; /* owned reference */
    enum lane lane;
    const char *const *params; /* borrowed from the exchange, which outlives the call */
    route_pool_fn fn;
    bool admitted; /* its rate has been spent */
    void *arg;     /* owned, by free_arg */
    void (*free_arg)(void *arg);
};

static void ticket_free(void *arg)
{
    struct ticket *t = arg;
    lanes_leave(t->g->lanes, t->lane, t->who->tenant_id);
    principal_release(t->who);
    if (t->free_arg) t->free_arg(t->arg);
    mem_free(t);
}

/* The tenant's rate, spent here as on the predict road. Without Redis the pools' own bounds have to do. */
static int take_rate(struct api_call *c, struct err *e)
{
    struct rate_grant grant = {0};
    struct rate_request q = {.per_second = c->who->rate_per_second, .burst = c->who->burst, .want = 1};
    if (q.per_second <= 0) return 0;
    if (q.burst < 1) q.burst = 1;
    snprintf(q.tenant_id, sizeof(q.tenant_id), "%s", c->who->tenant_id);
    struct err ignored = {0};
    if (rate_take(c->redis, &q, &grant, &ignored) != 0 || grant.granted > 0) return 0;
    err_set(e, ERR_LIMIT, NULL, "your plan's rate of %.0f requests a second is used up; slow down",
            c->who->rate_per_second);
    e->retry_after_ms = grant.retry_after_ms > 0 ? grant.retry_after_ms : 1000;
    return ERR_LIMIT;
}

static void fail_call(struct api_call *c, struct err *e)
{
    api_public_err(e, c->request->id);
    call_fail(c->call, e);
    if (c->route->dialect == DIALECT_PLAIN) {
        struct json_writer w;
        jw_init(&w, &c->call->response.body);
        buf_clear(&c->call->response.body);
        jw_obj(&w);
        jw_kstr(&w, "error",
                c->call->response.status >= 500 && e->code != ERR_UNAVAILABLE ? "internal error"
                                                                              : e->message);
        jw_obj_end(&w);
    }
    if (c->fail_status != 0) c->call->response.status = c->fail_status;
}

/* On a pool thread. */
static void run_call(struct call *call, void *thread_state)
{
    const struct ticket *t = call->arg;
    struct pool_state *state = thread_state;
    struct err e = {0};
    struct api_call c = {.g = t->g,
                         .route = t->route,
                         .who = t->who,
                         .by = {.type = "key", .id = t->who->key_id},
                         .params = t->params,
                         .arg = t->arg,
                         .request = call->request,
                         .call = call,
                         .arena = &call->arena,
                         .db = state->db,
                         .redis = state->redis};
    int rc = state->db != NULL ? 0 : err_set(&e, ERR_UNAVAILABLE, NULL, "no database connection");
    if (rc == 0 && !t->admitted) rc = take_rate(&c, &e);
    if (rc == 0) rc = t->fn(&c, &e);
    if (rc == 0 && call->response.body.failed) rc = err_set(&e, ERR_NOMEM, NULL, "no memory for the answer");
    if (state->db != NULL && db_in_tx(state->db)) db_rollback(state->db);
    if (rc != 0) fail_call(&c, &e);
    cJSON_Delete(c.body_tree);
}

static struct ticket *ticket_create(const struct visit *v, struct principal *who, enum lane lane)
{
    struct ticket *t = mem_alloc(1, sizeof(*t));
    t->g = v->l->g;
    t->route = v->match.route;
    t->who = principal_hold(who);
    t->lane = lane;
    t->params = v->match.params;
    t->fn = v->match.route->on_pool;
    return t;
}

static void go_to_pool(struct exchange *x, struct visit *v, struct principal *who)
{
    const struct route *route = v->match.route;
    struct gateway *g = v->l->g;
    enum lane lane = route->kind == ROUTE_BULK ? LANE_BULK : LANE_CONTROL;
    struct err e = {0};
    if (lanes_enter(g->lanes, lane, who->tenant_id, who->inflight_max, &e) != 0) {
        dispatch_fail(x, route->dialect, &e);
        return;
    }
    struct ticket *t = ticket_create(v, who, lane);
    int64_t limit = route->body_limit;
    if (route->kind == ROUTE_BULK) {
        if (who->max_dataset_bytes < INT64_MAX - limit) limit += who->max_dataset_bytes;
        handoff_reader(x, g->bulk, limit, run_call, t, ticket_free);
    } else if (limit > 0) {
        handoff_body(x, g->control, (size_t)limit, run_call, t, ticket_free);
    } else {
        handoff_none(x, g->control, run_call, t, ticket_free);
    }
}

void dispatch_hold(struct exchange *x)
{
    struct visit *v = exchange_user(x);
    if (v->held == NULL) v->held = principal_hold(v->who);
}

void dispatch_defer(struct exchange *x, bool bulk, route_pool_fn fn, void *arg, void (*free_arg)(void *arg))
{
    struct visit *v = exchange_user(x);
    struct gateway *g = v->l->g;
    enum lane lane = bulk ? LANE_BULK : LANE_CONTROL;
    struct err e = {0};
    if (lanes_enter(g->lanes, lane, v->held->tenant_id, v->held->inflight_max, &e) != 0) {
        dispatch_fail(x, v->match.route->dialect, &e);
        free_arg(arg);
        return;
    }
    struct ticket *t = ticket_create(v, v->held, lane);
    t->fn = fn;
    t->admitted = true;
    t->arg = arg;
    t->free_arg = free_arg;
    handoff_none(x, bulk ? g->bulk : g->control, run_call, t, ticket_free);
}

/* ---- the way in ---- */

static void on_known(struct exchange *x, int rc, struct principal *who, const struct err *failure, void *arg)
{
    struct visit *v = arg;
    struct err e = {0};
    if (rc != 0)
        e = *failure;
    else
        rc = check_scope(v->match.route, who, &e);
    if (rc != 0)
        dispatch_fail(x, v->match.route->dialect, &e);
    else if (v->match.route->kind == ROUTE_LOOP) {
        v->who = who;
        v->match.route->on_loop(x, &v->match, who);
    } else
        go_to_pool(x, v, who);
}

void dispatch_request(struct exchange *x, void *loop_ctx)
{
    const struct request *r = exchange_request(x);
    enum route_face face = exchange_listener_tag(x) == LISTENER_OPS ? FACE_OPS : FACE_API;
    struct visit *v = arena_alloc(exchange_arena(x), 1, sizeof(*v));
    char allow[ROUTE_ALLOW_MAX];
    struct err e = {0};
    v->l = loop_ctx;
    enum route_result found = route_find(&v->match, allow, v->l->g->routes, face, r, exchange_arena(x));
    if (found == ROUTE_NO_PATH) {
        fail_path(x);
        return;
    }
    if (found == ROUTE_NO_METHOD) {
        fail_method(x, allow);
        return;
    }
    const struct route *route = v->match.route;
    exchange_set_user(x, v);
    if (check_query(route, r, &e) != 0 || check_body(route, r, &e) != 0)
        dispatch_fail(x, route->dialect, &e);
    else if (route->scopes != 0)
        auth_request(v->l, x, on_known, v);
    else
        route->on_loop(x, &v->match, NULL);
}

void dispatch_finished(struct exchange *x, int status, void *loop_ctx)
{
    const struct gateway_loop *l = loop_ctx;
    const struct request *r = exchange_request(x);
    struct visit *v = exchange_user(x);
    const struct route *route = v != NULL ? v->match.route : NULL;
    int shown = exchange_gone(x) ? STATUS_GONE : status;
    int64_t took_us = clock_mono_us() - r->arrived_us;
    metrics_request(l->g->metrics, route, shown, took_us);
    log_debug("request", "id=%s method=%s route=%s status=%d took_us=%lld", r->id,
              http_method_name(r->method), route != NULL ? route->pattern : "none", shown,
              (long long)took_us);
    if (v != NULL) principal_release(v->held);
}
