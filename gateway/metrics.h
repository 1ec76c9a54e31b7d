/* What the gateway counts, and its Prometheus text.
 *
 * Any thread may count: relaxed atomics, one row per route of the table plus one for requests that found no
 * route. */
#ifndef GATEWAY_METRICS_H
#define GATEWAY_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "gateway/predict/predict.h"

struct metrics;
struct route;

/* routes are borrowed for the life of *out. Dies when memory is out. */
struct metrics *metrics_create(const struct route *routes, size_t n);
void metrics_free(struct metrics *m);

/* A finished request: route NULL when none was found, the status that was sent, and microseconds since its
 * first byte. */
void metrics_request(struct metrics *m, const struct route *route, int status, int64_t took_us);

/* Bytes of dataset uploads that were read from clients. */
void metrics_upload(struct metrics *m, int64_t bytes);

/* One look-up of an API key: answered by the cache or not. */
void metrics_key_lookup(struct metrics *m, bool hit);

/* Values read at the moment of the scrape. */
struct metrics_gauges {
    int64_t open_connections, open_exchanges;
    int64_t accepted, refused_cap, refused_framing, timed_out, cancelled; /* counters kept by the server */
    int64_t control_waiting, bulk_waiting;
    struct predict_stats predicts; /* a second old at most */
    int64_t ready;                 /* 0 or 1 */
    int64_t loops;
};

/* Appends the whole exposition (text format 0.0.4). */
void metrics_write(const struct metrics *m, const struct metrics_gauges *g, struct buf *out);

#endif
