/* Here a job ends with a result, and everything that follows from it is written in the same transaction. */
#include "store/job.h"
#include "store/audit.h"
#include "store/job_internal.h"
#include "store/ledger.h"
#include "store/predict_job_internal.h"
#include "store/usage_internal.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include "base/buf.h"
#include "base/json.h"

/* The claimed row, locked. */
struct claimed {
    char model[STORE_NAME_MAX];
    int64_t seconds; /* that it ran, this attempt and those that led to where it began, at least one, times
                      * its threads: what is billed */
    int64_t price, hold, seq;
    int attempt;
};

static int lock_claimed(struct db *db, const char *id, int64_t fence, struct claimed *c, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, id);
    db_arg_int(&a, fence);
    struct db_rows *r;
    int rc = db_exec(
        db,
        "SELECT model, threads * greatest(1, ceil(used_before_ms / 1000.0 + "
        "extract(epoch FROM now() - started_at)))::bigint, "
        "price_micros, "
        "hold_micros, event_seq, attempt FROM jobs WHERE tenant_id = $1 AND id = $2 AND fence = $3 AND "
        "state = 'running' FOR UPDATE",
        &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) == 1) {
        db_copy(c->model, sizeof c->model, r, 0, 0);
        c->seconds = db_int(r, 0, 1);
        c->price = db_int(r, 0, 2);
        c->hold = db_int(r, 0, 3);
        c->seq = db_int(r, 0, 4) + 1;
        c->attempt = (int)db_int(r, 0, 5);
    } else
        rc = err_set(e, ERR_STALE, "fence", "the job is not ours any more; its result is void");
    db_rows_free(r);
    return rc;
}

static int64_t cost_of(const struct claimed *c)
{
    int64_t full;
    if (__builtin_mul_overflow(c->seconds, c->price, &full) || full > c->hold) return c->hold;
    return full;
}

/* ---- the version ---- */

/* The model's next number; the first one makes the model. The row's lock keeps the numbers without gaps. */
static int next_number(struct db *db, const char *model, char model_id[ID_MAX], int64_t *number,
                       struct err *e)
{
    char id[ID_MAX];
    id_new(id, "mdl_");
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, id);
    db_arg_str(&a, model);
    struct db_rows *r;
    int rc = db_exec(db,
                     "INSERT INTO models AS m (tenant_id, id, name, latest_version) VALUES ($1, $2, $3, 1) "
                     "ON CONFLICT (tenant_id, name) DO UPDATE SET latest_version = m.latest_version + 1 "
                     "RETURNING id, latest_version",
                     &a, &r, e);
    if (rc) return rc;
    db_copy(model_id, ID_MAX, r, 0, 0);
    *number = db_int(r, 0, 1);
    db_rows_free(r);
    return 0;
}

static int insert_version(struct db *db, const char *job_id, const struct job_end *end, const struct blob *b,
                          const char *model_id, const struct job_ended *out, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, out->version_id);
    db_arg_str(&a, model_id);
    db_arg_int(&a, out->version);
    db_arg_str(&a, b->sha256);
    db_arg_int(&a, b->bytes);
    db_arg_int(&a, end->memory_bytes);
    db_arg_str(&a, job_id);
    db_arg_str(&a, end->metrics);
    db_arg_str(&a, end->signature);
    return db_exec(
        db,
        "INSERT INTO model_versions (tenant_id, id, model_id, number, sha256, bytes, memory_bytes, job_id, "
        "metrics, signature) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        &a, NULL, e);
}

/* "live" appears with the first version and stays where people put it. */
static int make_live(struct db *db, const char *model_id, struct job_ended *out, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, model_id);
    db_arg_int(&a, out->version);
    struct db_rows *r;
    int rc = db_exec(db,
                     "INSERT INTO aliases (tenant_id, model_id, name, number) VALUES ($1, $2, 'live', $3) "
                     "ON CONFLICT DO NOTHING",
                     &a, &r, e);
    if (rc) return rc;
    out->alias_made = db_rows_affected(r) == 1;
    db_rows_free(r);
    return 0;
}

static int make_version(struct db *db, const char *job_id, const struct job_end *end, const struct claimed *c,
                        struct job_ended *out, struct err *e)
{
    char model_id[ID_MAX];
    struct blob b = *end->artifact;
    id_new(out->version_id, "ver_");
    int rc = blob_put(db, &b, e);
    if (!rc) rc = next_number(db, c->model, model_id, &out->version, e);
    if (!rc) rc = insert_version(db, job_id, end, &b, model_id, out, e);
    return rc ? rc : make_live(db, model_id, out, e);
}

/* ---- the money ---- */

static int charge_seconds(struct db *db, const char *job_id, const struct claimed *c,
                          const struct job_ended *out, struct err *e)
{
    char source[ID_MAX + 8];
    snprintf(source, sizeof source, "job:%s", job_id);
    struct ledger_post post = {.source = source,
                               .kind = "train",
                               .model = c->model,
                               .quantity = c->seconds,
                               .unit_price_micros = c->price,
                               .amount_micros = out->cost_micros};
    struct usage_row add = {
        .version = out->version, .train_seconds = c->seconds, .amount_micros = out->cost_micros};
    memcpy(add.model, c->model, sizeof add.model);
    int rc = job__resolve_hold(db, db_tenant(db), job_id, out->cost_micros, e);
    if (!rc) rc = ledger_post(db, db_tenant(db), &post, e);
    return rc ? rc : usage__add(db, db_tenant(db), &add, e);
}

