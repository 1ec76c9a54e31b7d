/* A thread that pings what the gateway needs and keeps the verdict for /readyz. */
#include "gateway/probe.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "gateway/gateway.h"

enum { EVERY_MS = 1000, BEAT_OLD_MS = 5000, PING_TIMEOUT_MS = 2000 };

struct probe {
    struct gateway *g; /* borrowed */
    struct db *db;     /* owned; the thread's */
    struct redis *redis;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake; /* stopping was set */
    bool started;        /* the main thread's */
    bool stopping;
    bool ready;
    char reason[PROBE_REASON_MAX];
};

static void on_beat(void *arg)
{
    struct gateway_loop *l = arg;
    struct predict_stats stats;
    predict_stats(l->predict, &stats);
    atomic_store(&l->road_ready, predict_ready(l->predict));
    pthread_mutex_lock(&l->stats_lock);
    l->stats = stats;
    pthread_mutex_unlock(&l->stats_lock);
    atomic_store(&l->beat_ms, clock_mono_ms());
}

/* Appends "what: why" to the reasons. */
static void complain(char reason[PROBE_REASON_MAX], const char *what, const char *why)
{
    size_t len = strlen(reason);
    snprintf(reason + len, PROBE_REASON_MAX - len, "%s%s: %.100s", len ? "; " : "", what, why);
}

/* Connections are spread over all loops, so each of them has to work. While Redis is away, predictions go on
 * by what each loop knows, so that alone is no reason not to be ready. */
static void check_loops(struct probe *p, char reason[PROBE_REASON_MAX])
{
    int64_t now = clock_mono_ms();
    int silent = 0, unlinked = 0;
    for (int i = 0; i < p->g->loops_len; i++) {
        struct gateway_loop *l = p->g->loops[i];
        bool beats = now - atomic_load(&l->beat_ms) < BEAT_OLD_MS;
        silent += !beats;
        unlinked += beats && !atomic_load(&l->road_ready);
        loop_post(l->loop, on_beat, l);
    }
    char why[64];
    snprintf(why, sizeof(why), "%d of %d do not answer", silent, p->g->loops_len);
    if (silent > 0) complain(reason, "loops", why);
    if (unlinked == 0) return;
    struct err e = {0};
    if (redis_call(p->redis, NULL, &e, "PING") != 0) complain(reason, "Redis", e.message);
    snprintf(why, sizeof(why), "%d of %d loops reach neither Redis nor a worker", unlinked, p->g->loops_len);
    complain(reason, "predict road", why);
}

/* A begin reconnects where a ping would not. */
static int check_postgres(struct probe *p, struct err *e)
{
    int rc = db_begin_system(p->db, e);
    if (rc == 0) rc = db_commit(p->db, e);
    return rc;
}

static void check(struct probe *p)
{
    char reason[PROBE_REASON_MAX] = "";
    struct err e = {0};
    if (check_postgres(p, &e) != 0) complain(reason, "Postgres", e.message);
    check_loops(p, reason);
    pthread_mutex_lock(&p->lock);
    bool changed = p->ready != (reason[0] == '\0');
    p->ready = reason[0] == '\0';
    snprintf(p->reason, sizeof(p->reason), "%s", reason);
    pthread_mutex_unlock(&p->lock);
    if (!changed) return;
    if (reason[0] == '\0')
        log_info("ready", "inc=%s", p->g->inc);
    else
        log_warn("not_ready", "reason=%s", reason);
}

static void *probe_main(void *arg)
{
    struct probe *p = arg;
    pthread_mutex_lock(&p->lock);
    while (!p->stopping) {
        pthread_mutex_unlock(&p->lock);
        check(p);
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        int64_t wait_ms = p->ready ? EVERY_MS : EVERY_MS / 5; /* only this thread writes ready */
        until.tv_nsec += wait_ms % 1000 * 1000000;
        until.tv_sec += wait_ms / 1000 + until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_mutex_lock(&p->lock);
        while (!p->stopping && pthread_cond_timedwait(&p->wake, &p->lock, &until) != ETIMEDOUT) continue;
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

int probe_create(struct probe **out, struct gateway *g, struct err *e)
{
    struct probe *p = mem_alloc(1, sizeof(*p));
    pthread_condattr_t attr;
    *out = NULL;
    p->g = g;
    snprintf(p->reason, sizeof(p->reason), "starting");
    pthread_mutex_init(&p->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&p->wake, &attr);
    pthread_condattr_destroy(&attr);
    p->redis = redis_create(&g->redis, PING_TIMEOUT_MS);
    struct db_options o = {.conninfo = g->options->postgres_url,
                           .program = "tenor-gateway probe",
                           .connect_timeout_ms = PING_TIMEOUT_MS,
                           .statement_timeout_ms = PING_TIMEOUT_MS};
    int rc = db_open_lazy(&p->db, &o, e);
    if (rc != 0) {
        probe_free(p);
        return rc;
    }
    *out = p;
    return 0;
}

int probe_start(struct probe *p, struct err *e)
{
    errno = thread_start(&p->thread, 0, probe_main, p);
    p->started = errno == 0;
    return p->started ? 0 : err_errno(e, ERR_UNAVAILABLE, "start the probe's thread");
}

void probe_free(struct probe *p)
{
    if (p == NULL) return;
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->lock);
    if (p->started) pthread_join(p->thread, NULL);
    db_free(p->db);
    redis_free(p->redis);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    mem_free(p);
}

bool probe_ready(struct probe *p, char reason[PROBE_REASON_MAX])
{
    pthread_mutex_lock(&p->lock);
    bool ready = p->ready;
    memcpy(reason, p->reason, PROBE_REASON_MAX);
    pthread_mutex_unlock(&p->lock);
    return ready;
}
