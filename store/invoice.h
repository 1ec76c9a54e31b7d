/* Invoices: a month of the ledger, by kind, model and price. Computed, not stored: the lines always sum to
 * the ledger. */
#ifndef STORE_INVOICE_H
#define STORE_INVOICE_H

#include <stdint.h>
#include "store/db.h"

struct invoice_line {
    char kind[16]; /* "train" | "predict" */
    char model[STORE_NAME_MAX];
    int64_t quantity;
    char unit[16]; /* "second" | "1000 rows": what the price is for; quantity counts seconds | rows */
    int64_t unit_price_micros;
    int64_t amount_micros;
};
struct invoice {
    char month[8]; /* "2026-01" */
    char currency[4];
    struct invoice_line *lines; /* in the arena, by kind, model, price */
    int n_lines;
    int64_t total_micros;
};
/* month "YYYY-MM" (UTC), else ERR_INVALID. A month without entries gives an invoice without lines. */
int invoice_make(struct db *db, const char *month, struct arena *a, struct invoice *out, struct err *e);

#endif