/* ---- what success brings ---- */

/* {"version","version_id","metrics"}, or what the audit row says of it. */
static void write_result(struct buf *b, const struct job_end *end, const struct job_ended *out)
{
    struct json_writer w;
    jw_init(&w, b);
    jw_obj(&w);
    jw_name(&w, "version");
    if (end->artifact)
        jw_int(&w, out->version);
    else
        jw_null(&w);
    jw_kstr(&w, "version_id", end->artifact ? out->version_id : NULL);
    jw_name(&w, "metrics");
    jw_raw(&w, end->metrics, strlen(end->metrics));
    jw_obj_end(&w);
}

static int made(struct db *db, const char *id, const struct job_end *end, const struct claimed *c,
                struct job_ended *out, struct buf *result, struct err *e)
{
    out->cost_micros = cost_of(c);
    int rc = end->artifact ? make_version(db, id, end, c, out, e) : 0;
    if (rc) return rc;
    write_result(result, end, out);
    return charge_seconds(db, id, c, out, e);
}

static int answered(struct db *db, const char *id, const struct job_end *end, const struct claimed *c,
                    struct job_ended *out, struct buf *result, struct err *e)
{
    struct predict_bill bill = {.model = c->model, .price = c->price};
    int rc = predict_job__charge(db, id, end->answer, &bill, e);
    out->cost_micros = bill.amount_micros;
    predict_job__result(result, &bill);
    return rc;
}

/* ---- the row, and who is told ---- */

static int end_row(struct db *db, const char *id, const struct job_end *end, const struct claimed *c,
                   const struct job_ended *out, const char *result, struct err *e)
{
    bool failed = end->state == JOB_FAILED;
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, id);
    db_arg_str(&a, job_state_name(end->state));
    db_arg_int(&a, c->seq);
    db_arg_int(&a, out->cost_micros);
    db_arg_str(&a, result);
    db_arg_str(&a, failed ? end->error_code : NULL);
    db_arg_str(&a, failed ? end->error_message : NULL);
    db_arg_opt(&a, failed ? end->error_param : NULL);
    return db_exec(
        db,
        "UPDATE jobs SET state = $3, finished_at = now(), worker = NULL, lease_until = NULL, event_seq = $4, "
        "cost_micros = $5, result = $6, error_code = $7, error_message = $8, error_param = $9 "
        "WHERE tenant_id = $1 AND id = $2",
        &a, NULL, e);
}

static int audit_end(struct db *db, const char *id, const struct job_end *end, const struct job_ended *out,
                     const struct actor *by, struct err *e)
{
    struct buf b = {0};
    struct json_writer w;
    jw_init(&w, &b);
    jw_obj(&w);
    if (end->state == JOB_SUCCEEDED) {
        if (end->artifact) jw_kint(&w, "version", out->version);
        if (end->artifact) jw_kstr(&w, "version_id", out->version_id);
        jw_kint_str(&w, "cost_micros", out->cost_micros);
    }
    if (end->state == JOB_FAILED) jw_kstr(&w, "code", end->error_code);
    jw_obj_end(&w);
    char type[32];
    snprintf(type, sizeof type, "job.%s", job_state_name(end->state));
    int rc = b.failed ? err_set(e, ERR_NOMEM, NULL, "out of memory")
                      : audit_append(db, NULL, type, by, id, b.data, e);
    buf_dispose(&b);
    return rc;
}

int job_finish(struct db *db, const char *id, int64_t fence, const struct job_end *end,
               const struct actor *by, struct job_ended *out, struct err *e)
{
    assert(end->state == JOB_SUCCEEDED || end->state == JOB_FAILED || end->state == JOB_CANCELLED);
    memset(out, 0, sizeof *out);
    struct claimed c;
    struct buf result = {0};
    bool won = end->state == JOB_SUCCEEDED;
    int rc = lock_claimed(db, id, fence, &c, e);
    if (rc) return rc;
    if (won)
        rc =
            end->answer ? answered(db, id, end, &c, out, &result, e) : made(db, id, end, &c, out, &result, e);
    else
        rc = job__resolve_hold(db, db_tenant(db), id, -1, e);
    if (!rc && result.failed) rc = err_set(e, ERR_NOMEM, NULL, "out of memory");
    if (!rc) rc = end_row(db, id, end, &c, out, result.data, e);
    bool failed = end->state == JOB_FAILED;
    struct job_change change = {.tenant_id = db_tenant(db),
                                .id = id,
                                .state = end->state,
                                .seq = c.seq,
                                .fence = fence,
                                .attempt = c.attempt,
                                .level = failed ? "error" : "info",
                                .message = failed ? end->error_message : job_state_name(end->state)};
    if (!rc) rc = job__tell(db, &change, e);
    if (!rc) rc = audit_end(db, id, end, out, by, e);
    buf_dispose(&result);
    return rc;
}
