/* What the cross-validation's files share. Shared inside learn/cross*.c only.
 *
 *   cross.c        folds, the result
 *   cross_save.c   the cross-validation as a checkpoint
 */
#ifndef LEARN_CROSS_STATE_H
#define LEARN_CROSS_STATE_H

#include "learn/checkpoint_nest.h"
#include "learn/cross.h"
#include "learn/spec/review.h"
#include "learn/training.h"

/* What a fold came to. */
struct fold {
    int64_t rows, trained_rows, epochs;
    double seconds;
    double score[SCORE_COUNT]; /* NaN where there is none */
};

struct crossing {
    const struct train_request *request;
    struct train_callbacks inner;
    struct nest nest;
    struct watch watch;
    struct review_spec *spec;
    cJSON *base; /* owned */
    struct resolved *resolved;
    struct training_data data;
    uint8_t *fold_of; /* by the place in data.train.rows; owned */
    struct fold folds[REVIEW_MAX_FOLDS];
    struct metrics pooled;         /* the confusion of all folds; classification */
    struct preprocess *preprocess; /* the last fold's, for the names of the classes; owned */
    int64_t done;                  /* folds */
    int64_t running;               /* fold from 1; 0: none */
    bool ready;                    /* all that is above holds */
    struct buf paused;             /* what the next fold's training goes on from */
    int64_t done_before;           /* by earlier attempts */
    int64_t began_ns;
};

/* cross_save.c. The nest's `write`. */
int cross__write(void *crossing, const void *training, size_t len, int fd, struct train_mark *mark,
                 struct err *e);
/* Takes up the request's checkpoint, if there is one: the folds that are done, and what the next one goes on
 * from. One that is none of this job's, or not sound, is told and left. */
int cross__resume(struct crossing *c, struct err *e);

#endif
