/* The table of leases under one lock, the renewer that extends them, and the watchdog that knows when one is
 * nearly over. */
#include "worker/lease.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "base/halt.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/db.h"
#include "store/job.h"

struct lease {
    bool used, lost, cancelled;
    char job_id[ID_MAX], tenant_id[ID_MAX];
    int64_t fence;
    int64_t until_ms; /* monotonic: ours at least until then */
};

struct lease_keeper {
    struct lease_config config;
    struct db *db; /* the renewer's */
    struct halt renew, watch;
    pthread_mutex_t lock; /* of leases */
    struct lease leases[LEASE_MAX];
    pthread_t renewer, watchdog;
    bool renewing, watching; /* the threads were started */
};

/* Killing a child and noticing its death takes a moment. */
static int64_t margin_ms(const struct lease_keeper *k)
{
    return k->config.lease_ms / 5;
}

static struct lease *find(struct lease_keeper *k, const char *job_id, int64_t fence)
{
    for (size_t i = 0; i < LEASE_MAX; i++) {
        struct lease *l = &k->leases[i];
        if (l->used && l->fence == fence && strcmp(l->job_id, job_id) == 0) return l;
    }
    return NULL;
}

/* Says so once; the callbacks run without the lock. */
static void lose(struct lease_keeper *k, const char *job_id, int64_t fence, const char *why)
{
    pthread_mutex_lock(&k->lock);
    struct lease *l = find(k, job_id, fence);
    bool first = l && !l->lost;
    if (first) l->lost = true;
    pthread_mutex_unlock(&k->lock);
    if (!first) return;
    log_warn("lease_lost", "job=%s fence=%lld reason=\"%s\"", job_id, (long long)fence, why);
    k->config.on_lost(k->config.arg, job_id, fence);
}

/* ---- renewer ---- */

struct renewal {
    const struct lease *lease; /* a copy */
    int64_t lease_ms;
    bool cancel;
};

static int renew_row(struct db *db, void *arg, struct err *e)
{
    struct renewal *r = arg;
    return job_renew(db, r->lease->job_id, r->lease->fence, r->lease_ms, &r->cancel, e);
}

static void renewed(struct lease_keeper *k, const struct lease *copy, int64_t until_ms, bool cancel)
{
    pthread_mutex_lock(&k->lock);
    struct lease *l = find(k, copy->job_id, copy->fence);
    bool tell = l && cancel && !l->cancelled;
    if (l && until_ms > l->until_ms) l->until_ms = until_ms;
    if (tell) l->cancelled = true;
    pthread_mutex_unlock(&k->lock);
    if (tell) k->config.on_cancel(k->config.arg, copy->job_id, copy->fence);
}

static bool renew_one(struct lease_keeper *k, const struct lease *copy)
{
    struct renewal r = {.lease = copy, .lease_ms = k->config.lease_ms};
    struct err e = {0};
    int64_t sent_ms = clock_mono_ms();
    int rc = db_run(k->db, copy->tenant_id, renew_row, &r, &e);
    if (rc == 0) {
        renewed(k, copy, sent_ms + k->config.lease_ms, r.cancel);
    } else if (rc == ERR_STALE) {
        lose(k, copy->job_id, copy->fence, "another fence is newer, or the job has ended");
    } else {
        log_warn("lease_not_renewed", "job=%s message=\"%s\"", copy->job_id, e.message);
    }
    return rc == 0 || rc == ERR_STALE;
}

static void *renewer(void *arg)
{
    struct lease_keeper *k = arg;
    int64_t wait_ms = k->config.lease_ms / 3;
    while (!halt_wait(&k->renew, wait_ms)) {
        struct lease copy[LEASE_MAX];
        pthread_mutex_lock(&k->lock);
        memcpy(copy, k->leases, sizeof copy);
        pthread_mutex_unlock(&k->lock);
        bool all = true;
        for (size_t i = 0; i < LEASE_MAX; i++) {
            if (copy[i].used && !copy[i].lost) all = renew_one(k, &copy[i]) && all;
        }
        wait_ms = all ? k->config.lease_ms / 3 : k->config.lease_ms / 20;
    }
    return NULL;
}

/* ---- watchdog ---- */

