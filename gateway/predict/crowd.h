/* How many of a tenant's requests may wait for workers on this loop before more would only make all of them
 * late.
 *
 * By what was measured: in windows of 50 ms, how many were answered and how long the quickest of them took.
 * When even the quickest took too long, a queue stands that does not drain; then as many may be in flight as
 * are answered in CROWD_TARGET_MS (Little's law). The bound grows again while it binds and nothing is late,
 * and goes away when nobody meets it. So bursts pass, and overload costs those who are let in a bounded wait.
 * Pure: the caller says what time it is. */
#ifndef GATEWAY_PREDICT_CROWD_H
#define GATEWAY_PREDICT_CROWD_H

#include <stdint.h>
#include <stdbool.h>

enum {
    CROWD_TARGET_MS = 300,
    CROWD_LATE_MS = 400, /* the quickest of a window took longer: crowded */
    CROWD_WINDOW_MS = 50,
    CROWD_FLOOR = 32,    /* so many may always be in flight: a slow model fills a batch with them… */
    CROWD_FLOOR_MIN = 4, /* …which those who are crowded share, down to this */
};

/* Zeroed: nothing is known yet, all may pass. */
struct crowd {
    double per_ms; /* answered, over the last windows; 0: not known */
    int limit;     /* of requests in flight, unless the floor is higher; 0: none */
    int64_t since_ms;
    int answered, late, refused; /* in this window */
    int64_t least_us;
};

/* A request was answered after that long with the worker; or its deadline passed, or a worker was full. */
void crowd_answered(struct crowd *c, int64_t now_ms, int64_t took_us);
void crowd_late(struct crowd *c, int64_t now_ms);

bool crowd_is_bound(const struct crowd *c);

/* Whether one more may join in_flight others, where `crowded` tenants are bound. A refusal is remembered: the
 * bound binds. */
bool crowd_has_room(struct crowd *c, int in_flight, int crowded);

/* How long in_flight requests take to be answered at the measured rate, 1 ms at least; 1,000 when none was
 * measured. */
int64_t crowd_wait_ms(const struct crowd *c, int in_flight);

#endif
