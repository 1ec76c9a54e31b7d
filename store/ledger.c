/* Here both entries of a ledger transaction are written in one statement, and the ledger is read. */
#include "store/ledger.h"

#include <string.h>
#include "store/page.h"

int ledger_post(struct db *db, const char *tenant_id, const struct ledger_post *in, struct err *e)
{
    char debit[ID_MAX], credit[ID_MAX], txn[ID_MAX];
    if (in->amount_micros < 0) return err_set(e, ERR_INTERNAL, NULL, "a posting of a negative amount");
    id_new(txn, "led_");
    id_new(debit, "led_");
    id_new(credit, "led_");
    struct db_args a = {0};
    db_arg_str(&a, tenant_id);
    db_arg_str(&a, txn);
    db_arg_str(&a, debit);
    db_arg_str(&a, credit);
    db_arg_str(&a, in->source);
    db_arg_str(&a, in->kind);
    db_arg_str(&a, in->model);
    db_arg_int(&a, in->quantity);
    db_arg_int(&a, in->unit_price_micros);
    db_arg_int(&a, in->amount_micros);
    return db_exec(
        db,
        "INSERT INTO ledger_entries (tenant_id, txn_id, id, account, amount_micros, source, kind, model, "
        "quantity, unit_price_micros) VALUES "
        "($1, $2, $3, 'receivable', $10::bigint, $5, $6, $7, $8, $9), "
        "($1, $2, $4, 'revenue', -$10::bigint, $5, $6, $7, $8, $9)",
        &a, NULL, e);
}

static int read_entry(void *item, struct arena *a, const struct db_rows *r, int row, struct err *e)
{
    struct ledger_entry *out = item;
    db_copy(out->id, sizeof out->id, r, row, 0);
    db_copy(out->txn_id, sizeof out->txn_id, r, row, 1);
    db_copy(out->account, sizeof out->account, r, row, 2);
    db_copy(out->kind, sizeof out->kind, r, row, 3);
    db_copy(out->model, sizeof out->model, r, row, 4);
    out->quantity = db_int(r, row, 5);
    out->unit_price_micros = db_int(r, row, 6);
    out->amount_micros = db_int(r, row, 7);
    out->created_at_us = db_int(r, row, 8);
    return db_arena_text(&out->source, a, r, row, 9, e);
}

int ledger_list(struct db *db, const struct page *p, struct arena *ar, struct ledger_list *out, struct err *e)
{
    memset(out, 0, sizeof *out);
    struct page_cut c;
    struct db_args a = {0};
    int rc = page__open(&c, &a, p, "led_", db_tenant(db), e);
    if (rc) return rc;
    struct db_rows *r;
#define LEDGER_LIST                                                                                          \
    "SELECT id, txn_id, account, kind, model, quantity, unit_price_micros, amount_micros, us(created_at), "  \
    "source "                                                                                                \
    "FROM ledger_entries WHERE tenant_id = $1"
    rc = c.reversed ? db_exec(db, LEDGER_LIST PAGE_OLDEST("id"), &a, &r, e)
                    : db_exec(db, LEDGER_LIST PAGE_NEWEST("id"), &a, &r, e);
    if (rc) return rc;
    struct page_items got;
    rc = page__read(&got, &c, r, ar, sizeof *out->items, read_entry, e);
    *out = (struct ledger_list){got.items, got.n, got.has_more};
    return rc;
}

int ledger_balance(struct db *db, const char *account, int64_t *micros, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    db_arg_str(&a, account);
    struct db_rows *r;
    int rc = db_exec(db,
                     "SELECT coalesce(sum(amount_micros), 0)::bigint FROM ledger_entries "
                     "WHERE tenant_id = $1 AND account = $2",
                     &a, &r, e);
    if (rc) return rc;
    *micros = db_int(r, 0, 0);
    db_rows_free(r);
    return 0;
}

int ledger_exposure(struct db *db, int64_t *held_micros, int64_t *billed_micros, struct err *e)
{
    struct db_args a = {0};
    db_arg_str(&a, db_tenant(db));
    struct db_rows *r;
    int rc =
        db_exec(db,
                "SELECT (SELECT coalesce(sum(amount_micros), 0)::bigint FROM holds WHERE tenant_id = $1 AND "
                "state = 'open'), (SELECT coalesce(sum(amount_micros), 0)::bigint FROM ledger_entries "
                "WHERE tenant_id = $1 AND account = 'receivable' AND created_at >= month_start())",
                &a, &r, e);
    if (rc) return rc;
    *held_micros = db_int(r, 0, 0);
    *billed_micros = db_int(r, 0, 1);
    db_rows_free(r);
    return 0;
}
