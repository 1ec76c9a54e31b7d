/* One trial of a search: a training whose spec is the search's own, which may pause after some epochs and go
 * on later as if it had not. Owned by the search; one thread. */
#ifndef LEARN_TRIAL_H
#define LEARN_TRIAL_H

#include "base/buf.h"
#include "base/json.h"
#include "learn/checkpoint_nest.h"
#include "learn/spec/tune.h"
#include "learn/training.h"

enum trial_state {
    TRIAL_WAITING,  /* not begun, or paused between rungs */
    TRIAL_FINISHED, /* trained in full, or to its own early end */
    TRIAL_STOPPED,  /* lost, or out of time: some epochs only */
    TRIAL_FAILED
};

struct trial {
    int64_t number; /* from 1 */
    enum trial_state state;
    bool scored; /* score and loss hold: of the validation rows */
    double score, loss;
    int64_t epochs;               /* trained so far */
    double seconds;               /* in all, without the run that goes on */
    int64_t began_ns;             /* when that began */
    struct buf paused;            /* the checkpoint to go on from; empty: none */
    struct training *training;    /* owned; NULL unless its result is kept */
    cJSON *spec;                  /* owned: what `training` borrows */
    struct train_request request; /* the search's, with the checkpoint */
    struct err why;               /* FAILED */
};

/* What trials share, all borrowed. */
struct trial_scene {
    const struct train_request *request;
    const struct training_data *data; /* without the test dataset: it decides nothing */
    const struct tune_spec *tune;
    enum score_kind score;
    struct nest *nest; /* what the trials' watch asks where to lay down a pause */
    struct watch *watch;
};

/* Trains until the trial has had `epochs` (0: all), measures it on the validation rows, and keeps
 * trial->training. What is this trial's own fault makes it TRIAL_FAILED and returns 0; ERR_CANCELLED,
 * ERR_TIMEOUT and what is nobody's fault return. */
int trial_run(struct trial *t, const struct trial_scene *scene, int64_t epochs, struct err *e);

/* Seconds spent on it so far, by a run that goes on too. */
double trial_seconds(const struct trial *t);

/* *out gets what trial_restore brings t->training back from; nothing where it was solved, not trained. */
int trial_keep(struct trial *t, const struct trial_scene *scene, struct buf *out, struct err *e);
/* Makes t->training anew as trial_run left it; the record stays as it is. Where `kept` is none of this
 * trial's it is trained once more. */
int trial_restore(struct trial *t, const struct trial_scene *scene, const struct buf *kept, struct err *e);

/* Lets go of the trained network; the record stays. */
void trial_forget(struct trial *t);
void trial_dispose(struct trial *t);

/* Below 0 when a is the better one: by score, then by loss, then by number. Failed ones come last. */
int trial_compare(const struct trial *a, const struct trial *b, enum score_kind score);

void trial_to_json(const struct trial *t, const struct tune_spec *tune, struct json_writer *w);
const char *trial_state_name(enum trial_state s);

#endif
