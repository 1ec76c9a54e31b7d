/* Jobs that take no training slot: predictions that are answered later, which the worker's predict engine
 * computes beside everything else.
 *
 * They wait for places instead: a few on each worker, of which one tenant gets at most half, so that nobody's
 * backlog stands in the way of somebody else's single question. Whoever finds no place stays queued; each end
 * of a job, and each sweep, looks again, the oldest first. */
#include "scheduler/scheduler_state.h"

#include <string.h>
#include "store/job.h"

enum { PLACES = 4 }; /* of a worker; as many threads wait there (worker/supervisor.c) */

struct load {
    const struct fleet_worker *worker; /* the emptiest one that takes work; NULL: none */
    int64_t places, of_tenant, running_of_tenant;
};

static int64_t asides_of(const struct scheduler *s, const char *worker)
{
    size_t cursor = 0;
    int64_t n = 0;
    const struct running_job *j;
    while ((j = table_next(&s->running, &cursor)) != NULL) n += j->aside && strcmp(j->worker, worker) == 0;
    return n;
}

static void look_at_workers(const struct scheduler *s, struct load *l)
{
    size_t cursor = 0;
    int64_t least = PLACES;
    const struct fleet_worker *w;
    while ((w = table_next(&s->fleet, &cursor)) != NULL) {
        if (w->absent_since_ms != 0 || w->beat.draining) continue;
        int64_t n = asides_of(s, w->beat.inc);
        l->places += PLACES;
        if (n >= least) continue;
        least = n;
        l->worker = w;
    }
}

static void look_at_tenant(const struct scheduler *s, const char *tenant_id, struct load *l)
{
    size_t cursor = 0;
    const struct running_job *j;
    while ((j = table_next(&s->running, &cursor)) != NULL) {
        if (strcmp(j->tenant_id, tenant_id) != 0) continue;
        l->running_of_tenant++;
        l->of_tenant += j->aside;
    }
}

void aside_queued(struct scheduler *s, const struct job_brief *b)
{
    struct load l = {0};
    struct policy_action a = {.type = POLICY_DISPATCH};
    running_remove(s, b->id); /* an attempt that we knew of is over: the row waits */
    look_at_tenant(s, b->tenant_id, &l);
    if (l.running_of_tenant >= b->max_running) return; /* the claim would be refused */
    look_at_workers(s, &l);
    if (!l.worker || l.of_tenant >= (l.places + 1) / 2) return;
    scheduler__id(a.job, b->id);
    scheduler__id(a.tenant, b->tenant_id);
    scheduler__id(a.worker, l.worker->beat.inc);
    dispatch_run(s, &a, true);
}
