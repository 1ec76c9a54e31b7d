/* Whether a tenant's request may pass now: its rate (tokens leased from the bucket that all gateways share)
 * and its requests in flight on this loop. Loop thread only.
 *
 *   admission_ask ──▶ tokens at hand: granted │ bucket known to be empty: 429 until then │ a lease is
 * fetched: wait
 *
 * While Redis does not answer, each loop keeps a bucket of its own with its part of the rate, so that
 * predictions go on: the limit then holds for each gateway instead of for all together. */
#ifndef GATEWAY_PREDICT_ADMISSION_H
#define GATEWAY_PREDICT_ADMISSION_H

#include "gateway/predict/predict.h"
#include "queue/redis_async.h"

enum { ADMISSION_LEASE_MS = 250, ADMISSION_CONCURRENCY = 256, ADMISSION_LATE = -1 };

struct admission;
struct admission *admission_create(struct redis_async *redis,
                                   int loops); /* redis: borrowed; loops: of this gateway */
void admission_free(struct admission *a);      /* after redis is freed; waiters are not told */

/* fn is called once, at once or later: rc 0; ERR_LIMIT, the tenant is over its plan; or ERR_OVERLOAD, its
 * requests wait too long already (gateway/predict/crowd.h), both with retry_after_ms.
 * With rc 0 one request more of the tenant is in flight, until admission_leave; unless fn returns false,
 * because nobody wants it any more. token is the caller's own. */
typedef bool (*admission_fn)(void *arg, uint64_t token, int rc, const struct err *e);
void admission_ask(struct admission *a, const struct predict_caller *c, admission_fn fn, void *arg,
                   uint64_t token);
/* took_us: how long a worker took to answer it; ADMISSION_LATE when it was not answered in time, or refused
 * by a full worker; 0 when it says nothing about the platform's pace. */
void admission_leave(struct admission *a, const char *tenant_id, int64_t took_us);

/* How long so many requests of all tenants take to be answered, by the measured rate: for Retry-After. */
int64_t admission_wait_ms(const struct admission *a, int in_flight);

/* What the tenant may ask for now: *remaining requests, and the seconds until its whole burst is there again.
 * A good guess: other loops and gateways spend from the same bucket. false: unlimited, or not known yet. */
bool admission_left(struct admission *a, const char *tenant_id, int64_t *remaining, int64_t *full_s);

#endif
