/* The part of an exchange that no codec needs to know: who consumes the body, who is told what, and when x is
 * freed. */
#include "gateway/http/exchange_impl.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "base/mem.h"
#include "gateway/http/envelope.h"

enum { ARENA_BYTES = 1024 * 1024, RESERVE_BYTES = 1024 * 1024, BUSY_RETRY_MS = 1000 };

/* ---- life
 * ---------------------------------------------------------------------------------------------------- */

struct exchange *exchange__create(struct server_loop *home, const struct exchange_codec *codec, void *carrier)
{
    struct exchange *x = mem_try_alloc(1, sizeof *x);
    if (!x) return NULL;
    arena_init(&x->arena, ARENA_BYTES);
    x->home = home;
    x->codec = codec;
    x->carrier = carrier;
    atomic_fetch_add(&home->server->open_exchanges, 1);
    return x;
}

void exchange__discard(struct exchange *x)
{
    struct server *s = x->home->server;
    atomic_fetch_sub(&s->collected_bytes, x->collected);
    buf_dispose(&x->body);
    arena_dispose(&x->arena);
    mem_free(x);
    server__fell(s, &s->open_exchanges);
}

void exchange__hold(struct exchange *x)
{
    x->holds++;
}

void exchange__release(struct exchange *x)
{
    if (--x->holds == 0 && x->finished) exchange__discard(x);
}

/* The route is done with x. */
static void finish(struct exchange *x)
{
    assert(!x->finished);
    x->finished = true;
    x->body_over = true;
    x->on_cancel = x->on_drain = NULL;
    const struct server_config *config = &x->home->server->config;
    if (config->on_finish) config->on_finish(x, x->status, x->home->ctx);
    if (x->holds == 0) exchange__discard(x);
}

/* ---- plain questions
 * ----------------------------------------------------------------------------------------- */

const struct request *exchange_request(const struct exchange *x)
{
    return &x->request;
}

struct arena *exchange_arena(struct exchange *x)
{
    return &x->arena;
}

struct loop *exchange_loop(struct exchange *x)
{
    return x->home->loop;
}

void *exchange_loop_ctx(struct exchange *x)
{
    return x->home->ctx;
}

int exchange_listener_tag(const struct exchange *x)
{
    return x->tag;
}

void exchange_set_user(struct exchange *x, void *user)
{
    x->user = user;
}

void *exchange_user(const struct exchange *x)
{
    return x->user;
}

bool exchange_gone(const struct exchange *x)
{
    return x->gone;
}

void exchange_on_cancel(struct exchange *x, exchange_fn fn, void *arg)
{
    x->on_cancel = fn;
    x->cancel_arg = arg;
}

/* ---- the request's body
 * -------------------------------------------------------------------------------------- */

static void tell_end(struct exchange *x)
{
    const struct err *e = x->body_rc ? &x->body_err : NULL;
    if (x->mode == BODY_STREAM) {
        x->sink.on_end(x, x->body_rc, e, x->body_arg);
        return;
    }
    static char empty[1];
    char *body = x->body_rc ? NULL : x->body.data ? x->body.data : empty;
    x->on_body(x, x->body_rc, e, body, x->body_rc ? 0 : x->body.len, x->body_arg);
}

static void set_end(struct exchange *x, int rc, const struct err *e)
{
    x->body_over = true;
    x->body_rc = rc;
    if (rc && e) x->body_err = *e;
}

static void posted_end(void *arg)
{
    struct exchange *x = arg;
    if (!x->finished) tell_end(x);
    exchange__release(x);
}

/* For an outcome that is known while the route is still choosing its consumer. */
static void end_later(struct exchange *x, int rc, const struct err *e)
{
    set_end(x, rc, e);
    exchange__hold(x);
    loop_post(x->home->loop, posted_end, x);
}

static int too_large(const struct exchange *x, struct err *e)
{
    return err_set(e, ERR_TOO_LARGE, "body", "the request body is larger than the %lld bytes allowed here",
                   (long long)x->limit);
}

