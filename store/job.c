/* Here jobs are read, listed and cancelled; and what every change of a job has in common is written down
 * once. */
#include "store/job.h"
#include "store/audit.h"
#include "store/job_internal.h"

#include <stdio.h>
#include <string.h>
#include "store/page.h"

static const char *const state_names[] = {"queued", "running",   "retry_wait", "succeeded",
                                          "failed", "cancelled", "dead"};

const char *job_state_name(enum job_state s)
{
    return state_names[s];
}

int job_state_of(const char *name)
{
    for (int i = 0; i <= JOB_DEAD; i++)
        if (strcmp(state_names[i], name) == 0) return i;
    return -1;
}

bool job_state_ended(enum job_state s)
{
    return s >= JOB_SUCCEEDED;
}

bool job_makes_version(const struct job *j)
{
    return strcmp(j->type, "evaluate") != 0 && strcmp(j->type, "predict") != 0;
}

/* ---- reading ---- */

static void read_fixed(struct job *out, const struct db_rows *r, int row)
{
    int c = 0;
    db_copy(out->id, sizeof out->id, r, row, c++);
    db_copy(out->tenant_id, sizeof out->tenant_id, r, row, c++);
    db_copy(out->type, sizeof out->type, r, row, c++);
    out->state = (enum job_state)job_state_of(db_text(r, row, c++));
    db_copy(out->model, sizeof out->model, r, row, c++);
    db_copy(out->dataset_id, sizeof out->dataset_id, r, row, c++);
    db_copy(out->test_dataset_id, sizeof out->test_dataset_id, r, row, c++);
    out->priority = (int)db_int(r, row, c++);
    out->max_seconds = db_int(r, row, c++);
    out->memory_bytes = db_int(r, row, c++);
    out->threads = (int)db_int(r, row, c++);
    out->attempt = (int)db_int(r, row, c++);
    out->crashes = (int)db_int(r, row, c++);
    out->fence = db_int(r, row, c++);
    out->cancel_requested = db_bool(r, row, c++);
    out->created_at_us = db_int(r, row, c++);
    out->started_at_us = db_int(r, row, c++);
    out->finished_at_us = db_int(r, row, c++);
    out->run_after_us = db_int(r, row, c++);
    out->price_micros = db_int(r, row, c++);
    out->hold_micros = db_int(r, row, c++);
    out->cost_micros = db_int(r, row, c++);
}

int job__read(void *item, struct arena *a, const struct db_rows *r, int row, struct err *e)
{
    struct job *out = item;
    memset(out, 0, sizeof *out);
    read_fixed(out, r, row);
    db_copy(out->error_code, sizeof out->error_code, r, row, 25);
    out->used_before_ms = db_int(r, row, JOB_COL_WORKER + 1);
    db_copy(out->checkpoint_sha256, sizeof out->checkpoint_sha256, r, row, JOB_COL_WORKER + 2);
    out->checkpoint_epoch = db_int(r, row, JOB_COL_WORKER + 3);
    out->checkpoint_step = db_int(r, row, JOB_COL_WORKER + 4);
    db_copy(out->version_id, sizeof out->version_id, r, row, JOB_COL_WORKER + 5);
    out->estimate_ms = db_int(r, row, JOB_COL_WORKER + 6);
    int rc = db_arena_text(&out->spec, a, r, row, 22, e);
    if (!rc) rc = db_arena_text(&out->progress, a, r, row, 23, e);
    if (!rc) rc = db_arena_text(&out->result, a, r, row, 24, e);
    if (!rc) rc = db_arena_text(&out->error_message, a, r, row, 26, e);
    if (!rc) rc = db_arena_text(&out->error_param, a, r, row, 27, e);
    return rc;
}

static int missing(struct err *e)
{
    return err_set(e, ERR_NOT_FOUND, "job", "there is no such job");
}

int job_find(struct db *db, const char *id, struct arena *ar, struct job *out, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, id);
    struct db_rows *r;
    int rc =
        db_exec(db, "SELECT " JOB_COLUMNS " FROM jobs j WHERE j.tenant_id = $1 AND j.id = $2", &a, &r, e);
    if (rc) return rc;
    rc = db_rows_count(r) == 1 ? job__read(out, ar, r, 0, e) : missing(e);
    db_rows_free(r);
    return rc;
}

int job_list(struct db *db, const struct page *p, int state, const char *model, struct arena *ar,
             struct job_list *out, struct err *e)
{
    memset(out, 0, sizeof *out);
    struct page_cut c;
    struct db_args a = {0};
    int rc = page__open(&c, &a, p, "job_", db_tenant(db), e);
    if (rc) return rc;
    db_arg_str(&a, state < 0 ? NULL : state_names[state]);
    db_arg_str(&a, model);
    struct db_rows *r;
#define JOB_LIST                                                                                             \
    "SELECT " JOB_COLUMNS " FROM jobs j WHERE j.tenant_id = $1 AND ($4::text IS NULL OR j.state = $4) "      \
    "AND ($5::text IS NULL OR j.model = $5)"
    rc = c.reversed ? db_exec(db, JOB_LIST PAGE_OLDEST("j.id"), &a, &r, e)
                    : db_exec(db, JOB_LIST PAGE_NEWEST("j.id"), &a, &r, e);
    if (rc) return rc;
    struct page_items got;
    rc = page__read(&got, &c, r, ar, sizeof *out->items, job__read, e);
    *out = (struct job_list){got.items, got.n, got.has_more};
    return rc;
}

