/* Puts the gateway together: keys, blobs, pools with their connections, the server with a context per loop.
 */
#include "gateway/gateway.h"

#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "gateway/dispatch.h"
#include "gateway/forget.h"
#include "gateway/model_lookup.h"
#include "gateway/route.h"
#include "gateway/trip.h"

enum {
    POOL_REDIS_TIMEOUT_MS = 1000,
    BODIES_HELD = 16, /* request bodies in memory at a time, if all were of the largest kind */
};

/* ---- pool threads ---- */

static void *pool_state_create(void *arg)
{
    const struct gateway *g = arg;
    struct pool_state *state = mem_alloc(1, sizeof(*state));
    struct db_options o = {.conninfo = g->options->postgres_url, .program = "tenor-gateway"};
    struct err e = {0};
    if (db_open_lazy(&state->db, &o, &e) != 0) log_error("pool_without_database", "reason=%s", e.message);
    state->redis = redis_create(&g->redis, POOL_REDIS_TIMEOUT_MS);
    return state;
}

static void pool_state_free(void *arg)
{
    struct pool_state *state = arg;
    db_free(state->db);
    redis_free(state->redis);
    mem_free(state);
}

static int pools_create(struct gateway *g, struct err *e)
{
    const struct gateway_options *o = g->options;
    int control = (int)o->pool_threads, bulk = (int)o->bulk_threads;
    size_t queue = (size_t)o->pool_queue;
    int rc = pool_create(&g->control, "control", control, queue, pool_state_create, pool_state_free, g, e);
    if (rc == 0)
        rc = pool_create(&g->bulk, "bulk", bulk, queue / 4 + 1, pool_state_create, pool_state_free, g, e);
    /* One tenant gets at most a quarter of the control queue, leaves a bulk thread to the others, and lets
     * two alias moves wait. */
    int limits[LANE_COUNT] = {
        [LANE_CONTROL] = (int)queue / 4 + 1, [LANE_BULK] = bulk > 1 ? bulk - 1 : 1, [LANE_WARM] = 2};
    if (rc == 0) g->lanes = lanes_create(limits);
    return rc;
}

/* ---- loops ---- */

static void on_changed(void *arg, const struct changed *c)
{
    struct gateway_loop *l = arg;
    forget__keys(l->g, c);
}

static void loop_ctx_free(void *ctx)
{
    struct gateway_loop *l = ctx;
    trip_free_all(l);
    predict_free(l->predict);
    pthread_cond_destroy(&l->trips_in);
    pthread_mutex_destroy(&l->trips_lock);
    pthread_mutex_destroy(&l->stats_lock);
    mem_free(l);
}

static int loop_ctx_create(void **out, struct loop *loop, int index, void *arg, struct err *e)
{
    struct gateway *g = arg;
    struct gateway_loop *l = mem_alloc(1, sizeof(*l));
    struct predict_config config = {.loop_index = index,
                                    .loops = server_loops_of((int)g->options->loops),
                                    .inc = g->inc,
                                    .redis = &g->redis,
                                    .body_limit_bytes = (size_t)g->options->predict_body_bytes,
                                    .timeout_ms = (int)g->options->predict_timeout_ms,
                                    .resolve = model_lookup_resolve,
                                    .on_changed = on_changed,
                                    .arg = l};
    l->g = g;
    l->loop = loop;
    l->index = index;
    pthread_mutex_init(&l->trips_lock, NULL);
    pthread_mutex_init(&l->stats_lock, NULL);
    pthread_cond_init(&l->trips_in, NULL);
    int rc = predict_create(&l->predict, loop, &config, e);
    if (rc != 0) {
        loop_ctx_free(l);
        return rc;
    }
    g->loops[g->loops_len++] = l;
    *out = l;
    return 0;
}

/* ---- the server ---- */

static void listener_add(struct server_config *c, const char *address, bool tls, int tag)
{
    if (address == NULL || address[0] == '\0') return;
    c->listeners[c->listeners_len++] = (struct server_listener){.address = address, .tls = tls, .tag = tag};
}

