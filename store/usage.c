/* Here cumulative counters become bills, exactly once, and what was used is reported by hour or day. */
#include "store/usage.h"
#include "store/usage_internal.h"

#include <stdio.h>
#include <string.h>
#include "store/ledger.h"
#include "store/page.h"

enum { REPORT_ROWS_MAX = 10000 };

int usage__add(struct db *db, const char *tenant_id, const struct usage_row *add, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, tenant_id);
    db_arg_str(&a, add->model);
    db_arg_int(&a, add->version);
    db_arg_int(&a, add->requests);
    db_arg_int(&a, add->rows);
    db_arg_int(&a, add->compute_us);
    db_arg_int(&a, add->train_seconds);
    db_arg_int(&a, add->amount_micros);
    return db_exec(
        db,
        "INSERT INTO usage_hours AS u (tenant_id, hour, model, version, requests, rows, compute_us, "
        "train_seconds, amount_micros) VALUES ($1, date_trunc('hour', now()), $2, $3, $4, $5, $6, $7, $8) "
        "ON CONFLICT (tenant_id, hour, model, version) DO UPDATE SET requests = u.requests + "
        "excluded.requests, "
        "rows = u.rows + excluded.rows, compute_us = u.compute_us + excluded.compute_us, "
        "train_seconds = u.train_seconds + excluded.train_seconds, "
        "amount_micros = u.amount_micros + excluded.amount_micros",
        &a, NULL, e);
}

/* ---- billing ---- */

struct bill {
    const char *tenant_id, *incarnation, *version_id;
    char model[STORE_NAME_MAX];
    int64_t version, price; /* number; micros per 1,000 rows */
    struct usage_counters grown;
    int64_t amount_micros;
};

static int load_version(struct db *db, struct bill *b, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, b->tenant_id);
    db_arg_str(&a, b->version_id);
    struct db_rows *r;
    int rc = db_exec(db,
                     "SELECT m.name, v.number, p.predict_krows_micros FROM model_versions v "
                     "JOIN models m ON m.tenant_id = v.tenant_id AND m.id = v.model_id "
                     "JOIN tenants t ON t.id = v.tenant_id JOIN plans p ON p.name = t.plan "
                     "WHERE v.tenant_id = $1 AND v.id = $2",
                     &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) == 1) {
        db_copy(b->model, sizeof b->model, r, 0, 0);
        b->version = db_int(r, 0, 1);
        b->price = db_int(r, 0, 2);
    } else
        rc = err_set(e, ERR_NOT_FOUND, "version", "the tenant has no such version");
    db_rows_free(r);
    return rc;
}

static void bill_args(struct db_args *a, const struct bill *b)
{
    db_arg_str(a, b->tenant_id);
    db_arg_str(a, b->version_id);
    db_arg_str(a, b->incarnation);
}

static int64_t grown(int64_t total, int64_t billed)
{
    return total > billed ? total - billed : 0;
}

/* Locks what has been billed of these counters, and finds what they have grown by. */
static int lock_totals(struct db *db, struct bill *b, const struct usage_counters *total, struct err *e)
{
    struct db_args a = {0};
    bill_args(&a, b);
    int rc = db_exec(db,
                     "INSERT INTO usage_totals (tenant_id, version_id, incarnation) VALUES ($1, $2, $3) "
                     "ON CONFLICT DO NOTHING",
                     &a, NULL, e);
    struct db_rows *r = NULL;
    if (!rc)
        rc = db_exec(db,
                     "SELECT requests, rows, compute_us FROM usage_totals WHERE tenant_id = $1 AND "
                     "version_id = $2 AND "
                     "incarnation = $3 FOR UPDATE",
                     &a, &r, e);
    if (rc) return rc;
    b->grown =
        (struct usage_counters){grown(total->requests, db_int(r, 0, 0)), grown(total->rows, db_int(r, 0, 1)),
                                grown(total->compute_us, db_int(r, 0, 2))};
    db_rows_free(r);
    return 0;
}

static int raise_totals(struct db *db, const struct bill *b, struct err *e)
{
    struct db_args a = {0};
    bill_args(&a, b);
    db_arg_int(&a, b->grown.requests);
    db_arg_int(&a, b->grown.rows);
    db_arg_int(&a, b->grown.compute_us);
    return db_exec(
        db,
        "UPDATE usage_totals SET requests = requests + $4, rows = rows + $5, compute_us = compute_us + $6, "
        "updated_at = now() WHERE tenant_id = $1 AND version_id = $2 AND incarnation = $3",
        &a, NULL, e);
}

/* amount = ⌊(carry + rows × price) / 1000⌋; what is left becomes the carry, whatever the price will be next
 * time. */
int usage__price(struct db *db, const char *tenant_id, const char *version_id, int64_t rows, int64_t price,
                 int64_t *amount_micros, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, tenant_id);
    db_arg_str(&a, version_id);
    int rc = db_exec(
        db, "INSERT INTO usage_carries (tenant_id, version_id) VALUES ($1, $2) ON CONFLICT DO NOTHING", &a,
        NULL, e);
    struct db_rows *r = NULL;
    if (!rc)
        rc = db_exec(
            db, "SELECT thousandths FROM usage_carries WHERE tenant_id = $1 AND version_id = $2 FOR UPDATE",
            &a, &r, e);
    if (rc) return rc;
    int64_t thousandths;
    bool over = __builtin_mul_overflow(rows, price, &thousandths) ||
                __builtin_add_overflow(thousandths, db_int(r, 0, 0), &thousandths);
    db_rows_free(r);
    if (over)
        return err_set(e, ERR_INVALID, "rows", "%lld rows are beyond what can be billed", (long long)rows);
    *amount_micros = thousandths / 1000;
    db_arg_int(&a, thousandths % 1000);
    return db_exec(db, "UPDATE usage_carries SET thousandths = $3 WHERE tenant_id = $1 AND version_id = $2",
                   &a, NULL, e);
}

