/* A training run laid down on its way: a safetensors file from which it goes on as if it had never stopped.
 *
 *   tensors   weights/<name>, best/<name> (best weights so far, when early stopping restores them),
 *             optimizer/<slot>/<name>; F32, shaped like the parameter
 *   metadata  tenor.format    "tenor.checkpoint.1"
 *             tenor.digest    SHA-256 of all that decides what the run computes: the settled spec, the
 * network, the fitted preprocessing, the split's sizes and the lineage tenor.state     JSON: epoch, step,
 * sums, early stopping, seconds, and on what it ran tenor.history   JSON: the array of finished epochs
 *
 * What is not here follows from what is: the order of an epoch's rows from seed and epoch, dropout and
 * augmentation from seed and step, the learning rate from the step. A reader believes nothing: a file of
 * another run, or one that is cut or altered, is refused before a byte of it is used. */
#ifndef LEARN_CHECKPOINT_H
#define LEARN_CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/crypto.h"
#include "base/err.h"
#include "tensor/params.h"

enum { CHECKPOINT_MAX_SLOTS = 4, CHECKPOINT_BACKEND_MAX = 64 };

/* Where a run stands. */
struct checkpoint_state {
    int64_t epoch, step; /* from 1; steps done in that epoch: at its last one validation is still due */
    bool fitted;         /* training is over; epoch is the last one that was run */
    bool stopped_early;  /* with fitted */
    double loss_sum, hits, rows_done; /* of the epoch so far */
    double best_score;
    int64_t best_epoch; /* 0: none yet */
    double seconds;     /* spent training */
};

/* What there is to lay down, or room for what is read back. */
struct checkpoint {
    char digest[SHA256_HEX_LEN];
    char backend[CHECKPOINT_BACKEND_MAX]; /* where it ran: "openblas/avx512"; and with how many threads */
    int threads;
    int64_t epochs, steps; /* what state is checked against */
    struct checkpoint_state state;
    struct buf
        history; /* '[' and the epochs so far, without the ']'; empty before the first one's end. Owned */
    struct params *weights; /* borrowed, as all that follow */
    struct params *best;    /* NULL: none are kept */
    int n_slots;            /* none are laid down or read once fitted */
    const char *slot_name[CHECKPOINT_MAX_SLOTS];
    float *slot[CHECKPOINT_MAX_SLOTS]; /* of weights' layout */
};

/* Replaces the file behind fd. ERR_IO, ERR_NOMEM. */
int checkpoint_write(const struct checkpoint *c, int fd, uint64_t *bytes, struct err *e);

/* Fills state, history, weights, best (if that is in the file) and slots. ERR_CORRUPT for what is no sound
 * checkpoint, ERR_CONFLICT for that of another run; then nothing of c has changed. *same_machine: it was
 * written on such a CPU with as many threads, so that the result will be bit-identical. bytes need not be
 * aligned, and may be released afterwards. */
int checkpoint_read(struct checkpoint *c, const void *bytes, size_t len, bool *same_machine, struct err *e);

#endif
