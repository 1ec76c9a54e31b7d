/* What the policy's files share: its state. Shared inside scheduler/ only.
 *
 * A job is in its tenant's heap (waits) or in the list of running jobs and on a worker (runs), never in both.
 */
#ifndef SCHEDULER_POLICY_STATE_H
#define SCHEDULER_POLICY_STATE_H

#include "scheduler/policy.h"
#include "scheduler/table.h"

struct policy_worker {
    char id[ID_MAX];
    int64_t slots, used_slots;
    int64_t memory_bytes; /* 0: no limit known */
    int64_t used_memory_bytes;
    int64_t model_free_bytes, model_idle_bytes;
    struct policy_job *reserved_for; /* borrowed; kept free for this job alone */
    bool draining;
};

struct policy_job {
    char id[ID_MAX];
    struct policy_tenant *tenant;
    struct policy_worker *worker; /* NULL: waits */
    int64_t order_key;            /* queued_at − priority × ageing: the least goes first */
    int64_t slots, memory_bytes;
    int64_t estimate_ms;      /* 0: none given */
    int64_t blocked_since_ms; /* first passed over for want of memory; −1: never */
    bool yieldable;
    bool never; /* no worker, however empty, could hold it: behind all others until the fleet changes */
    size_t heap_index;
    /* while it runs */
    struct policy_job *prev, *next;
    int64_t started_ms;
    int64_t charged_ms;              /* the time that v has been charged for */
    int64_t charged;                 /* …and the charge itself */
    int64_t share_milli;             /* dominant share in thousandths of a slot, as at dispatch */
    int64_t weight;                  /* as at dispatch */
    bool yielding;                   /* was asked to give way */
    struct policy_tenant *yields_to; /* for whom; borrowed; NULL: for nobody any more */
};

struct policy_tenant {
    char id[ID_MAX];
    int64_t weight, max_concurrent;
    int64_t vtime;
    int64_t average_ms; /* of the jobs that ended: the next one's estimate */
    int64_t running;
    int64_t promised;         /* jobs that give way to it and still run */
    struct policy_job **heap; /* owned; the jobs themselves are the table's */
    size_t heap_len, heap_cap;
    bool stuck;    /* no worker, however empty, could hold what is at its front */
    bool eligible; /* in policy.eligible, at eligible_index */
    size_t eligible_index;
    uint64_t skip_round; /* passed over in this round of POLICY_FILL */
};

struct policy_load {
    char version[ID_MAX];
    char tenant[ID_MAX];
    char worker[ID_MAX]; /* asked last; "" none yet */
    int64_t bytes;
    int64_t wanted_ms, asked_ms;
    int tries;
    bool again; /* wanted anew: the same worker is asked once more */
};

struct policy {
    struct policy_config config;
    int64_t now_ms;
    int64_t vtime; /* V */
    uint64_t round;
    struct table tenants, jobs, loads;
    struct policy_worker **workers; /* owned, and what they point to */
    size_t workers_len, workers_cap;
    struct policy_tenant **eligible; /* owned; points into tenants */
    size_t eligible_len, eligible_cap;
    struct policy_job *running; /* head of the list */
    size_t running_len;
    struct policy_job *reserved; /* the job that a worker is kept for */
};

/* policy_heap.c: a tenant's waiting jobs. Push is ERR_NOMEM; remove takes any job of the heap. */
int policy__heap_push(struct policy_tenant *t, struct policy_job *j);
void policy__heap_remove(struct policy_tenant *t, struct policy_job *j);
void policy__heap_revive(struct policy_tenant *t); /* nothing in it is `never` any more */

/* policy.c */
struct policy_worker *policy__find_worker(const struct policy *p, const char *id);
int64_t policy__free_slots(const struct policy_worker *w);
int policy__refresh(struct policy *p,
                    struct policy_tenant *t); /* recomputes eligible, and v when it becomes so */
void policy__unreserve(struct policy *p);
struct policy_action *
policy__action(struct policy_actions *out); /* a zeroed new action at the end, or NULL */

/* policy_charge.c: virtual time */
void policy__charge_start(struct policy *p, struct policy_job *j, int64_t used_ms);
void policy__charge_settle(struct policy_job *j, int64_t used_ms);
void policy__charge_overruns(struct policy *p); /* of jobs that cannot yield */
bool policy__quantum_is_over(const struct policy *p, const struct policy_job *j); /* the first one */
bool policy__charge_is_used(const struct policy *p, const struct policy_job *j);
void policy__charge_quantum(struct policy *p,
                            struct policy_job *j); /* the next one, or as many as it ran over */
void policy__charge_learn(const struct policy *p, struct policy_tenant *t, int64_t used_ms);

/* policy_run.c: which job runs where */
void policy__run(struct policy *p, struct policy_job *j, struct policy_worker *w, int64_t used_ms);
void policy__unrun(struct policy *p,
                   struct policy_job *j); /* off its worker; the charge is the caller's business */
int policy__fill(struct policy *p, struct policy_actions *out, struct err *e);

void policy__passed_over(struct policy *p, struct policy_job *j); /* it is due and does not fit */
bool policy__fits_instead(const struct policy_job *waits, const struct policy_job *runs);

/* policy_yield.c: who gets the next quantum */
int policy__quanta(struct policy *p, struct policy_actions *out, struct err *e);
void policy__break_promise(struct policy_job *j); /* it gives way to nobody any more */

/* policy_load.c: which worker loads a model */
int policy__model_wanted(struct policy *p, const struct policy_event *ev, struct err *e);
void policy__model_up(struct policy *p, const char *version);
int policy__load(struct policy *p, struct policy_actions *out, struct err *e);

#endif
