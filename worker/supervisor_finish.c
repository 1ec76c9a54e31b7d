/* How a run's outcome gets into Postgres: one transaction under the fence, tried again while it can still
 * count. */
#include "worker/supervisor_state.h"

#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "base/clock.h"
#include "base/log.h"
#include "learn/model.h"
#include "worker/supervisor_save.h"

enum { FIRST_WAIT_MS = 50, LONGEST_WAIT_MS = 1000, APPEND_BYTES = 1 << 20 };

struct finish {
    const struct slot *slot;
    const struct run *run;
    struct job_end end;
    struct job_ended ended;
    const char *reason;
    enum job_state state;
    bool has_checkpoint;
    struct blob blob; /* the checkpoint's */
    int64_t epoch, step;
    const char *part; /* borrowed */
};

/* ---- transactions ---- */

static int finish_tx(struct db *db, void *arg, struct err *e)
{
    struct finish *f = arg;
    struct actor by = {.type = "worker", .id = f->slot->s->config.inc};
    return job_finish(db, f->run->job_id, f->run->fence, &f->end, &by, &f->ended, e);
}

static int crash_tx(struct db *db, void *arg, struct err *e)
{
    struct finish *f = arg;
    return job_crash(db, f->run->job_id, f->run->fence, f->reason, &f->state, e);
}

static int yield_tx(struct db *db, void *arg, struct err *e)
{
    const struct finish *f = arg;
    struct job_checkpoint c = {.blob = &f->blob, .epoch = f->epoch, .step = f->step, .part = f->part};
    return job_yield(db, f->run->job_id, f->run->fence, f->has_checkpoint ? &c : NULL, f->reason, e);
}

static bool passing(int rc)
{
    return rc == ERR_UNAVAILABLE || rc == ERR_TIMEOUT || rc == ERR_OVERLOAD;
}

/* The child is gone, so an answer that comes late does no harm: the fence decides. Two leases after the
 * outcome, the reaper has surely taken the job. */
static int persist(struct finish *f, db_fn fn, struct err *e)
{
    int64_t until_ms = clock_mono_ms() + 2 * f->slot->s->config.lease_ms;
    int wait_ms = FIRST_WAIT_MS;
    for (;;) {
        int rc = db_run(f->slot->db, f->run->tenant_id, fn, f, e);
        if (!passing(rc) || clock_mono_ms() >= until_ms) return rc;
        log_warn("finish_retried", "job=%s message=\"%s\"", f->run->job_id, e->message);
        (void)poll(NULL, 0, wait_ms);
        wait_ms = wait_ms * 2 > LONGEST_WAIT_MS ? LONGEST_WAIT_MS : wait_ms * 2;
    }
}

/* ---- the artifact ---- */

/* A version that would not load must not come into being: the runner is not believed. */
static int check(const void *bytes, size_t len, struct err *e)
{
    struct model *m = NULL;
    int rc = model_load(&m, bytes, len, 0, e);
    if (rc != 0) return err_prefix(e, "the run's artifact does not load");
    model_free(m);
    return 0;
}

static int write_blob(struct finish *f, const struct order *order, const char *bytes, size_t len,
                      struct blob *out, struct err *e)
{
    struct blob_writer *w = NULL;
    int rc = blob_writer_create(&w, f->slot->s->config.blobs, &order->key, (int64_t)len, e);
    for (size_t done = 0; rc == 0 && done < len;) {
        size_t n = len - done < APPEND_BYTES ? len - done : APPEND_BYTES;
        rc = blob_writer_append(w, bytes + done, n, e);
        done += n;
    }
    if (rc == 0) rc = blob_writer_finish(w, out, e);
    if (w) blob_writer_free(w);
    return rc;
}

static int store_artifact(struct finish *f, const struct order *order, int64_t said_bytes, int fd,
                          struct blob *out, struct err *e)
{
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) return err_errno(e, ERR_IO, "look at the run's artifact");
    if (st.st_size != said_bytes) {
        return err_set(e, ERR_CORRUPT, NULL, "the run's artifact has %lld bytes; it spoke of %lld",
                       (long long)st.st_size, (long long)said_bytes);
    }
    size_t len = (size_t)st.st_size;
    void *bytes = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
    if (bytes == MAP_FAILED) return err_errno(e, ERR_NOMEM, "read the run's artifact");
    int rc = check(bytes, len, e);
    if (rc == 0) rc = write_blob(f, order, bytes, len, out, e);
    munmap(bytes, len);
    return rc;
}

/* ---- outcomes ---- */

