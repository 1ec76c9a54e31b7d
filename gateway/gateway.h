/* The gateway's process-wide parts and the part that each event loop has of its own.
 *
 *   gateway_create ─▶ gateway_start ─▶ serving … ─▶ gateway_drain ─▶ gateway_free
 *
 * create, start, drain and free belong to the main thread; what is in struct gateway is set before the loops
 * run and safe from any thread; struct gateway_loop belongs to its loop. */
#ifndef GATEWAY_GATEWAY_H
#define GATEWAY_GATEWAY_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "base/ids.h"
#include "base/loop.h"
#include "base/pool.h"
#include "gateway/lanes.h"
#include "gateway/http/server.h"
#include "gateway/key_cache.h"
#include "gateway/metrics.h"
#include "gateway/predict/predict.h"
#include "gateway/probe.h"
#include "queue/changed.h"
#include "queue/redis.h"
#include "store/blob.h"
#include "store/db.h"
#include "store/keyring.h"

enum { LISTENER_PUBLIC, LISTENER_OPS }; /* tags of listeners */

/* As the option table (gateway/gateway_main.c) fills them; texts are borrowed for the gateway's life. */
struct gateway_options {
    const char *listen, *tls_listen, *tls_cert, *tls_key, *ops_listen; /* "" for none */
    const char *postgres_url, *redis_url, *redis_password;
    const char *blob_dir, *root_key_file, *pepper_file;
    int64_t loops, pool_threads, bulk_threads, pool_queue;
    int64_t predict_timeout_ms, predict_body_bytes;
    int64_t connections_max, connections_per_peer;
};

struct gateway_loop;

struct gateway {
    const struct gateway_options *options; /* borrowed */
    char inc[ID_MAX];
    struct keyring keyring;
    struct redis_address redis;
    struct blob_store *blobs;
    struct pool *control, *bulk;
    struct key_cache *keys;
    struct lanes *lanes;
    struct metrics *metrics;
    struct route_index *routes;
    struct server *server;
    struct probe *probe;
    atomic_bool draining;
    atomic_int warming; /* control threads that wait for a model to be loaded (gateway/warm.h) */
    int loops_len;
    struct gateway_loop *loops[SERVER_LOOPS_MAX]; /* borrowed; set while the server starts */
};

struct trip;

struct gateway_loop {
    struct gateway *g; /* borrowed */
    struct loop *loop; /* borrowed */
    int index;
    struct predict *predict;
    struct trip *trips; /* pool trips under way (gateway/trip.h) */
    pthread_mutex_t trips_lock;
    pthread_cond_t trips_in;
    int trips_out;               /* trips that a pool thread has yet to post back; under trips_lock */
    struct auth_lookup *lookups; /* key look-ups under way (gateway/auth.h) */
    atomic_llong beat_ms;        /* clock_mono_ms when the loop last ran what the probe posted */
    atomic_bool road_ready;      /* as of that beat: predict_ready */
    pthread_mutex_t stats_lock;
    struct predict_stats stats; /* as of that beat; under stats_lock */
};

/* Each pool thread's own connections. */
struct pool_state {
    struct db *db;       /* NULL when it could not even be made: work answers 503 */
    struct redis *redis; /* connects on first use */
};

/* Loads keys, opens the blob store, binds the listeners, starts the pools. Postgres and Redis need not be
 * there yet. */
int gateway_create(struct gateway **out, const struct gateway_options *options, struct err *e);
int gateway_start(struct gateway *g, struct err *e);
void gateway_drain(struct gateway *g, int deadline_ms); /* not ready → requests in flight finish */
void gateway_free(struct gateway *g);                   /* NULL is fine */

/* The sum over the loops and the server, for /metrics. Any thread. */
void gateway_gauges(struct gateway *g, struct metrics_gauges *out);

#endif
