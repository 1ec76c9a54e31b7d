/* What usage.c gives to the rest of store/. */
#ifndef STORE_USAGE_INTERNAL_H
#define STORE_USAGE_INTERNAL_H

#include "store/usage.h"

/* Adds to the current hour of add's model and version (bucket_start_s is not looked at). */
int usage__add(struct db *db, const char *tenant_id, const struct usage_row *add, struct err *e);

/* What rows of a version cost at so much per 1,000: whole micro-units, the rest is carried to the version's
 * next ones. The carry is written: bill the amount in the same transaction. ERR_INVALID beyond an int64. */
int usage__price(struct db *db, const char *tenant_id, const char *version_id, int64_t rows, int64_t price,
                 int64_t *amount_micros, struct err *e);

#endif
