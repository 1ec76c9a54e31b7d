/* The predict engine: the inbox thread, and the wiring of serving threads, model cache and loader.
 *
 *   inbox thread     owns its Redis connection; hands model orders to the loader and the rest to the worker
 *   serving threads  see serve.c; loader see engine_loader.c
 * Everything else is set before the threads start. */
#include "worker/engine.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "queue/inbox.h"
#include "queue/redis_clock.h"
#include "worker/engine_handover.h"
#include "worker/engine_load.h"
#include "worker/engine_loader.h"
#include "worker/model_cache.h"
#include "worker/serve.h"

enum {
    BATCH_ROWS = 256,
    WAITING_MAX = 4096,
    POP_COUNT = 128,
    POP_BLOCK_MS = 250,
    TIMEOUT_MS = 2000,
    CLOCK_EVERY_MS = 1000,
    DRAIN_POLL_MS = 5,
    QUIET_MS = 500,
};
static const size_t waiting_bytes = (size_t)256 << 20;

struct engine {
    struct engine_config config;
    struct model_cache *cache; /* owned, as all below */
    struct loader *loader;
    struct serve **serves; /* predict_threads of them */
    pthread_t inbox;
    bool inbox_started;
    struct redis *redis; /* the inbox thread's */
    int64_t clock_measured_ms;
    struct engine_load load; /* whoever describes */

    pthread_mutex_t lock; /* with wake: lets the inbox thread's back-off end early */
    pthread_cond_t wake;
    _Atomic bool stopping;
};

/* ---- the inbox thread
 * --------------------------------------------------------------------------------------------- */

static void on_record(struct engine *g, struct inbox_record record)
{
    struct message m;
    struct err e;
    if (message_decode(&m, NULL, 0, record.data, record.len, &e)) {
        log_warn("message-refused", "reason=\"%s\"", e.message);
        return;
    }
    switch (m.type) {
    case MESSAGE_MODEL_LOAD:
        engine__loader_load(g->loader, m.model.tenant_id, m.model.version_id);
        break;
    case MESSAGE_MODEL_REPLICATE:
        engine__loader_replicate(g->loader, m.model.tenant_id, m.model.version_id);
        break;
    case MESSAGE_MODEL_UNLOAD:
        engine__loader_unload(g->loader, m.model.version_id);
        break;
    default:
        if (g->config.on_message) g->config.on_message(g->config.arg, &m);
    }
}

static void wait_backoff(struct engine *g)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)redis_backoff_ms(g->redis) * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&g->lock);
    if (!g->stopping) pthread_cond_timedwait(&g->wake, &g->lock, &until);
    pthread_mutex_unlock(&g->lock);
}

static int pop_some(struct engine *g, const char *key, struct err *e)
{
    struct inbox_batch batch;
    int64_t now = clock_mono_ms();
    int rc = 0;
    if (!redis_connected(g->redis) || now - g->clock_measured_ms >= CLOCK_EVERY_MS) {
        rc = redis_clock_measure(g->redis, e);
        g->clock_measured_ms = now;
    }
    if (rc == 0) rc = inbox_pop(g->redis, key, POP_COUNT, POP_BLOCK_MS, &batch, e);
    if (rc) return rc;
    for (size_t i = 0; i < batch.len; i++) on_record(g, inbox_batch_get(&batch, i));
    inbox_batch_dispose(&batch);
    return 0;
}

static void *run_inbox(void *arg)
{
    struct engine *g = arg;
    char key[INBOX_KEY_MAX];
    bool down = false;
    inbox_worker_key(key, g->config.inc);
    while (!g->stopping) {
        struct err e = {0};
        int rc = pop_some(g, key, &e);
        if (rc && !down) log_warn("inbox-down", "reason=\"%s\"", e.message);
        if (!rc && down) log_info("inbox-up", "key=%s", key);
        down = rc != 0;
        if (rc) wait_backoff(g);
    }
    return NULL;
}

/* ---- life
 * ---------------------------------------------------------------------------------------------------------
 */

