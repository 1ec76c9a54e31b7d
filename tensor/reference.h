/* The oracle: a graph carried out by the operators' naive references in double precision, node by node,
 * nothing shared. Slow; for tests of kernels and of gradients. Runs lowered and differentiated graphs too.
 * One thread. */
#ifndef TENSOR_REFERENCE_H
#define TENSOR_REFERENCE_H

#include <stdint.h>
#include "base/err.h"
#include "tensor/graph.h"

struct reference;

/* g is borrowed. Every value gets memory for `rows` rows. */
int reference_create(struct reference **out, const struct graph *g, int64_t rows, struct err *e);
void reference_free(struct reference *r);

/* The numbers of a value, row-major; those of inputs and parameters are the caller's to fill before a run. */
double *reference_value(struct reference *r, int value);
size_t reference_count(const struct reference *r, int value);

void reference_run(struct reference *r, uint64_t seed, uint64_t step);

#endif