/* Also when the amount is zero: an invoice's quantity counts every row. */
static int post_rows(struct db *db, const struct bill *b, const struct usage_counters *total, struct err *e)
{
    char source[160];
    snprintf(source, sizeof source, "usage:%s:%s:%lld:%lld", b->incarnation, b->version_id,
             (long long)total->requests, (long long)total->rows);
    struct ledger_post post = {.source = source,
                               .kind = "predict",
                               .model = b->model,
                               .quantity = b->grown.rows,
                               .unit_price_micros = b->price,
                               .amount_micros = b->amount_micros};
    return ledger_post(db, b->tenant_id, &post, e);
}

int usage_bill(struct db *db, const char *incarnation, const char *tenant_id, const char *version_id,
               const struct usage_counters *total, int64_t *amount_micros, struct err *e)
{
    if (amount_micros) *amount_micros = 0;
    if (!id_valid(incarnation, "inc_") || total->requests < 0 || total->rows < 0 || total->compute_us < 0)
        return err_set(e, ERR_INVALID, "usage", "these are no counters of a worker");
    struct bill b = {.tenant_id = tenant_id, .incarnation = incarnation, .version_id = version_id};
    int rc = load_version(db, &b, e);
    if (!rc) rc = lock_totals(db, &b, total, e);
    if (rc || (b.grown.requests == 0 && b.grown.rows == 0 && b.grown.compute_us == 0)) return rc;
    rc = raise_totals(db, &b, e);
    if (!rc && b.grown.rows > 0)
        rc = usage__price(db, tenant_id, version_id, b.grown.rows, b.price, &b.amount_micros, e);
    if (!rc && b.grown.rows > 0) rc = post_rows(db, &b, total, e);
    if (rc) return rc;
    struct usage_row add = {.version = b.version,
                            .requests = b.grown.requests,
                            .rows = b.grown.rows,
                            .compute_us = b.grown.compute_us,
                            .amount_micros = b.amount_micros};
    memcpy(add.model, b.model, sizeof add.model);
    if (amount_micros) *amount_micros = b.amount_micros;
    return usage__add(db, tenant_id, &add, e);
}

/* ---- reporting ---- */

static void read_row(struct usage_row *u, const struct db_rows *r, int row)
{
    u->bucket_start_s = db_int(r, row, 0);
    db_copy(u->model, sizeof u->model, r, row, 1);
    u->version = db_int(r, row, 2);
    u->requests = db_int(r, row, 3);
    u->rows = db_int(r, row, 4);
    u->compute_us = db_int(r, row, 5);
    u->train_seconds = db_int(r, row, 6);
    u->amount_micros = db_int(r, row, 7);
}

int usage_report(struct db *db, int64_t start_s, int64_t end_s, int64_t bucket_s, struct arena *ar,
                 struct usage_report *out, struct err *e)
{
    memset(out, 0, sizeof *out);
    if (bucket_s != 3600 && bucket_s != 86400)
        return err_set(e, ERR_INVALID, "bucket_width", "a bucket is an hour or a day wide (1h, 1d)");
    if (start_s < 0 || end_s <= start_s || end_s > INT64_C(253402300799))
        return err_set(e, ERR_INVALID, "end_time",
                       "end_time must lie behind start_time, both in Unix seconds");
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_int(&a, start_s / bucket_s * bucket_s);
    db_arg_int(&a, (end_s + bucket_s - 1) / bucket_s * bucket_s);
    db_arg_int(&a, bucket_s);
    db_arg_int(&a, REPORT_ROWS_MAX + 1);
    struct db_rows *r;
    int rc = db_exec(
        db,
        "SELECT us(hour) / 1000000 / $4::bigint * $4::bigint AS bucket, model, version, "
        "sum(requests)::bigint, "
        "sum(rows)::bigint, sum(compute_us)::bigint, sum(train_seconds)::bigint, sum(amount_micros)::bigint "
        "FROM usage_hours WHERE tenant_id = $1 AND hour >= to_timestamp($2::bigint) AND "
        "hour < to_timestamp($3::bigint) GROUP BY bucket, model, version ORDER BY bucket, model, version "
        "LIMIT $5",
        &a, &r, e);
    if (rc) return rc;
    int n = db_rows_count(r);
    void *items = NULL;
    if (n > REPORT_ROWS_MAX)
        rc = err_set(e, ERR_TOO_LARGE, "start_time", "more than %d rows; ask for a shorter time",
                     REPORT_ROWS_MAX);
    else
        rc = page__items(&items, ar, n, sizeof *out->items, e);
    out->items = items;
    for (; !rc && out->n < n; out->n++) read_row(&out->items[out->n], r, out->n);
    db_rows_free(r);
    return rc;
}
