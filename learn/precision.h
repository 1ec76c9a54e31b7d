/* The precision that a network's products are computed in, in training and in the version that comes of it:
 * one and the same, so that a version answers as it was measured. Weights, sums, gradients, normalisations
 * and losses are f32 in either. */
#ifndef LEARN_PRECISION_H
#define LEARN_PRECISION_H

#include "base/err.h"
#include "learn/spec/spec.h"
#include "tensor/backend.h"

/* What r's run computes in on this machine: never AUTO. "auto" is bf16 where the CPU has AMX, for a network
 * that tells classes apart and takes PRECISION_FLOPS or more a row, as such gain several times and lose less
 * than what another seed does; else f32. ERR_UNSUPPORTED, field spec.training.precision, when bf16 or
 * bf16x3 is asked for and this machine has no AMX. */
enum { PRECISION_FLOPS = 1000000 };
int precision_settle(enum precision *out, const struct resolved *r, struct err *e);

/* The backend that computes so; where the machine lacks AMX, and a version of bf16 or bf16x3 is to be served,
 * the f32 one. Never NULL. */
const struct backend *precision_backend(enum precision p);

#endif
