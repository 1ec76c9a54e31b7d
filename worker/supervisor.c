/* The table of runs, the slot threads that carry them out, and the way out of a draining worker. */
#include "worker/supervisor_state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/pidfd.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "queue/changed.h"
#include "queue/inbox.h"
#include "worker/predict_job.h"

/* A worker that stands still inside a transaction must not keep the reaper from its job for longer than this.
 */
enum { REDIS_TIMEOUT_MS = 2000, SLOT_STATEMENT_MS = 5000, SLOT_IDLE_TX_MS = 3000 };
/* Threads for what takes no slot, of which the scheduler never sends more (scheduler/aside.c). */
enum { ASIDE_THREADS = 4 };

/* ---- runs, under the lock ---- */

static struct run *find_run(struct supervisor *s, const char *job_id, int64_t fence)
{
    for (size_t i = 0; i < HEARTBEAT_JOBS_MAX; i++) {
        struct run *r = &s->runs[i];
        if (r->state != RUN_FREE && (fence == 0 || r->fence == fence) && strcmp(r->job_id, job_id) == 0)
            return r;
    }
    return NULL;
}

static void wake(const struct run *r)
{
    uint64_t one = 1;
    if (write(r->wake_fd, &one, sizeof one) < 0 && errno != EAGAIN)
        log_warn("wake_failed", "job=%s", r->job_id);
}

static void wish(struct run *r, enum run_wish w)
{
    if (w <= r->wish) return;
    r->wish = w;
    /* Nobody may be listening at that moment: the child can go now. */
    if (w == RUN_LOST && r->pidfd >= 0) (void)pidfd_send_signal(r->pidfd, SIGKILL, NULL, 0);
    wake(r);
}

static void wish_of_job(struct supervisor *s, const char *job_id, int64_t fence, enum run_wish w)
{
    pthread_mutex_lock(&s->lock);
    struct run *r = find_run(s, job_id, fence);
    if (r) wish(r, w);
    pthread_mutex_unlock(&s->lock);
}

static void on_cancel(void *arg, const char *job_id, int64_t fence)
{
    wish_of_job(arg, job_id, fence, RUN_CANCEL);
}

static void on_lost(void *arg, const char *job_id, int64_t fence)
{
    wish_of_job(arg, job_id, fence, RUN_LOST);
}

bool run_take_save(struct supervisor *s, struct run *run)
{
    pthread_mutex_lock(&s->lock);
    bool save = run->save;
    run->save = false;
    pthread_mutex_unlock(&s->lock);
    return save;
}

enum run_wish run_wish_of(struct supervisor *s, const struct run *run)
{
    pthread_mutex_lock(&s->lock);
    enum run_wish w = run->wish;
    pthread_mutex_unlock(&s->lock);
    return w;
}

void run_set_pidfd(struct supervisor *s, struct run *run, int pidfd)
{
    pthread_mutex_lock(&s->lock);
    run->pidfd = pidfd;
    if (pidfd >= 0 && run->wish == RUN_LOST) (void)pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
    pthread_mutex_unlock(&s->lock);
}

static int accept_run(struct supervisor *s, const char *tenant_id, const char *job_id, int64_t fence)
{
    struct run *r = NULL;
    for (size_t i = 0; i < HEARTBEAT_JOBS_MAX && !r; i++) {
        if (s->runs[i].state == RUN_FREE) r = &s->runs[i];
    }
    if (!r || s->stopping) return ERR_OVERLOAD;
    int wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wake_fd < 0) return ERR_IO;
    *r = (struct run){.state = RUN_ACCEPTED, .fence = fence, .slots = 1, .wake_fd = wake_fd, .pidfd = -1};
    /* What arrives after the drain began goes back through the same door. */
    if (s->draining) r->wish = RUN_LEAVE;
    snprintf(r->job_id, sizeof r->job_id, "%s", job_id);
    snprintf(r->tenant_id, sizeof r->tenant_id, "%s", tenant_id);
    pthread_cond_broadcast(&s->changed);
    return 0;
}

