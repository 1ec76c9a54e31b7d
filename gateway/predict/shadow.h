/* Shadow traffic: copies of calls that a version on trial answers too, and nobody but the comparison sees.
 *
 *   the primary is on its way ──shadow_send──▶ a copy to a holder of the shadow's version
 * ──shadow_on_reply──▶ its answer ┐ the primary's answer has gone to the client
 * ──shadow_on_primary───────────────────────────────────────────────▶ both: compared and counted (arms.h)
 *
 * Calls come first: a copy is sent only while few copies are in flight, and to a worker that is not busy; it
 * is never sent twice, never waits for a holder, and is dropped without a trace in the counts when its worker
 * is lost. Loop thread only. */
#ifndef GATEWAY_PREDICT_SHADOW_H
#define GATEWAY_PREDICT_SHADOW_H

#include "gateway/predict/predict_impl.h"
#include "queue/message.h"

/* In flight on one loop: copies, and their bytes with what they keep of answers. BUSY: requests of this loop
 * that a worker's thread has, from which on it gets no copy. All tenants share them: of each, a tenant's
 * copies have at most as much as they leave free, so that nobody's backlog keeps somebody else's copies out.
 */
enum { SHADOWS_MAX = 64, SHADOW_BYTES_MAX = 32 << 20, SHADOW_BUSY = 16 };

struct shadows;
struct shadows *shadows_create(struct predict *p);
void shadows_free(struct shadows *s); /* before the holders are freed; NULL is fine */

/* Copies r's call to r->shadow, unless a bound forbids it or r has not been sent: counted as skipped then. */
void shadow_send(struct predict_request *r);
/* A request that shadow_send has copied was answered with m. */
void shadow_on_primary(struct shadows *s, uint64_t request_id, const struct message *m);
/* A worker's reply to something that is no client's request: true when it was a shadow's. */
bool shadow_on_reply(struct shadows *s, const struct port *from, const struct message *m);
/* The port's link is gone, and what it had with it. */
void shadow_on_lost(struct shadows *s, const struct port *port);

#endif
