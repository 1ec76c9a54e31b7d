/* What training minimises where it is not the plain loss of the output: MAE and Huber for numbers, class
 * weights and label smoothing for classes. The tensor core has no operator for these, so a step goes through
 * the network twice: once for the outputs, from which the slope of the loss is worked out here, and once with
 * a linear loss of just that slope. Twice the time of a plain step, and exact for any network, since dropout
 * repeats its draws. */
#ifndef LEARN_OBJECTIVE_H
#define LEARN_OBJECTIVE_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/err.h"
#include "learn/spec/spec.h"
#include "tensor/graph.h"

/* Inputs of the graph: f32, shaped like the network's output. */
#define OBJECTIVE_ZERO "data/zero"
#define OBJECTIVE_PULL "data/pull"

struct objective {
    enum objective_kind kind;
    double delta, smoothing;
    size_t width;    /* numbers of a row of output; 1 with classes: a sigmoid */
    double *weights; /* by class, owned; NULL when all count the same */
};

bool objective_wanted(const struct training_spec *t);

/* counts: rows of each class in the training part, for balanced weights: rows / (classes·count), 0 for a
 * class without rows. NULL without classes. */
int objective_init(struct objective *o, const struct resolved *r, const int64_t *counts, size_t width,
                   struct err *e);
void objective_dispose(struct objective *o);

/* A copy of g whose loss is Σ pull·z / count over z: with classes the values before the output's softmax or
 * sigmoid, else the output. */
int objective_graph(struct graph **out, const struct graph *g, bool classes, struct err *e);

/* The mean loss of n rows, and pull [n, width]: its gradient by z, times n·width. output: probabilities
 * [n, width] and classes, or predictions and values [n, width]. NaN outputs give a NaN loss. */
double objective_classes(const struct objective *o, const float *output, const int32_t *classes, size_t n,
                         float *pull);
double objective_values(const struct objective *o, const float *output, const float *values, size_t n,
                        float *pull);

#endif