void supervisor_run(struct supervisor *s, const char *tenant_id, const char *job_id, int64_t fence)
{
    struct err e = {0};
    pthread_mutex_lock(&s->lock);
    bool known = find_run(s, job_id, fence) != NULL;
    struct run *older = find_run(s, job_id, 0);
    if (older && older->fence < fence) wish(older, RUN_LOST); /* its claim is over, whoever noticed */
    int rc = known ? 0 : lease_add(s->leases, job_id, tenant_id, fence, &e);
    if (rc == 0 && !known) rc = accept_run(s, tenant_id, job_id, fence);
    if (rc != 0) lease_remove(s->leases, job_id, fence);
    pthread_mutex_unlock(&s->lock);
    if (rc != 0)
        log_warn("job_refused", "job=%s fence=%lld error=%s", job_id, (long long)fence, err_name(rc));
}

void supervisor_cancel(struct supervisor *s, const char *job_id, int64_t fence)
{
    wish_of_job(s, job_id, fence, RUN_CANCEL);
}

void supervisor_yield(struct supervisor *s, const char *job_id, int64_t fence)
{
    wish_of_job(s, job_id, fence, RUN_YIELD);
}

void supervisor_describe(struct supervisor *s, struct heartbeat *h)
{
    int64_t used_bytes = 0;
    int used = 0;
    h->slots = s->config.slots;
    h->jobs_len = 0;
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < HEARTBEAT_JOBS_MAX; i++) {
        const struct run *r = &s->runs[i];
        if (r->state == RUN_FREE) continue;
        struct heartbeat_job *j = &h->jobs[h->jobs_len++];
        memcpy(j->job_id, r->job_id, sizeof j->job_id);
        j->fence = r->fence;
        used_bytes += r->memory_bytes;
        used += r->slots;
    }
    h->draining = s->draining;
    pthread_mutex_unlock(&s->lock);
    h->slots_free = used < h->slots ? h->slots - used : 0;
    h->job_memory_bytes = s->config.job_memory_bytes;
    h->job_memory_free = used_bytes < h->job_memory_bytes ? h->job_memory_bytes - used_bytes : 0;
}

/* ---- words to others; best effort, since they find out anyway ---- */

void supervisor__tell_ended(struct supervisor *s, const struct run *run)
{
    struct message m = {.type = MESSAGE_JOB_ENDED};
    memcpy(m.job.job_id, run->job_id, sizeof m.job.job_id);
    memcpy(m.job.tenant_id, run->tenant_id, sizeof m.job.tenant_id);
    m.job.fence = run->fence;
    struct err e = {0};
    pthread_mutex_lock(&s->redis_lock);
    int rc = inbox_push(s->redis, INBOX_SCHEDULER, &m, &e);
    pthread_mutex_unlock(&s->redis_lock);
    if (rc != 0) log_warn("job_end_untold", "job=%s message=\"%s\"", run->job_id, e.message);
}

void supervisor__tell_model(struct supervisor *s, const char *tenant_id, const char *model)
{
    struct changed c = {.kind = CHANGED_MODEL};
    snprintf(c.tenant_id, sizeof c.tenant_id, "%s", tenant_id);
    snprintf(c.model, sizeof c.model, "%s", model);
    struct err e = {0};
    pthread_mutex_lock(&s->redis_lock);
    int rc = changed_publish(s->redis, &c, &e);
    pthread_mutex_unlock(&s->redis_lock);
    if (rc != 0) log_warn("model_change_untold", "model=%s message=\"%s\"", model, e.message);
}

/* ---- slot threads ---- */

static void note_size(struct supervisor *s, struct run *run, const struct order *order)
{
    pthread_mutex_lock(&s->lock);
    run->memory_bytes = order->job.memory_bytes;
    run->slots = order_predicts(order) ? 0 : order->job.threads;
    pthread_mutex_unlock(&s->lock);
}

/* A passing trouble is waited out while the lease is kept; the renewer, which has the same trouble, decides
 * when it is lost. */
