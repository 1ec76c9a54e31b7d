/* From one settled layer to nodes of a graph: the rows of learn/spec/layers.h for the tensor core. Inside
 * learn. */
#ifndef LEARN_BUILD_H
#define LEARN_BUILD_H

#include "base/err.h"
#include "learn/spec/spec.h"
#include "tensor/graph.h"

/* The chain of layers so far. */
struct building {
    struct graph *g;    /* borrowed */
    int x;              /* the value that the next layer takes */
    int lengths;        /* value i32 [batch]: steps before the padding; -1: all count */
    int memory;         /* what decoders attend to: value f32 [batch, steps, features]; -1: nothing */
    int memory_lengths; /* as lengths, of memory */
    int64_t ids; /* > 0: an Embedding has no more rows, whatever was settled: the vocabulary is smaller */
};

/* A chain that begins with x and has no memory. */
struct building build_begin(struct graph *g, int x);

/* Appends the layers to b->g and moves b->x on. Each one's `in` must be x's shape without the batch. Errors
 * name the layer's path. */
int build_layers(struct building *b, const struct layer_spec *layers, size_t n, struct err *e);

/* The rows of the files below. */
int build_conv(struct building *b, const struct layer_spec *l, struct err *e);
int build_pool(struct building *b, const struct layer_spec *l, struct err *e);
int build_global_pool(struct building *b, const struct layer_spec *l, struct err *e);
int build_embedding(struct building *b, const struct layer_spec *l, struct err *e);
int build_recurrent(struct building *b, const struct layer_spec *l, struct err *e);
int build_positions(struct building *b, const struct layer_spec *l, struct err *e);
int build_attention(struct building *b, const struct layer_spec *l, struct err *e);
int build_transformer(struct building *b, const struct layer_spec *l, struct err *e);
int build_residual(struct building *b, const struct layer_spec *l, struct err *e);

/* An initialiser of a layer, with its value. */
struct init_spec build_init(const char *name, double value);

/* The activation as the tensor core's dense and convolutional layers take it: "linear" for leaky_relu, whose
 * slope makes it a node of its own, which build_slope appends. */
const char *build_activation_name(const struct layer_spec *l);
int build_slope(struct building *b, const struct layer_spec *l, struct err *e);

#endif
