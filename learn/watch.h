/* Whether a training run should go on, and when it may speak: cancellation, the time limit, checkpoints, and
 * the pace of progress reports. Asked at every step; costs a clock reading. */
#ifndef LEARN_WATCH_H
#define LEARN_WATCH_H

#include <stdint.h>
#include <stdbool.h>
#include "base/err.h"
#include "learn/train.h"

struct watch {
    const struct train_callbacks *callbacks; /* borrowed */
    int64_t deadline_ns;                     /* monotonic; 0 for none */
    double seconds;                          /* the limit, for the message */
    int64_t next_question_ns;                /* when to ask for cancellation again */
    int64_t next_report_ns;
};

/* seconds: the limit of all attempts together, 0 for none; used_seconds: what earlier ones have used up. */
void watch_init(struct watch *w, const struct train_callbacks *callbacks, double seconds,
                double used_seconds);

/* 0, ERR_CANCELLED or ERR_TIMEOUT. */
int watch_check(struct watch *w, struct err *e);

/* Whether a checkpoint is due, and where to: a descriptor or -1. */
bool watch_save_due(const struct watch *w);
int watch_save_to(const struct watch *w);
void watch_saved(const struct watch *w, const struct train_mark *mark);
void watch_refused(const struct watch *w, const char *why);

/* Reports progress; between epochs' ends at most four times a second. */
bool watch_may_report(struct watch *w);
void watch_report(struct watch *w, const struct train_progress *p);
void watch_message(struct watch *w, const char *level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
