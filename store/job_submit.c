/* Here a submission is weighed against the quotas and becomes a row, a hold, an event and an audit row at
 * once. */
#include "store/job.h"
#include "store/audit.h"
#include "store/job_internal.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include "base/buf.h"
#include "base/json.h"

enum { FULL_RETRY_MS = 5000 };

/* What the tenant may do and what it does already. */
struct allowance {
    bool suspended;
    int64_t max_seconds, max_memory, max_waiting, waiting;
    int64_t max_models, models; /* names in use, by models and by jobs on their way, without ours */
    int64_t price;              /* of a second, or of 1,000 rows */
    int64_t max_hold, budget, held, billed;
    int64_t month_left_ms;
};

/* Under the tenant's lock: whoever submits next counts us. */
static int load_allowance(struct db *db, const struct job_new *in, struct allowance *w, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    int rc = db_exec(db, "SELECT pg_advisory_xact_lock(hashtextextended(concat('job ', $1::text), 0))", &a,
                     NULL, e);
    if (rc) return rc;
    db_arg_str(&a, in->model);
    db_arg_str(&a, in->type);
    struct db_rows *r;
    rc = db_exec(
        db,
        "SELECT t.suspended, p.max_job_seconds, p.max_job_memory_bytes, p.max_queued_jobs, "
        "(SELECT count(*) FROM jobs WHERE tenant_id = $1 AND state IN ('queued', 'retry_wait')), "
        "p.max_models, "
        "(SELECT count(*) FROM (SELECT name FROM models WHERE tenant_id = $1 UNION SELECT model FROM jobs "
        "WHERE tenant_id = $1 AND type IN ('train', 'tune') AND state IN ('queued', 'retry_wait', "
        "'running')) n "
        "WHERE n.name <> $2), "
        "CASE WHEN $3 = 'predict' THEN p.predict_krows_micros ELSE p.train_second_micros END, "
        "p.max_hold_micros, p.month_budget_micros, "
        "(SELECT coalesce(sum(amount_micros), 0)::bigint FROM holds WHERE tenant_id = $1 AND state = "
        "'open'), "
        "(SELECT coalesce(sum(amount_micros), 0)::bigint FROM ledger_entries WHERE tenant_id = $1 "
        "AND account = 'receivable' AND created_at >= month_start()), "
        "(us(month_start() + interval '1 month') - us(now())) / 1000 "
        "FROM tenants t JOIN plans p ON p.name = t.plan WHERE t.id = $1",
        &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) != 1)
        rc = err_set(e, ERR_NOT_FOUND, "tenant", "there is no such tenant");
    else
        *w = (struct allowance){.suspended = db_bool(r, 0, 0),
                                .max_seconds = db_int(r, 0, 1),
                                .max_memory = db_int(r, 0, 2),
                                .max_waiting = db_int(r, 0, 3),
                                .waiting = db_int(r, 0, 4),
                                .max_models = db_int(r, 0, 5),
                                .models = db_int(r, 0, 6),
                                .price = db_int(r, 0, 7),
                                .max_hold = db_int(r, 0, 8),
                                .budget = db_int(r, 0, 9),
                                .held = db_int(r, 0, 10),
                                .billed = db_int(r, 0, 11),
                                .month_left_ms = db_int(r, 0, 12)};
    db_rows_free(r);
    return rc;
}

static int limit(struct err *e, const char *field, int64_t retry_after_ms, const char *what, int64_t allowed)
{
    int rc = err_set(e, ERR_LIMIT, field, "the plan allows %lld %s", (long long)allowed, what);
    if (e) e->retry_after_ms = retry_after_ms > INT_MAX ? INT_MAX : (int)retry_after_ms;
    return rc;
}

static bool makes_version(const char *type)
{
    return strcmp(type, "train") == 0 || strcmp(type, "tune") == 0;
}

/* What this plan can never run is wrong input; what it cannot take now is a limit. */
static int weigh(const struct job_new *in, const struct allowance *w, int64_t hold, struct err *e)
{
    if (w->suspended) return err_set(e, ERR_FORBIDDEN, NULL, "this tenant is suspended; ask the operator");
    if (in->max_seconds < 1 || in->max_seconds > w->max_seconds)
        return err_set(e, ERR_INVALID, "max_seconds",
                       "a job may run 1 to %lld seconds under this plan, not %lld", (long long)w->max_seconds,
                       (long long)in->max_seconds);
    if (in->memory_bytes > w->max_memory)
        return err_set(e, ERR_INVALID, "spec", "the job needs %lld bytes of memory; this plan allows %lld",
                       (long long)in->memory_bytes, (long long)w->max_memory);
    if (w->waiting >= w->max_waiting)
        return limit(e, "jobs", FULL_RETRY_MS, "waiting jobs; let some finish", w->max_waiting);
    if (w->models >= w->max_models && makes_version(in->type))
        return limit(e, "model", FULL_RETRY_MS, "models", w->max_models);
    if (w->budget > 0 && (w->billed > w->budget || hold > w->budget - w->billed))
        return limit(e, "budget", w->month_left_ms,
                     "micro-units a month, and this job may exceed what is left", w->budget);
    if (w->budget > 0 && w->held > w->budget - w->billed - hold)
        return limit(e, "budget", FULL_RETRY_MS,
                     "micro-units a month, which running jobs hold; let some finish", w->budget);
    return 0;
}

/* min(time limit × threads × price, the plan's cap). What rows may cost, up to the whole micro-unit, is known
 * beforehand and never capped: it will be charged. */
