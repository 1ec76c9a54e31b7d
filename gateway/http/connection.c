/* The life of one HTTP/1.x connection: socket events in, states changed in one place. */
#include "gateway/http/connection.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/log.h"
#include "base/mem.h"

enum {
    PIPELINE_BYTES = 16 * 1024,   /* read ahead of a response at most this much of the next requests */
    SHRINK_HEAD_BYTES = 4 * 1024, /* an idle connection keeps no larger head */
};

/* ---- states
 * -------------------------------------------------------------------------------------------------- */

#define BIT(state) (1u << (state))

/* Where each state may go; CLOSED is always allowed. */
static const unsigned LEGAL[] = {
    [CONN_HANDSHAKE] = BIT(CONN_IDLE),
    [CONN_IDLE] = BIT(CONN_HEAD) | BIT(CONN_FLUSH),
    [CONN_HEAD] = BIT(CONN_WAIT) | BIT(CONN_FLUSH),
    [CONN_WAIT] = BIT(CONN_BODY) | BIT(CONN_DISCARD) | BIT(CONN_FLUSH),
    [CONN_BODY] = BIT(CONN_WAIT) | BIT(CONN_DISCARD) | BIT(CONN_FLUSH),
    [CONN_DISCARD] = BIT(CONN_FLUSH),
    [CONN_FLUSH] = BIT(CONN_IDLE) | BIT(CONN_LINGER),
    [CONN_LINGER] = 0,
    [CONN_CLOSED] = 0,
};

void conn_enter(struct conn *c, enum conn_state state)
{
    assert(state == CONN_CLOSED || LEGAL[c->state] & BIT(state));
    c->state = state;
    c->entered_us = c->home->now_us;
    if (state == CONN_IDLE && c->parser.head.cap > SHRINK_HEAD_BYTES) parser_shrink(&c->parser);
    if (state == CONN_IDLE || state == CONN_WAIT)
        stream_sip(&c->stream, state == CONN_IDLE && c->body_was_large);
}

bool conn_wants_input(const struct conn *c)
{
    switch (c->state) {
    case CONN_WAIT:
        return c->body_done && stream_input_len(&c->stream) < PIPELINE_BYTES;
    case CONN_BODY:
        return !c->body_paused;
    case CONN_FLUSH:
    case CONN_CLOSED:
        return false;
    default:
        return true;
    }
}

/* A route that was told to stop sending can go on. */
static bool is_drained(const struct conn *c)
{
    return c->x && c->x->over_high && stream_output_len(&c->stream) <= EXCHANGE_LOW_BYTES;
}

/* Whether buffered input can be worked on now, without anything new from the socket. */
static bool has_work(const struct conn *c)
{
    return c->write_failed || is_drained(c) ||
           (conn_parses(c) &&
            (stream_input_len(&c->stream) > 0 || c->parser.state == PARSER_COMPLETE || c->peer_ended));
}

/* What is still to come of a large body is read to where it belongs. */
static void aim(struct conn *c)
{
    size_t len = 0;
    char *room = NULL;
    if (c->state == CONN_BODY && c->parser.state == PARSER_FIXED && c->body_was_large)
        room = exchange__body_room(c->x, c->parser.left, &len);
    stream_aim(&c->stream, room, len);
}

/* Brings events and timer in line with the state that this turn ended in. */
static void settle(struct conn *c)
{
    bool want = conn_wants_input(c) && !c->peer_ended;
    if (!stream_keep(&c->stream)) c->write_failed = true;
    stream_read(&c->stream, want);
    aim(c);

    bool watch = c->state == CONN_WAIT && c->body_done && !want && !c->peer_ended && !c->x->gone;
    if (watch && !c->watching) event_add(c->closed, NULL);
    if (!watch && c->watching) event_del(c->closed);
    c->watching = watch;

    if (has_work(c)) event_active(c->kick, 0, 0);
    conn_arm(c);
}

static void destroy(struct conn *c)
{
    struct server_loop *l = c->home;
    if (c->prev) c->prev->next = c->next;
    if (c->next) c->next->prev = c->prev;
    if (l->conns == c) l->conns = c->next;
    if (c->timer) event_free(c->timer);
    if (c->closed) event_free(c->closed);
    if (c->kick) event_free(c->kick);
    stream_close(&c->stream);
    parser_dispose(&c->parser);
    peers_leave(l->server->peers, c->peer);
    mem_free(c);
    server__fell(l->server, &l->server->open_connections);
}

void conn_begin(struct conn *c)
{
    if (c->depth++ == 0) c->home->now_us = clock_mono_us();
}

/* What this turn wrote goes out in one piece. A connection that is lost by that is not cut here, since a
 * route may be in the middle of a call. */
static void send_out(struct conn *c)
{
    if (c->write_failed) return;
    if (!stream_flush(&c->stream, c->home->now_us))
        c->write_failed = true;
    else if (c->state == CONN_FLUSH)
        conn_flushed(c);
}

