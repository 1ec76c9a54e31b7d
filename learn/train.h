/* One training run from start to artifact: reads the data from descriptors, fits, measures, writes one
 * safetensors file. Runs on the caller's thread; holds no global state. The same request gives a
 * bit-identical artifact on the same kind of CPU, in one go or with any number of checkpoints between. Its
 * single steps: learn/training.h. */
#ifndef LEARN_TRAIN_H
#define LEARN_TRAIN_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <cjson/cJSON.h>
#include "base/buf.h"
#include "base/err.h"

enum { TRAIN_MAX_INPUTS = 4 };

struct train_input {
    bool test;        /* part of the test dataset */
    const char *role; /* "table", "features", "labels" */
    int fd;           /* read to its end, not closed; a pipe or a file */
    uint64_t bytes;   /* of the stored file; 0 when unknown */
};

struct train_request {
    const cJSON *spec; /* borrowed, all of them */
    const cJSON *schema;
    const cJSON *test_schema; /* NULL: no test dataset */
    const cJSON *lineage;     /* an object that goes into the artifact as it is; NULL for {} */
    size_t n_inputs;
    struct train_input inputs[TRAIN_MAX_INPUTS];
    size_t memory_bytes; /* refused up front above it; 0 for no limit */
    double seconds;      /* ends as ERR_TIMEOUT when it runs longer; 0 for no limit */
    double used_seconds; /* of these, by earlier attempts */
    int threads;         /* granted to the run, the caller's included; 0 and 1: the caller's alone */
    int artifact_fd; /* written from its current offset; scratch of a job of several trainings until then */
    const void
        *resume; /* an earlier attempt's checkpoint (learn/checkpoint.h), borrowed; NULL: from the start */
    size_t resume_bytes;
};

struct train_progress {
    const char *phase;     /* "read", "train", "evaluate"; "trial" or "fold" when one of these has ended */
    int64_t epoch, epochs; /* epoch counts from 1 */
    int64_t step, steps;   /* within the epoch, from 1 */
    bool epoch_end;
    const char *metrics_json; /* {"loss":…,"accuracy":…} and at an epoch's end "val_loss", … */
    double eta_seconds;       /* -1 while unknown */
    const char *part;         /* "trial" or "fold": the run is one of several of the job; else NULL */
    const char *part_json;    /* which: {"number":3,"of":6,…} */
};

enum { TRAIN_PART_MAX = 48 };

/* A checkpoint that was written, and where in the training it stands: `step` steps of `epoch` are done. */
struct train_mark {
    char part[TRAIN_PART_MAX]; /* of a job of several trainings, which one: "trial 3 of 6"; else "" */
    uint64_t bytes;
    int64_t epoch, step;
    double took_ms; /* of this thread's time */
};

/* Called on the training thread; must not block. Each may be NULL. progress: at most four a second and at
 * each epoch's end. message level is "info" or "warn".
 *
 * cancelled: asked every 5 ms, between batches; true ends the run as ERR_CANCELLED.
 * save_due:  asked between steps; true: a checkpoint is written, and the run goes on.
 * save_to:   where to: a seekable descriptor, whose file is replaced, or -1 for nowhere. Asked too when
 *            `cancelled` has ended the run where it can be resumed, so that it can make way: a run that is
 *            given up answers -1.
 * saved:     the checkpoint is whole. Without this call the file is not to be used.
 * refused:   `resume` was none of this run's, or not sound: it starts from the beginning. */
struct train_callbacks {
    void *ctx;
    void (*progress)(void *ctx, const struct train_progress *p);
    void (*message)(void *ctx, const char *level, const char *text);
    bool (*cancelled)(void *ctx);
    bool (*save_due)(void *ctx);
    int (*save_to)(void *ctx);
    void (*saved)(void *ctx, const struct train_mark *mark);
    void (*refused)(void *ctx, const char *why);
};

struct train_result {
    struct buf metrics;   /* JSON object, for a job's result */
    struct buf signature; /* JSON object */
    uint64_t artifact_bytes;
    uint64_t memory_bytes; /* what a worker needs to hold the version with one session */
};

/* ERR_INVALID / ERR_UNSUPPORTED / ERR_TOO_LARGE: the tenant's to mend, `field` set; ERR_CANCELLED,
 * ERR_TIMEOUT; ERR_IO for descriptors that fail. *out is zeroed first, and the caller's to dispose on
 * success. */
int train_run(struct train_result *out, const struct train_request *request,
              const struct train_callbacks *callbacks, struct err *e);
void train_result_dispose(struct train_result *r);

#endif
