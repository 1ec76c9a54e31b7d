/* Counters by route and code, a latency histogram per route, and how they are written for Prometheus. */
#include "gateway/metrics.h"

#include <stdatomic.h>
#include <string.h>
#include "base/mem.h"
#include "gateway/route.h"

/* Every status that the gateway sends has a slot; anything else shares the last one, shown as "other". */
static const int codes[] = {200, 201, 202, 204, 400, 401, 403, 404, 405, 408, 409, 411,
                            413, 415, 422, 426, 429, 431, 499, 500, 501, 503, 504, 505};
enum { CODES = sizeof(codes) / sizeof(codes[0]) + 1 };

static const struct {
    int64_t us;
    const char *label; /* seconds */
} bounds[] = {
    {500, "0.0005"},  {1000, "0.001"},  {2500, "0.0025"}, {5000, "0.005"},  {10000, "0.01"},
    {25000, "0.025"}, {50000, "0.05"},  {100000, "0.1"},  {250000, "0.25"}, {500000, "0.5"},
    {1000000, "1"},   {2500000, "2.5"}, {10000000, "10"}, {60000000, "60"},
};
enum { BOUNDS = sizeof(bounds) / sizeof(bounds[0]) };

struct row {
    atomic_int_fast64_t by_code[CODES];
    atomic_int_fast64_t by_bound[BOUNDS + 1]; /* not cumulative; the last one is +Inf's share */
    atomic_int_fast64_t took_us;
};

struct metrics {
    const struct route *routes; /* borrowed */
    size_t n;
    struct row *rows; /* owned; n + 1, the last for requests without a route */
    atomic_int_fast64_t upload_bytes;
    atomic_int_fast64_t key_lookups[2]; /* misses, hits */
};

struct metrics *metrics_create(const struct route *routes, size_t n)
{
    struct metrics *m = mem_alloc(1, sizeof(*m));
    m->routes = routes;
    m->n = n;
    m->rows = mem_alloc(n + 1, sizeof(*m->rows));
    return m;
}

void metrics_free(struct metrics *m)
{
    if (m == NULL) return;
    mem_free(m->rows);
    mem_free(m);
}

static void add(atomic_int_fast64_t *counter, int64_t by)
{
    atomic_fetch_add_explicit(counter, by, memory_order_relaxed);
}

