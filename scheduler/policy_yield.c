/* Who gets the next quantum: the job that asks for it, or a tenant that is due before it. */
#include "scheduler/policy_state.h"

#include <string.h>

/* So many of a tenant's waiting jobs are looked at for one that would fit. */
enum { LOOK_AT_MAX = 16 };

void policy__break_promise(struct policy_job *j)
{
    if (j->yields_to) j->yields_to->promised--;
    j->yields_to = NULL;
}

static void promise(struct policy_job *j, struct policy_tenant *to)
{
    policy__break_promise(j);
    j->yields_to = to;
    to->promised++;
}

/* How many of t's jobs wait for room. */
static int64_t wanted(const struct policy_tenant *t)
{
    int64_t may = t->max_concurrent - t->running, waits = (int64_t)t->heap_len;
    return waits < may ? waits : may;
}

/* Whether for one of them nobody gives way yet; whether for some more do than wait. */
static bool wants_more(const struct policy_tenant *t)
{
    return wanted(t) > t->promised;
}

static bool has_too_many(const struct policy_tenant *t)
{
    return wanted(t) < t->promised;
}

static bool has_use_for(const struct policy_tenant *t, const struct policy_job *j)
{
    size_t n = t->heap_len < LOOK_AT_MAX ? t->heap_len : LOOK_AT_MAX;
    for (size_t i = 0; i < n; i++)
        if (policy__fits_instead(t->heap[i], j)) return true;
    return false;
}

/* A job that gives way to a tenant who is served meanwhile, or to nobody any more, will do for t. */
static bool takes_spare(struct policy *p, struct policy_tenant *t, const struct policy_job *asks)
{
    for (struct policy_job *j = p->running; j; j = j->next) {
        if (j == asks || !j->yielding || j->tenant == t || (j->yields_to && !has_too_many(j->yields_to)))
            continue;
        if (!has_use_for(t, j)) continue;
        promise(j, t);
        return true;
    }
    return false;
}

/* Whether t has a use for j's place that nothing else will serve. */
static bool needs(struct policy *p, struct policy_tenant *t, const struct policy_job *j)
{
    while (wants_more(t))
        if (!takes_spare(p, t, j)) break;
    if (!wants_more(t)) return false;
    if (has_use_for(t, j)) return true;
    if (!t->heap[0]->never) policy__passed_over(p, t->heap[0]); /* in time, a worker is cleared for it */
    return has_use_for(t, j);
}

/* The tenant of the least virtual time that is due before j's own and could use its place; NULL: none. */
static struct policy_tenant *due_before(struct policy *p, const struct policy_job *j)
{
    struct policy_tenant *best = NULL;
    if (j->worker->draining) return NULL; /* nobody could come after it */
    for (size_t i = 0; i < p->eligible_len; i++) {
        struct policy_tenant *t = p->eligible[i];
        if (t == j->tenant || t->vtime >= j->tenant->vtime || (best && t->vtime >= best->vtime)) continue;
        if (needs(p, t, j)) best = t;
    }
    return best;
}

static int ask_to_yield(struct policy_job *j, struct policy_tenant *due, struct policy_actions *out,
                        struct err *e)
{
    struct policy_action *a = policy__action(out);
    if (!a) return err_set(e, ERR_NOMEM, NULL, "no memory for the scheduler's list of actions");
    a->type = POLICY_YIELD;
    memcpy(a->job, j->id, sizeof a->job);
    memcpy(a->tenant, j->tenant->id, sizeof a->tenant);
    memcpy(a->worker, j->worker->id, sizeof a->worker);
    j->yielding = true;
    promise(j, due);
    return 0;
}

/* The running job that asks for its next quantum and whose tenant has had the most. */
static struct policy_job *next_to_ask(const struct policy *p)
{
    struct policy_job *best = NULL;
    for (struct policy_job *j = p->running; j; j = j->next) {
        if (!j->yieldable || !policy__charge_is_used(p, j)) continue;
        if (!best || j->tenant->vtime > best->tenant->vtime) best = j;
    }
    return best;
}

int policy__quanta(struct policy *p, struct policy_actions *out, struct err *e)
{
    struct policy_job *j;
    int rc = 0;
    while (rc == 0 && (j = next_to_ask(p)) != NULL) {
        policy__break_promise(j);
        struct policy_tenant *due = policy__quantum_is_over(p, j) ? due_before(p, j) : NULL;
        if (due) rc = ask_to_yield(j, due, out, e);
        if (rc != 0) break;
        if (!due && j->tenant->vtime > p->vtime) p->vtime = j->tenant->vtime;
        policy__charge_quantum(p, j); /* one that gives way still runs, and is settled when it has */
    }
    return rc;
}
