/* What the training loop is fed with: it knows rows, the feed knows what they are made of. One feed a family
 * of networks: rows of numbers with one target (learn/fit.c's own), pairs of texts (learn/seq2seq.h).
 *
 *     fit: which rows ──fill──▶ the plan's inputs ──step──▶ outputs ──score──▶ accuracy of the epoch
 *
 * Used by the training thread alone, but for fill. */
#ifndef LEARN_FEED_H
#define LEARN_FEED_H

#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "learn/watch.h"
#include "tensor/params.h"
#include "tensor/run.h"

enum { FEED_MAX_INPUTS = 4 };

struct feed_input {
    const char *name; /* of the graph's input */
    size_t row_bytes;
};

/* Means over the rows measured. */
struct feed_scores {
    double loss, accuracy;
};

struct feed {
    void *ctx;
    size_t n_inputs;
    struct feed_input input[FEED_MAX_INPUTS];

    /* Rows of the table into to[i], n·input[i].row_bytes bytes each. ERR_INVALID names the column. Called on
     * several threads at once (learn/loader.h), and ahead of the step that the rows are for. */
    int (*fill)(void *ctx, const uint32_t *rows, size_t n, void *const *to, struct err *e);
    /* How many of these rows the outputs of a step got right; of a row of tokens, the share. */
    double (*hits)(void *ctx, const struct run *run, const uint32_t *rows, size_t n);
    /* Measures the weights on the validation part (rows: n of them). */
    int (*measure)(void *ctx, const struct params *params, const uint32_t *rows, size_t n,
                   struct feed_scores *out, struct watch *watch, struct err *e);
};

#endif
