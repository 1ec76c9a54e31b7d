/* Scores an existing version on a dataset: reads its artifact, maps the dataset's categories and classes to
 * the version's, predicts every row that has a target and measures. Its checkpoints (learn/assess_save.h)
 * hold the figures of the rows so far. */
#ifndef LEARN_ASSESS_H
#define LEARN_ASSESS_H

#include "learn/train.h"

/* The artifact comes as the one input whose role is ASSESS_ROLE, the dataset as the train inputs. No artifact
 * is written. Metrics as a training reports them of its test dataset, "evaluated_on" "dataset". ERR_INVALID:
 * the dataset lacks a column of the version's, or holds a category or class that the version does not know;
 * ERR_CORRUPT: the artifact is none. */
#define ASSESS_ROLE "model"
int assess_run(struct train_result *out, const struct train_request *request,
               const struct train_callbacks *callbacks, struct err *e);

#endif
