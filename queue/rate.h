/* A token bucket per tenant in Redis, shared by all gateways: one atomic script, on Redis's clock, so no race
 * and no skew. Callers on loops take a lease of several tokens at a time and spend them locally. */
#ifndef QUEUE_RATE_H
#define QUEUE_RATE_H

#include <stdint.h>
#include "base/err.h"
#include "base/ids.h"
#include "queue/redis.h"
#include "queue/redis_async.h"

struct rate_request {
    char tenant_id[ID_MAX];
    double per_second; /* > 0 */
    double burst;      /* ≥ 1: the bucket's size */
    int want;          /* ≥ 1; fewer may be granted */
};

struct rate_grant {
    int granted;        /* 0 … want whole tokens */
    int retry_after_ms; /* when granted is 0: until the next token exists, on the current rate */
    int remaining;      /* whole tokens left in the bucket after this */
};

int rate_take(struct redis *r, const struct rate_request *q, struct rate_grant *out, struct err *e);

typedef void (*rate_fn)(void *arg, int rc, const struct rate_grant *grant,
                        const struct err *e); /* grant NULL unless rc is 0 */
int rate_take_async(struct redis_async *r, const struct rate_request *q, rate_fn fn,
                    void *arg); /* as redis_async_argv */

#endif
