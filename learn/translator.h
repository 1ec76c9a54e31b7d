/* Predicts texts from texts with a trained pair of encoder and decoder: the encoder once a batch, then the
 * decoder a step at a time with what it has said so far, taking the likeliest next id, until every row has
 * ended or is full.
 *
 *     graph, weights ──translator_create──▶ translator (any thread) ─┬─ translator_run (thread 1)
 *                                                                    └─ translator_run (thread 2) */
#ifndef LEARN_TRANSLATOR_H
#define LEARN_TRANSLATOR_H

#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "learn/preprocess.h"
#include "tensor/backend.h"
#include "tensor/graph.h"
#include "tensor/params.h"

struct translator;
struct translator_run;

/* Whether g is such a pair for p, with the shapes that p says (learn/seq2seq.h). */
bool translator_fits(const struct graph *g, const struct preprocess *p);

/* g fits p. Copies and packs the weights. max_rows: most rows computed at once. ERR_CORRUPT for a graph whose
 * encoder or decoder needs what it cannot have. */
int translator_create(struct translator **out, const struct graph *g, const struct params *params,
                      const struct preprocess *p, int64_t max_rows, const struct backend *backend,
                      struct err *e);
void translator_free(struct translator *t);              /* after its runs; NULL is fine */
size_t translator_bytes(const struct translator *t);     /* resident */
size_t translator_run_bytes(const struct translator *t); /* of each run */
int64_t translator_steps(const struct translator *t);    /* ids of a row that is said */

/* One thread at a time. */
int translator_run_create(struct translator_run **out, const struct translator *t, struct err *e);
void translator_run_free(struct translator_run *r);

/* source: ids [rows, source ids a row], rows ≤ max_rows → out [rows, translator_steps]: ids up to an end,
 * then padding. A row's answer does not depend on the others. */
int translator_say(struct translator_run *r, const int32_t *source, int64_t rows, int32_t *out,
                   struct err *e);

#endif