/* The codec is started only when there is something to read that may be taken. */
static void start_body(struct exchange *x, enum body_mode mode, int64_t limit, void *arg)
{
    assert(x->mode == BODY_UNCHOSEN && !x->finished);
    struct err e = {0};
    x->mode = mode;
    x->limit = limit;
    x->body_arg = arg;
    if (!x->codec) {
        end_later(x, err_set(&e, ERR_IO, "body", "the client closed the connection"), &e);
    } else if (!x->request.has_body) {
        end_later(x, 0, NULL);
    } else if (x->request.content_length > limit) {
        end_later(x, too_large(x, &e), &e);
    } else {
        x->codec->read_body(x);
    }
}

void exchange_collect(struct exchange *x, size_t limit_bytes, exchange_body_fn on_body, void *arg)
{
    x->on_body = on_body;
    int64_t announced = x->request.content_length;
    if (announced > 0 && announced <= RESERVE_BYTES && (uint64_t)announced <= limit_bytes)
        buf_reserve(&x->body, (size_t)announced);
    start_body(x, BODY_COLLECT, limit_bytes > INT64_MAX ? INT64_MAX : (int64_t)limit_bytes, arg);
}

struct buf exchange_take_body(struct exchange *x)
{
    struct buf body = x->body;
    x->body = (struct buf){0};
    return body;
}

void exchange_stream(struct exchange *x, int64_t limit_bytes, const struct exchange_sink *sink, void *arg)
{
    x->sink = *sink;
    start_body(x, BODY_STREAM, limit_bytes, arg);
}

void exchange_pause(struct exchange *x)
{
    if (x->codec && !x->body_over) x->codec->pause(x, true);
}

void exchange_resume(struct exchange *x)
{
    if (x->codec && !x->body_over) x->codec->pause(x, false);
}

static void fail_body(struct exchange *x, int rc, const struct err *e)
{
    x->codec->drop_body(x);
    exchange__body_end(x, rc, e);
}

/* Counts len bytes more in memory, for as long as x lives; false when that is over the server's limit. */
static bool find_room(struct exchange *x, size_t len)
{
    struct server *s = x->home->server;
    x->collected += (int64_t)len;
    long long before = atomic_fetch_add(&s->collected_bytes, (long long)len);
    return before + (long long)len <= (long long)s->limits.collected_bytes;
}

void exchange__body_data(struct exchange *x, const char *data, size_t len)
{
    if (x->body_over) return;
    struct err e = {0};
    if ((uint64_t)(x->limit - x->taken) < len) {
        fail_body(x, too_large(x, &e), &e);
        return;
    }
    x->taken += (int64_t)len;
    if (x->mode == BODY_STREAM) {
        x->sink.on_data(x, data, len, x->body_arg);
        return;
    }
    if (!find_room(x, len)) {
        err_set(&e, ERR_OVERLOAD, NULL,
                "the gateway holds as many request bodies as it can; try again shortly");
        e.retry_after_ms = BUSY_RETRY_MS;
        fail_body(x, e.code, &e);
        return;
    }
    char *to = buf_reserve(&x->body, len);
    if (!to) {
        fail_body(x, err_set(&e, ERR_NOMEM, NULL, "no memory for the request body"), &e);
        return;
    }
    if (to != data) memcpy(to, data, len);
    to[len] = '\0';
    x->body.len += len;
}

/* Beyond what may be reserved by announcement alone, only as much again as has come. */
char *exchange__body_room(struct exchange *x, int64_t left, size_t *len)
{
    size_t most = x->body.len > RESERVE_BYTES ? x->body.len : RESERVE_BYTES;
    *len = (uint64_t)left < most ? (size_t)left : most;
    return x->mode == BODY_COLLECT && !x->body_over ? buf_reserve(&x->body, *len) : NULL;
}

void exchange__body_end(struct exchange *x, int rc, const struct err *e)
{
    if (x->body_over || x->mode == BODY_UNCHOSEN) return;
    set_end(x, rc, e);
    tell_end(x);
}

