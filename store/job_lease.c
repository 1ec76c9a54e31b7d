/* Here jobs are swept, claimed and held: everything that a lease and its fence decide. */
#include "store/job.h"
#include "store/job_internal.h"

#include <stdio.h>
#include <string.h>
#include "store/page.h"

/* ---- sweeping ---- */

#define BRIEF_COLUMNS                                                                                        \
    "j.id, j.tenant_id, p.weight, p.max_running_jobs, j.priority, j.max_seconds, j.memory_bytes, "           \
    "j.threads, "                                                                                            \
    "us(j.created_at), j.worker, j.fence, "                                                                  \
    "CASE WHEN j.state = 'running' THEN (us(clock_timestamp()) - us(j.started_at)) / 1000 END, j.state, "    \
    "j.type <> 'predict', j.type = 'predict'"
#define BRIEF_FROM " FROM jobs j JOIN tenants t ON t.id = j.tenant_id JOIN plans p ON p.name = t.plan "

static void read_brief(struct job_brief *out, const struct db_rows *r, int row)
{
    memset(out, 0, sizeof *out);
    db_copy(out->id, sizeof out->id, r, row, 0);
    db_copy(out->tenant_id, sizeof out->tenant_id, r, row, 1);
    out->weight = db_int(r, row, 2);
    out->max_running = db_int(r, row, 3);
    out->priority = (int)db_int(r, row, 4);
    out->max_seconds = db_int(r, row, 5);
    out->memory_bytes = db_int(r, row, 6);
    out->threads = (int)db_int(r, row, 7);
    out->created_at_us = db_int(r, row, 8);
    db_copy(out->worker, sizeof out->worker, r, row, 9);
    out->fence = db_int(r, row, 10);
    out->running_ms = db_int(r, row, 11);
    out->yields = db_bool(r, row, 13);
    out->aside = db_bool(r, row, 14);
}

static int sweep(struct db *db, const char *sql, const char *after_id, int limit, struct arena *ar,
                 struct job_brief_list *out, struct err *e)
{
    memset(out, 0, sizeof *out);
    struct db_args a = {0};
    db_arg_str(&a, after_id);
    db_arg_int(&a, limit + 1);
    struct db_rows *r;
    int rc = db_exec(db, sql, &a, &r, e);
    if (rc) return rc;
    int n = db_rows_count(r);
    out->has_more = n > limit;
    if (out->has_more) n = limit;
    void *items;
    rc = page__items(&items, ar, n, sizeof *out->items, e);
    out->items = items;
    for (; !rc && out->n < n; out->n++) read_brief(&out->items[out->n], r, out->n);
    db_rows_free(r);
    return rc;
}

int job_sweep_queued(struct db *db, const char *after_id, int limit, struct arena *a,
                     struct job_brief_list *out, struct err *e)
{
    return sweep(db,
                 "SELECT " BRIEF_COLUMNS BRIEF_FROM "WHERE j.state = 'queued' AND j.id > coalesce($1, '') "
                 "AND NOT t.suspended ORDER BY j.id LIMIT $2",
                 after_id, limit, a, out, e);
}

int job_sweep_running(struct db *db, const char *after_id, int limit, struct arena *a,
                      struct job_brief_list *out, struct err *e)
{
    return sweep(db,
                 "SELECT " BRIEF_COLUMNS BRIEF_FROM "WHERE j.state = 'running' AND j.id > coalesce($1, '') "
                 "ORDER BY j.id LIMIT $2",
                 after_id, limit, a, out, e);
}

int job_brief_find(struct db *db, const char *tenant_id, const char *id, struct job_brief *out,
                   enum job_state *state, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, tenant_id);
    db_arg_str(&a, id);
    struct db_rows *r;
    int rc =
        db_exec(db, "SELECT " BRIEF_COLUMNS BRIEF_FROM "WHERE j.tenant_id = $1 AND j.id = $2", &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) == 1) {
        read_brief(out, r, 0);
        *state = (enum job_state)job_state_of(db_text(r, 0, 12));
    } else
        rc = err_set(e, ERR_NOT_FOUND, "job", "there is no such job");
    db_rows_free(r);
    return rc;
}

/* ---- claiming ---- */

/* Why the claim's UPDATE found nothing to change. */
static int explain(struct db *db, const char *tenant_id, const char *id, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, tenant_id);
    db_arg_str(&a, id);
    struct db_rows *r;
    int rc = db_exec(db,
                     "SELECT j.state, t.suspended FROM jobs j JOIN tenants t ON t.id = j.tenant_id "
                     "WHERE j.tenant_id = $1 AND j.id = $2",
                     &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) == 0)
        rc = err_set(e, ERR_NOT_FOUND, "job", "there is no such job");
    else if (strcmp(db_text(r, 0, 0), "queued") != 0)
        rc = err_set(e, ERR_CONFLICT, "job", "the job is not queued any more: %s", db_text(r, 0, 0));
    else if (db_bool(r, 0, 1))
        rc = err_set(e, ERR_FORBIDDEN, "job", "the job's tenant is suspended");
    else
        rc = err_set(e, ERR_LIMIT, "jobs", "the tenant runs as many jobs as its plan allows");
    db_rows_free(r);
    return rc;
}

