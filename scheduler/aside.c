/* Jobs that take no training slot: predictions that are answered later, which the worker's predict engine
 * computes beside everything else.
 *
 * They wait for places instead: a few on each worker, of which one tenant gets at most half, so that nobody's
 * backlog stands in the way of somebody else's single question. Whoever finds no place stays queued; each end
 * of a job, and each sweep, looks again, the oldest first.
 *
 * A sweep asks for as many places as there are jobs that wait, and most of them in vain. So who has what is
 * counted once after each change, in one walk over jobs and workers, and not once for each that asks. */
#include "scheduler/scheduler_state.h"

#include <string.h>
#include "base/mem.h"
#include "store/job.h"

enum { PLACES = 4 }; /* of a worker; as many threads wait there (worker/supervisor.c) */

struct aside_tenant {
    char id[ID_MAX];
    int64_t running, asides; /* jobs of any kind; of these: without a slot */
};

void aside_changed(struct scheduler *s)
{
    table_dispose(&s->aside.tenants);
    mem_free(s->aside.of_tenants);
    s->aside = (struct aside_book){0};
}

static int count_tenant(struct aside_book *b, const struct running_job *j)
{
    struct aside_tenant *t = table_find(&b->tenants, j->tenant_id);
    if (!t) {
        t = &b->of_tenants[b->tenants.len];
        memcpy(t->id, j->tenant_id, sizeof t->id);
        if (table_put(&b->tenants, t->id, t) != 0) return ERR_NOMEM;
    }
    t->running++;
    t->asides += j->aside;
    return 0;
}

static int count_jobs(struct scheduler *s)
{
    size_t cursor = 0;
    const struct running_job *j;
    s->aside.of_tenants = mem_try_alloc(s->running.len + 1, sizeof *s->aside.of_tenants);
    if (!s->aside.of_tenants) return ERR_NOMEM;
    while ((j = table_next(&s->running, &cursor)) != NULL) {
        struct fleet_worker *w = j->aside ? table_find(&s->fleet, j->worker) : NULL;
        if (w) w->asides++;
        if (count_tenant(&s->aside, j) != 0) return ERR_NOMEM;
    }
    return 0;
}

static void count_places(struct scheduler *s)
{
    size_t cursor = 0;
    int64_t least = PLACES;
    const struct fleet_worker *w;
    while ((w = table_next(&s->fleet, &cursor)) != NULL) {
        if (w->absent_since_ms != 0 || w->beat.draining) continue;
        s->aside.places += PLACES;
        if (w->asides >= least) continue;
        least = w->asides;
        s->aside.emptiest = w;
    }
}

static int count_all(struct scheduler *s)
{
    size_t cursor = 0;
    struct fleet_worker *w;
    aside_changed(s);
    while ((w = table_next(&s->fleet, &cursor)) != NULL) w->asides = 0;
    if (count_jobs(s) != 0) return ERR_NOMEM;
    count_places(s);
    s->aside.counted = true;
    return 0;
}

const struct fleet_worker *aside_place(struct scheduler *s, const char *tenant_id, int64_t max_running)
{
    static const struct aside_tenant nothing;
    if (!s->aside.counted && count_all(s) != 0) return NULL; /* no memory now: the next sweep looks again */
    const struct aside_tenant *t = table_find(&s->aside.tenants, tenant_id);
    if (!t) t = &nothing;
    if (t->running >= max_running) return NULL; /* the claim would be refused */
    return t->asides < (s->aside.places + 1) / 2 ? s->aside.emptiest : NULL;
}

void aside_queued(struct scheduler *s, const struct job_brief *b)
{
    struct policy_action a = {.type = POLICY_DISPATCH};
    running_remove(s, b->id); /* an attempt that we knew of is over: the row waits */
    const struct fleet_worker *w = aside_place(s, b->tenant_id, b->max_running);
    if (!w) return;
    scheduler__id(a.job, b->id);
    scheduler__id(a.tenant, b->tenant_id);
    scheduler__id(a.worker, w->beat.inc);
    dispatch_run(s, &a, true);
}
