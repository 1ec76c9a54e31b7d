/* Which version a model's name means, remembered for seconds: one look-up at a time per name, however many
 * wait for it.
 *
 *   absent ──find──▶ looking (waiters) ──done──▶ found 5 s │ missing 1 s ──▶ absent
 * A change heard of while looking makes its answer good for those who wait, and for nobody after. Loop thread
 * only. */
#ifndef GATEWAY_PREDICT_ROUTE_CACHE_H
#define GATEWAY_PREDICT_ROUTE_CACHE_H

#include "gateway/predict/arms.h"
#include "gateway/predict/predict.h"

enum { ROUTE_LIFE_MS = 5000, ROUTE_MISSING_MS = 1000, ROUTES_MAX = 4096 };

/* A route that several requests and the cache hold. */
struct shared_route {
    struct model_route route;
    int refs;
    struct shared_route *canary; /* a reference; NULL: none */
    double canary_share;
    struct shared_route *shadow; /* a reference; NULL: none */
    double shadow_share;
    double tolerance;  /* of a shadow: how far its numbers may be from the primary's */
    struct arms *arms; /* a reference to what is counted of this alias; NULL: nothing is, and there is neither
                          canary nor shadow */
};
void shared_route_release(struct shared_route *r); /* NULL is fine */
/* The version that the next call gets: the canary for its share of them, evenly spread. Borrowed from r. */
struct shared_route *shared_route_turn(struct shared_route *r);
/* The shadow, when it is due for a copy of the next call that r itself answers; else NULL. Borrowed from r.
 */
struct shared_route *shared_route_shadow(struct shared_route *r);

/* token is the waiter's own. route is borrowed for the call: take a reference (refs++) to keep it. */
typedef void (*route_found_fn)(void *arg, uint64_t token, int rc, struct shared_route *route,
                               const struct err *e);

struct route_cache;
/* config and book are borrowed. */
struct route_cache *route_cache_create(struct predict *owner, const struct predict_config *config,
                                       struct arms_book *book);
void route_cache_free(struct route_cache *c); /* tells waiters ERR_UNAVAILABLE */

/* fn is called once, at once or later. */
void route_cache_find(struct route_cache *c, const char *tenant_id, const struct model_ref *ref,
                      route_found_fn fn, void *arg, uint64_t token);
int route_not_found(const struct model_ref *ref,
                    struct err *e); /* what a missing and a forbidden model look like */
void route_cache_done(struct route_cache *c, struct route_lookup *lookup, int rc,
                      const struct route_answer *a, const struct err *e);
void route_cache_drop(struct route_cache *c, const struct changed *what);

#endif
