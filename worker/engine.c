/* The predict engine: its inbox and predict threads, and the wiring of batcher, model cache, loader and
 * replies.
 *
 *   inbox thread    owns its Redis connection and the decoding scratch; puts requests into the batcher
 *   predict threads take batches; thread i uses session i of each model
 *   loader, replies see engine_loader.c and reply.c
 * `stats` are atomics; everything else is set before the threads start. */
#include "worker/engine.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "queue/inbox.h"
#include "queue/redis_clock.h"
#include "worker/batcher.h"
#include "worker/engine_batch.h"
#include "worker/engine_loader.h"
#include "worker/model_cache.h"
#include "worker/reply.h"

enum {
    BATCH_ROWS = 256,
    WAITING_MAX = 4096,
    POP_COUNT = 128,
    POP_BLOCK_MS = 250,
    TIMEOUT_MS = 2000,
    CLOCK_EVERY_MS = 1000,
    DRAIN_POLL_MS = 5,
};
static const size_t waiting_bytes = (size_t)256 << 20;

struct predict_thread {
    struct engine *engine;
    pthread_t thread;
    int index;
};

struct engine {
    struct engine_config config;
    struct usage *usage; /* owned, as all below */
    struct model_cache *cache;
    struct loader *loader;
    struct batcher *batcher;
    struct reply_queue *replies;
    struct predict_thread *threads;
    int threads_started;
    pthread_t inbox;
    bool inbox_started;
    struct redis *redis; /* the inbox thread's */
    struct message_tensor *scratch;
    int64_t clock_measured_ms;

    pthread_mutex_t lock; /* with wake: lets the inbox thread's back-off end early */
    pthread_cond_t wake;
    _Atomic bool stopping;
    _Atomic int64_t requests, rows, batches, expired, refused, failed;
    _Atomic size_t computing;
};

/* ---- the inbox thread
 * --------------------------------------------------------------------------------------------- */

static void refuse(struct engine *g, const struct message_predict *p, const struct err *e, int code)
{
    reply_put(g->replies, reply_of_error(p, g->config.inc, e, code));
}

static void on_predict(struct engine *g, const struct message *m)
{
    struct err e = {0};
    const struct message_predict *p = &m->predict;
    if (p->deadline_us <= redis_clock_us()) {
        g->expired++;
        return;
    }
    struct work *w = work_create(m);
    int rc = w ? batcher_put(g->batcher, w, &e)
               : err_set(&e, ERR_OVERLOAD, NULL, "the worker has no memory for this now");
    if (rc == 0) return;
    g->refused++;
    refuse(g, p, &e, rc);
    work_free(w);
}

