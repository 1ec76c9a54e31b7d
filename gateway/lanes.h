/* Keeps one tenant from filling the pools: how many of its calls may be queued or running there at a time.
 *
 * Process-wide; any thread; a lock held for a few comparisons. The rate of requests is another matter:
 * queue/rate.h. */
#ifndef GATEWAY_LANES_H
#define GATEWAY_LANES_H

#include "base/err.h"

struct lanes;

/* WARM: of the control calls, those that wait for a model to be loaded. */
enum lane { LANE_CONTROL, LANE_BULK, LANE_WARM, LANE_COUNT };

/* limits: the most calls of one tenant in each lane, ≥ 1. Dies when memory is out. */
struct lanes *lanes_create(const int limits[LANE_COUNT]);
void lanes_free(struct lanes *a);

/* Takes a place, to be given back by lanes_leave. own_limit > 0 narrows the lane's limit. ERR_LIMIT with
 * retry_after_ms when the tenant has that many. */
int lanes_enter(struct lanes *a, enum lane lane, const char *tenant_id, int own_limit, struct err *e);
void lanes_leave(struct lanes *a, enum lane lane, const char *tenant_id);

#endif
