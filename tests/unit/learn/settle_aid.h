/* What the tests of specs share: that a spec is refused as it should be, or that what it comes to holds. Each
 * fails the test, with the spec, when it is not so. */
#ifndef TESTS_UNIT_LEARN_SETTLE_AID_H
#define TESTS_UNIT_LEARN_SETTLE_AID_H

#include "tests/unit/learn/aid.h"

/* Settled against the schema; resolved_free. */
struct resolved *settle(const char *text, const struct schema *s);

/* It is not: the field at fault, and what is said of it (NULL: any words). Returns the ERR_*. */
int settle_refused(const char *text, const struct schema *s, const char *field, const char *message);

/* What was settled is written so that it settles to the same again. */
void settle_again(const struct resolved *r, const struct schema *s);

/* The graph has the parameters and, within a factor of 2, the FLOPs that were settled; training and a loaded
 * version fit into the memory that was estimated. */
void settle_graph(const struct resolved *r, const char *text);

#endif
