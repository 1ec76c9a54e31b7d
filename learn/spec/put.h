/* Putting a value at a path inside a spec's JSON, and looking a path up: how a search changes one number of a
 * spec.
 *
 *     training.optimizer.learning_rate      architecture[0].units      preprocess[1].max
 *
 * Names are joined by dots and places in lists stand in brackets. */
#ifndef LEARN_SPEC_PUT_H
#define LEARN_SPEC_PUT_H

#include <cjson/cJSON.h>
#include "base/err.h"

/* Replaces what stands at path in root by a copy of value. Objects on the way that are missing are made; an
 * optimiser that is a mere name becomes an object of that name. ERR_INVALID, field = `field`: a malformed
 * path, a place in a list that is not there, or a step into something that has no parts. */
int spec_put(cJSON *root, const char *path, const cJSON *value, const char *field, struct err *e);

/* What stands at path, borrowed; NULL when nothing does. */
const cJSON *spec_at(const cJSON *root, const char *path);

#endif
