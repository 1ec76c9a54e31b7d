/* What usage.c gives to the rest of store/. */
#ifndef STORE_USAGE_INTERNAL_H
#define STORE_USAGE_INTERNAL_H

#include "store/usage.h"

/* Adds to the current hour of add's model and version (bucket_start_s is not looked at). */
int usage__add(struct db *db, const char *tenant_id, const struct usage_row *add, struct err *e);

#endif
