/* The inside of a plan, for the files that compile and run it. */
#ifndef TENSOR_PLAN_IMPL_H
#define TENSOR_PLAN_IMPL_H

#include "tensor/plan.h"

enum where {
    WHERE_NOWHERE, /* nobody reads it, or only in packed form */
    WHERE_FEED,    /* the caller's memory; index: the plan's input */
    WHERE_PARAM,   /* offset in floats: params->data in training, plan->weights in inference */
    WHERE_GRAD,    /* offset in floats: the run's gradients */
    WHERE_ARENA,   /* offset in bytes */
};

struct value_place {
    enum where where;
    size_t offset;
    int index;
};

struct node_place {
    size_t work_offset;   /* bytes, in the arena; meaningful when the operator has workspace */
    size_t packed_offset; /* floats, in plan->weights */
    bool packed;
    bool adds;                /* output 0 is a gradient that the operator adds up over the parts */
    size_t join_at, join_len; /* floats, in the gradients: where the shard adds output 0 up; 0: nowhere */
};

struct plan {
    struct plan_options options;
    const struct backend *backend;
    struct graph *graph;   /* lowered and, for training, differentiated; owned */
    struct params *layout; /* of the parameters, without memory; owned */
    int *input;            /* per input of the plan: input of the graph; owned */
    int n_inputs;
    int *grad;        /* per parameter: value id of its gradient, or -1; owned; training only */
    int64_t *mark_at; /* per parameter: where the marks of its gradient's rows begin, or -1; likewise */
    size_t marks_len; /* of one shard */
    struct value_place *value; /* per value; owned */
    struct node_place *node;   /* per node; owned */
    int threads;               /* of a run; shards of a full step */
    int64_t shard_rows;        /* most rows of one shard */
    int64_t part_rows;         /* most rows that it computes at a time; what the arena is laid out for */
    const char *together;      /* name of the operator that keeps threads at 1, or NULL */
    size_t shard_arena;        /* bytes */
    struct plan_bytes bytes;
    size_t weights_len; /* floats: inference's raw and packed parameters; what a run packs in each step */
    float *weights;     /* inference: those; owned; NULL before plan_load */
};

/* What the outputs of all rows take when they are made a part of the rows at a time; 0 when the arena holds
 * all. */
int plan__output_bytes(const struct plan *p, size_t *out, struct err *e);

/* Packs node i's weight, one of data's, which are laid out as p->layout says, into its place in to. */
void plan__pack(const struct plan *p, int i, const float *data, float *to);

/* Decides where every value, workspace and weight lies; fills value, node, bytes.arena and weights_len. */
int plan__place(struct plan *p, struct err *e);

#endif
