/* Loading, unloading and announcing models on one thread, so that serving threads never wait for a file or
 * for Redis.
 *
 * The queue, the flags, the recent failures and the counts are shared under one lock. The Redis connection is
 * the loader thread's. */
#include "worker/engine_loader.h"

#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/priority.h"
#include "queue/placement.h"

enum {
    TIMEOUT_MS = 2000,
    ORDERS_MAX = 1024,
    FAILURES = 64,
    FAILURE_MS = PLACEMENT_FAIL_MS,
    RETRY_MS = 200,
    TRIM_EVERY = 32
};

struct order {
    struct order *next;
    enum { LOAD, REPLICATE, UNLOAD, DISOWN } kind;
    char tenant_id[ID_MAX], version_id[ID_MAX];
};

/* A load that was tried in vain, and is not tried again until then. */
struct failure {
    char tenant_id[ID_MAX], version_id[ID_MAX];
    struct err why;
    int64_t at_ms, until_ms;
};

struct loader {
    const struct engine_config *config; /* borrowed */
    struct model_cache *cache;          /* borrowed */
    struct redis *redis;
    pthread_t thread;
    bool started;

    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct order *first, *last;
    size_t orders;
    bool republish, withdraw, withdrawn, stopping;
    struct failure failures[FAILURES];
    size_t failures_next;
    int untrimmed; /* loads since memory was last given back; the thread's own */
    struct loader_counts counts;
};

/* ---- announcing
 * ------------------------------------------------------------------------------------------------- */

/* Not being able to say so is no reason to keep or not to keep a model: it is said again later. */
static void announce(struct loader *l, const char *version_id)
{
    struct err e;
    if (placement_announce(l->redis, version_id, l->config->inc, &e) == 0) return;
    log_warn("announce-failed", "version=%s reason=\"%s\"", version_id, e.message);
    engine__loader_republish(l);
}

static void withdraw(struct loader *l, const char *version_id)
{
    struct err e;
    if (placement_withdraw(l->redis, version_id, l->config->inc, &e))
        log_warn("withdraw-failed", "version=%s reason=\"%s\"", version_id, e.message);
}

static int announce_all(struct loader *l)
{
    char(*versions)[ID_MAX];
    size_t n;
    struct err e;
    model_cache_versions(l->cache, &versions, &n);
    int rc = n ? placement_announce_all(l->redis, (const char(*)[ID_MAX])versions, n, l->config->inc, &e) : 0;
    mem_free(versions);
    return rc;
}

static void withdraw_all(struct loader *l)
{
    char(*versions)[ID_MAX];
    size_t n;
    model_cache_versions(l->cache, &versions, &n);
    for (size_t i = 0; i < n; i++) {
        withdraw(l, versions[i]);
        if (!redis_connected(l->redis)) break; /* our heartbeat will end soon, which says the same */
    }
    mem_free(versions);
}

/* Whoever waits for the model is told why it does not come; not being able to is no harm. */
static void tell_failure(struct loader *l, const char *version_id, const struct err *why)
{
    struct err e;
    if (placement_fail(l->redis, version_id, why, &e))
        log_warn("failure-not-told", "version=%s reason=\"%s\"", version_id, e.message);
}

/* ---- loading
 * ------------------------------------------------------------------------------------------------------ */

static void unload(struct loader *l, const char *version_id)
{
    if (!model_cache_holds(l->cache, version_id)) return;
    withdraw(l, version_id);
    if (model_cache_remove(l->cache, version_id)) log_info("model-unloaded", "version=%s", version_id);
}

/* A replica is no reason for a warm model to leave. */
static int make_room(struct loader *l, const struct order *o, int64_t bytes, struct err *e)
{
    char victim[ID_MAX];
    if (o->kind == REPLICATE && !model_cache_has_idle(l->cache, bytes, clock_mono_ms() - HEARTBEAT_IDLE_MS))
        return err_set(e, ERR_LIMIT, NULL,
                       "all models that stand where the replica's %lld bytes would be are in use",
                       (long long)bytes);
    while (model_cache_victim(l->cache, bytes, victim)) {
        unload(l, victim);
        pthread_mutex_lock(&l->lock);
        l->counts.evictions++;
        pthread_mutex_unlock(&l->lock);
    }
    return 0;
}

/* What a load needed for a while lies between what stays, in pieces that the next one does not fit into:
 * without this, thousands of small models take a third more than is accounted. */
static void give_back(struct loader *l)
{
    if (++l->untrimmed < TRIM_EVERY) return;
    l->untrimmed = 0;
    malloc_trim(0);
}