/* ---- the client leaves
 * --------------------------------------------------------------------------------------- */

void exchange__cancel(struct exchange *x)
{
    if (x->gone) return;
    x->gone = true;
    atomic_fetch_add(&x->home->server->cancelled, 1);
    exchange_fn fn = x->on_cancel;
    x->on_cancel = NULL;
    if (fn && !x->finished) fn(x, x->cancel_arg);
}

void exchange__detach(struct exchange *x)
{
    struct err e = {0};
    x->codec = NULL;
    exchange__hold(x);
    exchange__cancel(x);
    if (!x->finished) {
        err_set(&e, ERR_IO, "body", "the client closed the connection after %lld bytes of the body",
                (long long)x->taken);
        exchange__body_end(x, e.code, &e);
    }
    exchange__release(x);
}

/* ---- the response
 * -------------------------------------------------------------------------------------------- */

static bool is_reserved(const char *name)
{
    static const char *const reserved[] = {"content-length", "transfer-encoding", "connection",
                                           "date",           "x-request-id",      "content-type"};
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++) {
        if ((name[0] | 0x20) == reserved[i][0] && !strcasecmp(name, reserved[i])) return true;
    }
    return false;
}

void exchange_header(struct exchange *x, const char *name, const char *value)
{
    assert(!x->started && !is_reserved(name) && x->headers_len < EXCHANGE_HEADERS_MAX);
    char *copy = arena_strdup(&x->arena, value);
    for (char *c = copy; *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = ' ';
    }
    x->headers[x->headers_len++] = (struct http_field){name, copy};
}

void exchange_reply(struct exchange *x, int status, const char *content_type, const void *body, size_t len)
{
    assert(!x->started && !x->finished);
    x->started = true;
    x->status = status;
    x->body_over = true;
    if (x->codec) x->codec->reply(x, status, content_type, body, len);
    finish(x);
}

void exchange_fail(struct exchange *x, const struct err *e)
{
    struct buf body = {0};
    int status = envelope_of_err(&body, e, x->request.id);
    int retry_s = envelope_retry_after(e);
    char text[16];
    snprintf(text, sizeof text, "%d", retry_s);
    if (retry_s > 0) exchange_header(x, "Retry-After", text);
    if (status == 401) exchange_header(x, "WWW-Authenticate", "Bearer");
    exchange_reply(x, status, "application/json", body.data, body.failed ? 0 : body.len);
    buf_dispose(&body);
}

void exchange_start(struct exchange *x, int status, const char *content_type)
{
    assert(!x->started && !x->finished);
    x->started = true;
    x->status = status;
    if (x->codec) x->codec->head(x, status, content_type, -1);
}

int exchange_chunk(struct exchange *x, const void *data, size_t len)
{
    assert(x->started && !x->finished);
    if (!x->codec || x->gone || len == 0) return 0;
    x->codec->data(x, data, len);
    if (exchange_pending(x) <= EXCHANGE_HIGH_BYTES) return 0;
    x->over_high = true;
    return ERR_OVERLOAD;
}

void exchange_on_drain(struct exchange *x, exchange_fn fn, void *arg)
{
    x->on_drain = fn;
    x->drain_arg = arg;
}

void exchange__drained(struct exchange *x)
{
    if (!x->over_high) return;
    x->over_high = false;
    if (x->on_drain) x->on_drain(x, x->drain_arg);
}

size_t exchange_pending(const struct exchange *x)
{
    return x->codec ? x->codec->pending(x) : 0;
}

static void end_response(struct exchange *x, bool complete)
{
    x->body_over = true;
    if (x->codec) x->codec->end(x, complete && !x->gone); /* chunks were dropped once it had gone */
    finish(x);
}

void exchange_end(struct exchange *x)
{
    assert(x->started);
    end_response(x, true);
}

void exchange_abort(struct exchange *x)
{
    end_response(x, false);
}
