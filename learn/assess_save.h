/* An assessment as a checkpoint: the figures of the rows that were measured. Shared inside learn/assess*.c
 * only. One thread. */
#ifndef LEARN_ASSESS_SAVE_H
#define LEARN_ASSESS_SAVE_H

#include "learn/metrics.h"
#include "learn/train.h"
#include "learn/watch.h"

/* Where a pass over rows stands: the first `at` of n_rows have gone into m. All borrowed. */
struct assess_place {
    const struct train_request *request; /* the job's */
    size_t at, n_rows, batch;            /* at is a whole number of batches, or n_rows */
    struct metrics *m;
};

/* Writes it where the watch wants it, if it does. ERR_IO, ERR_NOMEM. */
int assess_save(const struct assess_place *p, const struct watch *watch, struct err *e);

/* Takes up the request's checkpoint, if there is one, into at and m. One that is none of this job's, or not
 * sound, is told and left. ERR_NOMEM. */
int assess_resume(struct assess_place *p, struct watch *watch, struct err *e);

#endif