static void log_end(const struct finish *f, int rc, const char *how, const struct err *e)
{
    const char *job = f->run->job_id;
    long long fence = (long long)f->run->fence;
    if (rc == 0) {
        log_info("job_settled", "job=%s fence=%lld outcome=%s cost_micros=%lld", job, fence, how,
                 (long long)f->ended.cost_micros);
    } else {
        log_warn("job_not_settled", "job=%s fence=%lld outcome=%s error=%s message=\"%s\"", job, fence, how,
                 err_name(rc), e->message);
    }
}

static void settle_crash(struct finish *f, const char *reason)
{
    struct err e = {0};
    f->reason = reason;
    int rc = persist(f, crash_tx, &e);
    log_end(f, rc, rc == 0 ? job_state_name(f->state) : "crashed", &e);
    if (rc == 0) log_warn("job_crashed", "job=%s reason=\"%s\"", f->run->job_id, reason);
}

static void settle_failed(struct finish *f, const struct err *why)
{
    struct err e = {0};
    f->end = (struct job_end){.state = JOB_FAILED,
                              .error_code = err_name(why->code),
                              .error_message = why->message,
                              .error_param = why->field[0] ? why->field : NULL};
    log_end(f, persist(f, finish_tx, &e), "failed", &e);
}

static void settle_done(struct finish *f, const struct order *order, const struct outcome *outcome,
                        int artifact_fd)
{
    struct err e = {0};
    struct blob artifact;
    bool makes = job_makes_version(&order->job);
    int rc = makes ? store_artifact(f, order, outcome->artifact_bytes, artifact_fd, &artifact, &e) : 0;
    if (rc != 0) {
        settle_crash(f, e.message);
        return;
    }
    f->end = (struct job_end){.state = JOB_SUCCEEDED,
                              .artifact = makes ? &artifact : NULL,
                              .metrics = outcome->metrics,
                              .signature = outcome->signature,
                              .memory_bytes = outcome->memory_bytes};
    rc = persist(f, finish_tx, &e);
    if (rc == ERR_LIMIT || rc == ERR_INVALID || rc == ERR_CONFLICT || rc == ERR_TOO_LARGE) {
        settle_failed(f, &e); /* no room for another model, say */
        return;
    }
    log_end(f, rc, "succeeded", &e);
    if (rc == 0 && makes) supervisor__tell_model(f->slot->s, f->run->tenant_id, order->job.model);
}

static void settle_answer(struct finish *f, const struct order *order, const struct outcome *outcome)
{
    struct err e = {0};
    struct blob output;
    struct job_answer answer = {.output = &output, .compute_us = outcome->compute_us};
    int rc = write_blob(f, order, outcome->answer.data, outcome->answer.len, &output, &e);
    if (rc != 0) {
        settle_crash(f, e.message);
        return;
    }
    f->end = (struct job_end){.state = JOB_SUCCEEDED, .answer = &answer};
    log_end(f, persist(f, finish_tx, &e), "answered", &e);
}

/* Without its checkpoint it goes on from an older one, or from the beginning. */
static void settle_yielded(struct finish *f, const struct order *order, const struct outcome *o)
{
    struct err e = {0};
    f->epoch = o->mark.epoch;
    f->step = o->mark.step;
    f->part = o->mark.part;
    f->reason =
        run_wish_of(f->slot->s, f->run) == RUN_YIELD ? "another tenant was due" : "the worker is stopping";
    if (o->checkpoint_fd >= 0) {
        int rc =
            save_blob(&f->blob, f->slot->s->config.blobs, &order->key, o->checkpoint_fd, o->mark.bytes, &e);
        f->has_checkpoint = rc == 0;
        if (rc != 0) log_warn("checkpoint_not_stored", "job=%s message=\"%s\"", f->run->job_id, e.message);
    }
    log_end(f, persist(f, yield_tx, &e), "yielded", &e);
}

void finish_outcome(struct slot *slot, const struct run *run, const struct order *order,
                    const struct outcome *outcome, int artifact_fd)
{
    struct finish f = {.slot = slot, .run = run};
    struct err e = {0};
    switch (outcome->type) {
    case OUTCOME_DONE:
        if (order_predicts(order))
            settle_answer(&f, order, outcome);
        else
            settle_done(&f, order, outcome, artifact_fd);
        return;
    case OUTCOME_FAILED:
        settle_failed(&f, &outcome->why);
        return;
    case OUTCOME_CRASHED:
        settle_crash(&f, outcome->why.message);
        return;
    case OUTCOME_CANCELLED:
        f.end = (struct job_end){.state = JOB_CANCELLED};
        log_end(&f, persist(&f, finish_tx, &e), "cancelled", &e);
        return;
    case OUTCOME_YIELDED:
        settle_yielded(&f, order, outcome);
        return;
    case OUTCOME_LOST:
        log_info("job_abandoned", "job=%s fence=%lld", run->job_id, (long long)run->fence);
        return;
    }
}
