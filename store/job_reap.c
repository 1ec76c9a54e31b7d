/* Here claims end without a result: leases that ran out, crashed children. */
#include "store/job.h"
#include "store/audit.h"
#include "store/job_internal.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include "store/page.h"

/* Back-off after crash n: a random time below min(60 s, 2^(n-1) s), so that what crashed together does not
 * return together. */
#define BACKOFF "random() * least(60, power(2, j.crashes)) * interval '1 second'"
static_assert(JOB_CRASHES_MAX == 3, "the statement below says 3");

struct lost {
    const char *tenant_id, *id, *reason;
    const struct actor *by;
    int64_t fence; /* that the claim had */
    bool child;    /* it was the run that crashed, not its host */
};

/* A run that crashed twice may have been made to by its checkpoint: unless it has laid down a newer one
 * since, the last attempt starts from the beginning. */
#define SUSPECT                                                                                              \
    "(j.checkpoint_attempt IS NOT NULL AND $5 AND j.crashes >= 1 AND j.checkpoint_attempt < j.attempt)"
#define UNLESS_SUSPECT(column) #column " = CASE WHEN NOT " SUSPECT " THEN j." #column " END, "

/* Tells of the end or of the wait, and voids the hold of what has ended. */
static int tell_lost(struct db *db, const struct lost *l, const struct job_change *c, int crashes,
                     struct err *e)
{
    char message[256];
    struct job_change told = *c;
    snprintf(message, sizeof message, "%s (crash %d of %d)", l->reason, crashes, JOB_CRASHES_MAX);
    told.message = message;
    told.level = c->state == JOB_RETRY_WAIT ? "warn" : "error";
    int rc = job__tell(db, &told, e);
    if (rc || c->state == JOB_RETRY_WAIT) return rc;
    rc = job__resolve_hold(db, l->tenant_id, l->id, -1, e);
    if (rc) return rc;
    return audit_append(db, l->tenant_id, c->state == JOB_DEAD ? "job.dead" : "job.cancelled", l->by, l->id,
                        NULL, e);
}

/* running → retry_wait | dead | cancelled, fence raised. ERR_STALE when that claim is over already. */
static int lose(struct db *db, const struct lost *l, struct job_reaped *out, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, l->tenant_id);
    db_arg_str(&a, l->id);
    db_arg_int(&a, l->fence);
    db_arg_str(&a, l->reason);
    db_arg_bool(&a, l->child);
    struct db_rows *r;
    int rc = db_exec(
        db,
        "UPDATE jobs j SET fence = j.fence + 1, crashes = j.crashes + 1, worker = NULL, lease_until = NULL, "
        "event_seq = j.event_seq + 1, " UNLESS_SUSPECT(checkpoint_sha256) UNLESS_SUSPECT(checkpoint_epoch)
            UNLESS_SUSPECT(checkpoint_step) UNLESS_SUSPECT(
                checkpoint_attempt) "used_ms = CASE WHEN " SUSPECT " THEN 0 ELSE j.used_ms END, "
                                    "state = CASE WHEN j.cancel_requested THEN 'cancelled' WHEN j.crashes + "
                                    "1 >= 3 THEN 'dead' "
                                    "ELSE 'retry_wait' END, "
                                    "run_after = CASE WHEN NOT j.cancel_requested AND j.crashes + 1 < 3 THEN "
                                    "now() + " BACKOFF " END, "
                                    "finished_at = CASE WHEN j.cancel_requested OR j.crashes + 1 >= 3 THEN "
                                    "now() END, "
                                    "error_code = CASE WHEN NOT j.cancel_requested AND j.crashes + 1 >= 3 "
                                    "THEN 'crashed' END, "
                                    "error_message = CASE WHEN NOT j.cancel_requested AND j.crashes + 1 >= 3 "
                                    "THEN $4::text END "
                                    "WHERE j.tenant_id = $1 AND j.id = $2 AND j.fence = $3 AND j.state = "
                                    "'running' "
                                    "RETURNING j.state, j.fence, j.event_seq, j.attempt, j.crashes",
        &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) == 0) {
        db_rows_free(r);
        return err_set(e, ERR_STALE, "fence", "the job is not ours any more");
    }
    struct job_change c = {.tenant_id = l->tenant_id,
                           .id = l->id,
                           .state = (enum job_state)job_state_of(db_text(r, 0, 0)),
                           .fence = db_int(r, 0, 1),
                           .seq = db_int(r, 0, 2),
                           .attempt = (int)db_int(r, 0, 3)};
    int crashes = (int)db_int(r, 0, 4);
    db_rows_free(r);
    snprintf(out->id, sizeof out->id, "%s", l->id);
    snprintf(out->tenant_id, sizeof out->tenant_id, "%s", l->tenant_id);
    out->state = c.state;
    out->fence = c.fence;
    return tell_lost(db, l, &c, crashes, e);
}

