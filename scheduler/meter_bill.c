/* One transaction of usage_bill calls. */
#include "scheduler/meter_bill.h"

#include "store/db.h"
#include "store/usage.h"

struct bill {
    const char *incarnation;
    const struct meter_row *rows;
    size_t n;
};

static int bill_rows(struct db *db, void *arg, struct err *e)
{
    const struct bill *b = arg;
    int rc = 0;
    for (size_t i = 0; i < b->n && rc == 0; i++) {
        const struct meter_row *r = &b->rows[i];
        struct usage_counters total = {.requests = r->requests, .rows = r->rows, .compute_us = r->compute_us};
        rc = usage_bill(db, b->incarnation, r->tenant_id, r->version_id, &total, NULL, e);
    }
    return rc;
}

int meter_bill(struct db *db, const char *incarnation, const struct meter_row *rows, size_t n, struct err *e)
{
    struct bill b = {.incarnation = incarnation, .rows = rows, .n = n};
    return db_run(db, NULL, bill_rows, &b, e);
}