static int bring_in(struct loader *l, const struct order *o, struct err *e)
{
    const struct engine_config *c = l->config;
    struct resident *m = NULL;
    struct resident_options options = {.sessions = c->predict_threads,
                                       .batch_rows = c->batch_rows_max,
                                       .pool_bytes = model_cache_pool_bytes(l->cache),
                                       .limit_bytes = model_cache_bytes_max(l->cache)};
    /* A larger one is refused before it is read, and before anything leaves for it. */
    struct buf artifact = {.limit = (size_t)options.limit_bytes};
    int rc = c->fetch(c->arg, o->tenant_id, o->version_id, &artifact, e);
    if (rc == 0 && artifact.failed)
        rc = err_set(e, ERR_TOO_LARGE, NULL, "no room for the artifact: models have %lld bytes",
                     (long long)options.limit_bytes);
    if (rc == 0) rc = make_room(l, o, (int64_t)artifact.len, e);
    if (rc == 0)
        rc = resident_create(&m, o->tenant_id, o->version_id, artifact.data, artifact.len, &options, e);
    buf_dispose(&artifact);
    if (rc) return rc;
    rc = make_room(l, o, m->bytes, e);
    if (rc == 0) rc = model_cache_add(l->cache, m, e);
    if (rc) resident_free(m);
    return rc;
}

/* why: NULL of a load that succeeded. */
static void remember(struct loader *l, const struct order *o, const struct err *why)
{
    pthread_mutex_lock(&l->lock);
    if (why) {
        struct failure *f = &l->failures[l->failures_next++ % FAILURES];
        l->counts.load_failures++;
        memcpy(f->tenant_id, o->tenant_id, ID_MAX);
        memcpy(f->version_id, o->version_id, ID_MAX);
        f->why = *why;
        f->at_ms = clock_mono_ms();
        f->until_ms = f->at_ms + FAILURE_MS;
    } else {
        l->counts.loads++;
    }
    pthread_mutex_unlock(&l->lock);
}

static void load(struct loader *l, const struct order *o)
{
    if (model_cache_holds(l->cache, o->version_id)) {
        announce(l, o->version_id); /* whoever asked does not know */
        return;
    }
    struct err e = {0};
    int64_t begin = clock_mono_ms();
    int rc = bring_in(l, o, &e);
    if (rc == ERR_LIMIT && o->kind == REPLICATE) { /* which says nothing of the model */
        log_info("replica-refused", "version=%s reason=\"%s\"", o->version_id, e.message);
        return;
    }
    remember(l, o, rc ? &e : NULL);
    if (rc) {
        log_warn("model-load-failed", "version=%s code=%s reason=\"%s\"", o->version_id, err_name(rc),
                 e.message);
        tell_failure(l, o->version_id, &e);
        return;
    }
    log_info("model-loaded", "version=%s ms=%lld resident_bytes=%lld", o->version_id,
             (long long)(clock_mono_ms() - begin), (long long)model_cache_bytes(l->cache));
    announce(l, o->version_id);
    give_back(l);
}

/* ---- the thread: called with the lock held, and released while they work
 * --------------------------------------------- */

static void obey(struct loader *l)
{
    struct order *o = l->first;
    l->first = o->next;
    if (!l->first) l->last = NULL;
    l->orders--;
    bool may_load = !l->withdrawn;
    pthread_mutex_unlock(&l->lock);
    if ((o->kind == LOAD || o->kind == REPLICATE) && may_load) load(l, o);
    if (o->kind == UNLOAD) unload(l, o->version_id);
    if (o->kind == DISOWN && !model_cache_holds(l->cache, o->version_id)) withdraw(l, o->version_id);
    mem_free(o);
    pthread_mutex_lock(&l->lock);
}

static void wait_ms(struct loader *l, int ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)ms * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&l->wake, &l->lock, &until);
}

static void publish(struct loader *l)
{
    l->republish = false;
    pthread_mutex_unlock(&l->lock);
    int rc = announce_all(l);
    pthread_mutex_lock(&l->lock);
    if (rc == 0) return;
    l->republish = true;
    if (!l->first && !l->stopping) wait_ms(l, RETRY_MS);
}

static void retreat(struct loader *l)
{
    l->withdrawn = true;
    pthread_mutex_unlock(&l->lock);
    withdraw_all(l);
    pthread_mutex_lock(&l->lock);
}

