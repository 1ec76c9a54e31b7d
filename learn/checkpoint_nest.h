/* A training inside a job of several, as far as stopping and checkpoints go: the nest stands between its
 * watch and the job's own callbacks, so that what the training lays down becomes a part of the job's
 * checkpoint.
 *
 *   training ──its checkpoint──▶ staging file ──the owner's write──▶ the job's file ──▶ outer->saved
 *                                     └──nest_take──▶ a pause, kept in memory
 *
 * One thread. */
#ifndef LEARN_CHECKPOINT_NEST_H
#define LEARN_CHECKPOINT_NEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/err.h"
#include "learn/train.h"

struct nest {
    const struct train_callbacks *outer; /* borrowed: the job's */
    int staging_fd; /* borrowed: a file for what is on its way; left empty and at its start */
    /* Writes the whole job's checkpoint to fd, with the running training's own (len 0: without one), and sets
     * mark->part where it wants to be spoken of as something else. */
    int (*write)(void *owner, const void *training, size_t len, int fd, struct train_mark *mark,
                 struct err *e);
    void *owner;
    /* Its own. */
    bool due, stopping; /* the job's checkpoint is wanted: to go on, or to give way with it */
    bool laid_down;     /* …and that of a job that gives way is written */
    int to_fd;          /* where to; -1: what comes is a pause */
    double began_ms;
    int rc; /* the job's checkpoint could not be written: the job ends with that */
    struct err why;
};

/* The callbacks of a training's watch, each with the nest; progress and message are the owner's own. */
bool nest_cancelled(struct nest *n);
bool nest_save_due(struct nest *n);
int nest_save_to(struct nest *n);
void nest_saved(struct nest *n, const struct train_mark *mark);

/* Between trainings: writes the job's checkpoint where it is wanted. epoch, step: where the job goes on. */
void nest_save(struct nest *n, int64_t epoch, int64_t step);

/* What a training ended with: rc, or what prevented a checkpoint, which stopped it. */
int nest_outcome(const struct nest *n, int rc, struct err *e);

/* What a training has laid down for its owner: *out gets the staging file's bytes. ERR_IO, ERR_TOO_LARGE
 * above limit bytes, ERR_NOMEM. */
int nest_take(const struct nest *n, struct buf *out, size_t limit, struct err *e);

#endif
