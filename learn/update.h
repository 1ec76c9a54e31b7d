/* What happens to gradients between the backward pass and the optimiser where the spec asks for more than the
 * tensor core's own update does: the L1 penalty, and clipping by number or by weight tensor. */
#ifndef LEARN_UPDATE_H
#define LEARN_UPDATE_H

#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "learn/spec/spec.h"
#include "tensor/optim.h"
#include "tensor/params.h"
#include "tensor/run.h"

struct update;

/* Whether t needs one. Its run then is compiled with update_plain() as its optimiser and stepped at rate 0,
 * which leaves the weights as they are and the gradients, L2 included, in run_grads. */
bool update_wanted(const struct training_spec *t);
struct optim_spec update_plain(void);

/* params is borrowed for its life. ERR_TOO_LARGE when its slots do not fit limit_bytes (0 for no limit). */
int update_create(struct update **out, const struct training_spec *t, struct params *params,
                  size_t limit_bytes, struct err *e);
void update_free(struct update *u);

/* After run_step: adds l1·sign(w) to the kernels' gradients, clips, and lets the optimiser move the weights.
 * index counts steps from 0. */
void update_apply(struct update *u, struct run *run, uint64_t index, double rate);

/* On gradients of p's layout: each number into [−limit, limit]; each tensor to an L2 norm of at most limit.
 */
void update_clip_values(const struct params *p, float *grads, double limit);
void update_clip_norms(const struct params *p, float *grads, double limit);

#endif
