/* The incoming half of a connection: what the parser finds is handed to the exchange. */
#include <assert.h>
#include <string.h>
#include "gateway/http/connection.h"
#include "gateway/http/request_build.h"

enum {
    PIECE_BYTES = 64 * 1024,      /* most of a body delivered at once */
    LARGE_BODY_BYTES = 32 * 1024, /* from here on it is read to where it belongs */
};

/* ---- requests
 * ------------------------------------------------------------------------------------------------ */

static void fill_request(struct conn *c, struct request *r)
{
    r->tls = c->tls;
    r->arrived_us = c->entered_us;
    memcpy(r->peer, c->peer_text, sizeof r->peer);
    id_new(r->id, "req_");
}

/* The head is complete: make the exchange and give it to its route. */
static void on_head(struct conn *c)
{
    struct server *s = c->home->server;
    struct err e = {0};
    struct exchange *x = exchange__create(c->home, &conn_codec, c);
    if (!x) {
        conn_refuse(c, 503, "no memory for the request", NULL);
        return;
    }
    fill_request(c, &x->request);
    x->tag = c->tag;
    if (request__build(&x->request, &x->arena, &c->parser, &e) != 0) {
        exchange__discard(x);
        conn_refuse(c, e.code == ERR_INVALID ? 400 : 503, e.message, e.field);
        return;
    }
    atomic_fetch_add(&s->requests, 1);
    c->requests++;
    c->x = x;
    c->head_only = x->request.method == HTTP_HEAD;
    c->http10 = c->parser.http10;
    c->close = c->parser.close || c->requests >= s->limits.requests_per_connection;
    c->continue_due = c->parser.expect_continue && x->request.has_body;
    c->body_paused = c->chunked_out = false;
    c->body_done = !x->request.has_body;
    c->body_was_large = x->request.content_length >= LARGE_BODY_BYTES;
    stream_sip(&c->stream, false); /* what is not aimed at now is no head */
    if (c->body_done) {
        struct parser_step step;
        enum parser_event end = parser_next(&c->parser, NULL, 0, &step);
        assert(end == PARSER_END);
        (void)end;
    }
    conn_enter(c, CONN_WAIT);
    s->config.on_request(x, c->home->ctx);
}

static void on_body(struct conn *c, const char *data, size_t len)
{
    conn_body_clock_count(c, len);
    c->continue_due = false;
    if (c->state == CONN_BODY) exchange__body_data(c->x, data, len);
}

static void on_end(struct conn *c)
{
    c->body_done = true;
    if (c->state == CONN_BODY) {
        conn_enter(c, CONN_WAIT);
        exchange__body_end(c->x, 0, NULL);
    } else if (c->state == CONN_DISCARD) {
        conn_enter(c, CONN_FLUSH);
        conn_flushed(c);
    }
}

static void on_fail(struct conn *c)
{
    struct err e = {0};
    atomic_fetch_add(&c->home->server->refused_framing, 1);
    if (c->state == CONN_HEAD) {
        conn_refuse(c, c->parser.status, c->parser.reason, NULL);
    } else if (c->state == CONN_BODY) {
        c->close = true;
        conn_enter(c, CONN_WAIT);
        err_set(&e, ERR_INVALID, "body", "the request body is malformed: %s", c->parser.reason);
        exchange__body_end(c->x, e.code, &e);
    } else {
        c->close = true;
        conn_enter(c, CONN_FLUSH);
        conn_flushed(c);
    }
}

void conn_landed(struct conn *c, const char *data, size_t len)
{
    struct parser_step step;
    enum parser_event event = parser_next(&c->parser, data, len, &step);
    assert(event == PARSER_BODY && step.used == len);
    (void)event;
    on_body(c, step.body, step.body_len);
}

bool conn_parses(const struct conn *c)
{
    return c->state == CONN_IDLE || c->state == CONN_HEAD || c->state == CONN_DISCARD ||
           (c->state == CONN_BODY && !c->body_paused);
}

/* Parses one event's worth of input. False when there is nothing more to do in this turn. */
static bool parse_step(struct conn *c)
{
    size_t len;
    const char *in = stream_input(&c->stream, &len);
    if (len > PIECE_BYTES) len = PIECE_BYTES;
    if (len == 0 && c->parser.state != PARSER_COMPLETE) return false;
    if (c->state == CONN_IDLE) conn_enter(c, CONN_HEAD);

    struct parser_step step;
    enum parser_event event = parser_next(&c->parser, in, len, &step);
    if (event == PARSER_BODY)
        on_body(c, step.body, step.body_len); /* it points into the input: consume after */
    stream_consume(&c->stream, step.used);
    switch (event) {
    case PARSER_HEAD:
        on_head(c);
        break;
    case PARSER_END:
        on_end(c);
        break;
    case PARSER_FAIL:
        on_fail(c);
        break;
    default:
        break;
    }
    return true;
}

void conn_peer_ended(struct conn *c)
{
    struct err e = {0};
    switch (c->state) {
    case CONN_BODY:
        c->close = true;
        conn_enter(c, CONN_WAIT);
        err_set(&e, ERR_IO, "body",
                "the upload ended early: %lld bytes arrived, the rest of the body is missing",
                (long long)c->x->taken);
        exchange__body_end(c->x, e.code, &e);
        break;
    case CONN_WAIT:
        exchange__cancel(c->x);
        break;
    case CONN_IDLE:
    case CONN_HEAD:
    case CONN_DISCARD: /* earlier responses may still be on their way */
        c->close = true;
        conn_enter(c, CONN_FLUSH);
        conn_flushed(c);
        break;
    case CONN_FLUSH:
        break;
    default:
        conn_cut(c);
    }
}

void conn_process(struct conn *c)
{
    if (c->write_failed) conn_cut(c);
    for (;;) {
        if (!conn_parses(c) || !parse_step(c)) break;
    }
    if (c->state == CONN_LINGER) stream_consume(&c->stream, stream_input_len(&c->stream));
    bool starved = conn_parses(c) || c->state == CONN_LINGER;
    if (c->peer_ended && starved) conn_peer_ended(c);
}
