/* Dropping what a gateway has cached: keys, which all threads share, and each loop's routes.
 *
 *   a change commits ─▶ gateway_forget: keys, then every loop's routes ─▶ tnr:changed tells the others ─▶ the
 *   answer: whoever reads it finds the change in force at every loop of this gateway
 */
#ifndef GATEWAY_FORGET_H
#define GATEWAY_FORGET_H

#include "gateway/gateway.h"
#include "queue/changed.h"

/* Pool threads, within a call (which keeps the loops alive). Returns when every loop has dropped it, or after
 * a second: a loop that stuck will hear of it, as the other gateways do, through Redis. */
void gateway_forget(struct gateway *g, const struct changed *c);

void forget__keys(struct gateway *g, const struct changed *c); /* any thread */

#endif
