/* The training loop: shuffled mini-batches, validation after each epoch, early stopping with the best weights
 * restored, and an end with a reason when the loss is no longer a number. Bit-identical for the same request
 * on the same kind of CPU with the same number of threads, however often it was laid down in a checkpoint and
 * picked up again.
 *
 *   fit.c         epochs, early stopping, checkpoints
 *   fit_batch.c   the network's plan, and one step of it
 *   fit_rows.c    the feed of rows of numbers with one target
 *   fit_report.c  progress and history
 */
#ifndef LEARN_FIT_H
#define LEARN_FIT_H

#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/err.h"
#include "learn/evaluate.h"
#include "learn/feed.h"
#include "learn/preprocess.h"
#include "learn/split.h"
#include "learn/spec/spec.h"
#include "learn/watch.h"
#include "tensor/backend.h"

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
    /* What the network is fed with instead of the table; then preprocess, table, classes and evaluator are
     * not looked at. NULL: rows of the table. */
    const struct feed *feed;
    int threads;                   /* 0 and 1: the caller's alone */
    const struct backend *backend; /* NULL: backend_auto() */
    /* > 0: the run pauses behind that epoch, its state in the watch's descriptor, from which it goes on as if
     * it had not. */
    int64_t until_epoch;
    /* For checkpoints. digest: of all that decides what the run computes; NULL: none are written or read.
     * resume: a checkpoint's bytes, or NULL to start from the beginning. */
    const char *digest;
    const void *resume;
    size_t resume_bytes;
};

struct fit_result {
    int64_t epochs_run, best_epoch; /* from 1; best_epoch: whose weights params hold */
    bool stopped_early;
    bool paused;        /* by until_epoch; params hold the best weights so far */
    double seconds;     /* spent training, by all attempts */
    struct buf history; /* JSON array: an object per epoch; owned by the caller */
};

/* Trains params in place (initialised here by the spec's seed). ERR_INVALID with epoch and step when training
 * diverges. ERR_CANCELLED by the watch: the run's state is then in the watch's descriptor if it gave one. */
int fit_run(const struct fit_request *q, struct params *params, struct fit_result *out, struct err *e);

/* Writes a checkpoint of a run whose training is over, where the watch wants one: resumed, it goes on with
 * what fit_run has returned. */
int fit_save_fitted(const struct fit_request *q, struct params *params, const struct fit_result *r,
                    struct err *e);

#endif
