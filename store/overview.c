/* Here the platform is counted for its operator. */
#include "store/overview.h"

#include <string.h>
#include "store/job_internal.h"
#include "store/page.h"

static int load_jobs(struct db *db, struct overview *out, struct err *e)
{
    struct db_rows *r;
    int rc = db_exec(db,
                     "SELECT state, count(*), coalesce(max((us(now()) - us(created_at)) / 1000), 0) FROM "
                     "jobs GROUP BY state",
                     NULL, &r, e);
    if (rc) return rc;
    for (int i = 0; i < db_rows_count(r); i++) {
        int state = job_state_of(db_text(r, i, 0));
        out->jobs[state] = db_int(r, i, 1);
        if (state == JOB_QUEUED) out->oldest_queued_ms = db_int(r, i, 2);
    }
    db_rows_free(r);
    return 0;
}

int overview_load(struct db *db, struct overview *out, struct err *e)
{
    memset(out, 0, sizeof *out);
    int rc = load_jobs(db, out, e);
    if (rc) return rc;
    struct db_rows *r;
    rc = db_exec(
        db,
        "SELECT (SELECT count(*) FROM tenants), (SELECT count(*) FROM datasets WHERE deleted_at IS NULL), "
        "(SELECT count(*) FROM model_versions WHERE deleted_at IS NULL), (SELECT coalesce(sum(bytes), "
        "0)::bigint FROM blobs), "
        "(SELECT count(*) FROM audit_log WHERE seq IS NULL), "
        "(SELECT coalesce(sum(amount_micros), 0)::bigint FROM ledger_entries WHERE account = 'receivable' "
        "AND created_at >= month_start())",
        NULL, &r, e);
    if (rc) return rc;
    out->tenants = db_int(r, 0, 0);
    out->datasets = db_int(r, 0, 1);
    out->versions = db_int(r, 0, 2);
    out->blob_bytes = db_int(r, 0, 3);
    out->unsealed_audit = db_int(r, 0, 4);
    out->billed_month_micros = db_int(r, 0, 5);
    db_rows_free(r);
    return 0;
}

static int read_tenant(void *item, struct arena *a, const struct db_rows *r, int row, struct err *e)
{
    (void)a, (void)e;
    struct overview_tenant *out = item;
    db_copy(out->id, sizeof out->id, r, row, 0);
    db_copy(out->name, sizeof out->name, r, row, 1);
    db_copy(out->plan, sizeof out->plan, r, row, 2);
    out->suspended = db_bool(r, row, 3);
    out->queued = db_int(r, row, 4);
    out->running = db_int(r, row, 5);
    out->datasets = db_int(r, row, 6);
    out->models = db_int(r, row, 7);
    out->blob_bytes = db_int(r, row, 8);
    out->billed_month_micros = db_int(r, row, 9);
    return 0;
}

int overview_tenants(struct db *db, const struct page *p, struct arena *ar, struct overview_tenant **out,
                     int *n, bool *has_more, struct err *e)
{
    *out = NULL;
    *n = 0;
    struct page_cut c;
    struct db_args a = {0};
    int rc = page__open(&c, &a, p, "ten_", NULL, e);
    if (rc) return rc;
    struct db_rows *r;
#define TENANT_COUNTS                                                                                        \
    "SELECT t.id, t.name, t.plan, t.suspended, "                                                             \
    "(SELECT count(*) FROM jobs j WHERE j.tenant_id = t.id AND j.state IN ('queued', 'retry_wait')), "       \
    "(SELECT count(*) FROM jobs j WHERE j.tenant_id = t.id AND j.state = 'running'), "                       \
    "(SELECT count(*) FROM datasets d WHERE d.tenant_id = t.id AND d.deleted_at IS NULL), "                  \
    "(SELECT count(*) FROM models m WHERE m.tenant_id = t.id), "                                             \
    "(SELECT coalesce(sum(bytes), 0)::bigint FROM blobs b WHERE b.tenant_id = t.id), "                       \
    "(SELECT coalesce(sum(amount_micros), 0)::bigint FROM ledger_entries l WHERE l.tenant_id = t.id "        \
    "AND l.account = 'receivable' AND l.created_at >= month_start()) FROM tenants t WHERE $1::text IS NULL"
    rc = c.reversed ? db_exec(db, TENANT_COUNTS PAGE_OLDEST("t.id"), &a, &r, e)
                    : db_exec(db, TENANT_COUNTS PAGE_NEWEST("t.id"), &a, &r, e);
    if (rc) return rc;
    struct page_items got;
    rc = page__read(&got, &c, r, ar, sizeof **out, read_tenant, e);
    *out = got.items;
    *n = got.n;
    *has_more = got.has_more;
    return rc;
}

int overview_jobs(struct db *db, const struct page *p, int state, struct arena *ar, struct job_list *out,
                  struct err *e)
{
    memset(out, 0, sizeof *out);
    struct page_cut c;
    struct db_args a = {0};
    int rc = page__open(&c, &a, p, "job_", NULL, e);
    if (rc) return rc;
    db_arg_str(&a, state < 0 ? NULL : job_state_name((enum job_state)state));
    struct db_rows *r;
#define ALL_JOBS                                                                                             \
    "SELECT " JOB_COLUMNS " FROM jobs j WHERE $1::text IS NULL AND ($4::text IS NULL OR j.state = $4)"
    rc = c.reversed ? db_exec(db, ALL_JOBS PAGE_OLDEST("j.id"), &a, &r, e)
                    : db_exec(db, ALL_JOBS PAGE_NEWEST("j.id"), &a, &r, e);
    if (rc) return rc;
    struct page_items got;
    rc = page__read(&got, &c, r, ar, sizeof *out->items, job__read, e);
    *out = (struct job_list){got.items, got.n, got.has_more};
    return rc;
}
