/* What the recurrent layers' forward and backward share. */
#ifndef TENSOR_OPS_RECURRENT_H
#define TENSOR_OPS_RECURRENT_H

#include "tensor/op.h"

enum recurrent_kind { RECURRENT_SIMPLE, RECURRENT_GRU, RECURRENT_LSTM, RECURRENT_COUNT };

/* Columns of the recurrent kernel and where their sums lie among the gates; adds: onto what the input gave.
 */
struct recurrent_part {
    int64_t column, gate, width;
    bool adds;
};

/* x [batch, steps, inputs], y [batch, steps, units], gates [batch, steps, saved·units]. */
struct recurrent {
    enum recurrent_kind kind;
    int64_t batch, steps, inputs, units;
    int64_t width; /* of the kernels: 1, 3 or 4 times units */
    int64_t saved; /* of the gates: width, and for GRU units more */
    bool reverse;
    int n_parts;
    struct recurrent_part part[2];
};

struct recurrent recurrent_of(enum recurrent_kind kind, const struct shape *x, int64_t units, bool reverse);

/* The step that is taken as number i, and whether it is the first. */
static inline int64_t recurrent_step(const struct recurrent *r, int64_t i)
{
    return r->reverse ? r->steps - 1 - i : i;
}

/* The row of `row` at step t as an index of [batch, steps, …]; and that of the state before, -1 at the first.
 */
static inline int64_t recurrent_at(const struct recurrent *r, int64_t row, int64_t t)
{
    return row * r->steps + t;
}

static inline int64_t recurrent_before(const struct recurrent *r, int64_t row, int64_t i)
{
    return i == 0 ? -1 : recurrent_at(r, row, recurrent_step(r, i - 1));
}

/* Asks for n floats that the next step will read: steps lie so far apart that the CPU does not foresee it. */
static inline void recurrent_ask(const float *p, int64_t n)
{
    for (int64_t i = 0; i < n; i += 16) __builtin_prefetch(p + i);
}

double recurrent_flops(const struct recurrent *r);

#endif