static int64_t get(const atomic_int_fast64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static size_t code_slot(int status)
{
    for (size_t i = 0; i < CODES - 1; i++)
        if (codes[i] == status) return i;
    return CODES - 1;
}

void metrics_request(struct metrics *m, const struct route *route, int status, int64_t took_us)
{
    struct row *row = &m->rows[route != NULL ? (size_t)(route - m->routes) : m->n];
    size_t bound = 0;
    while (bound < BOUNDS && took_us > bounds[bound].us) bound++;
    add(&row->by_code[code_slot(status)], 1);
    add(&row->by_bound[bound], 1);
    add(&row->took_us, took_us);
}

void metrics_upload(struct metrics *m, int64_t bytes)
{
    add(&m->upload_bytes, bytes);
}

void metrics_key_lookup(struct metrics *m, bool hit)
{
    add(&m->key_lookups[hit], 1);
}

static int64_t row_count(const struct row *row)
{
    int64_t sum = 0;
    for (size_t i = 0; i <= BOUNDS; i++) sum += get(&row->by_bound[i]);
    return sum;
}

/* Patterns hold no character that a label value would have to escape. */
static void route_label(const struct metrics *m, size_t i, struct buf *out)
{
    if (i == m->n)
        buf_str(out, "method=\"\",route=\"none\"");
    else
        buf_printf(out, "method=\"%s\",route=\"%s\"", http_method_name(m->routes[i].method),
                   m->routes[i].pattern);
}

static void head(struct buf *out, const char *name, const char *type, const char *help)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void requests_write(const struct metrics *m, struct buf *out)
{
    head(out, "tenor_gateway_requests_total", "counter", "Finished requests by route and status.");
    for (size_t i = 0; i <= m->n; i++) {
        for (size_t c = 0; c < CODES; c++) {
            int64_t count = get(&m->rows[i].by_code[c]);
            if (count == 0) continue;
            buf_str(out, "tenor_gateway_requests_total{");
            route_label(m, i, out);
            if (c < CODES - 1)
                buf_printf(out, ",code=\"%d\"} %lld\n", codes[c], (long long)count);
            else
                buf_printf(out, ",code=\"other\"} %lld\n", (long long)count);
        }
    }
}

static void latency_row_write(const struct metrics *m, size_t i, struct buf *out)
{
    const struct row *row = &m->rows[i];
    int64_t sum = 0;
    for (size_t b = 0; b <= BOUNDS; b++) {
        sum += get(&row->by_bound[b]);
        buf_str(out, "tenor_gateway_request_duration_seconds_bucket{");
        route_label(m, i, out);
        buf_printf(out, ",le=\"%s\"} %lld\n", b < BOUNDS ? bounds[b].label : "+Inf", (long long)sum);
    }
    buf_str(out, "tenor_gateway_request_duration_seconds_sum{");
    route_label(m, i, out);
    buf_printf(out, "} %.6f\n", (double)get(&row->took_us) / 1e6);
    buf_str(out, "tenor_gateway_request_duration_seconds_count{");
    route_label(m, i, out);
    buf_printf(out, "} %lld\n", (long long)sum);
}

static void value(struct buf *out, const char *name, const char *type, const char *help, int64_t v)
{
    head(out, name, type, help);
    buf_printf(out, "%s %lld\n", name, (long long)v);
}

static void seconds(struct buf *out, const char *name, const char *help, int64_t us)
{
    head(out, name, "counter", help);
    buf_printf(out, "%s %.6f\n", name, (double)us / 1e6);
}

static void predicts_write(const struct predict_stats *s, struct buf *out)
{
    const struct {
        const char *result;
        int64_t n;
    } ends[] = {
        {"answered", s->answered},     {"limited", s->limited},
        {"overloaded", s->overloaded}, {"timed_out", s->timed_out},
        {"cancelled", s->cancelled},   {"failed", s->failed - s->limited - s->overloaded - s->timed_out}};
    value(out, "tenor_gateway_predicts_in_flight", "gauge", "Predictions that are not answered yet.",
          s->pending);
    head(out, "tenor_gateway_predicts_total", "counter", "Predictions by their end.");
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        buf_printf(out, "tenor_gateway_predicts_total{result=\"%s\"} %lld\n", ends[i].result,
                   (long long)ends[i].n);
    value(out, "tenor_gateway_predict_rows_total", "counter", "Rows of answered predictions.", s->rows);
    seconds(out, "tenor_gateway_predict_compute_seconds_total",
            "Computing of answered predictions, their shares of batches.", s->compute_us);
    seconds(out, "tenor_gateway_predict_queue_seconds_total",
            "Waiting of answered predictions in their worker.", s->queue_us);
    value(out, "tenor_gateway_predict_batch_rows_total", "counter",
          "Rows of the batch of each answered prediction: divided by those, the company that one had.",
          s->batch_rows);
    value(out, "tenor_gateway_predict_resent_total", "counter",
          "Predictions sent to another worker because the first was lost.", s->resent);
    value(out, "tenor_gateway_predict_placement_waits_total", "counter",
          "Times that a prediction waited for a worker to load its model.", s->placed_waits);
}

static void gauges_write(const struct metrics_gauges *g, struct buf *out)
{
    value(out, "tenor_gateway_ready", "gauge", "1 when the gateway takes traffic.", g->ready);
    value(out, "tenor_gateway_loops", "gauge", "Event loops.", g->loops);
    value(out, "tenor_gateway_connections", "gauge", "Open client connections.", g->open_connections);
    value(out, "tenor_gateway_requests_in_flight", "gauge", "Requests that are not answered yet.",
          g->open_exchanges);
    value(out, "tenor_gateway_connections_total", "counter", "Accepted client connections.", g->accepted);
    value(out, "tenor_gateway_connections_refused_total", "counter", "Connections over a cap.",
          g->refused_cap);
    value(out, "tenor_gateway_framing_refused_total", "counter", "Malformed requests.", g->refused_framing);
    value(out, "tenor_gateway_timeouts_total", "counter", "Clients that were too slow.", g->timed_out);
    value(out, "tenor_gateway_cancelled_total", "counter", "Clients that left before the answer.",
          g->cancelled);
    predicts_write(&g->predicts, out);
    head(out, "tenor_gateway_pool_waiting", "gauge", "Calls that wait for a pool thread.");
    buf_printf(out, "tenor_gateway_pool_waiting{pool=\"control\"} %lld\n", (long long)g->control_waiting);
    buf_printf(out, "tenor_gateway_pool_waiting{pool=\"bulk\"} %lld\n", (long long)g->bulk_waiting);
}

void metrics_write(const struct metrics *m, const struct metrics_gauges *g, struct buf *out)
{
    requests_write(m, out);
    head(out, "tenor_gateway_request_duration_seconds", "histogram",
         "From a request's first byte to its answer.");
    for (size_t i = 0; i <= m->n; i++)
        if (row_count(&m->rows[i]) > 0) latency_row_write(m, i, out);
    gauges_write(g, out);
    value(out, "tenor_gateway_upload_bytes_total", "counter", "Bytes of datasets read from clients.",
          get(&m->upload_bytes));
    head(out, "tenor_gateway_key_lookups_total", "counter", "Look-ups of API keys in the cache.");
    buf_printf(out, "tenor_gateway_key_lookups_total{result=\"hit\"} %lld\n",
               (long long)get(&m->key_lookups[1]));
    buf_printf(out, "tenor_gateway_key_lookups_total{result=\"miss\"} %lld\n",
               (long long)get(&m->key_lookups[0]));
}
