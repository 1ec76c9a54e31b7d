/* One HTTP/1.x connection on its loop: the socket (plain or TLS), the parser, and the exchange being served.
 *
 *               ┌───────────────────────── keep-alive ────────────────────────────────────┐
 *   HANDSHAKE ─▶ IDLE ─▶ HEAD ─▶ WAIT ─▶ BODY ─▶ WAIT ─▶ (response over) ─▶ DISCARD ─▶ FLUSH ─▶ LINGER ─▶
 * CLOSED │              (the route chose a consumer)                   ▲ └── malformed or late: refused
 * ──────────────────────────────┘
 *
 * WAIT      the route has the exchange; the body is read to its end, or nobody wants it yet
 * BODY      the route has the exchange and its body is being delivered
 * DISCARD   answered, but a small rest of the body must pass before the next request
 * FLUSH     answered; waiting for the socket to take the response
 * LINGER    half-closed: reading on for a moment, because closing over unread bytes would take the response
 * back
 *
 * conn_enter is the only function that changes the state. Everything here runs on the connection's loop. */
#ifndef GATEWAY_HTTP_CONNECTION_H
#define GATEWAY_HTTP_CONNECTION_H

#include <stdbool.h>
#include <stdint.h>
#include "gateway/http/exchange_impl.h"
#include "gateway/http/parser.h"
#include "gateway/http/peers.h"
#include "gateway/http/server_impl.h"
#include "gateway/http/stream.h"

struct event;

enum conn_state {
    CONN_HANDSHAKE,
    CONN_IDLE,
    CONN_HEAD,
    CONN_WAIT,
    CONN_BODY,
    CONN_DISCARD,
    CONN_FLUSH,
    CONN_LINGER,
    CONN_CLOSED,
};

struct conn {
    enum conn_state state;
    struct server_loop *home; /* borrowed */
    struct conn *prev, *next; /* home->conns */
    struct stream stream;     /* owned */
    struct event *timer;      /* owned: the earliest deadline, checked when it fires */
    struct event *closed;     /* owned: the peer's FIN while nothing is read */
    struct event *kick;       /* owned: goes on with buffered input in a turn of its own */
    bool watching;            /* closed is pending */
    struct parser parser;
    struct exchange *x; /* borrowed: its route owns it. NULL between requests */
    int depth;          /* of entries into this file; freed only at zero */
    struct peer_key peer;
    char peer_text[REQUEST_PEER_MAX];
    bool tls;
    int tag;
    size_t requests; /* begun on this connection */

    /* of the current request */
    bool body_done;    /* its END was parsed */
    bool body_paused;  /* its consumer wants no more for now */
    bool continue_due; /* the client waits for 100 Continue */
    bool head_only;    /* HEAD: no body in the response */
    bool http10;
    bool chunked_out;    /* the response is framed in chunks */
    bool close;          /* close after this response */
    bool write_failed;   /* memory ran out for the response: cut, but not from inside a call of the route */
    bool body_was_large; /* this request's, or the last one's: the next one's may be too */
    bool peer_ended;     /* the peer sent its FIN: nothing more will come */

    /* clocks: home->now_us of their turns */
    int64_t entered_us;                  /* the present state */
    int64_t armed_us;                    /* when the timer fires; 0 when it is off */
    int64_t body_began_us, body_last_us; /* shifted by the time spent paused */
    int64_t body_bytes, paused_us;
};

/* Takes over an accepted descriptor. On failure it is closed. */
void conn_open(struct server_loop *home, int fd, const struct sockaddr *peer, bool tls, int tag);

/* For draining: closes a connection that serves nobody; the others close after their response. */
void conn_drain(struct conn *c);
/* Closes at once, whatever is going on; an exchange is detached and its route told. */
void conn_cut(struct conn *c);

/* ---- shared by connection*.c
 * -------------------------------------------------------------------------------- */
void conn_enter(struct conn *c, enum conn_state state);
void conn_begin(struct conn *c); /* every entry point: begin … end; c may be gone after end */
void conn_end(struct conn *c);

/* Answers a request that no route will see, and closes. status 4xx or 5xx; reason is for the client. */
void conn_refuse(struct conn *c, int status, const char *reason, const char *param);
/* The response is written as far as we are concerned: on to DISCARD, FLUSH, LINGER or the next request. */
void conn_responded(struct conn *c);
void conn_flushed(struct conn *c); /* in FLUSH: go on if the socket has taken enough */
bool conn_can_discard(const struct conn *c);
void conn_send_continue(struct conn *c);

bool conn_wants_input(const struct conn *c);
bool conn_parses(const struct conn *c);                         /* input that has come can be worked on */
void conn_process(struct conn *c);                              /* works on it */
void conn_landed(struct conn *c, const char *data, size_t len); /* a piece of the body, where it belongs */
/* The peer will send nothing more. Its FIN may only half-close, so a response that is due is still attempted.
 */
void conn_peer_ended(struct conn *c);
void conn_body_clock_start(struct conn *c);
void conn_body_clock_pause(struct conn *c, bool paused);
void conn_body_clock_count(struct conn *c, size_t len);
void conn_arm(struct conn *c);     /* sets the timer to the earliest deadline of the present state */
void conn_expired(struct conn *c); /* the timer fired: acts on the deadline that passed, if one did */

extern const struct exchange_codec conn_codec;

#endif
