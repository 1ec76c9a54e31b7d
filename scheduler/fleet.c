/* The workers as their heartbeats tell of them, and the check that each knows of the jobs that it was given.
 */
#include "scheduler/scheduler_state.h"

#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

/* A silent worker gets no new work at once. Its heartbeat lived 3 s already; after this it is taken for dead.
 */
enum { LOST_AFTER_MS = 2000, RESEND_AFTER_MS = 2500 };

const struct fleet_worker *fleet_find(const struct scheduler *s, const char *worker)
{
    const struct fleet_worker *w = table_find(&s->fleet, worker);
    return w && w->absent_since_ms == 0 ? w : NULL;
}

void fleet_clear(struct scheduler *s)
{
    size_t cursor = 0;
    struct fleet_worker *w;
    aside_changed(s);
    while ((w = table_next(&s->fleet, &cursor)) != NULL) mem_free(w);
    table_dispose(&s->fleet);
    s->fleet_known = false;
}

static void tell(struct scheduler *s, const struct fleet_worker *w, bool draining)
{
    const struct heartbeat *b = &w->beat;
    struct policy_event ev = {.type = POLICY_WORKER_SEEN,
                              .slots = b->slots,
                              .memory_bytes = b->job_memory_bytes,
                              .model_free_bytes = b->model_bytes_free,
                              .model_idle_bytes = b->model_bytes_idle,
                              .draining = draining};
    scheduler__id(ev.worker, b->inc);
    scheduler__step(s, &ev);
}

static int seen(struct scheduler *s, const struct heartbeat *b, int64_t now_ms, struct err *e)
{
    struct fleet_worker *w = table_find(&s->fleet, b->inc);
    if (!w) {
        w = mem_try_alloc(1, sizeof *w);
        if (w) w->beat = *b;
        if (!w || table_put(&s->fleet, w->beat.inc, w) != 0) {
            mem_free(w);
            return err_set(e, ERR_NOMEM, NULL, "no memory for another worker");
        }
        log_info("worker_joined", "worker=%s slots=%d", b->inc, b->slots);
    }
    w->beat = *b;
    w->seen_ms = now_ms;
    w->absent_since_ms = 0;
    tell(s, w, b->draining);
    return 0;
}

/* Its jobs stay running in Postgres until their leases end; the policy only stops counting them. */
static void lose(struct scheduler *s, struct fleet_worker *w)
{
    struct policy_event ev = {.type = POLICY_WORKER_LOST};
    scheduler__id(ev.worker, w->beat.inc);
    scheduler__step(s, &ev);
    log_warn("worker_lost", "worker=%s", w->beat.inc);
    bool found = true;
    while (found) { /* a walk must not remove */
        found = false;
        size_t cursor = 0;
        struct running_job *j;
        while (!found && (j = table_next(&s->running, &cursor)) != NULL) {
            found = strcmp(j->worker, w->beat.inc) == 0;
            if (found) running_remove(s, j->id);
        }
    }
    table_remove(&s->fleet, w->beat.inc);
    mem_free(w);
}

static void check_absent(struct scheduler *s, int64_t now_ms)
{
    struct fleet_worker *w, *lost = NULL;
    size_t cursor = 0;
    while ((w = table_next(&s->fleet, &cursor)) != NULL) {
        if (w->seen_ms == now_ms) continue;
        if (w->absent_since_ms == 0) {
            w->absent_since_ms = now_ms;
            tell(s, w, true);
        }
        if (now_ms - w->absent_since_ms >= LOST_AFTER_MS) lost = w;
    }
    if (lost) lose(s, lost); /* the next one in the next poll */
}

static bool knows(const struct fleet_worker *w, const struct running_job *j)
{
    for (size_t i = 0; i < w->beat.jobs_len; i++) {
        const struct heartbeat_job *b = &w->beat.jobs[i];
        if (b->fence == j->fence && strcmp(b->job_id, j->id) == 0) return true;
    }
    return false;
}

/* A message was lost, or the worker's word that the job is over was: told again, a worker that finds the
 * fence stale says so. */
static void check_jobs(struct scheduler *s, int64_t now_ms)
{
    size_t cursor = 0;
    struct running_job *j;
    while ((j = table_next(&s->running, &cursor)) != NULL) {
        const struct fleet_worker *w = fleet_find(s, j->worker);
        if (!w || now_ms - j->sent_ms < RESEND_AFTER_MS) continue;
        if (knows(w, j)) continue;
        log_info("job_sent_again", "job=%s worker=%s fence=%lld", j->id, j->worker, (long long)j->fence);
        struct err e = {0};
        if (dispatch_send_run(s, j, &e) != 0) return;
    }
}

int fleet_poll(struct scheduler *s, struct err *e)
{
    struct heartbeat *beats = NULL;
    size_t n = 0;
    int rc = heartbeat_list(s->redis, &beats, &n, e);
    if (rc != 0) return rc;
    int64_t now_ms = clock_mono_ms();
    aside_changed(s);
    for (size_t i = 0; i < n && rc == 0; i++) rc = seen(s, &beats[i], now_ms, e);
    mem_free(beats);
    if (rc != 0) return rc;
    s->fleet_known = true;
    check_absent(s, now_ms);
    check_jobs(s, now_ms);
    return 0;
}
