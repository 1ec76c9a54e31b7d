/* Jobs on a worker: a thread per slot, each with one sandboxed tenor-runner child at a time, and a few
 * threads more for jobs that take no slot, because the predict engine computes them (worker/predict_job.h).
 *
 *   JOB_RUN ─▶ accepted (lease kept from here) ─▶ slot thread: load row, check fence
 *                                              ─▶ runner child + feeders ─▶ outcome
 *
 *   done          artifact → blob → finish transaction under the fence
 *   failed        the tenant's error, or its limit of time or memory: ended
 *   cancelled     asked for: ended
 *   crashed       no last word: counted, retried with back-off, dead after three
 *   yielded       it made way for another tenant, or the worker drains: queued again with a checkpoint, no
 *                 crash counted
 *   lost          the fence is old or the lease could not be renewed: child killed, nothing counts
 *
 * In every case JOB_ENDED goes to the scheduler.
 *
 * supervisor_run, _cancel, _yield and _describe may be called by any thread and do not block; the rest by one
 * thread.
 */
#ifndef WORKER_SUPERVISOR_H
#define WORKER_SUPERVISOR_H

#include <stdint.h>
#include "base/err.h"
#include "base/ids.h"
#include "queue/heartbeat.h"
#include "queue/redis.h"
#include "store/blob.h"
#include "worker/engine.h"

struct supervisor;

struct supervisor_config {
    char inc[ID_MAX];                  /* the worker's incarnation */
    const char *postgres_url;          /* all borrowed until supervisor_free */
    const struct redis_address *redis; /* where JOB_ENDED goes */
    struct blob_store *blobs;
    struct engine *const *engine; /* that computes predict jobs; there before the first of them comes */
    const char *runner;           /* path of tenor-runner */
    const char *work_dir;         /* writable; holds the empty folder that runners see */
    int slots;                    /* 1 … HEARTBEAT_JOBS_MAX */
    int64_t job_memory_bytes;     /* of all jobs together, as the scheduler is told; 0: no limit */
    int64_t lease_ms;
    int64_t checkpoint_ms; /* so often a run lays down a checkpoint, from which the next attempt goes on */
};

int supervisor_create(struct supervisor **out, const struct supervisor_config *config, struct err *e);

/* A job that the scheduler claimed for us. Asked twice for the same fence, once is done. */
void supervisor_run(struct supervisor *s, const char *tenant_id, const char *job_id, int64_t fence);
/* fence 0: whichever attempt runs here. */
void supervisor_cancel(struct supervisor *s, const char *job_id, int64_t fence);

/* Asks a run to make way for somebody who is due first. */
void supervisor_yield(struct supervisor *s, const char *job_id, int64_t fence);

/* Fills slots, slots_free, job_memory_bytes, job_memory_free, jobs and draining. */
void supervisor_describe(struct supervisor *s, struct heartbeat *h);

/* From now on jobs that arrive are handed back, and supervisor_describe says draining. What runs lays down a
 * checkpoint, lest the process is killed before it is drained. */
void supervisor_close(struct supervisor *s);
/* As close; then waits for what runs, has what still runs after deadline_ms yield, and returns when all is
 * settled. */
void supervisor_drain(struct supervisor *s, int64_t deadline_ms);
/* Joins. Without a drain before, what runs is handed back at once. NULL is fine. */
void supervisor_free(struct supervisor *s);

#endif