static void *watchdog(void *arg)
{
    struct lease_keeper *k = arg;
    int64_t wait_ms = 0;
    while (!halt_wait(&k->watch, wait_ms)) {
        struct lease ending[LEASE_MAX];
        size_t n = 0;
        int64_t now_ms = clock_mono_ms();
        wait_ms = k->config.lease_ms / 3;
        pthread_mutex_lock(&k->lock);
        for (size_t i = 0; i < LEASE_MAX; i++) {
            const struct lease *l = &k->leases[i];
            if (!l->used || l->lost) continue;
            int64_t left_ms = l->until_ms - margin_ms(k) - now_ms;
            if (left_ms <= 0) {
                ending[n++] = *l;
            } else if (left_ms < wait_ms) {
                wait_ms = left_ms;
            }
        }
        pthread_mutex_unlock(&k->lock);
        for (size_t i = 0; i < n; i++)
            lose(k, ending[i].job_id, ending[i].fence, "it could not be renewed in time");
    }
    return NULL;
}

/* ---- life ---- */

int lease_create(struct lease_keeper **out, const struct lease_config *config, struct err *e)
{
    *out = NULL;
    struct lease_keeper *k = mem_alloc(1, sizeof *k);
    k->config = *config;
    halt_init(&k->renew);
    halt_init(&k->watch);
    pthread_mutex_init(&k->lock, NULL);
    int third_ms = (int)(config->lease_ms / 3);
    struct db_options o = {.conninfo = config->postgres_url,
                           .program = "tenor-worker lease",
                           .connect_timeout_ms = third_ms,
                           .statement_timeout_ms = third_ms,
                           .lock_timeout_ms = third_ms,
                           .idle_tx_timeout_ms = third_ms};
    int rc = db_open_lazy(&k->db, &o, e);
    if (rc != 0) goto fail;
    k->renewing = pthread_create(&k->renewer, NULL, renewer, k) == 0;
    k->watching = k->renewing && pthread_create(&k->watchdog, NULL, watchdog, k) == 0;
    if (!k->watching) {
        rc = err_set(e, ERR_NOMEM, NULL, "the threads that keep leases could not be started");
        goto fail;
    }
    *out = k;
    return 0;
fail:
    lease_free(k);
    return rc;
}

void lease_free(struct lease_keeper *k)
{
    if (!k) return;
    halt_request(&k->renew);
    halt_request(&k->watch);
    if (k->renewing) pthread_join(k->renewer, NULL);
    if (k->watching) pthread_join(k->watchdog, NULL);
    db_free(k->db);
    pthread_mutex_destroy(&k->lock);
    halt_dispose(&k->renew);
    halt_dispose(&k->watch);
    mem_free(k);
}

int lease_add(struct lease_keeper *k, const char *job_id, const char *tenant_id, int64_t fence, struct err *e)
{
    struct lease *room = NULL;
    int rc = 0;
    pthread_mutex_lock(&k->lock);
    for (size_t i = 0; i < LEASE_MAX; i++) {
        struct lease *l = &k->leases[i];
        if (!l->used && !room) room = l;
        if (l->used && strcmp(l->job_id, job_id) == 0) {
            room = l;
            if (l->fence >= fence) rc = ERR_CONFLICT;
            break;
        }
    }
    if (rc == 0 && !room) rc = ERR_OVERLOAD;
    if (rc == 0) {
        *room =
            (struct lease){.used = true, .fence = fence, .until_ms = clock_mono_ms() + k->config.lease_ms};
        snprintf(room->job_id, sizeof room->job_id, "%s", job_id);
        snprintf(room->tenant_id, sizeof room->tenant_id, "%s", tenant_id);
    }
    pthread_mutex_unlock(&k->lock);
    if (rc != 0) return err_set(e, rc, NULL, "the lease of job %s cannot be kept a second time", job_id);
    halt_nudge(&k->renew);
    halt_nudge(&k->watch);
    return 0;
}

void lease_remove(struct lease_keeper *k, const char *job_id, int64_t fence)
{
    pthread_mutex_lock(&k->lock);
    struct lease *l = find(k, job_id, fence);
    if (l) l->used = false;
    pthread_mutex_unlock(&k->lock);
}

int64_t lease_left_ms(struct lease_keeper *k, const char *job_id, int64_t fence)
{
    pthread_mutex_lock(&k->lock);
    const struct lease *l = find(k, job_id, fence);
    int64_t left_ms = l && !l->lost ? l->until_ms - margin_ms(k) - clock_mono_ms() : 0;
    pthread_mutex_unlock(&k->lock);
    return left_ms;
}
