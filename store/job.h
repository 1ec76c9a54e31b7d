/* Jobs: the rows that decide who does what. Terminal states are final (by trigger too); every change is one
 * conditional UPDATE guarded by state or fence.
 *
 *   job_submit ─▶ queued ──job_claim: fence+1, attempt+1, lease──▶ running ──job_finish(fence)──▶
 * succeeded|failed|cancelled ▲                                                │ job_reap (lease ran out) or
 * job_crash: fence+1, crashes+1 └── job_release: run_after passed ── retry_wait ◀┘─────────── crashes = 3 ──▶
 * dead (hold voided)
 *
 * An attempt lays down checkpoints (job_save) from which the next one goes on. A run that gives way is queued
 * again with one (job_yield) and counts neither as a crash nor as an end: its hold stays, and the running
 * time that its checkpoints stand for counts towards max_seconds and the price.
 *
 * Only Postgres' now() judges leases. Files: job.c (find, list, cancel), job_submit.c, job_lease.c,
 * job_checkpoint.c, job_finish.c, job_reap.c. */
#ifndef STORE_JOB_H
#define STORE_JOB_H

#include <stdbool.h>
#include <stdint.h>
#include "base/crypto.h"
#include "base/ids.h"
#include "store/blob.h"
#include "store/db.h"

enum job_state {
    JOB_QUEUED,
    JOB_RUNNING,
    JOB_RETRY_WAIT,
    JOB_SUCCEEDED,
    JOB_FAILED,
    JOB_CANCELLED,
    JOB_DEAD,
};
const char *job_state_name(enum job_state s); /* "queued" … */
int job_state_of(const char *name);           /* the state, or -1 */
bool job_state_ended(enum job_state s);

enum { JOB_CRASHES_MAX = 3, JOB_CODE_MAX = 32 };

struct job {
    char id[ID_MAX]; /* "job_…" */
    char tenant_id[ID_MAX];
    char type[16]; /* "train", "tune", "evaluate" or "predict" */
    enum job_state state;
    char model[STORE_NAME_MAX];
    char dataset_id[ID_MAX];      /* "" of a predict job */
    char test_dataset_id[ID_MAX]; /* "" for none */
    char version_id[ID_MAX];      /* that an evaluate job scores or a predict job asks; "" for none */
    int64_t estimate_ms;          /* of running, as computed at submission; 0 in jobs of before */
    int priority;                 /* -10 … 10, greater first, inside the tenant */
    int64_t max_seconds;
    int64_t memory_bytes; /* what the run was computed to need */
    int threads;
    int attempt;
    int crashes;
    int64_t fence;
    bool cancel_requested;
    int64_t created_at_us;
    int64_t started_at_us;  /* of the newest attempt; 0: none yet */
    int64_t finished_at_us; /* 0: not ended */
    int64_t run_after_us;   /* with retry_wait */
    int64_t price_micros;   /* per second, of a predict job per 1,000 rows; as at submission */
    int64_t hold_micros;    /* held (or once held) */
    int64_t cost_micros;    /* captured; 0 until then */
    int64_t used_before_ms; /* running time of earlier attempts that counts */
    char checkpoint_sha256[SHA256_HEX_LEN]; /* the blob to go on from; "" for none, as the two below 0 */
    int64_t checkpoint_epoch, checkpoint_step;
    const char *spec;     /* JSON, in the arena */
    const char *progress; /* JSON or NULL */
    const char *result; /* JSON {"version","version_id","metrics"} or NULL; an evaluate job has no version */
    char error_code[JOB_CODE_MAX]; /* "" when there is none */
    const char *error_message;     /* or NULL */
    const char *error_param;       /* or NULL */
};

struct job_new {
    const char *type;
    const char *model;
    const char *dataset_id;      /* NULL of a predict job */
    const char *test_dataset_id; /* or NULL */
    const char *version_id;      /* that an evaluate job scores or a predict job asks, or NULL */
    int64_t rows;                /* of a predict job, which is priced by them; else 0 */
    int64_t estimate_ms;
    int priority;
    int64_t max_seconds;
    int64_t memory_bytes;
    int threads;
    const char *spec; /* JSON text: the resolved spec */
};

/* Whether its success is a new version of its model: of train and tune jobs. */
bool job_makes_version(const struct job *j);

/* Quota checks (ERR_LIMIT with the field and a retry_after_ms), row, hold, first event, audit. Serialised per
 * tenant by a transaction lock, so concurrent submissions never pass a quota. For idempotency the caller puts
 * idem_take and idem_finish into the same transaction. ERR_NOT_FOUND: field "dataset", "test_dataset" or
 * "version".
 * ERR_FORBIDDEN: tenant suspended. */
int job_submit(struct db *db, const struct job_new *in, const struct actor *by, struct arena *a,
               struct job *out, struct err *e);
int job_find(struct db *db, const char *id, struct arena *a, struct job *out,
             struct err *e); /* ERR_NOT_FOUND */

struct job_list {
    struct job *items; /* in the arena */
    int n;
    bool has_more;
};
/* state: one to keep, or -1 for all. model: one to keep, or NULL. */
int job_list(struct db *db, const struct page *p, int state, const char *model, struct arena *a,
             struct job_list *out, struct err *e);
/* Ends a waiting job at once (hold voided); marks a running one. Asking twice is fine; an ended job is
 * ERR_CONFLICT. *out is the job afterwards: when it still runs, tell its worker. worker (ID_MAX bytes, may be
 * NULL) gets the incarnation or "". */
int job_cancel(struct db *db, const char *id, const struct actor *by, struct arena *a, struct job *out,
               char *worker, struct err *e);