int job_reap(struct db *db, int limit, struct arena *ar, struct job_reaped **out, int *n, struct err *e)
{
    static const struct actor reaper = {"scheduler", "reaper"};
    *out = NULL;
    *n = 0;
    struct db_args a = {0};
    db_arg_int(&a, limit);
    struct db_rows *r;
    int rc = db_exec(db,
                     "SELECT tenant_id, id, fence FROM jobs WHERE state = 'running' AND lease_until < now() "
                     "ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED",
                     &a, &r, e);
    if (rc) return rc;
    void *items;
    rc = page__items(&items, ar, db_rows_count(r), sizeof **out, e);
    *out = items;
    for (int i = 0; !rc && i < db_rows_count(r); i++) {
        struct lost l = {.tenant_id = db_text(r, i, 0),
                         .id = db_text(r, i, 1),
                         .reason = "the worker stopped renewing its lease",
                         .by = &reaper,
                         .fence = db_int(r, i, 2)};
        rc = lose(db, &l, &(*out)[i], e);
        *n += !rc;
    }
    db_rows_free(r);
    return rc;
}

int job_crash(struct db *db, const char *id, int64_t fence, const char *reason, enum job_state *state,
              struct err *e)
{
    static const struct actor worker = {"worker", "supervisor"};
    struct lost l = {
        .tenant_id = db_tenant(db), .id = id, .reason = reason, .by = &worker, .fence = fence, .child = true};
    struct job_reaped reaped;
    int rc = lose(db, &l, &reaped, e);
    if (!rc) *state = reaped.state;
    return rc;
}

int job_release(struct db *db, int limit, int *n, struct err *e)
{
    *n = 0;
    struct db_args a = {0};
    db_arg_int(&a, limit);
    struct db_rows *r;
    int rc = db_exec(db,
                     "UPDATE jobs j SET state = 'queued', run_after = NULL, event_seq = j.event_seq + 1 FROM "
                     "(SELECT tenant_id, id FROM jobs WHERE state = 'retry_wait' AND run_after <= now() "
                     "ORDER BY run_after LIMIT $1 FOR UPDATE SKIP LOCKED) due "
                     "WHERE j.tenant_id = due.tenant_id AND j.id = due.id "
                     "RETURNING j.tenant_id, j.id, j.event_seq, j.fence, j.attempt",
                     &a, &r, e);
    if (rc) return rc;
    for (int i = 0; !rc && i < db_rows_count(r); i++) {
        struct job_change c = {.tenant_id = db_text(r, i, 0),
                               .id = db_text(r, i, 1),
                               .state = JOB_QUEUED,
                               .seq = db_int(r, i, 2),
                               .fence = db_int(r, i, 3),
                               .attempt = (int)db_int(r, i, 4),
                               .level = "info",
                               .message = "queued again"};
        rc = job__tell(db, &c, e);
        *n += !rc;
    }
    db_rows_free(r);
    return rc;
}
