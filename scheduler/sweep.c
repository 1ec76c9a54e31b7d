/* What only Postgres knows: rows that nobody told us of, leases that ended, retries whose time has come. */
#include "scheduler/scheduler_state.h"

#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "store/job.h"

enum { PAGE_ROWS = 1000, REAP_ROWS = 200 };

struct page_read {
    struct scheduler *s;
    bool running;
    char after[ID_MAX];
    struct job_brief_list list;
};

static int read_page(struct db *db, void *arg, struct err *e)
{
    struct page_read *p = arg;
    arena_reset(&p->s->arena);
    const char *after = p->after[0] ? p->after : NULL;
    return p->running ? job_sweep_running(db, after, PAGE_ROWS, &p->s->arena, &p->list, e)
                      : job_sweep_queued(db, after, PAGE_ROWS, &p->s->arena, &p->list, e);
}

static void tell_tenant(struct scheduler *s, const struct job_brief *b)
{
    struct policy_event ev = {.type = POLICY_TENANT, .weight = b->weight, .max_concurrent = b->max_running};
    scheduler__id(ev.tenant, b->tenant_id);
    scheduler__step(s, &ev);
}

static struct policy_event job_event_of(enum policy_event_type type, const struct job_brief *b)
{
    struct policy_event ev = {.type = type,
                              .priority = b->priority,
                              .queued_at_ms = b->created_at_us / 1000,
                              .slots = b->threads,
                              .memory_bytes = b->memory_bytes,
                              .used_ms = b->running_ms,
                              .yieldable = b->yields};
    scheduler__id(ev.job, b->id);
    scheduler__id(ev.tenant, b->tenant_id);
    scheduler__id(ev.worker, b->worker);
    return ev;
}

void sweep__queued(struct scheduler *s, const struct job_brief *b)
{
    if (b->aside) {
        aside_queued(s, b);
        return;
    }
    enum policy_job_state state = policy_job_state(s->policy, b->id, NULL);
    if (state == POLICY_WAITING) return;
    if (state == POLICY_RUNNING) running_remove(s, b->id); /* that attempt is over: it waits again */
    tell_tenant(s, b);
    struct policy_event ev = job_event_of(POLICY_JOB_QUEUED, b);
    scheduler__step(s, &ev);
}

static void found_running(struct scheduler *s, const struct job_brief *b)
{
    struct running_job *j = running_find(s, b->id);
    if (j && j->fence == b->fence) {
        j->sweep_round = s->sweep_round;
        return;
    }
    if (!fleet_find(s, b->worker)) return; /* a dead worker's: the reaper takes it when its lease has ended */
    int64_t claimed_ms = clock_mono_ms() - b->running_ms;
    struct running_job adopted = {.fence = b->fence,
                                  .sent_ms = claimed_ms,
                                  .claimed_ms = claimed_ms,
                                  .sweep_round = s->sweep_round,
                                  .aside = b->aside};
    scheduler__id(adopted.id, b->id);
    scheduler__id(adopted.tenant_id, b->tenant_id);
    scheduler__id(adopted.worker, b->worker);
    struct policy_event ev = job_event_of(POLICY_JOB_RUNNING, b);
    if (!b->aside) tell_tenant(s, b);
    if ((b->aside || scheduler__step(s, &ev) == 0) && running_add(s, NULL, &adopted, NULL) == 0) {
        log_info("job_adopted", "job=%s worker=%s fence=%lld", b->id, b->worker, (long long)b->fence);
    }
}

static int sweep_rows(struct scheduler *s, bool running, struct err *e)
{
    struct page_read p = {.s = s, .running = running};
    do {
        int rc = db_run(s->db, NULL, read_page, &p, e);
        if (rc != 0) return rc;
        for (int i = 0; i < p.list.n; i++) {
            if (running) {
                found_running(s, &p.list.items[i]);
            } else {
                sweep__queued(s, &p.list.items[i]);
            }
        }
        if (p.list.n > 0) scheduler__id(p.after, p.list.items[p.list.n - 1].id);
    } while (p.list.has_more && p.list.n > 0 && !halt_requested(&s->halt));
    return 0;
}

/* What we believe to run and Postgres does not: the word of its end was lost. */
static void end_missing(struct scheduler *s, int64_t began_ms)
{
    bool found = true;
    while (found) {
        found = false;
        size_t cursor = 0;
        const struct running_job *j;
        while (!found && (j = table_next(&s->running, &cursor)) != NULL) {
            found = j->sweep_round != s->sweep_round && j->claimed_ms < began_ms;
            if (found) running_end(s, j->id);
        }
    }
}

int sweep_all(struct scheduler *s, struct err *e)
{
    int64_t began_ms = clock_mono_ms();
    s->sweep_round++;
    int rc = sweep_rows(s, true, e);
    if (rc == 0) end_missing(s, began_ms);
    if (rc == 0) rc = sweep_rows(s, false, e);
    /* A long queue is swept less often, so that sweeping never takes more than a twentieth of the time. */
    int64_t took_ms = clock_mono_ms() - began_ms;
    s->sweep_due_ms =
        clock_mono_ms() + (took_ms * 20 > s->config.sweep_ms ? took_ms * 20 : s->config.sweep_ms);
    return rc;
}

struct reap {
    struct scheduler *s;
    struct job_reaped *items;
    int n, released;
};

static int reap_rows(struct db *db, void *arg, struct err *e)
{
    struct reap *r = arg;
    arena_reset(&r->s->arena);
    r->n = r->released = 0;
    int rc = job_reap(db, REAP_ROWS, &r->s->arena, &r->items, &r->n, e);
    return rc == 0 ? job_release(db, PAGE_ROWS, &r->released, e) : rc;
}

int sweep_reap(struct scheduler *s, struct err *e)
{
    struct reap r = {.s = s};
    int rc = db_run(s->db, NULL, reap_rows, &r, e);
    if (rc != 0) return rc;
    for (int i = 0; i < r.n; i++) {
        const struct job_reaped *j = &r.items[i];
        log_warn("job_reaped", "job=%s state=%s fence=%lld", j->id, job_state_name(j->state),
                 (long long)j->fence);
        running_end(s, j->id);
    }
    if (r.released > 0) s->sweep_due_ms = 0;
    return 0;
}
