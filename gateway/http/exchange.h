/* One request and its one response, on the event loop that accepted it. Routes know only this, never the
 * codec.
 *
 *   on_request(x) ── exchange_collect ──▶ on_body(x, rc, e, bytes) ──┐
 *        │       ├── exchange_stream  ──▶ on_data*, on_end ──────────┤
 *        │       ├── handoff_* (gateway/http/handoff.h): a pool thread ┤
 *        └────── no body wanted ─────────────────────────────────────┴──▶ exchange_reply  or  start, chunk*,
 * end
 *
 * Ownership: from on_request on, the exchange is the route's until the route finishes it by exactly one of
 * exchange_reply, exchange_fail, exchange_end or handoff_*. It then may be freed at once: do not touch it
 * again. A client that leaves does not free it: on_cancel is called, exchange_gone() becomes true, and the
 * route still finishes it (the reply goes nowhere). A body that ends badly is reported to the route, which
 * answers with exchange_fail or its own.
 *
 * Every function here runs on the exchange's loop thread, except where it says otherwise. Callbacks run there
 * too, and never from inside the call that set them. */
#ifndef GATEWAY_HTTP_EXCHANGE_H
#define GATEWAY_HTTP_EXCHANGE_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/arena.h"
#include "base/err.h"
#include "base/loop.h"
#include "gateway/http/request.h"

struct exchange;

const struct request *exchange_request(const struct exchange *x); /* any thread, while x lives */
struct arena *exchange_arena(struct exchange *x); /* the exchange's own: dies with it; limited to 1 MiB */
struct loop *exchange_loop(struct exchange *x);   /* any thread, while x lives */
void *exchange_loop_ctx(struct exchange *x);      /* what server_config.loop_init made for this loop */
void exchange_set_user(struct exchange *x, void *user); /* one pointer for the route; borrowed */
void *exchange_user(const struct exchange *x);

/* ---- the client
 * ---------------------------------------------------------------------------------------------- */
typedef void (*exchange_fn)(struct exchange *x, void *arg);

bool exchange_gone(
    const struct exchange *x); /* the client left or the server cut it off: work for it is wasted */
/* Called at most once, when the client leaves before the exchange is finished. NULL takes it back. */
void exchange_on_cancel(struct exchange *x, exchange_fn fn, void *arg);

/* ---- the request's body: choose at most one, once. Without a choice nothing is read.
 * ------------------------------ */

/* rc 0: body (borrowed until x is finished; NUL-terminated behind len) is complete. Else body is NULL and e
 * says why: ERR_TOO_LARGE over the limit, ERR_OVERLOAD over what the server holds of all bodies, ERR_INVALID
 * malformed, ERR_TIMEOUT too slow, ERR_IO cut short.
 * Called exactly once, with an empty body when there is none; never after the route finished x. */
typedef void (*exchange_body_fn)(struct exchange *x, int rc, const struct err *e, char *body, size_t len,
                                 void *arg);
void exchange_collect(struct exchange *x, size_t limit_bytes, exchange_body_fn on_body, void *arg);
/* Inside on_body or after it: the collected body's memory is the caller's, where it lies. The server goes on
 * counting it for as long as x lives. */
struct buf exchange_take_body(struct exchange *x);

/* on_data gets pieces as they arrive (borrowed for the call); on_end exactly once, rc and e as above.
 * limit_bytes is for the whole body. Between exchange_pause and exchange_resume nothing is delivered and the
 * socket is not read. */
struct exchange_sink {
    void (*on_data)(struct exchange *x, const char *data, size_t len, void *arg);
    void (*on_end)(struct exchange *x, int rc, const struct err *e, void *arg);
};
void exchange_stream(struct exchange *x, int64_t limit_bytes, const struct exchange_sink *sink, void *arg);
void exchange_pause(struct exchange *x);
void exchange_resume(struct exchange *x);

/* ---- the response
 * -------------------------------------------------------------------------------------------- */

/* Adds a header to the response: name is borrowed until that begins, value copied. Names that frame the
 * message are the codec's: content-length, transfer-encoding, connection, date, x-request-id and content-type
 * are refused by assert; so are CR, LF and NUL by replacement with a space. */
void exchange_header(struct exchange *x, const char *name, const char *value);

/* Sends the whole response and finishes x. body is copied; content_type NULL with an empty body for none
 * (204). For HEAD the length is sent and the body is not. An unread request body is drained or the connection
 * closed. */
void exchange_reply(struct exchange *x, int status, const char *content_type, const void *body, size_t len);

/* exchange_reply with the OpenAI-style envelope {"error":{"message","type","param","code"}}, the status by
 * e->code (http_status_of), and Retry-After (whole seconds, rounded up, from e->retry_after_ms) where it
 * makes sense. */
void exchange_fail(struct exchange *x, const struct err *e);

/* ERR_INVALID 400 … ERR_INTERNAL 500. Two fields matter: ERR_TIMEOUT is 504 but 408 for "body",
 * ERR_UNSUPPORTED is 400 but 415 for "content-type". Any thread. */
int http_status_of(const struct err *e);

/* A response of unknown length (SSE, exports). chunk copies, and is ignored once the client has gone. It
 * returns 0 or ERR_OVERLOAD: taken, but exchange_pending is over 256 KiB, so stop until on_drain (called each
 * time that the backlog falls below 64 KiB). exchange_end finishes x. exchange_abort finishes x by cutting
 * the connection, so that the client knows that the response is incomplete. */
void exchange_start(struct exchange *x, int status, const char *content_type);
int exchange_chunk(struct exchange *x, const void *data, size_t len);
void exchange_on_drain(struct exchange *x, exchange_fn fn, void *arg);
size_t exchange_pending(const struct exchange *x); /* response bytes not yet taken by the socket */
void exchange_end(struct exchange *x);
void exchange_abort(struct exchange *x);

#endif
