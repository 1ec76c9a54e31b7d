/* The meter's side to Postgres: the totals of one incarnation billed in one transaction. */
#ifndef SCHEDULER_METER_BILL_H
#define SCHEDULER_METER_BILL_H

#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/ids.h"

struct db;

struct meter_row {
    char tenant_id[ID_MAX], version_id[ID_MAX];
    int64_t requests, rows, compute_us; /* totals of the incarnation */
};

/* Bills the rows of one incarnation in one transaction; a row of no known version fails it with
 * ERR_NOT_FOUND, numbers beyond what a bill can hold with ERR_INVALID. */
int meter_bill(struct db *db, const char *incarnation, const struct meter_row *rows, size_t n, struct err *e);

#endif
