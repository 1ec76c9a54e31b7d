/* Layers as users name them (Keras), written in graph operators. Each takes a value and gives a value. */
#ifndef TENSOR_LAYER_H
#define TENSOR_LAYER_H

#include <stdint.h>
#include <stdbool.h>
#include "base/err.h"
#include "tensor/graph.h"

/* "relu", "leaky_relu", "tanh", "sigmoid", "softmax", "gelu", "silu", "linear". False for any other name. */
bool layer_activation_known(const char *name);
int layer_activation(struct graph *g, const char *name, int x, const char *activation, int *y, struct err *e);

struct layer_dense {
    int64_t units;          /* ≥ 1 */
    const char *activation; /* NULL or "linear" for none */
    bool bias;
    struct init_spec kernel_init, bias_init;
    double l2; /* on the kernel */
};

/* Defaults of Keras: bias, glorot_uniform, zeros. */
struct layer_dense layer_dense_defaults(int64_t units, const char *activation);

/* x [batch, …, n] → y [batch, …, units]. Makes the parameters name/kernel [n, units] and name/bias [units].
 */
int layer_dense(struct graph *g, const char *name, int x, const struct layer_dense *d, int *y, struct err *e);

int layer_dropout(struct graph *g, const char *name, int x, double rate, int *y,
                  struct err *e); /* 0 ≤ rate < 1 */
int layer_flatten(struct graph *g, const char *name, int x, int *y,
                  struct err *e); /* [batch, …] → [batch, n] */
int layer_reshape(struct graph *g, const char *name, int x, const struct shape *row, int *y,
                  struct err *e); /* row: without the batch */

/* ---- images and signals: [batch, length, channels] or [batch, height, width, channels] ---- */

/* Sizes are {height, width}, or {length} alone with one dimension. */
struct layer_conv {
    int64_t filters;                            /* ≥ 1 */
    int64_t kernel[2], strides[2], dilation[2]; /* ≥ 1 */
    int64_t groups;         /* divides channels and filters; as many as channels: depthwise */
    const char *padding;    /* "valid", "same", or with one dimension "causal" */
    const char *activation; /* NULL or "linear" for none */
    bool bias;
    struct init_spec kernel_init, bias_init;
    double l2; /* on the kernel */
};

/* Defaults of Keras: a kernel as wide as high, stride and dilation 1, valid, bias, glorot_uniform, zeros. */
struct layer_conv layer_conv_defaults(int64_t filters, int64_t kernel, const char *activation);

/* Makes the parameters name/kernel [size…, channels / groups, filters] and name/bias [filters]. */
int layer_conv(struct graph *g, const char *name, int x, const struct layer_conv *c, int *y, struct err *e);

enum layer_pooling { LAYER_POOL_MAX, LAYER_POOL_AVERAGE };

struct layer_pool {
    enum layer_pooling kind;
    int64_t size[2];     /* ≥ 1 */
    int64_t strides[2];  /* 0: as size */
    const char *padding; /* "valid" or "same"; NULL: valid */
};

int layer_pool(struct graph *g, const char *name, int x, const struct layer_pool *p, int *y, struct err *e);

/* Over all of height and width (or length): [batch, …, channels] → [batch, channels]. */
int layer_global_pool(struct graph *g, const char *name, int x, enum layer_pooling kind, int *y,
                      struct err *e);

/* ---- normalising ---- */

/* Over all dimensions but the last. Trains by the batch's moments, infers by running ones, which every
 * training step moves: running·momentum + batch·(1 − momentum). Makes name/gamma, name/beta, and, not
 * trainable, name/moving_mean and name/moving_variance. Keras: momentum 0.99, epsilon 1e-3. */
int layer_batch_norm(struct graph *g, const char *name, int x, double momentum, double epsilon, int *y,
                     struct err *e);

/* Over the last dimension. Makes name/gamma and name/beta. Keras: epsilon 1e-3. */
int layer_layer_norm(struct graph *g, const char *name, int x, double epsilon, int *y, struct err *e);

/* ---- sequences: [batch, steps, features], or i32 numbers [batch, steps] before their embedding ---- */

/* ids i32 [batch, …] from 0 to rows − 1 → [batch, …, width]. Makes name/embeddings [rows, width]. A number
 * out of range makes the run fail with ERR_INVALID. */
int layer_embedding(struct graph *g, const char *name, int ids, int64_t rows, int64_t width, int *y,
                    struct err *e);

/* Adds name/positions [steps, features]: learned from init on, or, init NULL, sines and cosines that stay
 * (Vaswani et al. 2017). */
int layer_positions(struct graph *g, const char *name, int x, const struct init_spec *init, int *y,
                    struct err *e);

/* How many steps of ids i32 [batch, steps] come before the padding at the end: i32 [batch], the `lengths` of
 * the layers below. */
