/* Whether a tenant's request may pass now: its rate (tokens leased from the bucket that all gateways share)
 * and its requests in flight on this loop. Loop thread only.
 *
 *   admission_ask ──▶ tokens at hand: granted │ bucket known to be empty: 429 until then │ a lease is
 * fetched: wait */
#ifndef GATEWAY_PREDICT_ADMISSION_H
#define GATEWAY_PREDICT_ADMISSION_H

#include "gateway/predict/predict.h"
#include "queue/redis_async.h"

enum { ADMISSION_LEASE_MS = 250, ADMISSION_CONCURRENCY = 256 };

struct admission;
struct admission *admission_create(struct redis_async *redis); /* borrowed */
void admission_free(struct admission *a); /* after redis is freed; waiters are not told */

/* fn is called once, at once or later: rc 0, ERR_LIMIT with retry_after_ms, or ERR_UNAVAILABLE. With rc 0 one
 * request more of the tenant is in flight, until admission_leave; unless fn returns false, because nobody
 * wants it any more. token is the caller's own. */
typedef bool (*admission_fn)(void *arg, uint64_t token, int rc, const struct err *e);
void admission_ask(struct admission *a, const struct predict_caller *c, admission_fn fn, void *arg,
                   uint64_t token);
void admission_leave(struct admission *a, const char *tenant_id);

/* What the tenant may ask for now: *remaining requests, and the seconds until its whole burst is there again.
 * A good guess: other loops and gateways spend from the same bucket. false: unlimited, or not known yet. */
bool admission_left(struct admission *a, const char *tenant_id, int64_t *remaining, int64_t *full_s);

#endif
