/* Making sure that a version is loaded and warm before an alias moves to it, so that no call waits for it.
 *
 *   held by as many workers as hold the present one ──▶ WARM_HELD
 *   else: the scheduler is asked to place it; workers that hold the present one are asked for a replica
 *     ──loaded──▶ WARM_HELD    ──a load failed──▶ error    ──no time left──▶ error
 *   no worker lives ──▶ WARM_NOBODY: there is nobody to wait for, and nobody who answers calls anyway
 *
 * Pool threads; blocks. */
#ifndef GATEWAY_WARM_H
#define GATEWAY_WARM_H

#include <stdint.h>
#include "base/err.h"
#include "gateway/gateway.h"

enum { WARM_WAIT_MS = 10000 };

enum warm_outcome { WARM_HELD, WARM_NOBODY };

struct warm_request {
    const char *tenant_id;
    const char *version_id;
    int64_t version;     /* its number, for messages */
    uint64_t bytes;      /* of its artifact */
    const char *present; /* the version that answers now: as many workers are asked for; NULL: one */
    int64_t deadline_ms; /* clock_mono_ms: waits no longer */
};

/* ERR_CONFLICT: workers cannot load it, with the reason. ERR_OVERLOAD: none has in time; too many wait
 * already, for whom at most half of the pool is; or the gateway is stopping. ERR_LIMIT: the tenant waits
 * often enough. ERR_UNAVAILABLE: Redis is away. */
int warm_version(struct gateway *g, struct redis *r, const struct warm_request *q, enum warm_outcome *out,
                 struct err *e);

#endif