static int64_t hold_of(const struct job_new *in, const struct allowance *w)
{
    int64_t full;
    if (in->rows > 0)
        return __builtin_mul_overflow(in->rows, w->price, &full) ? w->max_hold : (full + 999) / 1000;
    if (__builtin_mul_overflow(in->max_seconds * in->threads, w->price, &full) || full > w->max_hold)
        return w->max_hold;
    return full;
}

/* What a job reads. The share lock, which the statement takes, makes a deletion wait for us, or us for the
 * deletion. */
static int lock_read(struct db *db, const char *lock_sql, const char *id, const char *field, const char *noun,
                     struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, id);
    struct db_rows *r;
    int rc = db_exec(db, lock_sql, &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) == 0) rc = err_set(e, ERR_NOT_FOUND, field, "there is no such %s", noun);
    db_rows_free(r);
    return rc;
}

static int lock_dataset(struct db *db, const char *id, const char *field, struct err *e)
{
    return lock_read(
        db, "SELECT FROM datasets WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL FOR KEY SHARE", id,
        field, "dataset", e);
}

static int lock_version(struct db *db, const char *id, struct err *e)
{
    return lock_read(
        db,
        "SELECT FROM model_versions WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL FOR KEY SHARE",
        id, "version", "version", e);
}

static int insert_job(struct db *db, const struct job_new *in, const char *id, int64_t price, int64_t hold,
                      struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, id);
    db_arg_str(&a, in->type);
    db_arg_str(&a, in->model);
    db_arg_opt(&a, in->dataset_id);
    db_arg_opt(&a, in->test_dataset_id);
    db_arg_int(&a, in->priority);
    db_arg_int(&a, in->max_seconds);
    db_arg_int(&a, in->memory_bytes);
    db_arg_int(&a, in->threads);
    db_arg_str(&a, in->spec);
    db_arg_int(&a, price);
    db_arg_int(&a, hold);
    db_arg_opt(&a, in->version_id);
    db_arg_int(&a, in->estimate_ms);
    int rc = db_exec(
        db,
        "INSERT INTO jobs (tenant_id, id, type, model, dataset_id, test_dataset_id, priority, max_seconds, "
        "memory_bytes, threads, spec, price_micros, hold_micros, version_id, estimate_ms, event_seq) VALUES "
        "($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, 1)",
        &a, NULL, e);
    if (rc) return rc;
    struct db_args h = {0};
    db_arg_str(&h, db_tenant(db));
    db_arg_str(&h, id);
    db_arg_int(&h, hold);
    return db_exec(db, "INSERT INTO holds (tenant_id, job_id, amount_micros) VALUES ($1, $2, $3)", &h, NULL,
                   e);
}

static int audit_job(struct db *db, const struct job_new *in, const char *id, int64_t hold,
                     const struct actor *by, struct err *e)
{
    struct buf b = {0};
    struct json_writer w;
    jw_init(&w, &b);
    jw_obj(&w);
    jw_kstr(&w, "type", in->type);
    jw_kstr(&w, "model", in->model);
    if (in->dataset_id) jw_kstr(&w, "dataset", in->dataset_id);
    if (in->rows > 0) jw_kint(&w, "rows", in->rows);
    jw_kint_str(&w, "hold_micros", hold);
    jw_obj_end(&w);
    int rc = b.failed ? err_set(e, ERR_NOMEM, NULL, "out of memory")
                      : audit_append(db, NULL, "job.created", by, id, b.data, e);
    buf_dispose(&b);
    return rc;
}

static int check_new(const struct job_new *in, struct err *e)
{
    bool predicts = strcmp(in->type, "predict") == 0;
    if (!makes_version(in->type) && strcmp(in->type, "evaluate") != 0 && !predicts)
        return err_set(e, ERR_INVALID, "type",
                       "a job's type must be \"train\", \"tune\", \"evaluate\" or \"predict\"");
    if (predicts != (in->rows > 0) || predicts != !in->dataset_id)
        return err_set(e, ERR_INTERNAL, NULL, "a predict job has rows, every other one a dataset");
    if (!in->model || !id_name_valid(in->model))
        return err_set(
            e, ERR_INVALID, "model",
            "a model's name has 1 to 64 characters of a-z 0-9 . _ - and starts with a letter or digit");
    if (in->priority < -10 || in->priority > 10)
        return err_set(e, ERR_INVALID, "priority", "priority must be -10 to 10, not %d", in->priority);
    if (in->threads < 1 || in->threads > 1024 || in->memory_bytes < 0)
        return err_set(e, ERR_INTERNAL, NULL, "a job without threads or with negative memory");
    return 0;
}

int job_submit(struct db *db, const struct job_new *in, const struct actor *by, struct arena *a,
               struct job *out, struct err *e)
{
    struct allowance w = {0};
    int rc = check_new(in, e);
    if (!rc) rc = load_allowance(db, in, &w, e);
    if (rc) return rc;
    int64_t hold = hold_of(in, &w);
    rc = weigh(in, &w, hold, e);
    if (!rc && in->dataset_id) rc = lock_dataset(db, in->dataset_id, "dataset", e);
    if (!rc && in->test_dataset_id && in->test_dataset_id[0])
        rc = lock_dataset(db, in->test_dataset_id, "test_dataset", e);
    if (!rc && in->version_id) rc = lock_version(db, in->version_id, e);
    if (rc) return rc;
    char id[ID_MAX];
    id_new(id, "job_");
    rc = insert_job(db, in, id, w.price, hold, e);
    struct job_change c = {.tenant_id = db_tenant(db),
                           .id = id,
                           .state = JOB_QUEUED,
                           .seq = 1,
                           .level = "info",
                           .message = "queued"};
    if (!rc) rc = job__tell(db, &c, e);
    if (!rc) rc = audit_job(db, in, id, hold, by, e);
    return rc ? rc : job_find(db, id, a, out, e);
}
