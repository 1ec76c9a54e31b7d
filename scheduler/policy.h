/* The scheduler's policy as a pure state machine: who runs next, where, and which worker loads a model.
 *
 *   event (carries the time) ──▶ policy_step ──▶ actions        no I/O, no clock, no thread, no global
 *
 * The same code runs in tenor-scheduler and in the simulator of the unit tests: the same seed and events give
 * the same actions, byte for byte.
 *
 * Fairness. Tenant i has weight w_i and virtual time v_i. POLICY_FILL gives free slots, one by one, to the
 * eligible tenant with the least v; eligible means: a queued job that some worker could hold, and fewer jobs
 * running than max_concurrent. Dispatch charges cost/w at once, the end of the job settles it to what was
 * used, and a job that outlives its charge is charged one more quantum at a time. A tenant that becomes
 * eligible starts at max(v, V), V being the largest v that was ever dispatched from, so idling banks no
 * credit. While two tenants both wait, |v_i − v_j| ≤ one job's charge when estimates are exact, and one more
 * charge per running job when they are not. (Start-time fair queueing, Goyal 1996, with the dominant share of
 * Ghodsi's DRF, 2011, as the cost.)
 *
 * A job that can give way (`yieldable`) is charged one quantum at a time from the start. At the end of each
 * it asks for the next one: POLICY_FILL grants it, as if it were dispatched anew (V follows), unless another
 * tenant with less virtual time waits for a job that would fit in its place; then it is asked to yield. Each
 * job that waits makes at most one give way. Nobody yields to his own tenant, or when v is equal. So the
 * bound above is one quantum's charge a running job, however long jobs are.
 *
 * Cost is the job's dominant share × time, in slot-microseconds: max(slots, memory ÷ (memory per slot of the
 * fleet)).
 *
 * Inside a tenant jobs go by queued_at − priority × ageing: a priority step is worth `ageing_ms` of waiting,
 * so a low priority is a delay and never a starvation. A job that needs more memory than is free now is
 * passed over by others until `reserve_after_ms`; then one worker is kept for it.
 *
 *   (unknown) ──JOB_QUEUED──▶ queued ──DISPATCH action──▶ running ──JOB_ENDED──▶ (forgotten, charge settled)
 *                               ▲                            │
 *                               └─JOB_QUEUED (retry, yield) ◀┴──JOB_GONE──▶ (forgotten, charge refunded)
 */
#ifndef SCHEDULER_POLICY_H
#define SCHEDULER_POLICY_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/err.h"
#include "base/ids.h"

struct policy;

struct policy_config {
    uint64_t seed;      /* breaks ties, nothing else */
    int64_t quantum_ms; /* first estimate of a job's length, the step in which longer ones are charged, and
                         * after which they may have to give way */
    int64_t ageing_ms;  /* waiting time that one step of priority is worth */
    int64_t reserve_after_ms; /* a job passed over for so long gets a worker kept for it */
    int64_t load_retry_ms;    /* a model load unanswered for so long is asked of another worker */
    int64_t load_again_ms; /* a version that is wanted again so long after the request is asked for again */
    int load_tries;        /* after so many the placement is given up until somebody asks again */
};

extern const struct policy_config policy_config_default;

enum policy_event_type {
    POLICY_TENANT,       /* tenant, weight, max_concurrent: new or changed */
    POLICY_JOB_QUEUED,   /* job, tenant, priority, queued_at_ms, slots, memory_bytes, estimate_ms: a row that
                            waits. Waiting   already: no effect. Running: that attempt is over, and it waits
                            again
                          */
    POLICY_JOB_RUNNING,  /* the same, with worker and used_ms so far: a row that runs already (rebuild after a
                            change of  leader). Running there already: no effect */
    POLICY_JOB_ENDED,    /* job, used_ms (< 0: the time since its dispatch): it ran and is over */
    POLICY_JOB_GONE,     /* job: it never ran (the claim was refused, or it was cancelled in the queue) */
    POLICY_WORKER_SEEN,  /* worker, slots, memory_bytes (0: no limit known), model_free_bytes,
                            model_idle_bytes (of models that nobody uses), draining */
    POLICY_WORKER_LOST,  /* worker: its jobs are forgotten; Postgres says when they wait again */
    POLICY_MODEL_WANTED, /* version, tenant, model_bytes: nobody holds it */
    POLICY_MODEL_UP,     /* version: somebody holds it now */
    POLICY_FILL /* hand out what is free: the only event that dispatches, loads or charges for overrunning */
};

