/* The stages of spec_resolve, each in its file. Inside learn/spec. */
#ifndef LEARN_SPEC_RESOLVE_H
#define LEARN_SPEC_RESOLVE_H

#include "learn/spec/spec.h"

struct resolving {
    const struct spec *spec;
    const struct schema *train, *test; /* test may be NULL */
    struct resolved *r;
    int64_t kept;        /* numbers that layers keep beside their parameters: moving means */
    uint64_t row_floats; /* training: what layers keep of each row beside their input and output */
    uint64_t work_bytes; /* what they need once, whatever the batch */
};

/* spec.path + "." + name into out; returns out. */
const char *resolve__path(const struct resolving *v, const char *name, char out[JSON_PATH_MAX]);

int resolve__steps(struct resolving *v, struct err *e);     /* preprocessing, and each feature's width */
int resolve__layers(struct resolving *v, struct err *e);    /* shapes layer by layer, output, loss */
int resolve__training(struct resolving *v, struct err *e);  /* defaults, rows of each part */
int resolve__objective(struct resolving *v, struct err *e); /* after the layers: what the loss is made of */
int resolve__estimate(struct resolving *v, struct err *e);
int resolve__layer_memory(struct resolving *v, struct err *e); /* adds kept, row_floats and work_bytes */

/* The test column that answers to a training column; NULL without a test dataset. */
const struct column *resolve__test_column(const struct resolving *v, const struct column *c);

#endif
