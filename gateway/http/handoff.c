/* Carries a request to a pool thread and its response back.
 *
 * Who runs what: handoff_*, on_body, on_cancel and deliver on the exchange's loop; run on the pool thread.
 * Between submit and deliver the call belongs to the pool thread; only `cancelled` is shared, and is atomic.
 */
#include "gateway/http/handoff.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "gateway/http/body_queue.h"
#include "gateway/http/envelope.h"

enum { CALL_ARENA_BYTES = 64 * 1024 * 1024, BUSY_RETRY_MS = 1000 };

struct handoff {
    struct call call; /* first: call_cancelled finds the rest from it */
    struct exchange *x;
    struct pool *pool;
    call_fn fn;
    call_free_fn free_arg;
    atomic_bool cancelled;
};

static struct handoff *handoff_create(struct exchange *x, struct pool *pool, call_fn fn, void *arg,
                                      call_free_fn free_arg)
{
    struct handoff *h = mem_alloc(1, sizeof *h);
    h->call.request = exchange_request(x);
    h->call.arg = arg;
    arena_init(&h->call.arena, CALL_ARENA_BYTES);
    h->x = x;
    h->pool = pool;
    h->fn = fn;
    h->free_arg = free_arg;
    return h;
}

static void handoff_free(struct handoff *h)
{
    body_reader__close(h->call.reader);
    buf_dispose(&h->call.response.body);
    arena_dispose(&h->call.arena);
    if (h->free_arg) h->free_arg(h->call.arg);
    mem_free(h);
}

static void fail(struct handoff *h, const struct err *e)
{
    exchange_fail(h->x, e);
    handoff_free(h);
}

/* ---- pool thread
 * --------------------------------------------------------------------------------------------- */

static void run(void *arg, void *thread_state)
{
    struct handoff *h = arg;
    h->fn(&h->call, thread_state);
}

bool call_cancelled(const struct call *c)
{
    return atomic_load(&((const struct handoff *)c)->cancelled);
}

void call_header(struct call *c, const char *name, const char *value)
{
    struct response *r = &c->response;
    assert(r->headers_len < RESPONSE_HEADERS_MAX);
    r->headers[r->headers_len++] =
        (struct http_field){arena_strdup(&c->arena, name), arena_strdup(&c->arena, value)};
}

void call_fail(struct call *c, const struct err *e)
{
    struct response *r = &c->response;
    buf_clear(&r->body);
    r->status = envelope_of_err(&r->body, e, c->request->id);
    r->content_type = "application/json";
    r->headers_len = 0;
    int retry_s = envelope_retry_after(e);
    char text[16];
    snprintf(text, sizeof text, "%d", retry_s);
    if (retry_s > 0) call_header(c, "Retry-After", text);
    if (r->status == 401) call_header(c, "WWW-Authenticate", "Bearer");
}

/* ---- loop
 * ---------------------------------------------------------------------------------------------------- */

static void on_cancel(struct exchange *x, void *arg)
{
    (void)x;
    struct handoff *h = arg;
    atomic_store(&h->cancelled, true);
}

static void deliver(void *arg)
{
    struct handoff *h = arg;
    struct response *r = &h->call.response;
    struct err e = {0};
    if (r->status == 0) {
        err_set(&e, ERR_INTERNAL, NULL, "the handler of %s gave no response", h->call.request->target);
        fail(h, &e);
        return;
    }
    if (r->body.failed) {
        err_set(&e, ERR_NOMEM, NULL, "no memory for the response");
        fail(h, &e);
        return;
    }
    for (size_t i = 0; i < r->headers_len; i++)
        exchange_header(h->x, r->headers[i].name, r->headers[i].value);
    exchange_reply(h->x, r->status, r->content_type, r->body.data, r->body.len);
    handoff_free(h);
}

static void submit(struct handoff *h)
{
    struct err e = {0};
    exchange_on_cancel(h->x, on_cancel, h);
    if (exchange_gone(h->x)) atomic_store(&h->cancelled, true);
    if (pool_submit(h->pool, run, h, exchange_loop(h->x), deliver) == 0) return;
    err_set(&e, ERR_OVERLOAD, NULL, "the platform is busy: too many requests are waiting; try again shortly");
    e.retry_after_ms = BUSY_RETRY_MS;
    fail(h, &e);
}

void handoff_none(struct exchange *x, struct pool *pool, call_fn fn, void *arg, call_free_fn free_arg)
{
    submit(handoff_create(x, pool, fn, arg, free_arg));
}

static void on_body(struct exchange *x, int rc, const struct err *e, char *body, size_t len, void *arg)
{
    (void)x;
    struct handoff *h = arg;
    if (rc) {
        fail(h, e);
        return;
    }
    h->call.body = body;
    h->call.body_len = len;
    submit(h);
}

void handoff_body(struct exchange *x, struct pool *pool, size_t limit_bytes, call_fn fn, void *arg,
                  call_free_fn free_arg)
{
    exchange_on_cancel(x, NULL, NULL); /* nothing to tell anybody before the work runs */
    exchange_collect(x, limit_bytes, on_body, handoff_create(x, pool, fn, arg, free_arg));
}

void handoff_reader(struct exchange *x, struct pool *pool, int64_t limit_bytes, call_fn fn, void *arg,
                    call_free_fn free_arg)
{
    struct handoff *h = handoff_create(x, pool, fn, arg, free_arg);
    struct err e = {0};
    h->call.reader = body_reader__open(x, limit_bytes);
    if (h->call.reader) {
        submit(h);
        return;
    }
    err_set(&e, ERR_NOMEM, NULL, "no memory for the upload; try again shortly");
    fail(h, &e);
}
