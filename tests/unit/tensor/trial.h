/* Small networks of every kind, their data, and training runs of them: what the tests of threads and of parts
 * try out. */
#ifndef TESTS_UNIT_TENSOR_TRIAL_H
#define TESTS_UNIT_TENSOR_TRIAL_H

#include <stdbool.h>
#include <stdint.h>
#include "net.h"

enum { TRIAL_FEATURES = 21, TRIAL_CLASSES = 5, TRIAL_ROWS = 67, TRIAL_STEPS = 6, TRIAL_NETS = 4 };

/* x [batch, row] and label [batch] → loss, "probabilities". */
struct trial_net {
    const char *name;
    struct graph *(*make)(void); /* the caller's to free */
    bool words;                  /* x is TRIAL_STEPS word numbers a row */
};
extern const struct trial_net trial_nets[TRIAL_NETS]; /* dense, image, recurrent, attention */

/* Another one, with batch normalisation. */
struct graph *trial_whole_batch_net(void);

/* TRIAL_ROWS rows, between the two calls, which are a group's setup and teardown. */
extern struct net_data trial_data;
int trial_make_data(void **state);
int trial_drop_data(void **state);

/* Training with threads however small the network is. */
struct plan_options trial_options(enum optim_kind kind, int64_t batch, int threads);

struct trial {
    struct graph *g;
    struct plan *plan;
    struct params *params;
    struct run *run;
    const void *feeds[2];
};

/* net: its number in trial_nets. Fails the test when it cannot be made. */
void trial_open(struct trial *t, int net, const struct plan_options *o);
void trial_close(struct trial *t);

#endif