static void on_record(struct engine *g, struct inbox_record record)
{
    struct message m;
    struct err e;
    if (message_decode(&m, g->scratch, MESSAGE_TENSORS_MAX, record.data, record.len, &e)) {
        log_warn("message-refused", "reason=\"%s\"", e.message);
        return;
    }
    switch (m.type) {
    case MESSAGE_PREDICT:
        on_predict(g, &m);
        break;
    case MESSAGE_MODEL_LOAD:
        engine__loader_load(g->loader, m.model.tenant_id, m.model.version_id);
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
    if (batch.len) batcher_wake(g->batcher);
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

/* ---- predict threads
 * ---------------------------------------------------------------------------------------------- */

static size_t count_list(const struct work *w)
{
    size_t n = 0;
    for (; w; w = w->next) n++;
    return n;
}

/* The model left between the gateway's choice and now: ask another worker. */
static void answer_stale(struct engine *g, const struct work *batch)
{
    struct err e = {0};
    err_set(&e, ERR_STALE, NULL, "this worker does not hold the model version any more");
    engine__loader_disown(g->loader, batch->message.predict.version_id);
    for (; batch; batch = batch->next) refuse(g, &batch->message.predict, &e, ERR_STALE);
}

/* A version id names one tenant's model, but what stands in the message decides nothing: requests of a tenant
 * that does not own the model are split off and told that there is none. */
static void compute(struct engine *g, int thread, struct work *batch)
{
    struct work *mine = NULL, **mine_tail = &mine, *others = NULL;
    char tenant_id[ID_MAX];
    memcpy(tenant_id, batch->message.predict.tenant_id, ID_MAX);
    for (struct work *w = batch, *next; w; w = next) {
        next = w->next;
        bool same = strcmp(w->message.predict.tenant_id, tenant_id) == 0;
        w->next = same ? NULL : others;
        if (same) {
            *mine_tail = w;
            mine_tail = &w->next;
        } else
            others = w;
    }
    struct resident *m = model_cache_acquire(g->cache, tenant_id, batch->message.predict.version_id);
    if (m) {
        struct batch_counts counts = {0};
        reply_put(g->replies, engine__batch_run(m->sessions[thread], model_signature(m->model), mine,
                                                g->config.inc, &counts));
        model_cache_release(g->cache, m);
        g->requests += counts.requests;
        g->rows += counts.rows;
        g->batches += counts.runs;
        g->failed += counts.failed;
    } else
        answer_stale(g, mine);
    work_free_list(mine);
    if (others) compute(g, thread, others);
}

static void *run_predict(void *arg)
{
    struct predict_thread *t = arg;
    struct engine *g = t->engine;
    struct work *batch, *expired;
    while (batcher_take(g->batcher, g->config.batch_rows_max, &batch, &expired)) {
        size_t n = count_list(batch);
        g->computing += n;
        g->expired += (int64_t)count_list(expired);
        work_free_list(expired);
        if (batch) compute(g, t->index, batch);
        g->computing -= n;
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
    g->usage = usage_create(config->inc);
    g->cache = model_cache_create(config->model_bytes_max);
    g->batcher = batcher_create(g->config.waiting_max, g->config.waiting_bytes_max);
    g->redis = redis_create(config->redis, TIMEOUT_MS);
    g->threads = mem_alloc((size_t)config->predict_threads, sizeof *g->threads);
    g->scratch = mem_alloc(MESSAGE_TENSORS_MAX, sizeof *g->scratch);
    int rc = reply_queue_create(&g->replies, config->redis, g->usage, e);
    if (rc == 0) rc = engine__loader_create(&g->loader, &g->config, g->cache, e);
    if (rc) {
        engine_free(g);
        return rc;
    }
    *out = g;
    return 0;
}

int engine_start(struct engine *g, struct err *e)
{
    int rc = reply_queue_start(g->replies, e);
    if (rc == 0) rc = engine__loader_start(g->loader, e);
    for (int i = 0; rc == 0 && i < g->config.predict_threads; i++) {
        g->threads[i] = (struct predict_thread){.engine = g, .index = i};
        if (pthread_create(&g->threads[i].thread, NULL, run_predict, &g->threads[i]))
            rc = err_errno(e, ERR_INTERNAL, "start predict thread %d", i);
        else
            g->threads_started++;
    }
    if (rc == 0 && pthread_create(&g->inbox, NULL, run_inbox, g))
        rc = err_errno(e, ERR_INTERNAL, "start the inbox thread");
    g->inbox_started = rc == 0;
    return rc;
}

static size_t in_work(struct engine *g)
{
    return batcher_waiting(g->batcher) + g->computing + reply_queue_waiting(g->replies);
}

int engine_drain(struct engine *g, int deadline_ms)
{
    engine__loader_withdraw(g->loader);
    int64_t until = clock_mono_ms() + deadline_ms;
    /* Quiet for longer than a pop blocks, so that what gateways sent before they heard is answered as well.
     */
    int64_t quiet_since = clock_mono_ms();
    while (clock_mono_ms() - quiet_since < 2 * POP_BLOCK_MS) {
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
    batcher_close(g->batcher);
    for (int i = 0; i < g->threads_started; i++) pthread_join(g->threads[i].thread, NULL);
    engine__loader_free(g->loader);
    reply_queue_free(g->replies);
    batcher_free(g->batcher);
    model_cache_free(g->cache);
    usage_free(g->usage);
    redis_free(g->redis);
    mem_free(g->threads);
    mem_free(g->scratch);
    pthread_cond_destroy(&g->wake);
    pthread_mutex_destroy(&g->lock);
    mem_free(g);
}

/* ---- telling
 * ------------------------------------------------------------------------------------------------------ */

void engine_describe(struct engine *g, struct heartbeat *h)
{
    int64_t used = model_cache_bytes(g->cache);
    h->model_bytes_max = g->config.model_bytes_max;
    h->model_bytes_free = used < g->config.model_bytes_max ? g->config.model_bytes_max - used : 0;
    h->predict_waiting = (int)in_work(g);
}

void engine_republish(struct engine *g)
{
    reply_queue_republish(g->replies);
    engine__loader_republish(g->loader);
}

void engine_stats(struct engine *g, struct engine_stats *out)
{
    struct loader_counts loads;
    engine__loader_counts(g->loader, &loads);
    *out = (struct engine_stats){
        .requests = g->requests,
        .rows = g->rows,
        .batches = g->batches,
        .expired = g->expired,
        .refused = g->refused,
        .failed = g->failed,
        .replies_lost = reply_queue_lost(g->replies),
        .loads = loads.loads,
        .load_failures = loads.load_failures,
        .evictions = loads.evictions,
        .models = (int64_t)model_cache_count(g->cache),
        .model_bytes = model_cache_bytes(g->cache),
    };
}
