/* The small graphs that the tests of the operator table run: at least one a table entry. */
#ifndef TESTS_UNIT_TENSOR_CASES_H
#define TESTS_UNIT_TENSOR_CASES_H

#include <stdint.h>
#include "base/err.h"
#include "tensor/graph.h"

/* What a case builds on: x [batch, n] that depends on the parameter "shift" [n], and n. */
struct at {
    struct graph *g;
    int x;
    int64_t n;
    struct err e;
};

/* Builds and gives a value: a loss when it is a scalar, else an output that is compared with a target. An i32
 * input is fed numbers from 0 to below n; at most CASE_MAX_INPUTS inputs, CASE_MAX_PARAMS parameters. */
struct op_case {
    const char *name;
    int (*build)(struct at *t);
};

enum { CASE_MAX_INPUTS = 6, CASE_MAX_PARAMS = 12 };

/* Tables that end with a NULL name. */
extern const struct op_case cases_basic[], cases_image[], cases_arrange[], cases_sequence[];

/* Appends; the first output. attrs may be NULL. */
int case_op(struct at *t, const char *name, const char *op, const int *in, int n_in, const struct attr *attrs,
            int n_attrs);
int case_param(struct at *t, const char *name, struct shape s);
int case_state(struct at *t, const char *name, struct shape s); /* a parameter that is not trainable */
int case_input(struct at *t, const char *name, enum dtype dtype, struct shape s);
struct shape case_batch_of(int64_t n); /* [batch, n] */

/* Input `name` of this shape plus a parameter of its last dimension, so that gradients go through it. */
int case_shifted(struct at *t, const char *name, struct shape s);

#endif
