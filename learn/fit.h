/* The training loop: shuffled mini-batches, validation after each epoch, early stopping with the best weights
 * restored, and an end with a reason when the loss is no longer a number. Bit-identical for the same request
 * on the same kind of CPU. */
#ifndef LEARN_FIT_H
#define LEARN_FIT_H

#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/err.h"
#include "learn/evaluate.h"
#include "learn/preprocess.h"
#include "learn/split.h"
#include "learn/spec/spec.h"
#include "learn/watch.h"

struct fit_request {
    const struct resolved *resolved; /* all borrowed */
    const struct graph *graph;
    const struct preprocess *preprocess;
    const struct table *table;
    const struct split *split;
    const int32_t *classes; /* by row; NULL for regression */
    struct evaluator *evaluator;
    struct watch *watch;
    size_t limit_bytes; /* of the training plan; 0 for no limit */
};

struct fit_result {
    int64_t epochs_run, best_epoch; /* from 1; best_epoch: whose weights params hold */
    bool stopped_early;
    struct buf history; /* JSON array: an object per epoch; owned by the caller */
};

/* Trains params in place (initialised here by the spec's seed). ERR_INVALID with epoch and step when training
 * diverges. */
int fit_run(const struct fit_request *q, struct params *params, struct fit_result *out, struct err *e);

#endif
