/* The operator table: one entry an operator, in the file of its family under tensor/ops/. The entry is all
 * that the rest of the library knows of it: building checks attributes and infers shapes with it, autodiff
 * calls its backward, the planner asks for workspace, runs call forward, tests compare forward with
 * reference.
 *
 * Names and semantics are ONNX's where ONNX has the operator. Internal ones (gradients, fusions) appear in
 * compiled graphs only: nobody can store or load them. A unit test fails for an entry that lacks a part or a
 * generated test case. */
#ifndef TENSOR_OP_H
#define TENSOR_OP_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/err.h"
#include "tensor/backend.h"
#include "tensor/graph.h"
#include "tensor/kernel.h"
#include "tensor/rng.h"
#include "tensor/tensor.h"

enum attr_type { ATTR_INT, ATTR_FLOAT, ATTR_INTS };

struct op_attr {
    const char *name;
    enum attr_type type;
    bool required;
    union attr_value fallback;
    double min, max; /* inclusive, of the number or of each integer */
};

struct typed_shape {
    enum dtype dtype;
    struct shape shape;
};

/* Shape inference and cost: in → out. */
struct op_shapes {
    const struct node *node; /* attributes and number of inputs */
    struct typed_shape in[NODE_MAX_INPUTS], out[NODE_MAX_OUTPUTS];
};

/* One execution in float32. Shapes are concrete. */
struct op_call {
    const struct node *node;
    const struct view *in[NODE_MAX_INPUTS]; /* data of a packed input is NULL */
    const struct view *out[NODE_MAX_OUTPUTS];
    const float
        *packed; /* the input that op->pack_input names, packed by kernels->pack; NULL when it is not */
    void *work;  /* op->workspace bytes, 64-byte aligned */
    const struct backend *backend;
    bool inference; /* products must go through the kernels, whose rows do not depend on each other */
    struct rng_key rng;
    int64_t first_row; /* of the batch, that in[0] begins with; 0 when in[0] has no rows */
    bool adds;         /* out[0] is added onto what is there; only where op->adds */
    uint8_t *marks;    /* only where op->marks: a byte for each row of out[0], 1 where it is not 0; or NULL */
    double share;      /* these rows, of those that their gradients are summed over; in (0, 1] */
};

/* One execution of the naive reference in double; integers are doubles too. */
struct ref_view {
    struct shape shape;
    double *data;
};

struct op_ref {
    const struct node *node;
    struct ref_view in[NODE_MAX_INPUTS], out[NODE_MAX_OUTPUTS];
    struct rng_key rng;
};

/* Differentiation of one node: dy[i] is the value id of the loss's gradient by output i (-1: none arrives);
 * backward appends nodes with grad_op and sets dx[i] for the inputs that it is wanted for. */
struct op_grad {
    struct graph *graph;
    struct node node; /* a copy: the graph's own moves while nodes are appended */
    int dy[NODE_MAX_OUTPUTS];
    bool want[NODE_MAX_INPUTS];
    int dx[NODE_MAX_INPUTS]; /* -1 at first */
};

/* How an operator takes the rows of a batch, which decides whether threads may each compute some of them. */
enum op_rows {
    OP_ROWS_APART,   /* row i of its results comes from row i of its inputs */
    OP_ROWS_AFFINE,  /* the same, and its result of means is the mean of its results */
    OP_ROWS_MEAN,    /* output 0 is a mean over the rows, each row counting the same; other outputs: apart */
    OP_ROWS_TOGETHER /* anything else. An operator that makes what has no rows of what has some, and does not
                        say MEAN, is taken for this; gradients of parameters are sums and need say nothing */
};

struct op {
    const char *name;
    bool internal;
    enum op_rows rows;
    int min_inputs, max_inputs, outputs;
    const struct op_attr *attrs; /* n_attrs of them */
    int n_attrs;

    /* Checks inputs and sets out[]. ERR_INVALID says which input and what was expected. */
    int (*infer)(struct op_shapes *s, struct err *e);
    /* 0, or ERR_INVALID for values that cannot be (a label out of range). */
    int (*forward)(const struct op_call *c, struct err *e);
    void (*reference)(const struct op_ref *r);
    bool no_gradient; /* not differentiable: the gradient stops here, and backward is NULL */
    int (*backward)(struct op_grad *d, struct err *e);
    /* Floating-point operations, out[] set, no batch left open. */
    double (*flops)(const struct op_shapes *s);
    /* Bytes that forward needs beside its outputs; NULL: none. */
    size_t (*workspace)(const struct op_shapes *s);

    bool adds;     /* forward can add output 0 onto what is there: gradients of parameters, part by part */
    bool marks;    /* forward can keep marks of the rows of output 0, and clears only marked ones: tables */
    bool all_rows; /* its work on a few rows costs about as much as on many */
    bool alias;    /* output 0 is input 0's memory under another shape */
    unsigned in_place; /* bit i: output 0 may be written over input i when nobody needs that any more */
    /* > 0: inference packs this input, a parameter of two or more dimensions, as the right side [product of
     * the others, last] of a product, unless packs (NULL: always) says no. */
    int pack_input;
    bool (*packs)(const struct node *n);
    bool pack_trans; /* it is packed as its transpose */
    bool pack_steps; /* training in parts packs it too, once a step */
    /* State: after a training step, moves what the op keeps in those inputs that have their bit in `state`,
     * each a parameter that is not trainable. Its outputs are still there, but for the first. NULL: none. */
    void (*keep)(const struct op_call *c);
    unsigned state;
    bool random; /* draws numbers keyed by the node */
};

const struct op *op_find(const char *name); /* NULL when there is none */
int op_count(void);
const struct op *op_at(int index);

/* ---- for the files of the families ---- */

/* Appends an operator of the table, internal ones too, with a generated name; for backward. *value is its
 * first output; the others' ids follow. */
int grad_op(struct op_grad *d, const char *op, const int *inputs, int n, const struct attr *attrs,
            int n_attrs, int *value, struct err *e);

int op_refuse(const struct op_shapes *s, int input, struct err *e,
              const char *expected); /* "input 1 is f32 [3]; expected …" */
int op_same_shape(struct op_shapes *s,
                  struct err *e); /* infer: all inputs f32 of one shape, so is the output */
size_t ref_count(const struct ref_view *v);
void op_split_rows(const struct shape *s, size_t *rows,
                   size_t *cols);                /* cols: the last dimension; rows: all before */
double op_flops_one(const struct op_shapes *s);  /* one operation an output element */
double op_flops_none(const struct op_shapes *s); /* moves memory at most */
void op_gemm(const struct op_call *c, const struct gemm *g, const struct gemm_tail *tail);

#endif
