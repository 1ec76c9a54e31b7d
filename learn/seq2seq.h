/* Pairs of texts: an encoder reads the source's ids, a decoder says the target's next id at every step.
 *
 *     training    source ids ──encoder──▶ rows ─┐
 *                 start a b c ──decoder (no step sees a later one)──▶ probabilities ◀─loss─▶ a b c end
 *     predicting  the encoder once; the decoder with what it has said so far, until it says end
 *
 * learn/translator.h predicts. */
#ifndef LEARN_SEQ2SEQ_H
#define LEARN_SEQ2SEQ_H

#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "learn/data/table.h"
#include "learn/evaluate.h"
#include "learn/feed.h"
#include "learn/preprocess.h"
#include "learn/spec/spec.h"
#include "tensor/graph.h"

/* Beside FAMILY_INPUT, the source's ids i32 [batch, S], the graph takes the target's ids from start on, i32
 * [batch, T], and FAMILY_TARGET, the same from the second on, i32 [batch, T]: padding there does not count.
 * FAMILY_OUTPUT is [batch, T, target ids], and the second output what the encoder gives, [batch, S',
 * features].
 */
#define SEQ2SEQ_PREVIOUS "data/previous"
#define SEQ2SEQ_MEMORY   "data/memory"

/* source_ids, target_ids: sizes of the vocabularies; where they are above the settled bounds those count. */
int seq2seq_graph(struct graph **out, const struct resolved *r, int64_t source_ids, int64_t target_ids,
                  struct err *e);

/* How many ids a decoder of p takes: one less than a row of the target holds. */
int64_t seq2seq_steps(const struct preprocess *p);

/* The next id by probabilities [ids]: the likeliest that can be said, which is end or a token. */
int32_t seq2seq_choose(const float *probabilities, int64_t ids);

/* Rows of a table as the graph's inputs: FAMILY_INPUT, SEQ2SEQ_PREVIOUS and FAMILY_TARGET, in this order.
 * ids: room for one row of the target, [p->target.width]. */
void seq2seq_rows(const struct preprocess *p, const struct table *table, const uint32_t *rows, size_t n,
                  int32_t *ids, int32_t *source, int32_t *previous, int32_t *target);

/* What the training loop asks for. All borrowed for the feed's life. */
struct seq2seq_feed {
    const struct preprocess *preprocess;
    const struct table *table;
    struct evaluator *evaluator; /* for the validation part */
    struct metrics *metrics;     /* that it fills */
    int32_t *ids;                /* [preprocess->target.width], owned */
};

/* f: the first four filled in. ERR_NOMEM. */
int seq2seq_feed_init(struct feed *out, struct seq2seq_feed *f, struct err *e);
void seq2seq_feed_dispose(struct seq2seq_feed *f);

/* Says how many texts are longer than their rows of ids: cut off as they are they would be learnt wrong. */
void seq2seq_warn_of_cuts(const struct seq2seq_feed *f, struct watch *watch);

#endif
