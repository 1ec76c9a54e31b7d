/* Here a prediction that is answered later is submitted, priced by its rows, found again and forgotten. */
#include "store/predict_job.h"
#include "store/predict_job_internal.h"

#include <stdio.h>
#include <string.h>
#include "base/buf.h"
#include "base/json.h"
#include "store/ledger.h"
#include "store/page.h"
#include "store/storage_internal.h"
#include "store/usage_internal.h"

/* The run itself takes milliseconds; the rest is for a worker that has to load the version first. */
enum { SECONDS_MAX = 300 };

/* ---- submitting ---- */

/* Under the tenant's lock, which job_submit has taken. */
static int check_storage(struct db *db, int64_t bytes, struct err *e)
{
    struct storage s;
    int rc = storage__find(db, &s, e);
    if (rc || bytes <= s.allowed_bytes - s.used_bytes) return rc;
    rc = err_set(
        e, ERR_LIMIT, "storage",
        "the plan's %lld bytes of storage are used up by datasets, model versions and requests that are "
        "answered later; those are kept for %d hours after their end",
        (long long)s.allowed_bytes, PREDICT_JOB_KEEP_S / 3600);
    if (e) e->retry_after_ms = 60000;
    return rc;
}

static int insert_request(struct db *db, const struct predict_job_new *in, const char *job_id,
                          const struct blob *input, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, job_id);
    db_arg_int(&a, in->rows);
    db_arg_str(&a, input->sha256);
    return db_exec(db,
                   "INSERT INTO predict_jobs (tenant_id, job_id, rows, input_sha256) VALUES ($1, $2, $3, $4)",
                   &a, NULL, e);
}

/* The plan may allow jobs less time than we would. */
static int time_limit(struct db *db, int64_t *seconds, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    struct db_rows *r;
    int rc =
        db_exec(db, "SELECT p.max_job_seconds FROM tenants t JOIN plans p ON p.name = t.plan WHERE t.id = $1",
                &a, &r, e);
    if (rc) return rc;
    *seconds = SECONDS_MAX;
    if (db_rows_count(r) == 1 && db_int(r, 0, 0) < SECONDS_MAX) *seconds = db_int(r, 0, 0);
    db_rows_free(r);
    return 0;
}

int predict_job_submit(struct db *db, const struct predict_job_new *in, const struct actor *by,
                       struct arena *a, struct job *out, struct err *e)
{
    struct blob input = *in->input;
    struct job_new job = {.type = "predict",
                          .model = in->model,
                          .version_id = in->version_id,
                          .memory_bytes = 0, /* the predict engine's, which has a budget of its own */
                          .threads = 1,
                          .rows = in->rows,
                          .spec = in->spec};
    int rc = time_limit(db, &job.max_seconds, e);
    if (!rc) rc = job_submit(db, &job, by, a, out, e);
    if (!rc) rc = check_storage(db, input.bytes, e);
    if (!rc) rc = blob_put(db, &input, e);
    return rc ? rc : insert_request(db, in, out->id, &input, e);
}

/* ---- ending ---- */

static int keep_answer(struct db *db, const char *id, const struct job_answer *answer, struct err *e)
{
    struct blob output = *answer->output;
    int rc = blob_put(db, &output, e);
    if (rc) return rc;
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, id);
    db_arg_str(&a, output.sha256);
    return db_exec(db, "UPDATE predict_jobs SET output_sha256 = $3 WHERE tenant_id = $1 AND job_id = $2", &a,
                   NULL, e);
}

static int post(struct db *db, const char *id, const struct predict_bill *b, struct err *e)
{
    char source[ID_MAX + 8];
    snprintf(source, sizeof source, "job:%s", id);
    struct ledger_post entry = {.source = source,
                                .kind = "predict",
                                .model = b->model,
                                .quantity = b->rows,
                                .unit_price_micros = b->price,
                                .amount_micros = b->amount_micros};
    struct usage_row add = {.version = b->version,
                            .requests = 1,
                            .rows = b->rows,
                            .compute_us = b->compute_us,
                            .amount_micros = b->amount_micros};
    snprintf(add.model, sizeof add.model, "%s", b->model);
    int rc = ledger_post(db, db_tenant(db), &entry, e);
    return rc ? rc : usage__add(db, db_tenant(db), &add, e);
}

