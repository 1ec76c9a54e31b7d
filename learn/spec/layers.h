/* The table of layers: one entry a class of Keras. Parsing, writing back, shapes and estimates all read it;
 * learn/build.h has the same rows for the tensor core, which a gateway does not link.
 *
 *     JSON ──fields──▶ struct layer_spec ──settle──▶ in, out, parameters, FLOPs, memory ──fields──▶ JSON
 *
 * Constant; any thread. Inside learn/spec. */
#ifndef LEARN_SPEC_LAYERS_H
#define LEARN_SPEC_LAYERS_H

#include "learn/spec/resolve.h"

enum field_type {
    FIELD_INT,        /* int64_t, min … max */
    FIELD_NUM,        /* double, min … max */
    FIELD_BOOL,       /* bool */
    FIELD_ACTIVATION, /* enum activation */
    FIELD_PADDING,    /* int; max: how many of the words count */
    FIELD_INIT,       /* const char *: an initialiser's name, or Keras's object */
    FIELD_L2,         /* double: "l2", or Keras's kernel_regularizer */
    FIELD_SIZES,      /* int64_t[2]: a number for all spatial dimensions, or a list with one for each */
    FIELD_SHAPE,      /* struct layer_shape, one -1 allowed */
    FIELD_AXIS,       /* int64_t: a number, or Keras 2's list of one */
    FIELD_FIXED,      /* no choice: null or `only` */
    FIELD_IGNORED,    /* Keras writes it; it does not matter here */
};

struct layer_field {
    const char *name;
    enum field_type type;
    size_t at; /* offset in struct layer_spec */
    double min, max;
    bool required, alias; /* alias: an older name, which is read and never written */
    const char *only;     /* FIXED: "false", "0", "tanh"; NULL: only null */
};

struct layer_class {
    const char *name;                 /* Keras's: "Conv2D" */
    int spatial;                      /* dimensions of a window: 1, 2; 0 for none */
    const struct layer_field *fields; /* up to one without a name */
    struct layer_spec usual;          /* every default */

    /* Fills out (which is in when it is called) and what the layer costs; refuses rows that it cannot take.
     * NULL: rows stay as they are. */
    int (*settle)(struct resolving *v, struct layer_spec *l, struct err *e);
};

const struct layer_class *layer_class_of(enum layer_kind k);
const struct layer_class *layer_class_find(const char *name); /* NULL when not offered */
struct layer_spec layer_usual(enum layer_kind k);             /* nameless, with its defaults */
bool layer_is_activation(enum layer_kind k);                  /* nothing but an activation */

/* "[28, 28]" into out. */
char *layer__shape_text(char out[96], const struct layer_shape *s);
int64_t layer__product(const struct layer_shape *s);

/* ERR_INVALID unless rows have the rank of `wanted`, "[steps, features]"; says which Reshape would help. */
int layer__need(const struct layer_spec *l, int rank, const char *wanted, struct err *e);

/* Counts rows·columns weights that each of `places` positions multiplies once, and `more` parameters.
 * ERR_TOO_LARGE when that is more than fits. */
int layer__weigh(struct resolving *v, const struct layer_spec *l, int64_t rows, int64_t columns,
                 int64_t places, int64_t more, struct err *e);

int settle_dense(struct resolving *v, struct layer_spec *l, struct err *e);
int settle_flatten(struct resolving *v, struct layer_spec *l, struct err *e);
int settle_reshape(struct resolving *v, struct layer_spec *l, struct err *e);
int settle_relu(struct resolving *v, struct layer_spec *l, struct err *e);
int settle_input_layer(struct resolving *v, struct layer_spec *l, struct err *e);
int settle_conv(struct resolving *v, struct layer_spec *l, struct err *e);
int settle_pool(struct resolving *v, struct layer_spec *l, struct err *e);
int settle_global_pool(struct resolving *v, struct layer_spec *l, struct err *e);
int settle_norm(struct resolving *v, struct layer_spec *l, struct err *e);
int settle_embedding(struct resolving *v, struct layer_spec *l, struct err *e);
int settle_recurrent(struct resolving *v, struct layer_spec *l, struct err *e);
int settle_positions(struct resolving *v, struct layer_spec *l, struct err *e);
int settle_attention(struct resolving *v, struct layer_spec *l, struct err *e);
int settle_transformer(struct resolving *v, struct layer_spec *l, struct err *e);
int settle_residual(struct resolving *v, struct layer_spec *l, struct err *e);

/* Settles a list of layers one behind the other: *at is the shape of a row before them, then behind. */
int layer__settle_chain(struct resolving *v, struct layer_spec *layers, size_t n, struct layer_shape *at,
                        struct err *e);
bool layer__same_shape(const struct layer_shape *a, const struct layer_shape *b);

#endif