static int load_patiently(struct order *order, struct slot *slot, struct run *run, struct err *e)
{
    for (;;) {
        int rc = order_load(order, slot, run, e);
        bool passing = rc == ERR_UNAVAILABLE || rc == ERR_TIMEOUT || rc == ERR_OVERLOAD;
        enum run_wish wish = run_wish_of(slot->s, run);
        if (!passing || wish == RUN_LEAVE || wish == RUN_LOST) return rc;
        struct timespec pause = {.tv_nsec = 200000000};
        nanosleep(&pause, NULL);
    }
}

static void carry_out(struct slot *slot, struct run *run)
{
    struct order *order = mem_alloc(1, sizeof *order);
    struct outcome outcome = {.type = OUTCOME_LOST, .checkpoint_fd = -1};
    struct err e = {0};
    int artifact_fd = -1;
    int rc = load_patiently(order, slot, run, &e);
    if (rc == 0) note_size(slot->s, run, order);
    enum run_wish wish = run_wish_of(slot->s, run);
    if (rc != 0 && rc != ERR_STALE && wish < RUN_LEAVE) {
        outcome.type = OUTCOME_CRASHED;
        outcome.why = e;
    } else if (rc == 0 && order->job.cancel_requested) {
        outcome.type = OUTCOME_CANCELLED;
    } else if (wish == RUN_LEAVE) {
        outcome.type = OUTCOME_YIELDED;
    } else if (rc == 0 && order_predicts(order)) {
        predict_job_run(&outcome, slot, run, order);
    } else if (rc == 0) {
        log_info("job_started", "job=%s fence=%lld attempt=%d", run->job_id, (long long)run->fence,
                 order->job.attempt);
        run_child(&outcome, &artifact_fd, slot, run, order);
    }
    finish_outcome(slot, run, order, &outcome, artifact_fd);
    if (artifact_fd >= 0) close(artifact_fd);
    if (outcome.checkpoint_fd >= 0) close(outcome.checkpoint_fd);
    mem_free(outcome.metrics);
    mem_free(outcome.signature);
    buf_dispose(&outcome.answer);
    blob_key_wipe(&order->key);
    mem_free(order);
}

static struct run *take_run(struct supervisor *s)
{
    struct run *taken = NULL;
    pthread_mutex_lock(&s->lock);
    while (!taken) {
        for (size_t i = 0; i < HEARTBEAT_JOBS_MAX && !taken; i++) {
            if (s->runs[i].state == RUN_ACCEPTED) taken = &s->runs[i];
        }
        if (taken || s->stopping) break;
        pthread_cond_wait(&s->changed, &s->lock);
    }
    if (taken) taken->state = RUN_TAKEN;
    pthread_mutex_unlock(&s->lock);
    return taken;
}

static void release_run(struct supervisor *s, struct run *run)
{
    lease_remove(s->leases, run->job_id, run->fence);
    pthread_mutex_lock(&s->lock);
    struct run copy = *run; /* under the lock: a wish may come until here */
    close(run->wake_fd);
    run->state = RUN_FREE;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    supervisor__tell_ended(
        s, &copy); /* after it left the heartbeat's list, so that nobody takes it for running */
}

static void *slot_thread(void *arg)
{
    struct slot *slot = arg;
    struct run *run;
    while ((run = take_run(slot->s)) != NULL) {
        carry_out(slot, run);
        release_run(slot->s, run);
    }
    db_free(slot->db);
    arena_dispose(&slot->arena);
    mem_free(slot);
    return NULL;
}