static int load_bill(struct db *db, const char *id, struct predict_bill *b, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, id);
    struct db_rows *r;
    int rc =
        db_exec(db,
                "SELECT p.rows, v.id, v.number FROM predict_jobs p JOIN jobs j ON j.tenant_id = p.tenant_id "
                "AND j.id = p.job_id JOIN model_versions v ON v.tenant_id = j.tenant_id AND v.id = "
                "j.version_id WHERE p.tenant_id = $1 AND p.job_id = $2",
                &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) == 1) {
        b->rows = db_int(r, 0, 0);
        db_copy(b->version_id, sizeof b->version_id, r, 0, 1);
        b->version = db_int(r, 0, 2);
    } else
        rc = err_set(e, ERR_INTERNAL, NULL, "job %s has no request", id);
    db_rows_free(r);
    return rc;
}

int predict_job__charge(struct db *db, const char *id, const struct job_answer *answer,
                        struct predict_bill *b, struct err *e)
{
    b->compute_us = answer->compute_us;
    int rc = load_bill(db, id, b, e);
    if (!rc) rc = usage__price(db, db_tenant(db), b->version_id, b->rows, b->price, &b->amount_micros, e);
    if (!rc) rc = keep_answer(db, id, answer, e);
    if (!rc) rc = job__resolve_hold(db, db_tenant(db), id, b->amount_micros, e);
    return rc ? rc : post(db, id, b, e);
}

void predict_job__result(struct buf *out, const struct predict_bill *b)
{
    struct json_writer w;
    jw_init(&w, out);
    jw_obj(&w);
    jw_kint(&w, "version", b->version);
    jw_kstr(&w, "version_id", b->version_id);
    jw_name(&w, "metrics");
    jw_obj(&w);
    jw_kint(&w, "rows", b->rows);
    jw_kint(&w, "compute_us", b->compute_us);
    jw_obj_end(&w);
    jw_obj_end(&w);
}

/* ---- finding and forgetting ---- */

static int find_blobs(struct db *db, const char *input, const char *output, struct predict_job *out,
                      struct err *e)
{
    int rc = blob_find(db, input, &out->input, e);
    return rc || !output[0] ? rc : blob_find(db, output, &out->output, e);
}

int predict_job_find(struct db *db, const char *job_id, struct predict_job *out, struct err *e)
{
    memset(out, 0, sizeof *out);
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, job_id);
    struct db_rows *r;
    int rc = db_exec(db,
                     "SELECT rows, input_sha256, coalesce(output_sha256, '') FROM predict_jobs WHERE "
                     "tenant_id = $1 AND job_id = $2",
                     &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) == 1) {
        out->rows = db_int(r, 0, 0);
        rc = find_blobs(db, db_text(r, 0, 1), db_text(r, 0, 2), out, e);
    } else
        rc = err_set(e, ERR_NOT_FOUND, "result", "there is no such result");
    db_rows_free(r);
    return rc;
}

int predict_job_expire(struct db *db, int64_t keep_s, int64_t *n, struct err *e)
{
    struct db_args a = {0};
    db_arg_int(&a, keep_s);
    struct db_rows *r;
    *n = 0;
    int rc = db_exec(db,
                     "DELETE FROM predict_jobs p USING jobs j WHERE j.tenant_id = p.tenant_id AND j.id = "
                     "p.job_id AND j.finished_at < now() - $1::bigint * interval '1 second'",
                     &a, &r, e);
    if (rc) return rc;
    *n = db_rows_affected(r);
    db_rows_free(r);
    return 0;
}
