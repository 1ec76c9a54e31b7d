/* The policy's decisions carried out: the claim first, synchronously, then the message; a run is asked to
 * give way, a worker to load. */
#include "scheduler/scheduler_state.h"

#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "queue/inbox.h"
#include "queue/placement.h"
#include "store/job.h"

struct claim {
    struct scheduler *s;
    const struct policy_action *a;
    int64_t fence;
    int attempt;
};

static int claim_row(struct db *db, void *arg, struct err *e)
{
    struct claim *c = arg;
    return job_claim(db, c->a->tenant, c->a->job, c->a->worker, c->s->config.lease_ms, &c->fence, &c->attempt,
                     e);
}

int dispatch_send_run(struct scheduler *s, struct running_job *j, struct err *e)
{
    struct message m = {.type = MESSAGE_JOB_RUN};
    memcpy(m.job.job_id, j->id, sizeof m.job.job_id);
    memcpy(m.job.tenant_id, j->tenant_id, sizeof m.job.tenant_id);
    m.job.fence = j->fence;
    char key[INBOX_KEY_MAX];
    inbox_worker_key(key, j->worker);
    int rc = inbox_push(s->redis, key, &m, e);
    if (rc == 0) j->sent_ms = clock_mono_ms();
    return rc;
}

static void never_ran(struct scheduler *s, const struct policy_action *a)
{
    struct policy_event ev = {.type = POLICY_JOB_GONE};
    memcpy(ev.job, a->job, sizeof ev.job);
    scheduler__step(s, &ev);
}

static int yield_row(struct db *db, void *arg, struct err *e)
{
    const struct claim *c = arg;
    return job_yield(db, c->a->job, c->fence, NULL, "the worker could not be told", e);
}

/* The claim stands but the message did not get out (or nobody knows): back into the queue under a new fence,
 * so that a worker that got it after all finds its own stale. Failing that too, the lease ends. */
static void take_back(struct scheduler *s, struct claim *c, const struct err *why)
{
    log_warn("job_run_unsent", "job=%s worker=%s message=\"%s\"", c->a->job, c->a->worker, why->message);
    struct err e = {0};
    if (db_run(s->db, c->a->tenant, yield_row, c, &e) != 0) {
        log_warn("job_not_taken_back", "job=%s message=\"%s\"", c->a->job, e.message);
    }
    running_remove(s, c->a->job);
    never_ran(s, c->a);
    s->sweep_due_ms = 0;
}

void dispatch_run(struct scheduler *s, const struct policy_action *a, bool aside)
{
    struct claim c = {.s = s, .a = a};
    struct err e = {0};
    int rc = db_run(s->db, NULL, claim_row, &c, &e);
    if (rc != 0) {
        /* Cancelled meanwhile, or at its limit, or the answer was lost: what is still queued or runs, a sweep
         * will tell. */
        log_info("job_not_claimed", "job=%s error=%s message=\"%s\"", a->job, err_name(rc), e.message);
        never_ran(s, a);
        return;
    }
    int64_t now_ms = clock_mono_ms();
    struct running_job j = {.fence = c.fence,
                            .claimed_ms = now_ms,
                            .sent_ms = now_ms,
                            .sweep_round = s->sweep_round,
                            .aside = aside};
    memcpy(j.id, a->job, sizeof j.id);
    memcpy(j.tenant_id, a->tenant, sizeof j.tenant_id);
    memcpy(j.worker, a->worker, sizeof j.worker);
    struct running_job *kept = NULL;
    rc = running_add(s, &kept, &j, &e);
    if (rc == 0) rc = dispatch_send_run(s, kept, &e);
    if (rc != 0) {
        take_back(s, &c, &e);
        return;
    }
    log_info("job_dispatched", "job=%s tenant=%s worker=%s fence=%lld attempt=%d", j.id, j.tenant_id,
             j.worker, (long long)j.fence, c.attempt);
}

/* A word that gets lost is said again when the job's next quantum is over. */
static void yield_job(struct scheduler *s, const struct policy_action *a)
{
    const struct running_job *j = running_find(s, a->job);
    if (!j) return;
    struct message m = {.type = MESSAGE_JOB_YIELD, .job = {.fence = j->fence}};
    memcpy(m.job.job_id, j->id, sizeof m.job.job_id);
    memcpy(m.job.tenant_id, j->tenant_id, sizeof m.job.tenant_id);
    char key[INBOX_KEY_MAX];
    inbox_worker_key(key, j->worker);
    struct err e = {0};
    int rc = inbox_push(s->redis, key, &m, &e);
    log_info("job_yield", "job=%s worker=%s fence=%lld sent=%s", j->id, j->worker, (long long)j->fence,
             rc == 0 ? "yes" : e.message);
}

/* A living worker that stands in the version's set; false when there is none or Redis did not say. */
static bool find_holder(struct scheduler *s, const char *version, char out[ID_MAX])
{
    char holders[PLACEMENT_HOLDERS_MAX][ID_MAX];
    size_t n = 0;
    if (placement_holders(s->redis, version, holders, &n, NULL) != 0) return false;
    for (size_t i = 0; i < n; i++) {
        const struct fleet_worker *w = fleet_find(s, holders[i]);
        if (!w || w->beat.draining) continue;
        memcpy(out, holders[i], ID_MAX);
        return true;
    }
    return false;
}

/* Who asked may have missed the news that it is held: then the holder is asked, which makes it say so again.
 */
static void load_model(struct scheduler *s, const struct policy_action *a)
{
    char worker[ID_MAX];
    memcpy(worker, a->worker, sizeof worker);
    if (find_holder(s, a->version, worker)) {
        struct policy_event up = {.type = POLICY_MODEL_UP};
        memcpy(up.version, a->version, sizeof up.version);
        scheduler__step(s, &up);
    }
    struct message m = {.type = MESSAGE_MODEL_LOAD};
    memcpy(m.model.version_id, a->version, sizeof m.model.version_id);
    memcpy(m.model.tenant_id, a->tenant, sizeof m.model.tenant_id);
    char key[INBOX_KEY_MAX];
    inbox_worker_key(key, worker);
    struct err e = {0};
    int rc = inbox_push(s->redis, key, &m, &e);
    log_info("model_load", "version=%s worker=%s sent=%s", a->version, worker, rc == 0 ? "yes" : e.message);
}

void dispatch_fill(struct scheduler *s)
{
    struct policy_event ev = {.type = POLICY_FILL};
    scheduler__step(s, &ev);
    /* The outcomes are events again, which empty the list they would stand in. */
    struct policy_actions todo = s->actions;
    memset(&s->actions, 0, sizeof s->actions);
    for (size_t i = 0; i < todo.len; i++) {
        switch (todo.data[i].type) {
        case POLICY_DISPATCH:
            dispatch_run(s, &todo.data[i], false);
            break;
        case POLICY_YIELD:
            yield_job(s, &todo.data[i]);
            break;
        case POLICY_LOAD:
            load_model(s, &todo.data[i]);
        }
    }
    policy_actions_dispose(&todo);
}