static int start_slot(struct supervisor *s, struct err *e)
{
    struct slot *slot = mem_alloc(1, sizeof *slot);
    slot->s = s;
    arena_init(&slot->arena, SIZE_MAX);
    struct db_options o = {.conninfo = s->config.postgres_url,
                           .program = "tenor-worker job",
                           .statement_timeout_ms = SLOT_STATEMENT_MS,
                           .lock_timeout_ms = SLOT_STATEMENT_MS,
                           .idle_tx_timeout_ms = SLOT_IDLE_TX_MS};
    int rc = db_open_lazy(&slot->db, &o, e);
    if (rc == 0 && pthread_create(&s->threads[s->n_threads], NULL, slot_thread, slot) != 0) {
        rc = err_set(e, ERR_NOMEM, NULL, "a job slot's thread could not be started");
    }
    if (rc == 0) {
        s->n_threads++;
        return 0;
    }
    db_free(slot->db);
    arena_dispose(&slot->arena);
    mem_free(slot);
    return rc;
}

/* ---- life ---- */

static int make_empty_dir(struct supervisor *s, struct err *e)
{
    struct buf path = {0};
    buf_printf(&path, "%s/empty", s->config.work_dir);
    s->empty_dir = buf_steal(&path);
    buf_dispose(&path);
    if (!s->empty_dir) return err_set(e, ERR_NOMEM, NULL, "no memory for a path");
    return fs_mkdir_p(s->empty_dir, 0755, e);
}

static void init_locks(struct supervisor *s)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->redis_lock, NULL);
}

int supervisor_create(struct supervisor **out, const struct supervisor_config *config, struct err *e)
{
    *out = NULL;
    struct supervisor *s = mem_alloc(1, sizeof *s);
    s->config = *config;
    init_locks(s);
    cgroup_open(&s->cgroups, s->config.inc);
    s->redis = redis_create(config->redis, REDIS_TIMEOUT_MS);
    struct lease_config lease = {.postgres_url = config->postgres_url,
                                 .lease_ms = config->lease_ms,
                                 .on_cancel = on_cancel,
                                 .on_lost = on_lost,
                                 .arg = s};
    int rc = make_empty_dir(s, e);
    if (rc == 0) rc = lease_create(&s->leases, &lease, e);
    int threads = config->slots + ASIDE_THREADS;
    if (threads > HEARTBEAT_JOBS_MAX) threads = HEARTBEAT_JOBS_MAX;
    for (int i = 0; i < threads && rc == 0; i++) rc = start_slot(s, e);
    if (rc != 0) {
        supervisor_free(s);
        return rc;
    }
    *out = s;
    return 0;
}

static bool any_run(const struct supervisor *s)
{
    for (size_t i = 0; i < HEARTBEAT_JOBS_MAX; i++) {
        if (s->runs[i].state != RUN_FREE) return true;
    }
    return false;
}

static void hand_back_all(struct supervisor *s)
{
    for (size_t i = 0; i < HEARTBEAT_JOBS_MAX; i++) {
        if (s->runs[i].state != RUN_FREE) wish(&s->runs[i], RUN_LEAVE);
    }
}

void supervisor_close(struct supervisor *s)
{
    pthread_mutex_lock(&s->lock);
    s->draining = true;
    for (size_t i = 0; i < HEARTBEAT_JOBS_MAX; i++) {
        struct run *r = &s->runs[i];
        if (r->state == RUN_FREE) continue;
        r->save = true;
        wake(r);
    }
    pthread_mutex_unlock(&s->lock);
}

void supervisor_drain(struct supervisor *s, int64_t deadline_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(deadline_ms / 1000);
    pthread_mutex_lock(&s->lock);
    s->draining = true;
    int rc = 0;
    while (any_run(s) && rc != ETIMEDOUT) rc = pthread_cond_timedwait(&s->changed, &s->lock, &until);
    hand_back_all(s);
    while (any_run(s)) pthread_cond_wait(&s->changed, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

void supervisor_free(struct supervisor *s)
{
    if (!s) return;
    if (s->n_threads > 0) supervisor_drain(s, 0);
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; i < s->n_threads; i++) pthread_join(s->threads[i], NULL);
    lease_free(s->leases);
    redis_free(s->redis);
    cgroup_close(&s->cgroups);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    pthread_mutex_destroy(&s->redis_lock);
    mem_free(s->empty_dir);
    mem_free(s);
}