int layer_lengths(struct graph *g, const char *name, int ids, int32_t pad, int *y, struct err *e);

/* The mean of the first `lengths` steps: [batch, features]; zeros for a length of 0. */
int layer_sequence_mean(struct graph *g, const char *name, int x, int lengths, int *y, struct err *e);

int layer_add(struct graph *g, const char *name, int a, int b, int *y,
              struct err *e); /* a residual connection */
int layer_concat(struct graph *g, const char *name, const int *values, int n, int axis, int *y,
                 struct err *e); /* axis may count from the end; 2 to 8 values */

enum layer_cell { LAYER_RNN, LAYER_GRU, LAYER_LSTM };

struct layer_recurrent {
    enum layer_cell cell;
    int64_t units;         /* 1 … 65536 */
    bool return_sequences; /* every step's state instead of the last */
    bool bidirectional;    /* a second cell from the end to the start; features join */
    int lengths; /* value i32 [batch], or -1: all steps count. Behind its length a row's state stays */
    struct init_spec kernel_init, recurrent_init;
    double l2; /* on the kernel */
};

/* Defaults: one direction, the last state, no lengths, glorot_uniform, orthogonal. */
struct layer_recurrent layer_recurrent_defaults(enum layer_cell cell, int64_t units);

/* Makes name/kernel [features, gates·units], name/recurrent_kernel [units, gates·units] and name/bias (GRU:
 * [2, 3·units]); gates in Keras's order; bidirectional: under name/forward and name/backward. LSTM's forget
 * gate starts with a bias of 1. */
int layer_recurrent(struct graph *g, const char *name, int x, const struct layer_recurrent *r, int *y,
                    struct err *e);

struct layer_attention {
    int64_t heads;
    int64_t
        key_dim; /* features of a head; 0: x's features shared out among the heads, which must divide them */
    bool causal; /* a step sees itself and those before */
    int memory;  /* value [batch, steps', features'] of keys and values, or -1: x itself */
    int lengths; /* value i32 [batch]: how many keys count; or -1: all */
    bool no_bias;
    const struct init_spec *kernel_init; /* NULL: glorot_uniform */
};

/* Multi-head attention with its projections: Dense layers name/query, /key, /value, /output; y has x's shape.
 */
int layer_attention(struct graph *g, const char *name, int x, const struct layer_attention *a, int *y,
                    struct err *e);

/* An encoder or decoder block of a Transformer (Vaswani et al. 2017; normalising first: Xiong et al. 2020).
 */
struct layer_transformer {
    int64_t heads, key_dim;   /* as in struct layer_attention */
    int64_t intermediate_dim; /* of the hidden Dense */
    const char *activation;   /* of the hidden Dense */
    double dropout;           /* of what each part adds; 0 for none */
    double epsilon;           /* of the normalisations */
    bool normalize_first;     /* x + f(norm(x)) instead of norm(x + f(x)) */
    bool causal;
    int lengths;                         /* of x, or -1 */
    int memory;                          /* the encoder's rows to attend to as well, or -1 */
    int memory_lengths;                  /* of memory, or -1 */
    const struct init_spec *kernel_init; /* NULL: glorot_uniform */
};

/* Defaults of KerasHub: relu, no dropout, epsilon 1e-5, normalising last; no mask, no memory. */
struct layer_transformer layer_transformer_defaults(int64_t heads, int64_t intermediate_dim);

/* x [batch, steps, features] → y of that shape. Makes the layers name/attention, with memory name/cross, then
 * name/hidden and name/result, and for each part a normalisation behind the same name with _norm. */
int layer_transformer(struct graph *g, const char *name, int x, const struct layer_transformer *t, int *y,
                      struct err *e);

/* ---- */

/* "mse", "mae", "huber" (target f32, shape of x), "sparse_categorical_crossentropy" (target i32 [batch, …]),
 * "sequence_crossentropy" (target i32 [batch, steps], of which zeros are padding and do not count; every row
 * counts the same), "binary_crossentropy" (target f32, shape of x). x is the model's output: for the
 * cross-entropies the result of a softmax or sigmoid activation, which is looked through so that the loss
 * works on the logits; ERR_INVALID when it is not. Sets the graph's loss. */
int layer_loss(struct graph *g, const char *name, const char *loss, int x, int target, struct err *e);

struct layer_loss_details {
    double label_smoothing; /* [0, 1]: that much of each label goes to all classes alike */
    double huber_delta;     /* > 0: larger errors count linearly */
    int weights; /* value f32 of the target's shape, or -1; the loss is the mean of weight·loss over all */
};

/* The same with details: smoothing and weights for sparse_categorical_ and binary_crossentropy (ERR_INVALID
 * for others), the delta for huber. */
int layer_loss_with(struct graph *g, const char *name, const char *loss, const struct layer_loss_details *d,
                    int x, int target, struct err *e);

#endif
