/* Aliases: names that point at a version of their model and may be moved. "live" answers when a request names
 * no version. */
#ifndef STORE_ALIAS_H
#define STORE_ALIAS_H

#include "store/db.h"
#include "store/model.h"

struct alias_target {
    int64_t version;
    int64_t canary;     /* 0: none */
    int64_t canary_ppm; /* its share of the calls, in millionths: 1 to 999,999 */
    int64_t shadow;     /* 0: none */
    int64_t shadow_ppm; /* the share of the calls that it gets too, in millionths: 1 to 1,000,000 */
    double shadow_tolerance;
    struct alias_limits limits; /* zeroed: nothing is watched */
};

/* Makes or moves it. expected_etag: -1 for any, 0 for "must be new", else the etag that it must have now
 * (ERR_CONFLICT). ERR_NOT_FOUND: field "model" or "version". ERR_INVALID: the name; a canary or shadow that
 * is the version itself, or takes other inputs or gives other outputs than it ("canary.version",
 * "shadow.version"). */
int alias_set(struct db *db, const char *model, const char *alias, const struct alias_target *to,
              int64_t expected_etag, const struct actor *by, struct alias *out, struct err *e);
/* Points it at the version that it pointed at before, without a canary; once, until it is moved again. With a
 * canary under way: ends the canary, and the version and its shadow stay. ERR_CONFLICT when there is nothing
 * to go back to; ERR_NOT_FOUND: field "model" or "alias". */
int alias_roll_back(struct db *db, const char *model, const char *alias, int64_t expected_etag,
                    const struct actor *by, struct alias *out, struct err *e);
/* The alias that answers for a model when none is named is "live". ERR_NOT_FOUND: field "model" or "alias".
 */
int alias_find(struct db *db, const char *model, const char *alias, struct alias *out, struct err *e);
/* All aliases of a model by name, in the arena. ERR_NOT_FOUND when there is no such model. */
int alias_list(struct db *db, const char *model, struct arena *a, struct alias **out, int *n, struct err *e);

#endif
