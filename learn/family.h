/* From a resolved spec to a graph of the tensor core. */
#ifndef LEARN_FAMILY_H
#define LEARN_FAMILY_H

#include "base/err.h"
#include "learn/spec/spec.h"
#include "tensor/graph.h"
#include "tensor/optim.h"

/* Names in the graph. A layer's name holds no '/', so no layer can take them. */
#define FAMILY_INPUT  "data/input"
#define FAMILY_TARGET "data/target"
#define FAMILY_WEIGHT "data/weight"
#define FAMILY_OUTPUT "data/output"
#define FAMILY_LOSS   "data/loss"

/* FAMILY_INPUT is f32 [batch, …], or i32 in front of an Embedding; FAMILY_TARGET i32 [batch] for a softmax,
 * else f32 [batch, k]; FAMILY_OUTPUT the probabilities [batch, C], for a sigmoid [batch, 1], or the
 * (standardised) prediction [batch, k]. The loss is set; with class weights it takes
 * FAMILY_WEIGHT too, f32 of the target's shape. Pairs of texts: learn/seq2seq.h. */
int family_graph(struct graph **out, const struct resolved *r, struct err *e);

/* The optimiser of a resolved spec; not for "least_squares". */
struct optim_spec family_optim(const struct optimizer_spec *o);

#endif
