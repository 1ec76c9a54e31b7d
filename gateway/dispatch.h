/* From a request to its handler: route, query, key, scope, lane, then the loop, the control pool or the
 * bulk pool.
 *
 *   on_request ─▶ route table ─▶ query, body ─▶ key ─▶ scope ─┬▶ LOOP: the handler
 *                                                             ├▶ POOL: a lane, the body, a pool thread
 *                                                             └▶ BULK: a lane, a pool thread with the stream
 */
#ifndef GATEWAY_DISPATCH_H
#define GATEWAY_DISPATCH_H

#include "base/buf.h"
#include "base/err.h"
#include "gateway/http/exchange.h"
#include "gateway/route.h"

/* server_config.on_request; loop_ctx is a struct gateway_loop. */
void dispatch_request(struct exchange *x, void *loop_ctx);

/* server_config.on_finish: counts the request, by its route. */
void dispatch_finished(struct exchange *x, int status, void *loop_ctx);

/* Finishes x with e in the dialect's shape. Loop thread. */
void dispatch_fail(struct exchange *x, enum route_dialect dialect, const struct err *e);

/* For LOOP handlers whose work goes on in a pool after all. dispatch_hold keeps the caller until x is
 * finished; dispatch_defer then, once, finishes x with what fn answers, as a pool handler of x's route,
 * without spending the tenant's rate again. bulk: it moves many bytes, and takes the lane of uploads. fn
 * finds arg as api_call.arg; free_arg is called on the loop whatever happens. Loop thread. */
void dispatch_hold(struct exchange *x);
void dispatch_defer(struct exchange *x, bool bulk, route_pool_fn fn, void *arg, void (*free_arg)(void *arg));

/* Finishes x with that body. Loop thread. */
void dispatch_reply(struct exchange *x, int status, const char *content_type, const struct buf *body);

#endif
