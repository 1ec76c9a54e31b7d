/* Who calls: what a verified API key says about its holder. Immutable once made and shared by reference
 * count, so that a loop, the key cache and pool threads may all hold the same one. Any thread. */
#ifndef GATEWAY_PRINCIPAL_H
#define GATEWAY_PRINCIPAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/ids.h"
#include "store/key.h"

struct principal {
    atomic_int refs;
    char tenant_id[ID_MAX];
    char key_id[ID_MAX];
    unsigned scopes;     /* bits of enum key_scope */
    const char **models; /* owned; the models it may call; NULL for all */
    int n_models;
    int64_t expires_at_us;     /* wall; 0: never */
    double rate_per_second;    /* of the tenant's plan; ≤ 0: unlimited */
    double burst;              /* requests */
    int inflight_max;          /* ≤ 0: no limit of its own */
    int64_t request_rows_max;  /* of the tenant's plan */
    int64_t max_dataset_bytes; /* of the tenant's plan */
    char rate_policy[48];      /* the rate as RateLimit-Policy words it; "" without one */
};

/* A copy of what the look-up found, with one reference. Dies when memory is out. */
struct principal *principal_create(const struct key_auth *auth);
struct principal *principal_hold(struct principal *p); /* returns p */
void principal_release(struct principal *p);           /* NULL is fine */

/* Whether its key may call that model at all. */
bool principal_may_call(const struct principal *p, const char *model);

#endif
