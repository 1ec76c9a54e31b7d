/* The ledger: double entry, append-only (by grants and trigger), int64 micro-units. A transaction debits the
 * tenant's account "receivable" and credits "revenue"; its entries sum to zero (by trigger). `source` is
 * unique, so nothing posts twice. */
#ifndef STORE_LEDGER_H
#define STORE_LEDGER_H

#include <stdbool.h>
#include <stdint.h>
#include "base/ids.h"
#include "store/db.h"

struct ledger_post {
    const char *source; /* "job:<id>", "usage:<incarnation>:<version>:<requests>:<rows>" */
    const char *kind;   /* "train" | "predict" */
    const char *model;
    int64_t quantity;          /* seconds | rows */
    int64_t unit_price_micros; /* per second | per 1,000 rows */
    int64_t amount_micros;     /* ≥ 0 */
};

/* Tenant or system. ERR_CONFLICT when the source was posted before. */
int ledger_post(struct db *db, const char *tenant_id, const struct ledger_post *in, struct err *e);

struct ledger_entry {
    char id[ID_MAX]; /* "led_…" */
    char txn_id[ID_MAX];
    char account[16];
    char kind[16];
    char model[STORE_NAME_MAX];
    int64_t quantity;
    int64_t unit_price_micros;
    int64_t amount_micros; /* debit > 0 */
    int64_t created_at_us;
    const char *source; /* in the arena */
};
struct ledger_list {
    struct ledger_entry *items; /* in the arena */
    int n;
    bool has_more;
};
int ledger_list(struct db *db, const struct page *p, struct arena *a, struct ledger_list *out, struct err *e);
/* Sum of an account of the transaction's tenant. */
int ledger_balance(struct db *db, const char *account, int64_t *micros, struct err *e);

/* What the tenant holds open for jobs that have not ended, and what this calendar month (UTC) has billed. */
int ledger_exposure(struct db *db, int64_t *held_micros, int64_t *billed_micros, struct err *e);

#endif
