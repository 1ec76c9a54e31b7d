/* Who sends this request? The Authorization header, the key cache, and a trip to Postgres when that does not
 * know.
 *
 *   header ─▶ cache ─ no hit ─▶ key_parse (CRC) ─ miss ─▶ pool: key_authenticate ─▶ cache, all waiters
 *
 * Requests that bring the same unknown key share one trip. Loop thread only. */
#ifndef GATEWAY_AUTH_H
#define GATEWAY_AUTH_H

#include "base/err.h"
#include "gateway/gateway.h"
#include "gateway/http/exchange.h"
#include "gateway/principal.h"

/* rc 0: who, borrowed for the call (principal_hold keeps it). Else e: ERR_UNAUTHORIZED, ERR_FORBIDDEN (tenant
 * suspended), ERR_OVERLOAD or ERR_UNAVAILABLE. */
typedef void (*auth_fn)(struct exchange *x, int rc, struct principal *who, const struct err *e, void *arg);

/* Calls fn once, at once or later. The exchange stays the caller's. arg lives until then. */
void auth_request(struct gateway_loop *l, struct exchange *x, auth_fn fn, void *arg);

/* The key's text within an Authorization header's value: scheme Bearer, case aside, one blank or more. NULL
 * if it has another form. Borrowed from header. */
const char *auth_bearer(const char *header);

#endif