void conn_end(struct conn *c)
{
    if (c->depth == 1 && c->state != CONN_CLOSED) send_out(c);
    if (--c->depth > 0) return;
    if (c->state == CONN_CLOSED) {
        destroy(c);
    } else {
        settle(c);
    }
}

void conn_cut(struct conn *c)
{
    conn_begin(c);
    if (c->state != CONN_CLOSED) {
        conn_enter(c, CONN_CLOSED);
        struct exchange *x = c->x;
        c->x = NULL;
        if (x) exchange__detach(x);
    }
    conn_end(c);
}

/* ---- socket events
 * ------------------------------------------------------------------------------------------- */

static void on_input(void *arg)
{
    struct conn *c = arg;
    conn_begin(c);
    conn_process(c);
    conn_end(c);
}

static void on_landed(void *arg, const char *data, size_t len)
{
    struct conn *c = arg;
    conn_begin(c);
    conn_landed(c, data, len);
    conn_process(c);
    conn_end(c);
}

static void on_kick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct conn *c = arg;
    conn_begin(c);
    conn_process(c);
    if (is_drained(c)) exchange__drained(c->x);
    conn_end(c);
}

static void on_drained(void *arg)
{
    struct conn *c = arg;
    conn_begin(c);
    send_out(c);
    if (is_drained(c)) exchange__drained(c->x);
    conn_end(c);
}

static void on_secure(void *arg)
{
    struct conn *c = arg;
    conn_begin(c);
    if (c->state == CONN_HANDSHAKE) conn_enter(c, CONN_IDLE);
    conn_end(c);
}

static void on_end_of_input(void *arg)
{
    struct conn *c = arg;
    conn_begin(c);
    c->peer_ended = true;
    if (c->state == CONN_WAIT)
        conn_peer_ended(c);
    else
        conn_process(c);
    conn_end(c);
}

static void on_lost(void *arg)
{
    conn_cut(arg);
}

static void on_closed(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct conn *c = arg;
    conn_begin(c);
    if (c->state == CONN_WAIT) exchange__cancel(c->x);
    conn_end(c);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct conn *c = arg;
    conn_begin(c);
    c->armed_us = 0;
    conn_expired(c);
    conn_end(c);
}

/* ---- opening and draining
 * ------------------------------------------------------------------------------------ */

static const struct stream_events stream_events = {
    .on_input = on_input,
    .on_landed = on_landed,
    .on_drained = on_drained,
    .on_end = on_end_of_input,
    .on_lost = on_lost,
    .on_secure = on_secure,
};

/* Takes fd over in any case. */
static bool attach(struct conn *c, int fd)
{
    struct server_loop *l = c->home;
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->stream.fd = fd;
    c->timer = event_new(l->base, -1, 0, on_timer, c);
    c->closed = event_new(l->base, fd, EV_CLOSED, on_closed, c);
    c->kick = event_new(l->base, -1, 0, on_kick, c);
    if (!c->timer || !c->closed || !c->kick) return false;
    SSL *ssl = c->tls ? SSL_new(l->server->tls) : NULL;
    if (c->tls && !ssl) return false;
    return stream_open(&c->stream, &l->io, fd, ssl, &stream_events, c);
}

void conn_open(struct server_loop *home, int fd, const struct sockaddr *peer, bool tls, int tag)
{
    struct server *s = home->server;
    struct peer_key key = peer_key_of(peer);
    bool full = atomic_load(&s->open_connections) >= (long long)s->limits.connections_max;
    if (home->draining || full || !peers_enter(s->peers, key)) {
        atomic_fetch_add(&s->refused_cap, 1);
        close(fd);
        return;
    }
    struct conn *c = mem_try_alloc(1, sizeof *c);
    if (!c) {
        peers_leave(s->peers, key);
        close(fd);
        return;
    }
    c->state = tls ? CONN_HANDSHAKE : CONN_IDLE;
    c->home = home;
    c->peer = key;
    c->tls = tls;
    c->tag = tag;
    peer_text(c->peer_text, sizeof c->peer_text, peer);
    parser_init(&c->parser, &(struct parser_limits){s->limits.request_line_bytes, s->limits.headers_bytes,
                                                    s->limits.headers_count});
    c->next = home->conns;
    if (c->next) c->next->prev = c;
    home->conns = c;
    atomic_fetch_add(&s->accepted, 1);
    atomic_fetch_add(&s->open_connections, 1);
    conn_begin(c);
    c->entered_us = home->now_us;
    if (!attach(c, fd)) c->state = CONN_CLOSED;
    conn_end(c);
}

void conn_drain(struct conn *c)
{
    conn_begin(c);
    if (c->state == CONN_HANDSHAKE || c->state == CONN_IDLE || c->state == CONN_LINGER) conn_cut(c);
    conn_end(c);
}
