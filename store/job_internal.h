/* What the job_*.c files share. Nobody else includes this. */
#ifndef STORE_JOB_INTERNAL_H
#define STORE_JOB_INTERNAL_H

#include "store/job.h"
#include "store/job_event.h"

/* Columns of a job in the order of job__read. */
#define JOB_COLUMNS                                                                                          \
    "j.id, j.tenant_id, j.type, j.state, j.model, j.dataset_id, j.test_dataset_id, j.priority, "             \
    "j.max_seconds, "                                                                                        \
    "j.memory_bytes, j.threads, j.attempt, j.crashes, j.fence, j.cancel_requested, us(j.created_at), "       \
    "us(j.started_at), us(j.finished_at), us(j.run_after), j.price_micros, j.hold_micros, j.cost_micros, "   \
    "j.spec, "                                                                                               \
    "j.progress, j.result, j.error_code, j.error_message, j.error_param, j.worker, "                         \
    "j.used_before_ms, j.checkpoint_sha256, j.checkpoint_epoch, j.checkpoint_step, j.version_id, "           \
    "j.estimate_ms"

enum { JOB_COL_WORKER = 28 };

/* A page_read_fn of a struct job. */
int job__read(void *job, struct arena *a, const struct db_rows *r, int row, struct err *e);

/* The change of a job's state, told everywhere it must be told. */
struct job_change {
    const char *tenant_id;
    const char *id;
    enum job_state state;
    int64_t seq; /* the event's number, taken from the job's row in the UPDATE that made the change */
    int64_t fence;
    int attempt;
    const char *level;   /* of the event */
    const char *message; /* of the event */
    int64_t epoch, step; /* of the checkpoint that it goes on from or leaves; epoch 0: none */
};

/* "trial 3 of 6, epoch 2, step 5": where a checkpoint stands. part: "" or NULL without one. */
enum { JOB_PLACE_MAX = 112 };
void job__place(char out[JOB_PLACE_MAX], const char *part, int64_t epoch, int64_t step);

/* The event: type "status", data {"status","attempt","fence"}, with a checkpoint {…,"epoch","step"}. */
int job__tell(struct db *db, const struct job_change *c, struct err *e);

/* Ends an open hold: captured for so much, or voided with -1. */
int job__resolve_hold(struct db *db, const char *tenant_id, const char *id, int64_t captured_micros,
                      struct err *e);

/* Inserts event number seq; the caller holds the job's row. */
int job_event__insert(struct db *db, const char *tenant_id, const char *job_id, int64_t seq,
                      const char *level, const char *type, const char *message, const char *data,
                      struct err *e);

#endif
