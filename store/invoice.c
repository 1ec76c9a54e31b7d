/* Here a month of the ledger is added up into invoice lines. */
#include "store/invoice.h"

#include <stdio.h>
#include <string.h>
#include "base/num.h"
#include "store/page.h"

static int check_month(const char *month, struct err *e)
{
    int64_t year, m;
    char y[5] = "", mm[3] = "";
    if (strlen(month) == 7 && month[4] == '-') {
        memcpy(y, month, 4);
        memcpy(mm, month + 5, 2);
    }
    if (strspn(y, "0123456789") != 4 || strspn(mm, "0123456789") != 2) goto bad;
    year = (y[0] - '0') * 1000 + (y[1] - '0') * 100 + (y[2] - '0') * 10 + (y[3] - '0');
    m = (mm[0] - '0') * 10 + (mm[1] - '0');
    if (year >= 2000 && m >= 1 && m <= 12) return 0;
bad:
    return err_set(e, ERR_INVALID, "month", "a month is written YYYY-MM, such as 2026-01");
}

static int load_currency(struct db *db, struct invoice *out, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    struct db_rows *r;
    int rc = db_exec(db, "SELECT p.currency FROM tenants t JOIN plans p ON p.name = t.plan WHERE t.id = $1",
                     &a, &r, e);
    if (rc) return rc;
    if (db_rows_count(r) == 1)
        db_copy(out->currency, sizeof out->currency, r, 0, 0);
    else
        rc = err_set(e, ERR_NOT_FOUND, "tenant", "there is no such tenant");
    db_rows_free(r);
    return rc;
}

static void read_line(struct invoice_line *l, const struct db_rows *r, int row)
{
    db_copy(l->kind, sizeof l->kind, r, row, 0);
    db_copy(l->model, sizeof l->model, r, row, 1);
    l->quantity = db_int(r, row, 2);
    l->unit_price_micros = db_int(r, row, 3);
    l->amount_micros = db_int(r, row, 4);
    snprintf(l->unit, sizeof l->unit, "%s", strcmp(l->kind, "train") == 0 ? "second" : "1000 rows");
}

int invoice_make(struct db *db, const char *month, struct arena *ar, struct invoice *out, struct err *e)
{
    memset(out, 0, sizeof *out);
    int rc = check_month(month, e);
    if (!rc) rc = load_currency(db, out, e);
    if (rc) return rc;
    snprintf(out->month, sizeof out->month, "%s", month);
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, month);
    struct db_rows *r;
    rc = db_exec(db,
                 "SELECT kind, model, sum(quantity)::bigint, unit_price_micros, sum(amount_micros)::bigint "
                 "FROM ledger_entries WHERE tenant_id = $1 AND account = 'receivable' "
                 "AND created_at >= ($2 || '-01')::timestamp AT TIME ZONE 'UTC' "
                 "AND created_at < (($2 || '-01')::timestamp + interval '1 month') AT TIME ZONE 'UTC' "
                 "GROUP BY kind, model, unit_price_micros ORDER BY kind, model, unit_price_micros",
                 &a, &r, e);
    if (rc) return rc;
    void *lines;
    rc = page__items(&lines, ar, db_rows_count(r), sizeof *out->lines, e);
    out->lines = lines;
    for (; !rc && out->n_lines < db_rows_count(r); out->n_lines++) {
        read_line(&out->lines[out->n_lines], r, out->n_lines);
        out->total_micros += out->lines[out->n_lines].amount_micros;
    }
    db_rows_free(r);
    return rc;
}
