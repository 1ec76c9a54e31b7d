/* A trip to the control pool on behalf of a loop, outside any exchange: a look-up in Postgres whose answer
 * comes back to the loop. For the request's own work see gateway/http/handoff.h.
 *
 *   loop: trip_start ──▶ pool thread: work(trip, state) ──▶ loop: done(trip), then trip is freed
 *
 * Trips that are under way when their loop ends are waited for and freed by trip_free_all. */
#ifndef GATEWAY_TRIP_H
#define GATEWAY_TRIP_H

#include "base/err.h"
#include "gateway/gateway.h"

struct trip {
    struct gateway_loop *home;
    void (*work)(struct trip *t, struct pool_state *state); /* on the pool; must not touch the loop */
    void (*done)(struct trip *t);                           /* on the loop */
    void (*dispose)(
        struct trip *t); /* frees what t owns besides itself; may be NULL; on the loop or after it */
    struct trip *prev, *next;
};

/* t is heap memory whose first member is a struct trip, filled but for the links; owned from a success on.
 * ERR_OVERLOAD: the pool is full, t is still the caller's. */
int trip_start(struct gateway_loop *l, struct trip *t, struct err *e);

/* After the loop has stopped, while the pool still runs. */
void trip_free_all(struct gateway_loop *l);

#endif