int engine_create(struct engine **out, const struct engine_config *config, struct err *e)
{
    *out = NULL;
    struct engine *g = mem_alloc(1, sizeof *g);
    g->config = *config;
    if (!g->config.batch_rows_max) g->config.batch_rows_max = BATCH_ROWS;
    if (!g->config.waiting_max) g->config.waiting_max = WAITING_MAX;
    if (!g->config.waiting_bytes_max) g->config.waiting_bytes_max = waiting_bytes;
    pthread_mutex_init(&g->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&g->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    g->cache = model_cache_create(config->model_bytes_max, config->predict_threads);
    g->redis = redis_create(config->redis, TIMEOUT_MS);
    g->serves = mem_alloc((size_t)config->predict_threads, sizeof(struct serve *));
    int rc = engine__loader_create(&g->loader, &g->config, g->cache, e);
    for (int i = 0; rc == 0 && i < config->predict_threads; i++) {
        struct serve_config serve = {&g->config, g->cache, g->loader, i};
        rc = serve_create(&g->serves[i], &serve, e);
    }
    if (rc) {
        engine_free(g);
        return rc;
    }
    *out = g;
    return 0;
}

int engine_start(struct engine *g, struct err *e)
{
    int rc = engine__loader_start(g->loader, e);
    for (int i = 0; rc == 0 && i < g->config.predict_threads; i++) rc = serve_start(g->serves[i], e);
    if (rc == 0 && pthread_create(&g->inbox, NULL, run_inbox, g))
        rc = err_errno(e, ERR_INTERNAL, "start the inbox thread");
    g->inbox_started = rc == 0;
    return rc;
}

static size_t in_work(const struct engine *g)
{
    size_t n = 0;
    for (int i = 0; i < g->config.predict_threads; i++) n += serve_in_work(g->serves[i]);
    return n;
}

int engine_hand_over(struct engine *g, int deadline_ms)
{
    return engine__hand_over(&g->config, g->cache, deadline_ms);
}

int engine_drain(struct engine *g, int deadline_ms)
{
    engine__loader_withdraw(g->loader);
    int64_t until = clock_mono_ms() + deadline_ms;
    /* Quiet for a while, so that what gateways sent before they heard is answered as well. */
    int64_t quiet_since = clock_mono_ms();
    while (clock_mono_ms() - quiet_since < QUIET_MS) {
        if (in_work(g)) quiet_since = clock_mono_ms();
        if (clock_mono_ms() >= until) return in_work(g) ? ERR_TIMEOUT : 0;
        nanosleep(&(struct timespec){.tv_nsec = DRAIN_POLL_MS * 1000000}, NULL);
    }
    return 0;
}

void engine_free(struct engine *g)
{
    if (!g) return;
    pthread_mutex_lock(&g->lock);
    g->stopping = true;
    pthread_cond_broadcast(&g->wake);
    pthread_mutex_unlock(&g->lock);
    if (g->inbox_started) pthread_join(g->inbox, NULL);
    for (int i = 0; g->serves && i < g->config.predict_threads; i++) serve_free(g->serves[i]);
    engine__loader_free(g->loader);
    model_cache_free(g->cache);
    redis_free(g->redis);
    mem_free(g->serves);
    pthread_cond_destroy(&g->wake);
    pthread_mutex_destroy(&g->lock);
    mem_free(g);
}

/* ---- from inside
 * -------------------------------------------------------------------------------------------------- */

void engine_load(struct engine *g, const char *tenant_id, const char *version_id)
{
    engine__loader_load(g->loader, tenant_id, version_id);
}

int64_t engine_load_failed_ms(struct engine *g, const char *tenant_id, const char *version_id,
                              struct err *why)
{
    return engine__loader_failed_ms(g->loader, tenant_id, version_id, why);
}

void engine_call(struct engine *g, struct buf *record, engine_reply_fn fn, void *arg)
{
    struct serve *idlest = g->serves[0];
    for (int i = 1; i < g->config.predict_threads; i++)
        if (serve_in_work(g->serves[i]) < serve_in_work(idlest)) idlest = g->serves[i];
    serve_call(idlest, record, fn, arg);
}

/* ---- telling
 * ------------------------------------------------------------------------------------------------------ */

void engine_describe(struct engine *g, struct heartbeat *h)
{
    int64_t used = model_cache_bytes(g->cache);
    h->model_bytes_max = model_cache_bytes_max(g->cache);
    h->model_bytes_free = used < h->model_bytes_max ? h->model_bytes_max - used : 0;
    h->predict_waiting = (int)in_work(g);
    int64_t wanted_us = 0;
    for (int i = 0; i < g->config.predict_threads; i++) wanted_us += serve_wanted_us(g->serves[i]);
    engine__load_describe(&g->load, g->cache, wanted_us, g->config.predict_threads, h);
    h->ports_len = 0;
    for (int i = 0; i < g->config.predict_threads && i < HEARTBEAT_PORTS_MAX; i++)
        snprintf(h->ports[h->ports_len++], LINK_ADDRESS_MAX, "%s", serve_address(g->serves[i]));
}

void engine_republish(struct engine *g)
{
    engine__loader_republish(g->loader);
}

void engine_stats(struct engine *g, struct engine_stats *out)
{
    struct loader_counts loads;
    engine__loader_counts(g->loader, &loads);
    struct serve_stats sum = {0};
    for (int i = 0; i < g->config.predict_threads; i++) serve_add_stats(g->serves[i], &sum);
    *out = (struct engine_stats){
        .requests = sum.requests,
        .rows = sum.rows,
        .batches = sum.batches,
        .expired = sum.expired,
        .cancelled = sum.cancelled,
        .refused = sum.refused,
        .failed = sum.failed,
        .replies_lost = sum.lost,
        .loads = loads.loads,
        .load_failures = loads.load_failures,
        .evictions = loads.evictions,
        .models = (int64_t)model_cache_count(g->cache),
        .model_bytes = model_cache_bytes(g->cache),
    };
}
