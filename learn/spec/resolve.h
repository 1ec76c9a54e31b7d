/* The stages of spec_resolve, each in its file. Inside learn/spec. */
#ifndef LEARN_SPEC_RESOLVE_H
#define LEARN_SPEC_RESOLVE_H

#include "learn/spec/spec.h"

/* Most rows that a batch of inference is computed at a time once its intermediates outgrow a core's cache
 * (tensor/plan.c); smaller ones take less than two MiB. */
enum { RESOLVE_PART_ROWS = 16 };

/* What a checkpoint holds of each weight: itself, the best so far, and two of the optimiser's; and texts. */
enum { CHECKPOINT_GROUPS = 4, CHECKPOINT_TEXTS = 256 << 10 };

struct resolving {
    const struct spec *spec;
    const struct schema *train, *test; /* test may be NULL */
    struct resolved *r;
    const struct layer_spec *first; /* of the chain that is being settled: where an Embedding may be */
    int64_t ids;                    /* > 0: rows are ids below this, of a vocabulary */
    struct layer_shape memory; /* what decoders attend to: the encoder's rows; rank 0 where there is none */
    int64_t kept;              /* numbers that layers keep beside their parameters: moving means */
    uint64_t row_floats;       /* training: what layers keep of each row beside their input and output */
    uint64_t score_floats;     /* attention's probabilities of each row, when training and when not */
    uint64_t work_bytes;       /* what they need once, whatever the batch */
};

/* spec.path + "." + name into out; returns out. */
const char *resolve__path(const struct resolving *v, const char *name, char out[JSON_PATH_MAX]);

int resolve__steps(struct resolving *v, struct err *e);     /* preprocessing, and each feature's width */
int resolve__layers(struct resolving *v, struct err *e);    /* shapes layer by layer, output, loss */
int resolve__seq2seq(struct resolving *v, struct err *e);   /* instead of task, steps and layers */
int resolve__training(struct resolving *v, struct err *e);  /* defaults, rows of each part */
int resolve__objective(struct resolving *v, struct err *e); /* after the layers: what the loss is made of */
int resolve__augmentation(struct resolving *v,
                          struct err *e); /* after the layers; refuses what are no images */
int resolve__estimate(struct resolving *v, struct err *e);
int resolve__layer_memory(struct resolving *v, struct err *e); /* adds kept, row_floats and work_bytes */

/* Whether the spec makes ids of this feature's texts: a step says so, or nothing is said about the only
 * feature and it holds free text (or an Embedding comes first). */
bool resolve__tokenises(const struct resolving *v, const struct column *c);

/* Layers as given, without an InputLayer, into the memory of what is resolved. */
int resolve__copy_layers(struct resolving *v, const struct layer_spec *from, size_t n, struct layer_spec **to,
                         size_t *n_to, struct err *e);

/* The test column that answers to a training column; NULL without a test dataset. */
const struct column *resolve__test_column(const struct resolving *v, const struct column *c);

#endif
