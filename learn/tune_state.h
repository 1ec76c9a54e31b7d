/* What the search's files share. Shared inside learn/tune*.c only.
 *
 *   tune.c        rungs and trials, the result
 *   tune_tell.c   what the trials say, passed on with which one says it
 *   tune_save.c   the search as a checkpoint
 */
#ifndef LEARN_TUNE_STATE_H
#define LEARN_TUNE_STATE_H

#include "learn/checkpoint_nest.h"
#include "learn/trial.h"
#include "learn/tune.h"

struct search {
    const struct train_request *request;
    struct train_callbacks inner; /* what the trials' watch calls; ctx is the search */
    struct nest nest;
    struct watch searching, ending;
    struct training_data data, seen; /* seen: data without the test dataset, borrowed */
    struct tune_spec *spec;
    struct trial_scene scene;
    int rungs;
    struct tune_rung rung[TUNE_MAX_RUNGS];
    /* Where the search stands: order[at] of rung_at is running or comes next. */
    struct trial *trials;
    struct trial **order; /* by rank, of those that are still in it */
    int64_t n_order, at;
    int rung_at;
    int64_t ended;                /* runs of trials that have ended, on all rungs */
    struct trial *running, *best; /* best: of what is kept; its training is there */
    struct buf kept;              /* what trial_restore brings best back from */
    bool ready;                   /* all that is above holds */
    bool out_of_time;
    bool quiet; /* what was told by an earlier attempt is only done again */
    int64_t began_ns;
    double planned, done, done_before; /* full trainings; done_before: by earlier attempts */
    double all_epochs;                 /* of a full training */
    struct buf part;
};

/* Epochs that the running trial has had when this rung begins. */
static inline int64_t tune__from_epoch(const struct search *s)
{
    return s->rung_at > 0 ? s->rung[s->rung_at - 1].epochs : 0;
}

/* tune_tell.c. The callbacks, with the search as ctx. */
void tune__on_message(void *ctx, const char *level, const char *text);
void tune__on_progress(void *ctx, const struct train_progress *p);
void tune__tell_trial(struct search *s); /* how the running trial ended */

/* tune_save.c. The nest's `write`. */
int tune__write(void *search, const void *training, size_t len, int fd, struct train_mark *mark,
                struct err *e);
/* Between trials: the checkpoint says which comes next. */
void tune__save(struct search *s);
/* Takes up the request's checkpoint, if there is one: where the search stands, and its best trial. One that
 * is none of this search's, or not sound, is told and left. */
int tune__resume(struct search *s, struct err *e);

#endif
