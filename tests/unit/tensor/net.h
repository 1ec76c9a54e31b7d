/* Small networks and data for the tests of tensor/. */
#ifndef TESTS_UNIT_TENSOR_NET_H
#define TESTS_UNIT_TENSOR_NET_H

#include <stdint.h>
#include "tensor/graph.h"
#include "tensor/params.h"
#include "tensor/plan.h"
#include "tensor/run.h"

/* Fails the test with the message when rc is not 0. */
void must(int rc, const struct err *e);

/* x [batch, features] → Dense(hidden, activation) → [Dropout] → Dense(classes, softmax), with its loss,
 * output "probabilities". */
struct graph *net_classifier(int64_t features, int64_t hidden, const char *activation, double dropout,
                             int64_t classes, double l2);

struct net_data {
    float *x;       /* [rows, features] */
    int32_t *label; /* [rows], learnable from x */
    int64_t rows, features;
};

void net_data_init(struct net_data *d, int64_t rows, int64_t features, int64_t classes, uint64_t seed);
void net_data_dispose(struct net_data *d);

/* n numbers in [-limit, limit). */
void net_random(float *out, size_t n, double limit, uint64_t seed, uint32_t stream);

struct plan *net_plan(const struct graph *g, const struct plan_options *o);
struct params *net_params(const struct graph *g, uint64_t seed);
struct run *net_run(const struct plan *p, struct params *params);

/* steps steps over d in order from step `first`, batches of the plan's max_batch, the last one smaller; the
 * last loss. */
float net_train(struct run *r, const struct plan *p, const struct net_data *d, int steps, uint64_t first,
                double rate);

uint64_t net_hash(const void *data, size_t bytes);

#endif
