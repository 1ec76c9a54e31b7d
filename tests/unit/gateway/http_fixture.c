/* The routes of the test server. */
#include "tests/unit/gateway/http_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <event2/event.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/crypto.h"
#include "base/log.h"
#include "base/mem.h"
#include "gateway/http/handoff.h"

/* ---- pool handlers
 * ------------------------------------------------------------------------------------------- */

static void answer_text(struct call *c, int status, const char *text)
{
    c->response.status = status;
    c->response.content_type = "text/plain";
    buf_str(&c->response.body, text);
}

static void sum_body(struct call *c, void *state)
{
    (void)state;
    struct fixture *f = c->arg;
    struct err e = {0};
    static const size_t CAP = 64 * 1024;
    char *piece = arena_alloc(&c->arena, CAP, 1);
    uint32_t crc = 0;
    ssize_t n;
    while ((n = body_read(c->reader, piece, CAP, &e)) > 0) crc = crypto_crc32(crc, piece, (size_t)n);
    atomic_store(&f->last_read_rc, (int)n);
    if (n < 0) {
        call_fail(c, &e);
        return;
    }
    answer_text(c, 200, arena_printf(&c->arena, "%lld %08x", (long long)body_reader_total(c->reader), crc));
}

static void slow_body(struct call *c, void *state)
{
    struct fixture *f = c->arg;
    atomic_fetch_add(&f->running, 1);
    pthread_mutex_lock(&f->lock);
    while (!f->gate_open) pthread_cond_wait(&f->opened, &f->lock);
    pthread_mutex_unlock(&f->lock);
    sum_body(c, state);
    atomic_fetch_sub(&f->running, 1);
}

static void answer_pool(struct call *c, void *state)
{
    (void)state;
    call_header(c, "X-Segment", c->request->segments[0]);
    answer_text(c, 201, "from the pool");
}

static void answer_body(struct call *c, void *state)
{
    (void)state;
    answer_text(c, 200, arena_printf(&c->arena, "%zu:%s", c->body_len, c->body));
}

static void answer_early(struct call *c, void *state)
{
    (void)state;
    struct err e = {0};
    err_set(&e, ERR_FORBIDDEN, NULL, "not for you");
    call_fail(c, &e);
}

static void wait_for_leaving(struct call *c, void *state)
{
    (void)state;
    struct fixture *f = c->arg;
    atomic_fetch_add(&f->running, 1);
    while (!call_cancelled(c)) poll(NULL, 0, 1);
    atomic_fetch_add(&f->pool_cancelled, 1);
    answer_text(c, 200, "to nobody");
}

/* ---- loop handlers
 * ------------------------------------------------------------------------------------------- */

static void text(struct exchange *x, int status, const char *body)
{
    exchange_reply(x, status, "text/plain", body, strlen(body));
}

static void on_echo(struct exchange *x, int rc, const struct err *e, char *body, size_t len, void *arg)
{
    (void)arg;
    if (rc)
        exchange_fail(x, e);
    else
        exchange_reply(x, 200, "application/octet-stream", body, len);
}

static void ignore_body(struct exchange *x, int rc, const struct err *e, char *body, size_t len, void *arg)
{
    (void)x, (void)rc, (void)e, (void)body, (void)len, (void)arg;
}

static void answer_hastily(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    struct exchange *x = arg;
    exchange_reply(x, 504, "text/plain", "too slow", 8);
}

/* Its deadline comes while its body does. */
static void be_hasty(struct exchange *x)
{
    struct timeval soon = {.tv_usec = 20000};
    exchange_collect(x, 1 << 20, ignore_body, NULL);
    event_base_once(loop_base(exchange_loop(x)), -1, EV_TIMEOUT, answer_hastily, x, &soon);
}

static void on_left(struct exchange *x, void *arg)
{
    struct fixture *f = arg;
    struct err e = {0};
    atomic_fetch_add(&f->cancelled, 1);
    err_set(&e, ERR_CANCELLED, NULL, "the client left");
    exchange_fail(x, &e);
}

struct flood {
    struct fixture *f;
    long left;
};

static void flood_on(struct exchange *x, void *arg)
{
    struct flood *d = arg;
    static const char piece[10000];
    int rc = 0;
    while (d->left > 0 && rc == 0) {
        size_t n = d->left < (long)sizeof piece ? (size_t)d->left : sizeof piece;
        rc = exchange_chunk(x, piece, n);
        d->left -= (long)n;
    }
    size_t pending = exchange_pending(x);
    if (pending > atomic_load(&d->f->flood_peak)) atomic_store(&d->f->flood_peak, pending);
    if (d->left == 0) exchange_end(x);
}

static void flood_left(struct exchange *x, void *arg)
{
    struct flood *d = arg;
    atomic_fetch_add(&d->f->cancelled, 1);
    exchange_abort(x);
}

