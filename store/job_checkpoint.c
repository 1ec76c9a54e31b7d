/* Here running jobs lay down where they stand, and give way with it. */
#include "store/job.h"
#include "store/audit.h"
#include "store/job_internal.h"

#include <stdio.h>

void job__place(char out[JOB_PLACE_MAX], const char *part, int64_t epoch, int64_t step)
{
    bool has = part && part[0];
    snprintf(out, JOB_PLACE_MAX, "%.47s%sepoch %lld, step %lld", has ? part : "", has ? ", " : "",
             (long long)epoch, (long long)step);
}

static int stale(struct err *e)
{
    return err_set(e, ERR_STALE, "fence", "the job is not ours any more");
}

int job_save(struct db *db, const char *id, int64_t fence, const struct job_checkpoint *c, struct err *e)
{
    struct blob b = *c->blob;
    int rc = blob_put(db, &b, e);
    if (rc) return rc;
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, id);
    db_arg_int(&a, fence);
    db_arg_str(&a, b.sha256);
    db_arg_int(&a, c->epoch);
    db_arg_int(&a, c->step);
    db_arg_str(&a, c->part && c->part[0] ? c->part : NULL);
    struct db_rows *r;
    rc = db_exec(db,
                 "UPDATE jobs SET checkpoint_sha256 = $4, checkpoint_epoch = $5, checkpoint_step = $6, "
                 "checkpoint_part = $7, "
                 "checkpoint_attempt = attempt, "
                 "used_ms = used_before_ms + (extract(epoch FROM now() - started_at) * 1000)::bigint "
                 "WHERE tenant_id = $1 AND id = $2 AND fence = $3 AND state = 'running'",
                 &a, &r, e);
    if (rc) return rc;
    if (db_rows_affected(r) != 1) rc = stale(e);
    db_rows_free(r);
    return rc;
}

int job_restart(struct db *db, const char *id, int64_t fence, const char *reason, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, id);
    db_arg_int(&a, fence);
    struct db_rows *r;
    int rc =
        db_exec(db,
                "UPDATE jobs SET checkpoint_sha256 = NULL, checkpoint_epoch = NULL, checkpoint_step = NULL, "
                "checkpoint_attempt = NULL, used_ms = 0, used_before_ms = 0, progress = NULL, "
                "event_seq = event_seq + 1 "
                "WHERE tenant_id = $1 AND id = $2 AND fence = $3 AND state = 'running' RETURNING event_seq",
                &a, &r, e);
    if (rc) return rc;
    rc = db_rows_count(r) == 1
             ? job_event__insert(db, db_tenant(db), id, db_int(r, 0, 0), "warn", "message", reason, NULL, e)
             : stale(e);
    db_rows_free(r);
    return rc;
}

/* running → queued, or cancelled when that was asked for. */
static int give_back(struct db *db, int64_t fence, struct job_change *c, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, c->tenant_id);
    db_arg_str(&a, c->id);
    db_arg_int(&a, fence);
    struct db_rows *r;
    int rc = db_exec(
        db,
        "UPDATE jobs SET fence = fence + 1, worker = NULL, lease_until = NULL, event_seq = event_seq + 1, "
        "state = CASE WHEN cancel_requested THEN 'cancelled' ELSE 'queued' END, "
        "finished_at = CASE WHEN cancel_requested THEN now() END "
        "WHERE tenant_id = $1 AND id = $2 AND fence = $3 AND state = 'running' "
        "RETURNING state, fence, event_seq, attempt",
        &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) == 1) {
        c->state = (enum job_state)job_state_of(db_text(r, 0, 0));
        c->fence = db_int(r, 0, 1);
        c->seq = db_int(r, 0, 2);
        c->attempt = (int)db_int(r, 0, 3);
    } else
        rc = stale(e);
    db_rows_free(r);
    return rc;
}

int job_yield(struct db *db, const char *id, int64_t fence, const struct job_checkpoint *c,
              const char *reason, struct err *e)
{
    static const struct actor worker = {"worker", "supervisor"};
    struct job_change change = {.tenant_id = db_tenant(db), .id = id, .level = "info", .message = reason};
    char message[320], place[JOB_PLACE_MAX];
    int rc = c ? job_save(db, id, fence, c, e) : 0;
    if (!rc) rc = give_back(db, fence, &change, e);
    if (rc) return rc;
    if (c && change.state == JOB_QUEUED) {
        change.epoch = c->epoch;
        change.step = c->step;
        job__place(place, c->part, c->epoch, c->step);
        snprintf(message, sizeof message, "yielded at %s: %.160s", place, reason);
        change.message = message;
    }
    rc = job__tell(db, &change, e);
    if (rc || change.state == JOB_QUEUED) return rc;
    rc = job__resolve_hold(db, change.tenant_id, id, -1, e);
    return rc ? rc : audit_append(db, NULL, "job.cancelled", &worker, id, NULL, e);
}
