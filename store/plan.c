/* Here plans are read and written: one table of columns serves both directions. */
#include "store/plan.h"
#include "store/audit.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include "base/ids.h"
#include "store/plan_columns.h"

static const struct plan_column {
    const char *name;
    size_t offset;
    int64_t min, max;
    int64_t standard; /* the seeded plan's value */
} columns[] = {
    {"weight", offsetof(struct plan, weight), 1, 1000000, 100},
    {"train_second_micros", offsetof(struct plan, train_second_micros), 0, 1000000000000, 500},
    {"predict_krows_micros", offsetof(struct plan, predict_krows_micros), 0, 1000000000000, 200},
    {"max_hold_micros", offsetof(struct plan, max_hold_micros), 0, INT64_MAX, 50000000},
    {"month_budget_micros", offsetof(struct plan, month_budget_micros), 0, INT64_MAX, 0},
    {"max_queued_jobs", offsetof(struct plan, max_queued_jobs), 0, INT64_MAX, 1000},
    {"max_running_jobs", offsetof(struct plan, max_running_jobs), 0, INT64_MAX, 8},
    {"max_job_seconds", offsetof(struct plan, max_job_seconds), 1, 31536000, 86400},
    {"max_job_memory_bytes", offsetof(struct plan, max_job_memory_bytes), 0, INT64_MAX, 8589934592},
    {"max_datasets", offsetof(struct plan, max_datasets), 0, INT64_MAX, 1000},
    {"max_dataset_bytes", offsetof(struct plan, max_dataset_bytes), 0, INT64_MAX, 17179869184},
    {"max_storage_bytes", offsetof(struct plan, max_storage_bytes), 0, INT64_MAX, 68719476736},
    {"max_models", offsetof(struct plan, max_models), 0, INT64_MAX, 1000},
    {"max_keys", offsetof(struct plan, max_keys), 0, INT64_MAX, 100},
    {"requests_per_second", offsetof(struct plan, requests_per_second), 1, INT64_MAX, 2000},
    {"request_burst", offsetof(struct plan, request_burst), 1, INT64_MAX, 4000},
    {"max_inflight_requests", offsetof(struct plan, max_inflight_requests), 1, INT64_MAX, 4096},
    {"max_request_rows", offsetof(struct plan, max_request_rows), 1, INT64_MAX, 10000},
};
enum { COLUMNS = sizeof columns / sizeof columns[0] };
static_assert(COLUMNS + 2 == PLAN_COLUMNS_N, "plan_columns.h lists name, currency and these");

static int64_t *field_of(struct plan *p, const struct plan_column *c)
{
    return (int64_t *)(void *)((char *)p + c->offset);
}

void plan_init(struct plan *p, const char *name)
{
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "%s", name);
    snprintf(p->currency, sizeof p->currency, "EUR");
    for (size_t i = 0; i < COLUMNS; i++) *field_of(p, &columns[i]) = columns[i].standard;
}

void plan__read(struct plan *out, const struct db_rows *r, int row, int first_col)
{
    memset(out, 0, sizeof *out);
    db_copy(out->name, sizeof out->name, r, row, first_col);
    db_copy(out->currency, sizeof out->currency, r, row, first_col + 1);
    for (int i = 0; i < COLUMNS; i++) *field_of(out, &columns[i]) = db_int(r, row, first_col + 2 + i);
}

int plan_find(struct db *db, const char *name, struct plan *out, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, name);
    struct db_rows *r;
    int rc = db_exec(db, "SELECT " PLAN_COLUMNS("p") " FROM plans p WHERE p.name = $1", &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) == 1)
        plan__read(out, r, 0, 0);
    else
        rc = err_set(e, ERR_NOT_FOUND, "plan", "there is no plan '%s'", name);
    db_rows_free(r);
    return rc;
}

int plan_list(struct db *db, struct plan *out, int cap, int *n, struct err *e)
{
    *n = 0;
    struct db_args a = {0};
    db_arg_int(&a, cap);
    struct db_rows *r;
    int rc = db_exec(db, "SELECT " PLAN_COLUMNS("p") " FROM plans p ORDER BY p.name LIMIT $1", &a, &r, e);
    if (rc) return rc;
    for (; *n < db_rows_count(r); (*n)++) plan__read(&out[*n], r, *n, 0);
    db_rows_free(r);
    return 0;
}

static int check(const struct plan *p, struct err *e)
{
    if (!id_name_valid(p->name))
        return err_set(e, ERR_INVALID, "name", "a plan's name has 1 to 64 characters of a-z 0-9 . _ -");
    for (int i = 0; i < 3; i++)
        if (p->currency[i] < 'A' || p->currency[i] > 'Z')
            return err_set(e, ERR_INVALID, "currency", "a currency is three capital letters, such as EUR");
    for (size_t i = 0; i < COLUMNS; i++) {
        const struct plan_column *c = &columns[i];
        int64_t v = *(const int64_t *)(const void *)((const char *)p + c->offset);
        if (v < c->min || v > c->max)
            return err_set(e, ERR_INVALID, c->name, "%s must be %lld to %lld, not %lld", c->name,
                           (long long)c->min, (long long)c->max, (long long)v);
    }
    return 0;
}

/* The change touches every tenant on the plan, so it stands in each one's trail. */
static int tell_tenants(struct db *db, const char *plan, const struct actor *by, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, plan);
    struct db_rows *r;
    int rc = db_exec(db, "SELECT id FROM tenants WHERE plan = $1 ORDER BY id", &a, &r, e);
    for (int i = 0; !rc && i < db_rows_count(r); i++)
        rc = audit_append(db, db_text(r, i, 0), "plan.changed", by, plan, NULL, e);
    db_rows_free(r);
    return rc;
}

int plan_put(struct db *db, const struct plan *p, const struct actor *by, struct err *e)
{
    int rc = check(p, e);
    if (rc) return rc;
    struct db_args a = {0};
    db_arg_str(&a, p->name);
    db_arg_str(&a, p->currency);
    for (size_t i = 0; i < COLUMNS; i++)
        db_arg_int(&a, *(const int64_t *)(const void *)((const char *)p + columns[i].offset));
    rc = db_exec(db,
                 "INSERT INTO plans (" PLAN_NAMES
                 ") VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,"
                 "$18,$19,$20) ON CONFLICT (name) DO UPDATE SET updated_at = now(), (" PLAN_NAMES ") = ROW "
                 "($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18,$19,$20)",
                 &a, NULL, e);
    return rc ? rc : tell_tenants(db, p->name, by, e);
}
