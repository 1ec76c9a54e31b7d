/* Measures weights on rows of a table: preprocesses, predicts in batches, and gathers metrics in the target's
 * own units. */
#ifndef LEARN_EVALUATE_H
#define LEARN_EVALUATE_H

#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "learn/data/table.h"
#include "learn/metrics.h"
#include "learn/preprocess.h"
#include "learn/watch.h"
#include "tensor/backend.h"
#include "tensor/graph.h"
#include "tensor/params.h"

struct evaluator;

/* g and p are borrowed for its life. backend: NULL for backend_auto(). */
int evaluator_create(struct evaluator **out, const struct graph *g, const struct preprocess *p,
                     const struct backend *backend, struct err *e);
void evaluator_free(struct evaluator *v);

/* What is measured: rows of a table, and their classes (by row index; NULL for regression). */
struct evaluation {
    const struct table *table;
    const int32_t *classes;
    const uint32_t *rows;
    size_t n_rows;
};

enum { EVALUATOR_BATCH_ROWS = 256 };

/* Makes ready for these weights. */
int evaluator_load(struct evaluator *v, const struct params *params, struct err *e);

/* With loaded weights: adds the rows to m, batch by batch; at most EVALUATOR_BATCH_ROWS are added as a whole
 * or, with an error, not at all. Errors as evaluator_run's. */
int evaluator_add(struct evaluator *v, const struct evaluation *what, struct metrics *m, struct watch *watch,
                  struct err *e);

/* Loads, clears m and fills it. ERR_CANCELLED and ERR_TIMEOUT by the watch; ERR_INVALID for rows that cannot
 * be preprocessed. */
int evaluator_run(struct evaluator *v, const struct params *params, const struct evaluation *what,
                  struct metrics *m, struct watch *watch, struct err *e);

/* network output [rows, 1] of a sigmoid → probabilities [rows, 2] */
void evaluate_both_classes(const float *p, size_t rows, float *out);

#endif