/* ---- what every change has in common ---- */

int job__tell(struct db *db, const struct job_change *c, struct err *e)
{
    char data[192], at[80] = "";
    if (c->epoch > 0)
        snprintf(at, sizeof at, ",\"epoch\":%lld,\"step\":%lld", (long long)c->epoch, (long long)c->step);
    snprintf(data, sizeof data, "{\"status\":\"%s\",\"attempt\":%d,\"fence\":%lld%s}", state_names[c->state],
             c->attempt, (long long)c->fence, at);
    return job_event__insert(db, c->tenant_id, c->id, c->seq, c->level, "status", c->message, data, e);
}

int job__resolve_hold(struct db *db, const char *tenant_id, const char *id, int64_t captured_micros,
                      struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, tenant_id);
    db_arg_str(&a, id);
    db_arg_str(&a, captured_micros >= 0 ? "captured" : "voided");
    if (captured_micros >= 0)
        db_arg_int(&a, captured_micros);
    else
        db_arg_null(&a);
    struct db_rows *r;
    int rc = db_exec(db,
                     "UPDATE holds SET state = $3, captured_micros = $4, resolved_at = now() "
                     "WHERE tenant_id = $1 AND job_id = $2 AND state = 'open'",
                     &a, &r, e);
    if (rc) return rc;
    if (db_rows_affected(r) != 1) rc = err_set(e, ERR_INTERNAL, NULL, "job %s has no open hold", id);
    db_rows_free(r);
    return rc;
}

/* ---- cancelling ---- */

/* Ends a job that waits. */
static int cancel_waiting(struct db *db, const struct job *j, const struct actor *by, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, j->tenant_id);
    db_arg_str(&a, j->id);
    struct db_rows *r;
    int rc = db_exec(db,
                     "UPDATE jobs SET state = 'cancelled', cancel_requested = true, finished_at = now(), "
                     "run_after = NULL, "
                     "event_seq = event_seq + 1 WHERE tenant_id = $1 AND id = $2 RETURNING event_seq",
                     &a, &r, e);
    if (rc) return rc;
    struct job_change c = {.tenant_id = j->tenant_id,
                           .id = j->id,
                           .state = JOB_CANCELLED,
                           .seq = db_int(r, 0, 0),
                           .fence = j->fence,
                           .attempt = j->attempt,
                           .level = "info",
                           .message = "cancelled"};
    db_rows_free(r);
    rc = job__tell(db, &c, e);
    if (!rc) rc = job__resolve_hold(db, j->tenant_id, j->id, -1, e);
    return rc ? rc : audit_append(db, NULL, "job.cancelled", by, j->id, NULL, e);
}

/* Leaves a note for the worker, which sees it when it renews its lease. */
static int ask_running(struct db *db, const struct job *j, const struct actor *by, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, j->tenant_id);
    db_arg_str(&a, j->id);
    struct db_rows *r;
    int rc = db_exec(
        db,
        "UPDATE jobs SET cancel_requested = true, event_seq = event_seq + 1 WHERE tenant_id = $1 AND id = $2 "
        "RETURNING event_seq",
        &a, &r, e);
    if (rc) return rc;
    rc = job_event__insert(db, j->tenant_id, j->id, db_int(r, 0, 0), "info", "message",
                           "cancellation was asked for", NULL, e);
    db_rows_free(r);
    return rc ? rc : audit_append(db, NULL, "job.cancel_requested", by, j->id, NULL, e);
}

/* The job under lock, and its worker. */
static int lock_job(struct db *db, const char *id, struct arena *ar, struct job *out, char *worker,
                    struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, id);
    struct db_rows *r;
    int rc = db_exec(db, "SELECT " JOB_COLUMNS " FROM jobs j WHERE j.tenant_id = $1 AND j.id = $2 FOR UPDATE",
                     &a, &r, e);
    if (rc) return rc;
    rc = db_rows_count(r) == 1 ? job__read(out, ar, r, 0, e) : missing(e);
    if (!rc && worker) db_copy(worker, ID_MAX, r, 0, JOB_COL_WORKER);
    db_rows_free(r);
    return rc;
}

int job_cancel(struct db *db, const char *id, const struct actor *by, struct arena *a, struct job *out,
               char *worker, struct err *e)
{
    int rc = lock_job(db, id, a, out, worker, e);
    if (rc) return rc;
    switch (out->state) {
    case JOB_QUEUED:
    case JOB_RETRY_WAIT:
        rc = cancel_waiting(db, out, by, e);
        break;
    case JOB_RUNNING:
        if (out->cancel_requested) return 0;
        rc = ask_running(db, out, by, e);
        break;
    case JOB_CANCELLED:
        return 0;
    case JOB_SUCCEEDED:
    case JOB_FAILED:
    case JOB_DEAD:
        return err_set(e, ERR_CONFLICT, "job", "the job has ended already (%s)", state_names[out->state]);
    }
    return rc ? rc : job_find(db, id, a, out, e);
}
