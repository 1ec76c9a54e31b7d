/* Linear regression without epochs: the weights that minimise the squared error, by the normal equations in
 * double. */
#ifndef LEARN_LEAST_SQUARES_H
#define LEARN_LEAST_SQUARES_H

#include "base/err.h"
#include "learn/fit.h"

/* Sets params (of the graph of one Dense layer) to the minimum of Σ(y − ŷ)² + rows·l2·Σw². Columns that
 * depend on each other (one-hot groups) share their weight: a tiny ridge picks the smallest solution. */
int least_squares_run(const struct fit_request *q, struct params *params, struct err *e);

/* Σ over a feature's floats: network weights w [width, target 0] in the raw units of the features and the
 * target: y = intercept + Σ weight[i]·raw[i], with one-hot floats as they are. weight has preprocess->width
 * places. */
void least_squares_raw_units(const struct preprocess *p, const float *kernel, const float *bias,
                             int64_t target, double *weight, double *intercept);

#endif