static void start_flood(struct exchange *x, struct fixture *f)
{
    const char *n = request_query(exchange_request(x), "n");
    struct flood *d = arena_alloc(exchange_arena(x), 1, sizeof *d);
    *d = (struct flood){f, n ? atol(n) : 0};
    exchange_on_drain(x, flood_on, d);
    exchange_on_cancel(x, flood_left, d);
    exchange_start(x, 200, "application/octet-stream");
    flood_on(x, d);
}

static void fail_limit(struct exchange *x)
{
    struct err e = {0};
    err_set(&e, ERR_LIMIT, "rate", "too fast");
    e.retry_after_ms = 1500;
    exchange_fail(x, &e);
}

static void on_request(struct exchange *x, void *loop_ctx)
{
    struct fixture *f = loop_ctx;
    const struct request *r = exchange_request(x);
    const char *name = r->segments_len ? r->segments[0] : "";
    const int64_t gib = (int64_t)1 << 30;
    if (!strcmp(name, "echo"))
        exchange_collect(x, 1 << 20, on_echo, NULL);
    else if (!strcmp(name, "small"))
        exchange_collect(x, 16, on_echo, NULL);
    else if (!strcmp(name, "hasty"))
        be_hasty(x);
    else if (!strcmp(name, "sum"))
        handoff_reader(x, f->pool, gib, sum_body, f, NULL);
    else if (!strcmp(name, "slow"))
        handoff_reader(x, f->pool, gib, slow_body, f, NULL);
    else if (!strcmp(name, "pool"))
        handoff_none(x, f->pool, answer_pool, f, NULL);
    else if (!strcmp(name, "poolbody"))
        handoff_body(x, f->pool, 64, answer_body, f, NULL);
    else if (!strcmp(name, "early"))
        handoff_reader(x, f->pool, gib, answer_early, f, NULL);
    else if (!strcmp(name, "wait"))
        handoff_none(x, f->pool, wait_for_leaving, f, NULL);
    else if (!strcmp(name, "hang"))
        exchange_on_cancel(x, on_left, f);
    else if (!strcmp(name, "flood"))
        start_flood(x, f);
    else if (!strcmp(name, "fail"))
        fail_limit(x);
    else if (!strcmp(name, "smuggled"))
        text(x, 200, "SMUGGLED");
    else if (!strcmp(name, "peer"))
        text(x, 200, r->peer);
    else if (!strcmp(name, "empty"))
        exchange_reply(x, 204, NULL, NULL, 0);
    else if (!strcmp(name, "abort")) {
        exchange_start(x, 200, "text/plain");
        exchange_chunk(x, "part", 4);
        exchange_abort(x);
    } else
        text(x, 200, "hello");
}

static void on_finish(struct exchange *x, int status, void *loop_ctx)
{
    (void)x;
    (void)status;
    struct fixture *f = loop_ctx;
    atomic_fetch_add(&f->finished, 1);
}

/* ---- life
 * ---------------------------------------------------------------------------------------------------- */

static int lend_fixture(void **ctx, struct loop *loop, int index, void *arg, struct err *e)
{
    (void)loop;
    (void)index;
    (void)e;
    *ctx = arg;
    return 0;
}

void fixture_init(struct fixture *f)
{
    crypto_init();
    log_init("test", LOG_ERROR);
    memset(f, 0, sizeof *f);
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->opened, NULL);
    f->config.listeners[0] = (struct server_listener){.address = "127.0.0.1:0"};
    f->config.listeners_len = 1;
    f->config.loops = 2;
    f->config.on_request = on_request;
    f->config.on_finish = on_finish;
    f->config.loop_init = lend_fixture;
    f->config.arg = f;
    f->pool_threads = 2;
    f->pool_queue = 8;
}

void fixture_start(struct fixture *f)
{
    struct err e = {0};
    if (pool_create(&f->pool, "test", f->pool_threads, f->pool_queue, NULL, NULL, NULL, &e) ||
        server_create(&f->server, &f->config, &e) || server_start(f->server, &e))
        fail_msg("%s", e.message);
    f->port = server_port(f->server, 0);
}

void fixture_open_gate(struct fixture *f)
{
    pthread_mutex_lock(&f->lock);
    f->gate_open = true;
    pthread_cond_broadcast(&f->opened);
    pthread_mutex_unlock(&f->lock);
}

struct server_stats fixture_stats(struct fixture *f)
{
    struct server_stats s;
    server_stats(f->server, &s);
    return s;
}

void fixture_stop(struct fixture *f)
{
    fixture_open_gate(f);
    struct server_stats s = fixture_stats(f);
    server_free(f->server);
    pool_free(f->pool);
    assert_true(atomic_load(&f->finished) >= s.requests);
    pthread_cond_destroy(&f->opened);
    pthread_mutex_destroy(&f->lock);
}
