/* What the fit's files share. Shared inside learn/fit*.c only. */
#ifndef LEARN_FIT_STATE_H
#define LEARN_FIT_STATE_H

#include "learn/augment.h"
#include "learn/checkpoint.h"
#include "learn/fit.h"
#include "learn/loader.h"
#include "learn/metrics.h"
#include "tensor/plan.h"
#include "tensor/run.h"

/* What one epoch comes to. Losses in the target's own units. */
struct epoch_scores {
    double loss, accuracy;                   /* while training: means over the batches so far */
    double val_loss, val_accuracy, val_rmse; /* NaN without a validation part */
};

struct fit {
    const struct fit_request *q;
    const struct training_spec *training;
    struct params *params, *best; /* best: NULL unless early stopping restores */
    struct plan *plan;
    struct run *run;
    struct metrics validation;
    struct feed feed; /* the request's, or the one of fit_rows.c */
    uint32_t *order;  /* the training part's rows, shuffled anew each epoch */
    struct loader *loader;
    struct loader_batch batch;  /* of this step: a stream for each of the feed's inputs */
    int place[FEED_MAX_INPUTS]; /* of each stream among the plan's inputs */
    const void *feeds[FEED_MAX_INPUTS];
    float *class_weight; /* by class; NULL when all rows count the same */
    struct augment augment;
    float *images; /* a batch of them for augment to work with; NULL when nothing is augmented */
    int64_t steps; /* per epoch */
    struct checkpoint_state at;
    struct buf *history; /* borrowed: the result's */
    int64_t started_ns;  /* of this attempt */
    double started_done; /* steps that were done then */
    double seconds;      /* of earlier attempts */
    double loss_scale;   /* network units → own units */
};

/* Whether epochs are scored by accuracy; else by the root of the mean squared error. */
static inline bool fit__has_accuracy(const struct fit *f)
{
    return f->q->feed || f->q->classes;
}

/* fit_batch.c. Everything a step needs, weights not initialised; what is open after an error is closed by
 * fit__close. */
int fit__open(struct fit *f, struct err *e);
/* The threads and the arena, once the weights are there. */
int fit__open_run(struct fit *f, struct err *e);
void fit__close(struct fit *f);
/* The step f->at.step of the epoch, which it counts. ERR_CANCELLED and ERR_TIMEOUT before anything has
 * changed. */
int fit__step(struct fit *f, struct err *e);
int fit__diverged(const struct fit *f, int64_t step, double loss, struct err *e);

/* fit_rows.c: the feed of rows of numbers. ctx is the fit, which gets its class_weight here. */
int fit__rows_feed(struct feed *out, struct fit *f, struct err *e);
int fit__rows_measure(struct fit *f, struct epoch_scores *s, struct err *e);

/* fit_report.c */
struct epoch_scores fit__scores(const struct fit *f); /* of the epoch so far */
void fit__report(struct fit *f, const struct epoch_scores *s, bool end);
void fit__add_history(const struct fit *f, const struct epoch_scores *s);

#endif
