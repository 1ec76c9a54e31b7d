/* The other end of a training run that lays down checkpoints: takes them all, or stops the run at some step.
 */
#ifndef TESTS_UNIT_LEARN_KEEPER_H
#define TESTS_UNIT_LEARN_KEEPER_H

#include "tests/unit/learn/aid.h"

/* A network with all that has a state: normalisation, dropout, early stopping with best weights. */
#define LAYERS                                                                                               \
    "\"architecture\":[{\"layer\":\"Dense\",\"units\":8},{\"layer\":\"BatchNormalization\"},{\"layer\":"     \
    "\"ReLU\"},{\"layer\":\"Dropout\",\"rate\":0.3},{\"layer\":\"Dense\",\"units\":3}]"
#define STOPPING "\"early_stopping\":{\"monitor\":\"val_loss\",\"patience\":2,\"restore_best_weights\":true}"

/* The whole spec over aid_flowers; the share of validation is the format's argument. */
#define PLAIN                                                                                                \
    "{\"target\":\"species\"," LAYERS ",\"training\":{\"epochs\":4,\"batch_size\":16,\"validation_split\":"  \
    "%s,\"seed\":3," STOPPING "}}"

enum { MARKS_MAX = 400 };

/* A run's other end: takes every checkpoint, or stops the run. */
struct keeper {
    int fd;
    bool every;                     /* a checkpoint after each step */
    int64_t stop_epoch, stop_after; /* ends the run once that many steps of that epoch were seen; 0: never */
    int64_t epoch, steps, seen;     /* as counted by the questions after each step */
    bool stopping, stopped_in_evaluation;
    int64_t asked_ns;
    size_t n;
    struct train_mark mark[MARKS_MAX];
    struct buf file[MARKS_MAX];
    int refusals;
    char why[512];
};

void keeper_open(struct keeper *k);
void keeper_close(struct keeper *k);
struct train_callbacks keeper_callbacks(struct keeper *k);

/* A run that must succeed. */
void keeper_train(struct aid_result *out, const struct aid_run *run);
/* Fails the test, naming the mark that b went on from, unless both ended with the same bytes. */
void keeper_same(const struct aid_result *a, const struct aid_result *b, const char *what,
                 const struct train_mark *mark);

#endif
