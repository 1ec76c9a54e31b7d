/* Aliases: names that point at a version of their model and may be moved. "live" answers when a request names
 * no version. */
#ifndef STORE_ALIAS_H
#define STORE_ALIAS_H

#include "store/db.h"
#include "store/model.h"

/* Makes or moves it. expected_etag: -1 for any, 0 for "must be new", else the etag that it must have now
 * (ERR_CONFLICT). ERR_NOT_FOUND: field "model" or "version". ERR_INVALID: the name. */
int alias_set(struct db *db, const char *model, const char *alias, int64_t version, int64_t expected_etag,
              const struct actor *by, struct alias *out, struct err *e);
/* All aliases of a model by name, in the arena. ERR_NOT_FOUND when there is no such model. */
int alias_list(struct db *db, const char *model, struct arena *a, struct alias **out, int *n, struct err *e);

#endif
