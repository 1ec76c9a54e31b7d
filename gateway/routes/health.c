/* Liveness, readiness, metrics and the API's description: answered on the loop, from memory. */
#include "gateway/routes/routes.h"

#include <string.h>
#include "gateway/dispatch.h"
#include "gateway/openapi.h"

static struct gateway *gateway_of(struct exchange *x)
{
    const struct gateway_loop *l = exchange_loop_ctx(x);
    return l->g;
}

void health_live(struct exchange *x, const struct route_match *m, const struct principal *who)
{
    struct buf body = {0};
    buf_str(&body, "{\"live\":true}");
    (void)m;
    (void)who;
    dispatch_reply(x, 200, "application/json", &body);
    buf_dispose(&body);
}

/* The reason names servers and addresses, so only the operator's listener tells it. */
void health_ready(struct exchange *x, const struct route_match *m, const struct principal *who)
{
    struct gateway *g = gateway_of(x);
    char reason[PROBE_REASON_MAX];
    struct buf body = {0};
    struct json_writer w;
    (void)who;
    bool ready = probe_ready(g->probe, reason);
    if (atomic_load(&g->draining)) {
        ready = false;
        strcpy(reason, "draining");
    }
    jw_init(&w, &body);
    jw_obj(&w);
    jw_kbool(&w, "ready", ready);
    if (!ready && m->route->face == FACE_OPS) jw_kstr(&w, "reason", reason);
    jw_obj_end(&w);
    if (!ready) exchange_header(x, "Retry-After", "1");
    dispatch_reply(x, ready ? 200 : 503, "application/json", &body);
    buf_dispose(&body);
}

void health_metrics(struct exchange *x, const struct route_match *m, const struct principal *who)
{
    struct gateway *g = gateway_of(x);
    struct metrics_gauges gauges;
    struct buf body = {0};
    (void)m;
    (void)who;
    gateway_gauges(g, &gauges);
    metrics_write(g->metrics, &gauges, &body);
    dispatch_reply(x, 200, "text/plain; version=0.0.4", &body);
    buf_dispose(&body);
}

void openapi_get(struct exchange *x, const struct route_match *m, const struct principal *who)
{
    struct buf body = {0};
    (void)m;
    (void)who;
    openapi_write(&body, route_table, route_table_len);
    dispatch_reply(x, 200, "application/json", &body);
    buf_dispose(&body);
}
