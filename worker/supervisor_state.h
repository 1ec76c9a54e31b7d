/* What the supervisor's files share. Shared inside worker/ only. */
#ifndef WORKER_SUPERVISOR_STATE_H
#define WORKER_SUPERVISOR_STATE_H

#include <pthread.h>
#include <stdbool.h>
#include "base/arena.h"
#include "base/buf.h"
#include "learn/train.h"
#include "store/dataset.h"
#include "store/db.h"
#include "store/job.h"
#include "worker/lease.h"
#include "worker/supervisor.h"
#include "worker/supervisor_cgroup.h"

/* What is wanted of a run, in order of urgency: a later one replaces an earlier one.
 * RUN_YIELD: make way when you have got somewhere. RUN_LEAVE: make way at once, the worker stops. */
enum run_wish { RUN_ON, RUN_YIELD, RUN_LEAVE, RUN_CANCEL, RUN_LOST };

enum run_state { RUN_FREE, RUN_ACCEPTED, RUN_TAKEN };

/* One accepted job. The slot thread that took it owns it; `state`, `wish`, `save`, `memory_bytes`, `slots`
 * and `pidfd` are under the supervisor's lock. */
struct run {
    enum run_state state;
    enum run_wish wish;
    bool save; /* a checkpoint is wanted now */
    char job_id[ID_MAX], tenant_id[ID_MAX];
    int64_t fence;
    int64_t memory_bytes; /* that the job may use; 0 until its row has been read */
    int slots;            /* that it takes, 0 of a predict job; 1 until then */
    int wake_fd;          /* eventfd, readable when the wish changed; opened when accepted */
    int pidfd;            /* of the child, so that a lost lease kills it from any thread; −1: none */
};

struct supervisor {
    struct supervisor_config config;
    char *empty_dir; /* owned: where runners stand */
    struct cgroup_base cgroups;
    struct lease_keeper *leases;
    pthread_mutex_t lock;   /* of runs, draining, stopping */
    pthread_cond_t changed; /* something was accepted, became free, or must stop */
    struct run runs[HEARTBEAT_JOBS_MAX];
    bool draining, stopping;
    pthread_t threads[HEARTBEAT_JOBS_MAX];
    int n_threads;
    pthread_mutex_t redis_lock; /* of redis */
    struct redis *redis;
};

/* A slot thread's own things. */
struct slot {
    struct supervisor *s;
    struct db *db;
    struct arena arena; /* of one job */
};

/* ---- supervisor_load.c: what a run needs from Postgres */
struct part {
    bool test;
    struct dataset_part dataset_part;
    struct blob blob;
};

struct order {
    struct job job;             /* texts in the slot's arena */
    struct dataset train, test; /* test.id is "" when there is none */
    int n_parts;
    struct part parts[TRAIN_MAX_INPUTS];
    struct blob checkpoint; /* with job.checkpoint_sha256 */
    struct blob input;      /* of a predict job: what is asked */
    struct blob_key key;    /* to be wiped */
};
/* ERR_STALE when the job is not ours under that fence. */
int order_load(struct order *out, struct slot *slot, const struct run *run, struct err *e);
bool order_predicts(const struct order *o); /* a predict job: no dataset, no child, no slot */

/* A checkpoint in one of a child's files, and where in the training it stands. */
struct mark {
    int file;
    int64_t bytes, epoch, step;
    char part[TRAIN_PART_MAX]; /* "" where the job is one training */
    double took_ms;            /* of the runner's time */
};

/* ---- how a run ended */
enum outcome_type {
    OUTCOME_DONE,
    OUTCOME_FAILED,
    OUTCOME_CANCELLED,
    OUTCOME_CRASHED,
    OUTCOME_YIELDED,
    OUTCOME_LOST
};

struct outcome {
    enum outcome_type type;
    char *metrics, *signature; /* DONE; owned JSON texts */
    int64_t artifact_bytes, memory_bytes;
    struct buf answer;  /* DONE of a predict job: an encoded PREDICT_REPLY; owned */
    int64_t compute_us; /* that it took */
    int checkpoint_fd; /* YIELDED; owned: a memfd with the newest checkpoint, described by mark; −1: none */
    struct mark mark;
    struct err why; /* FAILED: code, field and message for the tenant. CRASHED: the message is the reason */
};

/* supervisor_talk.c: runs the child to its end. artifact_fd is the memfd that it wrote, the caller's to
 * close; −1 when there is none. Always fills the outcome. */
void run_child(struct outcome *out, int *artifact_fd, struct slot *slot, struct run *run,
               const struct order *order);

/* supervisor_finish.c: writes the outcome down, trying again until it cannot count any more. */
void finish_outcome(struct slot *slot, const struct run *run, const struct order *order,
                    const struct outcome *outcome, int artifact_fd);

/* supervisor.c */
/* Whether a checkpoint is wanted now; asked once, it is not any more. */
bool run_take_save(struct supervisor *s, struct run *run);
enum run_wish run_wish_of(struct supervisor *s, const struct run *run);
void run_set_pidfd(struct supervisor *s, struct run *run, int pidfd);
void supervisor__tell_ended(struct supervisor *s, const struct run *run);
void supervisor__tell_model(struct supervisor *s, const char *tenant_id, const char *model);

#endif