int job_claim(struct db *db, const char *tenant_id, const char *id, const char *worker, int64_t lease_ms,
              int64_t *fence, int *attempt, struct err *e)
{
    struct db_args l = {0};
    db_arg_str(&l, tenant_id);
    /* Claims of one tenant go one by one, so that the count below holds. */
    int rc = db_exec(db, "SELECT pg_advisory_xact_lock(hashtextextended(concat('claim ', $1::text), 0))", &l,
                     NULL, e);
    if (rc) return rc;
    struct db_args a = {0};
    db_arg_str(&a, tenant_id);
    db_arg_str(&a, id);
    db_arg_str(&a, worker);
    db_arg_int(&a, lease_ms);
    struct db_rows *r;
    rc = db_exec(
        db,
        "UPDATE jobs j SET state = 'running', fence = j.fence + 1, attempt = j.attempt + 1, worker = $3, "
        "lease_until = now() + $4::bigint * interval '1 millisecond', started_at = now(), "
        "progress = CASE WHEN j.checkpoint_sha256 IS NOT NULL THEN j.progress END, used_before_ms = "
        "j.used_ms, "
        "event_seq = j.event_seq + 1 FROM tenants t JOIN plans p ON p.name = t.plan "
        "WHERE j.tenant_id = $1 AND j.id = $2 AND j.state = 'queued' AND t.id = j.tenant_id AND NOT "
        "t.suspended "
        "AND (SELECT count(*) FROM jobs r WHERE r.tenant_id = $1 AND r.state = 'running') < "
        "p.max_running_jobs "
        "RETURNING j.fence, j.attempt, j.event_seq, j.checkpoint_epoch, j.checkpoint_step, j.checkpoint_part",
        &a, &r, e);
    if (rc) return rc;
    bool won = db_rows_count(r) == 1;
    struct job_change c = {
        .tenant_id = tenant_id, .id = id, .state = JOB_RUNNING, .level = "info", .message = "running"};
    char resumed[JOB_PLACE_MAX + 16], place[JOB_PLACE_MAX];
    if (won) {
        c.epoch = db_int(r, 0, 3);
        c.step = db_int(r, 0, 4);
        *fence = c.fence = db_int(r, 0, 0);
        *attempt = c.attempt = (int)db_int(r, 0, 1);
        c.seq = db_int(r, 0, 2);
    }
    if (c.epoch > 0) {
        job__place(place, db_text(r, 0, 5), c.epoch, c.step);
        snprintf(resumed, sizeof resumed, "resumed at %s", place);
        c.message = resumed;
    }
    db_rows_free(r);
    return won ? job__tell(db, &c, e) : explain(db, tenant_id, id, e);
}

/* ---- holding ---- */

static int stale(struct err *e)
{
    return err_set(e, ERR_STALE, "fence", "the job is not ours any more");
}

int job_renew(struct db *db, const char *id, int64_t fence, int64_t lease_ms, bool *cancel_requested,
              struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, id);
    db_arg_int(&a, fence);
    db_arg_int(&a, lease_ms);
    struct db_rows *r;
    int rc = db_exec(
        db,
        "UPDATE jobs SET lease_until = now() + $4::bigint * interval '1 millisecond' "
        "WHERE tenant_id = $1 AND id = $2 AND fence = $3 AND state = 'running' RETURNING cancel_requested",
        &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) == 1)
        *cancel_requested = db_bool(r, 0, 0);
    else
        rc = stale(e);
    db_rows_free(r);
    return rc;
}

int job_progress(struct db *db, const char *id, int64_t fence, const char *progress, const char *level,
                 const char *type, const char *message, const char *data, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, id);
    db_arg_int(&a, fence);
    db_arg_str(&a, progress);
    db_arg_int(&a, type ? 1 : 0);
    struct db_rows *r;
    int rc =
        db_exec(db,
                "UPDATE jobs SET progress = coalesce($4::json, progress), event_seq = event_seq + $5 "
                "WHERE tenant_id = $1 AND id = $2 AND fence = $3 AND state = 'running' RETURNING event_seq",
                &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) == 0)
        rc = stale(e);
    else if (type)
        rc = job_event__insert(db, db_tenant(db), id, db_int(r, 0, 0), level ? level : "info", type, message,
                               data, e);
    db_rows_free(r);
    return rc;
}