struct policy_event {
    enum policy_event_type type;
    int64_t now_ms; /* monotonic; never goes back */
    char job[ID_MAX];
    char tenant[ID_MAX];
    char worker[ID_MAX];
    char version[ID_MAX];
    int64_t weight;         /* 1 … POLICY_WEIGHT_MAX */
    int64_t max_concurrent; /* ≥ 0; 0 runs nothing */
    int64_t priority;       /* −100 … 100, more is sooner */
    int64_t queued_at_ms;   /* any clock, as long as all jobs use the same */
    int64_t slots;          /* of a job: ≥ 1; of a worker: ≥ 0 */
    int64_t memory_bytes;   /* of a job: what it may use; of a worker: what its jobs may use in all */
    int64_t estimate_ms;    /* of a job: how long it will hold its slots; 0: take the tenant's average */
    int64_t used_ms;
    int64_t model_bytes;
    int64_t model_free_bytes;
    int64_t model_idle_bytes;
    bool draining;
    bool yieldable; /* of a job: it may be asked to give way and go on later */
};

enum { POLICY_WEIGHT_MAX = 1000000, POLICY_PRIORITY_MAX = 100 };

enum policy_action_type {
    POLICY_DISPATCH, /* job, tenant → worker: claim the row, then tell the worker */
    POLICY_YIELD, /* job, tenant on worker: ask it to give way; asked again a quantum later while it runs on.
                     Its end is told by POLICY_JOB_ENDED, that it waits again by POLICY_JOB_QUEUED */
    POLICY_LOAD   /* version, tenant → worker: ask it to load */
};

struct policy_action {
    enum policy_action_type type;
    char job[ID_MAX];
    char tenant[ID_MAX];
    char worker[ID_MAX];
    char version[ID_MAX];
};

/* Zero it before first use; policy_step empties it at each call. */
struct policy_actions {
    struct policy_action *data; /* owned */
    size_t len, cap;
};
void policy_actions_dispose(struct policy_actions *a);

/* Config is copied. ERR_NOMEM. One thread at a time. */
int policy_create(struct policy **out, const struct policy_config *config, struct err *e);
void policy_free(struct policy *p);

/* Applies the event, and puts what is to be done now into out. ERR_NOMEM leaves the state usable and every
 * action already in out valid (the event itself may not have been applied: send it again). ERR_INVALID: a
 * number out of its bounds. */
int policy_step(struct policy *p, const struct policy_event *ev, struct policy_actions *out, struct err *e);

/* ---- what an observer may ask; for the shell's reconciliation, metrics and the invariants of the tests ----
 */

struct policy_counts {
    size_t queued, running, tenants, workers, loads;
    int64_t free_slots; /* of workers that are not draining */
};
void policy_counts(const struct policy *p, struct policy_counts *out);

enum policy_job_state { POLICY_UNKNOWN, POLICY_WAITING, POLICY_RUNNING };
/* *worker (may be NULL) is borrowed until the next step; "" unless running. */
enum policy_job_state policy_job_state(const struct policy *p, const char *job, const char **worker);

/* The tenant's virtual time (slot-microseconds at weight 1) and whether it is eligible; false when unknown.
 */
bool policy_tenant_state(const struct policy *p, const char *tenant, int64_t *vtime, bool *eligible);

#endif
