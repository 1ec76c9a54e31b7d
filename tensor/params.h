/* The weights of a graph: one flat, 64-byte-aligned float buffer, each parameter at its offset, in the
 * graph's order.
 *
 *     data: [ dense/kernel … pad | dense/bias … pad | … ]      pad floats are zero and stay zero
 *
 * Gradients and optimiser slots use the same layout, so that an optimiser is one loop over flat memory and a
 * checkpoint is a few buffers. One writer at a time. */
#ifndef TENSOR_PARAMS_H
#define TENSOR_PARAMS_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/err.h"
#include "tensor/graph.h"
#include "tensor/tensor.h"

struct params_entry {
    char name[GRAPH_NAME_MAX];
    struct shape shape;
    size_t offset; /* in floats, a multiple of 16 */
    size_t count;  /* in floats, without padding */
    bool trainable, decay;
    double l2;
};

struct params {
    int n;
    struct params_entry *entry; /* owned */
    size_t len;                 /* floats, with padding */
    float *data;                /* owned; len floats. NULL in a layout */
};

/* Where each parameter would lie, without the memory. */
int params_layout(struct params **out, const struct graph *g, struct err *e);
bool params_same_layout(const struct params *a, const struct params *b); /* names, shapes and offsets */

/* All zero. ERR_NOMEM with the bytes when it does not fit. */
int params_create(struct params **out, const struct graph *g, struct err *e);
void params_free(struct params *p);

void params_init(struct params *p, const struct graph *g,
                 uint64_t seed);                                /* as each parameter's init_spec says */
int params_find(const struct params *p, const char *name);      /* index or -1 */
void params_copy(struct params *to, const struct params *from); /* same graph; for "best weights so far" */

/* The view of parameter i inside buf, any buffer of p's layout (p->data, gradients, an optimiser slot). */
struct view params_view(const struct params *p, int i, float *buf);

/* Σ l2·w² over all parameters: what regularisation adds to the loss. */
double params_penalty(const struct params *p);

#endif
