/* A static graph in single-assignment form: typed values, and nodes that compute values from earlier values.
 *
 *     inputs, params ──▶ node ──▶ value ──▶ node ──▶ … ──▶ outputs, loss
 *
 * Nodes are appended in an order that can be executed; shapes are inferred and checked on append, so a graph
 * that exists is sound. Operators carry ONNX names and semantics (tensor/op.h). A graph is what an artifact
 * stores; plans (tensor/plan.h) are compiled from it and never change it. One thread builds; a finished graph
 * may be read by many. */
#ifndef TENSOR_GRAPH_H
#define TENSOR_GRAPH_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <cjson/cJSON.h>
#include "base/err.h"
#include "base/json.h"
#include "tensor/tensor.h"
#include "tensor/init.h"

enum {
    GRAPH_NAME_MAX = 96, /* with the NUL */
    GRAPH_MAX_NODES = 4096,
    GRAPH_MAX_VALUES = 16384,
    NODE_MAX_INPUTS = 8,
    NODE_MAX_OUTPUTS = 4,
    NODE_MAX_ATTRS = 8,
};

struct op;
struct graph;

enum value_kind { VALUE_INPUT, VALUE_PARAM, VALUE_NODE };

struct value {
    char name[GRAPH_NAME_MAX]; /* unique in its graph */
    enum value_kind kind;
    enum dtype dtype;
    struct shape shape; /* dim[0] may be SHAPE_BATCH */
    int producer;       /* VALUE_NODE: index of the node; else -1 */
    int index;          /* VALUE_INPUT, VALUE_PARAM: its number among its kind; VALUE_NODE: which output */
};

/* A trainable tensor (or, with trainable false, state that the forward pass keeps). Always f32, never
 * batched. */
struct param_spec {
    struct shape shape;
    struct init_spec init;
    bool trainable;
    bool decay; /* takes part in decoupled weight decay (AdamW); kernels do, biases do not */
    double l2;  /* penalty l2·Σw² on the loss; its gradient 2·l2·w joins the parameter's. ≥ 0 */
};

struct param {
    int value;
    struct param_spec spec;
};

union attr_value {
    int64_t i;
    double f;
    struct shape ints; /* a list of integers, length in rank */
};

/* One attribute as a builder gives it. Which member of the union counts follows from the operator's table
 * entry. */
struct attr {
    const char *name; /* borrowed for the call */
    union attr_value value;
};

struct node {
    char name[GRAPH_NAME_MAX]; /* for messages; usually the layer's */
    const struct op *op;
    int n_inputs, n_outputs;
    int input[NODE_MAX_INPUTS];            /* value ids */
    int output[NODE_MAX_OUTPUTS];          /* value ids */
    union attr_value attr[NODE_MAX_ATTRS]; /* in the order of op->attrs */
    uint32_t rng_id; /* keys the node's random numbers; stays the same through every pass */
};

int graph_create(struct graph **out, struct err *e);
void graph_free(struct graph *g);
int graph_copy(struct graph **out, const struct graph *g, struct err *e);

/* Each append writes the new value's id to *value. Names: 1–95 bytes of [A-Za-z0-9_./:-], unique among
 * values. ERR_INVALID with the node's or value's name in `field`; the graph is unchanged on failure. */
int graph_input(struct graph *g, const char *name, enum dtype dtype, const struct shape *shape, int *value,
                struct err *e);
int graph_param(struct graph *g, const char *name, const struct param_spec *spec, int *value, struct err *e);

/* Appends one operator. Its outputs are named name, name:1, name:2 …; values[] receives the ids of all of
 * them (as many as the operator has; NODE_MAX_OUTPUTS is always enough room). Absent attributes take the
 * table's default. */
int graph_op(struct graph *g, const char *name, const char *op, const int *inputs, int n_inputs,
             const struct attr *attrs, int n_attrs, int *values, struct err *e);

/* Names a value as a result of the model ("probabilities"). At least one is needed to compile. */
int graph_output(struct graph *g, const char *name, int value, struct err *e);

/* The scalar that training minimises. */
int graph_set_loss(struct graph *g, int value, struct err *e);

int graph_value_count(const struct graph *g);
const struct value *graph_value(const struct graph *g, int id); /* id must be valid */
int graph_value_find(const struct graph *g, const char *name);  /* id or -1 */
int graph_node_count(const struct graph *g);
size_t graph_bytes(const struct graph *g); /* of memory that it takes */
const struct node *graph_node(const struct graph *g, int index);
int graph_input_count(const struct graph *g);
int graph_input_value(const struct graph *g, int index);       /* value id */
int graph_input_find(const struct graph *g, const char *name); /* input index or -1 */
int graph_param_count(const struct graph *g);
const struct param *graph_param_at(const struct graph *g, int index);
int graph_output_count(const struct graph *g);
int graph_output_value(const struct graph *g, int index); /* value id */
const char *graph_output_name(const struct graph *g, int index);
int graph_output_find(const struct graph *g, const char *name); /* output index or -1 */
int graph_loss(const struct graph *g);                          /* value id or -1 */

/* Trainable scalars, and floating-point operations of one forward pass over `rows` rows. */
int64_t graph_param_scalars(const struct graph *g);
int64_t graph_flops(const struct graph *g, int64_t rows);

/* JSON:
 *   {"format":"tenor.graph.1",
 *    "inputs":[{"name":"x","dtype":"f32","shape":[-1,784]}],
 *    "params":[{"name":"dense/kernel","shape":[784,128],"init":"glorot_uniform","trainable":true,"decay":true,"l2":0}],
 *    "nodes":[{"name":"dense/matmul","op":"MatMul","inputs":["x","dense/kernel"],"attrs":{}}],
 *    "outputs":[{"name":"probabilities","value":"softmax"}],"loss":"loss"}
 * graph_to_json writes one object through w. graph_from_json accepts nothing that the builders would refuse:
 * any tree, however hostile, gives a sound graph or ERR_*, with the JSON path in `field`. path is where node
 * stands ("" at the top). */
void graph_to_json(const struct graph *g, struct json_writer *w);
int graph_from_json(struct graph **out, const cJSON *node, const char *path, struct err *e);

#endif
