/* k-fold cross-validation: a training spec trained k times, each time without one part of the rows, and
 * measured on just that part. Everything that is learnt, preprocessing too, is learnt inside the fold. Its
 * checkpoints (learn/cross_save.c) hold the folds that are done and where the running one stands. */
#ifndef LEARN_CROSS_H
#define LEARN_CROSS_H

#include "learn/train.h"

/* request->spec is an evaluate job's spec with a base (learn/spec/review.h). No artifact is written; the
 * metrics are the figures' means over the folds, their standard deviations (over the folds as the population)
 * under "std", each fold's own under "folds", and, for classes, the confusion matrix of all of them together.
 * Errors as train_run's; one fold's failure is the job's, with the fold's number. */
int cross_run(struct train_result *out, const struct train_request *request,
              const struct train_callbacks *callbacks, struct err *e);

#endif