/* ---- the scheduler (system) ---- */

/* What the policy needs of a waiting or running job. */
struct job_brief {
    char id[ID_MAX];
    char tenant_id[ID_MAX];
    int64_t weight;      /* of the tenant's plan */
    int64_t max_running; /* the tenant's quota */
    int priority;
    int64_t max_seconds;
    int64_t memory_bytes;
    int threads;
    bool yields; /* its run can give way with a checkpoint */
    bool aside;  /* it takes no training slot: the predict engine computes it */
    int64_t created_at_us;
    /* running ones only */
    char worker[ID_MAX];
    int64_t fence;
    int64_t running_ms; /* since the claim, by Postgres' clock */
};
struct job_brief_list {
    struct job_brief *items; /* in the arena */
    int n;
    bool has_more;
};
/* Queued jobs of tenants that are not suspended, by id, those after after_id (NULL for the start). */
int job_sweep_queued(struct db *db, const char *after_id, int limit, struct arena *a,
                     struct job_brief_list *out, struct err *e);
int job_sweep_running(struct db *db, const char *after_id, int limit, struct arena *a,
                      struct job_brief_list *out, struct err *e);
int job_brief_find(struct db *db, const char *tenant_id, const char *id, struct job_brief *out,
                   enum job_state *state, struct err *e);

/* queued → running for that worker incarnation. ERR_CONFLICT when it is not queued (any more), ERR_LIMIT when
 * the tenant runs its max_running_jobs already. */
int job_claim(struct db *db, const char *tenant_id, const char *id, const char *worker, int64_t lease_ms,
              int64_t *fence, int *attempt, struct err *e);

struct job_reaped {
    char id[ID_MAX];
    char tenant_id[ID_MAX];
    enum job_state state; /* JOB_RETRY_WAIT, JOB_DEAD, or JOB_CANCELLED when that was asked for */
    int64_t fence;        /* the raised one */
};
/* Takes at most limit running jobs whose lease has ended: crash counted, fence raised, retry_wait
 * (exponential back-off with full jitter, 1 s base, 60 s cap) or dead (hold voided). Rows in the arena. */
int job_reap(struct db *db, int limit, struct arena *a, struct job_reaped **out, int *n, struct err *e);
/* retry_wait → queued where run_after has passed; *n counts. */
int job_release(struct db *db, int limit, int *n, struct err *e);

/* ---- the worker (its tenant's transaction) ---- */

/* Extends the lease. ERR_STALE: the fence is old or the job is no longer running; stop at once, nothing it
 * did counts. */
int job_renew(struct db *db, const char *id, int64_t fence, int64_t lease_ms, bool *cancel_requested,
              struct err *e);
/* Stores the newest progress (JSON, or NULL to leave it) and, when type is not NULL, appends an event.
 * ERR_STALE as above. */
int job_progress(struct db *db, const char *id, int64_t fence, const char *progress, const char *level,
                 const char *type, const char *message, const char *data, struct err *e);
/* The child or its host died without a last word: as job_reap, for this job, now. *state is where it went. */
int job_crash(struct db *db, const char *id, int64_t fence, const char *reason, enum job_state *state,
              struct err *e);

struct job_checkpoint {
    const struct blob *blob; /* finished by a blob_writer; blob_put is done here */
    int64_t epoch, step;     /* where it stands, for people */
    const char *part; /* of several trainings, in which: "trial 3 of 6"; "" or NULL: there is only one */
};
/* The checkpoint replaces the job's older one, and the running time so far counts. ERR_STALE: another claim
 * is newer, and nothing has changed. */
int job_save(struct db *db, const char *id, int64_t fence, const struct job_checkpoint *c, struct err *e);
/* The checkpoint was of no use: forgotten with the time that it stood for, an event says why. ERR_STALE. */
int job_restart(struct db *db, const char *id, int64_t fence, const char *reason, struct err *e);
/* Gives a job back without counting a crash: running → queued, fence+1; with a checkpoint (NULL: none that is
 * newer than what is there) as by job_save. */
int job_yield(struct db *db, const char *id, int64_t fence, const struct job_checkpoint *c,
              const char *reason, struct err *e);

/* What a predict job has answered. */
struct job_answer {
    const struct blob *output; /* finished by a blob_writer; put by job_finish */
    int64_t compute_us;
};

struct job_end {
    enum job_state state; /* JOB_SUCCEEDED, JOB_FAILED or JOB_CANCELLED */
    /* succeeded */
    const struct blob *artifact;     /* finished by a blob_writer; put here. NULL: no version is made */
    const char *metrics;             /* JSON */
    const char *signature;           /* JSON; NULL without an artifact */
    int64_t memory_bytes;            /* to serve it */
    const struct job_answer *answer; /* of a predict job, whose metrics job_finish writes; else NULL */
    /* failed */
    const char *error_code; /* "invalid", "timeout", … */
    const char *error_message;
    const char *error_param; /* or NULL */
};
struct job_ended {
    int64_t cost_micros;
    int64_t version; /* 0 unless it succeeded */
    char version_id[ID_MAX];
    bool alias_made; /* "live" was set: tell the gateways */
};
/* One transaction (the caller's): job row under the fence, version (and model, and alias "live" when the
 * model has none), capture or void of the hold, ledger and usage, last event, audit row. Price: running
 * seconds of this attempt and of those that led to its checkpoint, at least one, × price, at most the hold;
 * only success costs. ERR_STALE: nothing
 * changed, throw the artifact away. by: the worker. */
int job_finish(struct db *db, const char *id, int64_t fence, const struct job_end *end,
               const struct actor *by, struct job_ended *out, struct err *e);

#endif
