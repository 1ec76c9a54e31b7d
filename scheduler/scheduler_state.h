/* What the policy loop's files share. Everything here belongs to the loop's thread but what is marked. Shared
 * inside scheduler/ only. */
#ifndef SCHEDULER_SCHEDULER_STATE_H
#define SCHEDULER_SCHEDULER_STATE_H

#include <pthread.h>
#include <stdatomic.h>
#include "base/arena.h"
#include "base/halt.h"
#include "queue/heartbeat.h"
#include "queue/message.h"
#include "scheduler/chore.h"
#include "scheduler/policy.h"
#include "scheduler/replica.h"
#include "scheduler/scheduler.h"
#include "scheduler/table.h"
#include "store/db.h"
#include "store/lead.h"

/* A job that this scheduler believes to run: what the policy does not need to know. */
struct running_job {
    char id[ID_MAX];
    char tenant_id[ID_MAX];
    char worker[ID_MAX];
    int64_t fence;
    int64_t sent_ms; /* when JOB_RUN last went out; monotonic, as all times here */
    int64_t claimed_ms;
    uint64_t sweep_round; /* the newest sweep that found it running */
    bool aside;           /* it takes no slot, and the policy does not know of it (aside.c) */
};

struct fleet_worker {
    struct heartbeat beat;   /* the last one */
    int64_t seen_ms;         /* when it was read */
    int64_t absent_since_ms; /* 0: present */
    int64_t asides;          /* jobs without a slot that it has, as aside.c counted them last */
};

/* Who has which places: aside.c's, counted when it is looked at after a change of jobs or workers. */
struct aside_book {
    bool counted;                        /* and nothing has changed since */
    int64_t places;                      /* of all workers that take work */
    const struct fleet_worker *emptiest; /* the one with the most places free; NULL: none has any */
    struct table tenants;                /* struct aside_tenant, by id */
    struct aside_tenant *of_tenants;     /* owned: where they lie */
};

struct scheduler {
    struct scheduler_config config;
    struct halt halt;    /* any thread */
    atomic_bool leading; /* written by the loop, read by the chores */
    pthread_t thread;
    bool started;
    struct chore *meter, *sealer, *cron, *rollout;
    struct meter *meter_state;           /* the meter's thread */
    struct rollout_watch *rollout_state; /* the rollout chore's thread */

    struct db *db;
    struct redis *redis;
    struct lead lead;
    struct arena arena; /* of one read of Postgres */
    struct policy *policy;
    struct policy_actions actions;
    struct replicas *replicas;
    struct table running; /* struct running_job, owned */
    struct table fleet;   /* struct fleet_worker, owned */
    struct aside_book aside;
    int64_t lead_due_ms, fleet_due_ms, reap_due_ms, sweep_due_ms, replicate_due_ms;
    uint64_t sweep_round;
    bool fleet_known; /* heartbeats have been read since we lead */
    bool redis_ok;
};

/* scheduler.c. Passes the event on with the time filled in; failures are logged. Actions go to s->actions. */
int scheduler__step(struct scheduler *s, struct policy_event *ev);
/* Copies an id; one that is too long for an id becomes "". */
void scheduler__id(char out[ID_MAX], const char *id);

/* running.c: the jobs that run */
struct running_job *running_find(const struct scheduler *s, const char *job);
/* Replaces what was known of that job. ERR_NOMEM. *out (may be NULL) is borrowed until it is removed. */
int running_add(struct scheduler *s, struct running_job **out, const struct running_job *job, struct err *e);
void running_remove(struct scheduler *s, const char *job);
void running_clear(struct scheduler *s);
/* The job is over, however: out of the books, and the policy settles its charge. */
void running_end(struct scheduler *s, const char *job);

/* fleet.c: reads the heartbeats, tells the policy who is there, and sends JOB_RUN again to workers that don't
 * know of a job of theirs. */
int fleet_poll(struct scheduler *s, struct err *e);
const struct fleet_worker *fleet_find(const struct scheduler *s, const char *worker); /* alive, or NULL */
void fleet_clear(struct scheduler *s);

/* sweep.c: what Postgres knows */
int sweep_all(struct scheduler *s, struct err *e);  /* queued and running rows */
int sweep_reap(struct scheduler *s, struct err *e); /* ended leases; retries whose time has come */
struct job_brief;
void sweep__queued(struct scheduler *s, const struct job_brief *b); /* a row that waits, as read just now */

/* replicate.c: hot models get further holders, and lose them again */
int replicate_hot(struct scheduler *s, struct err *e);

/* intake.c: what comes through the inbox */
void intake_record(struct scheduler *s, const char *data, size_t len);

/* aside.c: jobs that take no slot. A row that waits: to a worker that has a place, or left for later. */
void aside_queued(struct scheduler *s, const struct job_brief *b);
/* Where such a job of the tenant may run now, of which max_running may run at once; NULL: nowhere. Without a
 * change of jobs or workers in between, asking is as cheap as a look into a hash table. */
const struct fleet_worker *aside_place(struct scheduler *s, const char *tenant_id, int64_t max_running);
void aside_changed(struct scheduler *s); /* jobs or workers have: whoever changes them says so */

/* dispatch.c: lets the policy decide, and does it */
void dispatch_fill(struct scheduler *s);
/* Claims the action's job for its worker and sends it there; what goes wrong is logged and mended. */
void dispatch_run(struct scheduler *s, const struct policy_action *a, bool aside);
int dispatch_send_run(struct scheduler *s, struct running_job *j, struct err *e);

#endif