static void *run(void *arg)
{
    struct loader *l = arg;
    priority_patient(); /* not idle: a request may be waiting for what is loaded here */
    pthread_mutex_lock(&l->lock);
    while (!l->stopping) {
        if (l->withdraw && !l->withdrawn)
            retreat(l);
        else if (l->republish && !l->withdrawn)
            publish(l);
        else if (l->first)
            obey(l);
        else
            pthread_cond_wait(&l->wake, &l->lock);
    }
    if (!l->withdrawn) retreat(l);
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* ---- orders
 * ------------------------------------------------------------------------------------------------------- */

static bool is_waiting(const struct loader *l, int kind, const char *version_id)
{
    for (const struct order *o = l->first; o; o = o->next)
        if ((int)o->kind == kind && strcmp(o->version_id, version_id) == 0) return true;
    return false;
}

static bool has_failed_lately(const struct loader *l, const char *version_id)
{
    int64_t now = clock_mono_ms();
    for (size_t i = 0; i < FAILURES; i++)
        if (l->failures[i].until_ms > now && strcmp(l->failures[i].version_id, version_id) == 0) return true;
    return false;
}

int64_t engine__loader_failed_ms(struct loader *l, const char *tenant_id, const char *version_id,
                                 struct err *why)
{
    int64_t now = clock_mono_ms(), at_ms = 0;
    pthread_mutex_lock(&l->lock);
    for (size_t i = 0; i < FAILURES; i++) {
        const struct failure *f = &l->failures[i];
        if (f->until_ms <= now || f->at_ms < at_ms || strcmp(f->version_id, version_id) != 0 ||
            strcmp(f->tenant_id, tenant_id) != 0)
            continue;
        at_ms = f->at_ms;
        *why = f->why;
    }
    pthread_mutex_unlock(&l->lock);
    return at_ms;
}

static void enqueue(struct loader *l, int kind, const char *tenant_id, const char *version_id)
{
    pthread_mutex_lock(&l->lock);
    bool pointless =
        l->orders >= ORDERS_MAX || is_waiting(l, kind, version_id) ||
        ((kind == LOAD || kind == REPLICATE) && (l->withdraw || has_failed_lately(l, version_id)));
    if (!pointless) {
        struct order *o = mem_alloc(1, sizeof *o);
        o->kind = kind;
        snprintf(o->tenant_id, ID_MAX, "%s", tenant_id);
        snprintf(o->version_id, ID_MAX, "%s", version_id);
        *(l->last ? &l->last->next : &l->first) = o;
        l->last = o;
        l->orders++;
        pthread_cond_signal(&l->wake);
    }
    pthread_mutex_unlock(&l->lock);
}

void engine__loader_load(struct loader *l, const char *tenant_id, const char *version_id)
{
    enqueue(l, LOAD, tenant_id, version_id);
}

void engine__loader_replicate(struct loader *l, const char *tenant_id, const char *version_id)
{
    enqueue(l, REPLICATE, tenant_id, version_id);
}

void engine__loader_unload(struct loader *l, const char *version_id)
{
    enqueue(l, UNLOAD, "", version_id);
}

void engine__loader_disown(struct loader *l, const char *version_id)
{
    enqueue(l, DISOWN, "", version_id);
}

static void raise_flag(struct loader *l, bool *flag)
{
    pthread_mutex_lock(&l->lock);
    *flag = true;
    pthread_cond_signal(&l->wake);
    pthread_mutex_unlock(&l->lock);
}

void engine__loader_republish(struct loader *l)
{
    raise_flag(l, &l->republish);
}

void engine__loader_withdraw(struct loader *l)
{
    raise_flag(l, &l->withdraw);
}

void engine__loader_counts(struct loader *l, struct loader_counts *out)
{
    pthread_mutex_lock(&l->lock);
    *out = l->counts;
    pthread_mutex_unlock(&l->lock);
}

/* ---- life
 * ---------------------------------------------------------------------------------------------------------
 */

int engine__loader_create(struct loader **out, const struct engine_config *config, struct model_cache *cache,
                          struct err *e)
{
    struct loader *l = mem_try_alloc(1, sizeof *l);
    *out = l;
    if (!l) return err_set(e, ERR_NOMEM, NULL, "no memory for the model loader");
    l->config = config;
    l->cache = cache;
    l->redis = redis_create(config->redis, TIMEOUT_MS);
    pthread_mutex_init(&l->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&l->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return 0;
}

int engine__loader_start(struct loader *l, struct err *e)
{
    if (pthread_create(&l->thread, NULL, run, l))
        return err_errno(e, ERR_INTERNAL, "start the loader thread");
    l->started = true;
    return 0;
}

void engine__loader_free(struct loader *l)
{
    if (!l) return;
    raise_flag(l, &l->stopping);
    if (l->started) pthread_join(l->thread, NULL);
    for (struct order *o = l->first, *next; o; o = next) {
        next = o->next;
        mem_free(o);
    }
    redis_free(l->redis);
    pthread_cond_destroy(&l->wake);
    pthread_mutex_destroy(&l->lock);
    mem_free(l);
}
