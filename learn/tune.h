/* A tune job: trials one after another on data that is read once, sharing one budget of seconds and memory;
 * the best one becomes the version.
 *
 *     read ─▶ rung 1: every trial ─▶ rung 2: the best third, going on where they paused ─▶ … ─▶ the best
 *
 * The search is laid down as one checkpoint (learn/tune_save.c) between trials and inside them, and goes on
 * from it as if it had never stopped; what a search lays down resume takes up.
 *
 * A trial that diverges or doesn't fit is written down as failed and the search goes on. When a fiftieth of
 * the time is left, the search ends with the best so far. The same request gives a bit-identical artifact on
 * the same kind of CPU, unless time ran out. */
#ifndef LEARN_TUNE_H
#define LEARN_TUNE_H

#include "learn/train.h"

/* request->spec is a tune job's spec (learn/spec/tune.h). The result's metrics are
 * the best trial's, with "tune": the method, the metric and every trial's values, score, epochs, seconds and
 * state. Errors as train_run's; ERR_INVALID when every trial failed, with the first one's reason. */
int tune_run(struct train_result *out, const struct train_request *request,
             const struct train_callbacks *callbacks, struct err *e);

#endif
