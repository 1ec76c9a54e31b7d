/* Plain sequential code for a request: a handler on a pool thread, fed by the loop, answered through the
 * loop.
 *
 *   loop: handoff_*(x, …) ──▶ pool thread: fn(call, thread_state) ──▶ loop: call->response sent, x finished
 *
 * fn sees the request (immutable), its body as bytes or as a reader, and fills call->response. It never sees
 * the exchange. The client may leave meanwhile: fn runs to its end all the same (call_cancelled() lets it
 * stop early) and its response goes nowhere. A full pool answers 503 with Retry-After at once; fn then never
 * runs. */
#ifndef GATEWAY_HTTP_HANDOFF_H
#define GATEWAY_HTTP_HANDOFF_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/pool.h"
#include "gateway/http/body_reader.h"
#include "gateway/http/exchange.h"
#include "gateway/http/request.h"

enum { RESPONSE_HEADERS_MAX = 16 };

/* Filled by the handler; sent by the loop. status 0 means 500. */
struct response {
    int status;
    const char *content_type; /* borrowed for as long as the call: a literal or from call->arena; NULL without
                                 a body */
    struct buf body;          /* owned; disposed of by the loop */
    struct http_field headers[RESPONSE_HEADERS_MAX]; /* text in call->arena */
    size_t headers_len;
};

struct call {
    const struct request *request; /* borrowed */
    const char *body; /* borrowed; handoff_body only, NUL-terminated behind body_len; else NULL */
    size_t body_len;
    struct body_reader *reader; /* borrowed; handoff_reader only; else NULL. Need not be read to its end */
    void *arg;                  /* the caller's; what it points at must outlive the call */
    struct arena arena;         /* the call's own: use it freely; limited to 64 MiB; freed after the reply */
    struct response response;
};

/* thread_state is the pool's (its database connection). */
typedef void (*call_fn)(struct call *c, void *thread_state);

/* Each finishes x (see exchange.h). free_arg may be NULL; it is called once, on the loop, whatever happened.
 * handoff_none ignores the body; handoff_body collects it first (a bad one is answered by exchange_fail and
 * fn never runs); handoff_reader starts fn at once. limit_bytes is for the whole body. */
typedef void (*call_free_fn)(void *arg);
void handoff_none(struct exchange *x, struct pool *pool, call_fn fn, void *arg, call_free_fn free_arg);
void handoff_body(struct exchange *x, struct pool *pool, size_t limit_bytes, call_fn fn, void *arg,
                  call_free_fn free_arg);
void handoff_reader(struct exchange *x, struct pool *pool, int64_t limit_bytes, call_fn fn, void *arg,
                    call_free_fn free_arg);

/* ---- on the pool thread
 * -------------------------------------------------------------------------------------- */
bool call_cancelled(const struct call *c);                             /* the client has left */
void call_header(struct call *c, const char *name, const char *value); /* copied; as exchange_header */
/* Fills the response: the error envelope of exchange_fail. Discards a body written so far. */
void call_fail(struct call *c, const struct err *e);

#endif
