/* Optimisers over flat buffers, with Keras's names and PyTorch's formulas.
 *
 *   sgd                 w −= lr·g
 *   momentum            m = μ·m + g;  w −= lr·m          (nesterov: w −= lr·(g + μ·m))
 *   rmsprop             v = ρ·v + (1−ρ)·g²;  w −= lr·g / (√v + ε)
 *   adam                m = β₁m + (1−β₁)g;  v = β₂v + (1−β₂)g²;  w −= lr·m̂ / (√v̂ + ε)      (Kingma & Ba 2015)
 *   adamw               w −= lr·λ·w, then adam; λ only where the parameter decays            (Loshchilov &
 * Hutter 2019)
 *
 * g includes, in this order: 2·l2·w of the parameter; l1·sign(w) where the parameter decays; clipping by
 * number, then by tensor, then by all of them together. */
#ifndef TENSOR_OPTIM_H
#define TENSOR_OPTIM_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/err.h"
#include "tensor/backend.h"
#include "tensor/params.h"
#include "tensor/team.h"

enum optim_kind {
    OPTIM_SGD,
    OPTIM_MOMENTUM,
    OPTIM_NESTEROV,
    OPTIM_RMSPROP,
    OPTIM_ADAM,
    OPTIM_ADAMW,
    OPTIM_COUNT
};

/* Weights are moved so many at a time: with two slots and the gradients of two shards 160 KiB, which fits a
 * core's second cache. */
enum { OPTIM_MAX_SLOTS = 2, OPTIM_CHUNK = 8192 };

struct optim_spec {
    enum optim_kind kind;
    double momentum;     /* μ, for momentum and nesterov; [0, 1) */
    double rho;          /* ρ, for rmsprop; [0, 1) */
    double beta1, beta2; /* for adam and adamw; [0, 1) */
    double epsilon;      /* > 0 */
    double weight_decay; /* λ, for adamw; ≥ 0 */
    double l1;           /* ≥ 0; on the parameters that decay */
    double clip_value;   /* each number of the gradient into [−this, this]; 0 for no clipping, so below */
    double clip_each;    /* each parameter's gradient is scaled down to this L2 norm */
    double clip_norm;    /* the whole gradient is scaled down to this L2 norm */
};

const char *optim_name(enum optim_kind kind); /* "adam" */
int optim_of(const char *name);               /* the kind, or -1 */
struct optim_spec
optim_defaults(enum optim_kind kind); /* μ 0.9, ρ 0.9, β 0.9/0.999, ε 1e-7, λ 0.01, no clipping */
double optim_default_rate(enum optim_kind kind);            /* 0.01 for the sgd family, else 0.001 */
int optim_check(const struct optim_spec *s, struct err *e); /* ERR_INVALID, `field` the member's name */

int optim_slots(enum optim_kind kind);                       /* flat buffers that it keeps: 0, 1 or 2 */
const char *optim_slot_name(enum optim_kind kind, int slot); /* "m", "v" */

/* ---- the optimiser of a run: its slots, and the flat buffers cut into chunks that fit a cache ---- */

struct optim;

/* spec is copied, the others are borrowed. Slots are zero. ERR_NOMEM. */
int optim_create(struct optim **out, const struct optim_spec *spec, const struct backend *b, struct params *p,
                 struct err *e);
void optim_free(struct optim *o); /* NULL is fine */
float *optim_slot(struct optim *o, int slot);
size_t optim_bytes(const struct optim_spec *spec, const struct params *layout); /* all that it allocates */

/* Gradients as the shards of a step left them: their mean is Σ weight[i]·part[i], added up in this order into
 * part[0]. Buffers of the parameters' layout. */
struct optim_grads {
    int n;
    float *part[TEAM_MAX_MEMBERS];
    float weight[TEAM_MAX_MEMBERS];
    /* Of tables with rows of at most OPTIM_CHUNK, whose gradients have few rows that are not 0: a byte for
     * each row of part[i], 0 where it is 0. Those of part[0] are kept up to date. Parameter p's begin at
     * mark_at[p], -1: it has none; NULL: none has. */
    const int64_t *mark_at;
    uint8_t *mark[TEAM_MAX_MEMBERS];
};

/* One member's share of the work; the members may be threads, and meet between calls. The result does not
 * depend on their number. Only parameters that are trainable count. */
struct optim_turn {
    int member, members;
    uint64_t step; /* from 0 */
    double rate;
};
void optim_mean(struct optim *o, const struct optim_grads *g, const struct optim_turn *t);
/* The mean with penalties and clipping by number; what norms are made of is noted. */
void optim_gather(struct optim *o, const struct optim_grads *g, const struct optim_turn *t);
/* After every member's optim_gather: clips by norm and moves the weights. part[0] is used up. */
void optim_move(struct optim *o, const struct optim_grads *g, const struct optim_turn *t);
/* Both at once, each chunk in the cache: only where no norm is wanted. */
void optim_gather_and_move(struct optim *o, const struct optim_grads *g, const struct optim_turn *t);
bool optim_needs_norms(const struct optim *o);
double optim_norm(const struct optim *o); /* of the last gradients before clipping by norm; 0 unless needed */

/* One update on one thread. Returns optim_norm. */
double optim_step(struct optim *o, float *grads, uint64_t step, double rate);

#endif
