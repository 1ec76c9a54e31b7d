/* Optimisers over flat buffers, with Keras's names and PyTorch's formulas.
 *
 *   sgd                 w −= lr·g
 *   momentum            m = μ·m + g;  w −= lr·m          (nesterov: w −= lr·(g + μ·m))
 *   rmsprop             v = ρ·v + (1−ρ)·g²;  w −= lr·g / (√v + ε)
 *   adam                m = β₁m + (1−β₁)g;  v = β₂v + (1−β₂)g²;  w −= lr·m̂ / (√v̂ + ε)      (Kingma & Ba 2015)
 *   adamw               w −= lr·λ·w, then adam; λ only where the parameter decays            (Loshchilov &
 * Hutter 2019)
 *
 * g includes 2·l2·w of the parameter. */
#ifndef TENSOR_OPTIM_H
#define TENSOR_OPTIM_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/err.h"
#include "tensor/backend.h"
#include "tensor/params.h"

enum optim_kind {
    OPTIM_SGD,
    OPTIM_MOMENTUM,
    OPTIM_NESTEROV,
    OPTIM_RMSPROP,
    OPTIM_ADAM,
    OPTIM_ADAMW,
    OPTIM_COUNT
};

enum { OPTIM_MAX_SLOTS = 2 };

struct optim_spec {
    enum optim_kind kind;
    double momentum;     /* μ, for momentum and nesterov; [0, 1) */
    double rho;          /* ρ, for rmsprop; [0, 1) */
    double beta1, beta2; /* for adam and adamw; [0, 1) */
    double epsilon;      /* > 0 */
    double weight_decay; /* λ, for adamw; ≥ 0 */
    double clip_norm;    /* the gradient is scaled down to this L2 norm; 0 for no clipping */
};

const char *optim_name(enum optim_kind kind); /* "adam" */
int optim_of(const char *name);               /* the kind, or -1 */
struct optim_spec
optim_defaults(enum optim_kind kind); /* μ 0.9, ρ 0.9, β 0.9/0.999, ε 1e-7, λ 0.01, no clipping */
double optim_default_rate(enum optim_kind kind);            /* 0.01 for the sgd family, else 0.001 */
int optim_check(const struct optim_spec *s, struct err *e); /* ERR_INVALID, `field` the member's name */

int optim_slots(enum optim_kind kind);                       /* flat buffers that it keeps: 0, 1 or 2 */
const char *optim_slot_name(enum optim_kind kind, int slot); /* "m", "v" */

/* One update of every trainable parameter. grads and slot[] have p's layout; grads is used up. step counts
 * from 0. Returns the gradient's L2 norm before clipping when clip_norm > 0, else 0. */
double optim_step(const struct optim_spec *s, const struct backend *b, struct params *p, float *grads,
                  float *const *slot, uint64_t step, double rate);

#endif
