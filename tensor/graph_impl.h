/* The graph's inside, for the files of tensor/ that build graphs and rewrite them. */
#ifndef TENSOR_GRAPH_IMPL_H
#define TENSOR_GRAPH_IMPL_H

#include "tensor/graph.h"

struct named_output {
    char name[GRAPH_NAME_MAX];
    int value;
};

enum { GRAPH_MAX_OUTPUTS = 64 };

struct graph {
    struct value *value; /* owned; so are the others */
    int n_values, cap_values;
    struct node *node;
    int n_nodes, cap_nodes;
    int *input; /* value ids */
    int n_inputs, cap_inputs;
    struct param *param;
    int n_params, cap_params;
    struct named_output output[GRAPH_MAX_OUTPUTS];
    int n_outputs;
    int loss;    /* value id or -1 */
    int *bucket; /* hash of names: value id + 1, open addressing, n_buckets a power of two */
    int n_buckets;
};

/* graph_op with internal operators allowed, and the random stream kept when rng_id is given (NULL: the node's
 * index). */
int graph__op(struct graph *g, const char *name, const struct op *op, const int *inputs, int n_inputs,
              const union attr_value *attrs, const uint32_t *rng_id, int *values, struct err *e);

/* A name like stem that no value has, into out. */
void graph__fresh_name(const struct graph *g, char out[GRAPH_NAME_MAX], const char *stem);

#endif