static int server_make(struct gateway *g, struct err *e)
{
    const struct gateway_options *o = g->options;
    struct server_config c = {.loops = (int)o->loops,
                              .limits = {.connections_max = (size_t)o->connections_max,
                                         .connections_per_peer = (size_t)o->connections_per_peer,
                                         .collected_bytes = BODIES_HELD * (size_t)o->predict_body_bytes},
                              .tls_cert_file = o->tls_cert,
                              .tls_key_file = o->tls_key,
                              .on_request = dispatch_request,
                              .on_finish = dispatch_finished,
                              .loop_init = loop_ctx_create,
                              .loop_free = loop_ctx_free,
                              .arg = g};
    listener_add(&c, o->listen, false, LISTENER_PUBLIC);
    listener_add(&c, o->tls_listen, true, LISTENER_PUBLIC);
    listener_add(&c, o->ops_listen, false, LISTENER_OPS);
    if (c.listeners_len == 0)
        return err_set(e, ERR_INVALID, "listen", "no address to listen on: give --listen or --tls-listen");
    int rc = server_create(&g->server, &c, e);
    for (size_t i = 0; rc == 0 && i < c.listeners_len; i++)
        log_info("bound", "address=%s tls=%s for=%s", server_address(g->server, i),
                 c.listeners[i].tls ? "yes" : "no", c.listeners[i].tag == LISTENER_OPS ? "ops" : "public");
    return rc;
}

/* ---- the whole ---- */

int gateway_create(struct gateway **out, const struct gateway_options *options, struct err *e)
{
    struct gateway *g = mem_alloc(1, sizeof(*g));
    *out = NULL;
    g->options = options;
    id_new(g->inc, "inc_");
    g->keys = key_cache_create(clock_coarse_ms);
    g->metrics = metrics_create(route_table, route_table_len);
    g->routes = route_index_create(route_table, route_table_len);
    int rc = keyring_load(&g->keyring, options->root_key_file, options->pepper_file, e);
    if (rc == 0) rc = redis_address_parse(&g->redis, options->redis_url, options->redis_password, e);
    if (rc == 0) rc = blob_store_open(&g->blobs, options->blob_dir, &g->keyring, e);
    if (rc == 0) rc = pools_create(g, e);
    if (rc == 0) rc = probe_create(&g->probe, g, e);
    if (rc == 0) rc = server_make(g, e);
    if (rc != 0) {
        gateway_free(g);
        return rc;
    }
    *out = g;
    return 0;
}

int gateway_start(struct gateway *g, struct err *e)
{
    int rc = server_start(g->server, e);
    if (rc == 0) rc = probe_start(g->probe, e);
    if (rc == 0) log_info("listening", "inc=%s loops=%d", g->inc, g->loops_len);
    return rc;
}

void gateway_drain(struct gateway *g, int deadline_ms)
{
    atomic_store(&g->draining, true);
    log_info("draining", "deadline_ms=%d", deadline_ms);
    size_t cut = server_drain(g->server, deadline_ms);
    if (cut > 0) log_warn("connections_cut", "count=%zu", cut);
}

/* The probe looks at loops, loops look at pools, pool threads at keys and blobs: freed in that order. */
void gateway_free(struct gateway *g)
{
    if (g == NULL) return;
    probe_free(g->probe);
    server_free(g->server);
    pool_free(g->control);
    pool_free(g->bulk);
    lanes_free(g->lanes);
    key_cache_free(g->keys);
    metrics_free(g->metrics);
    route_index_free(g->routes);
    blob_store_free(g->blobs);
    keyring_wipe(&g->keyring);
    mem_free(g);
}

void gateway_gauges(struct gateway *g, struct metrics_gauges *out)
{
    struct server_stats s;
    char reason[PROBE_REASON_MAX];
    server_stats(g->server, &s);
    *out = (struct metrics_gauges){.open_connections = s.open_connections,
                                   .open_exchanges = s.open_exchanges,
                                   .accepted = s.accepted,
                                   .refused_cap = s.refused_cap,
                                   .refused_framing = s.refused_framing,
                                   .timed_out = s.timed_out,
                                   .cancelled = s.cancelled,
                                   .control_waiting = (int64_t)pool_waiting(g->control),
                                   .bulk_waiting = (int64_t)pool_waiting(g->bulk),
                                   .ready = probe_ready(g->probe, reason) && !atomic_load(&g->draining),
                                   .loops = g->loops_len};
    for (int i = 0; i < g->loops_len; i++) {
        struct gateway_loop *l = g->loops[i];
        pthread_mutex_lock(&l->stats_lock);
        predict_stats_add(&out->predicts, &l->stats);
        pthread_mutex_unlock(&l->stats_lock);
    }
}
