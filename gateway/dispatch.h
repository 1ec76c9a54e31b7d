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

/* Finishes x with that body. Loop thread. */
void dispatch_reply(struct exchange *x, int status, const char *content_type, const struct buf *body);

#endif
