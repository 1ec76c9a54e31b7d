/* The steps that a training run is made of, for train_run and for whoever trains several times on the same
 * data.
 *
 *   training_schemas ─▶ training_resolve ─▶ training_read ─▶ training_prepare ─▶ training_fit
 *      (data)              (run)               (data)            (run)             (run)
 *                                             ─▶ training_evaluate ─▶ training_write
 *
 * A struct training_data may serve any number of struct training, one after another or at once: it is only
 * read after training_read. All of them must want the same columns: the same target, task and features, in
 * the same order, for what is read is decided by the first one's spec. One thread per struct training. */
#ifndef LEARN_TRAINING_H
#define LEARN_TRAINING_H

#include <stdbool.h>
#include "learn/artifact.h"
#include "learn/data/table.h"
#include "learn/evaluate.h"
#include "learn/fit.h"
#include "learn/metrics.h"
#include "learn/seq2seq.h"
#include "learn/split.h"
#include "learn/spec/spec.h"
#include "learn/train.h"
#include "learn/watch.h"

/* One dataset in memory. */
struct training_part {
    struct schema *schema; /* all owned; NULL: there is no such dataset */
    struct table *table;
    int32_t *classes; /* by row, -1 where missing; NULL for regression */
    uint32_t *rows;   /* those with a target, ascending */
    size_t n_rows;
};

struct training_data {
    struct training_part train, test; /* test.schema: NULL without a test dataset */
    struct table_want *want;          /* owned: the features in order, then the target */
};

/* Zero it, then fill in the first four; everything else is made by the steps and released by
 * training_dispose, except the split, which training_prepare leaves alone when it is there already. */
struct training {
    const struct train_request
        *request;                     /* borrowed: limits, threads, lineage, resume; the rest is not read */
    const cJSON *spec_json;           /* borrowed */
    const struct training_data *data; /* borrowed */
    struct watch *watch;              /* borrowed */
    int64_t until_epoch; /* > 0: training_fit pauses behind that epoch (learn/fit.h); fit.paused says so */
    struct spec *spec;
    struct resolved *resolved;
    struct split split;
    struct artifact artifact; /* graph, params, preprocess, signature as they come to be */
    struct evaluator *evaluator;
    struct seq2seq_feed pairs; /* of texts: what the fit is fed with, and what measures it on its way */
    struct feed feed;
    struct metrics measured;
    struct fit_result fit;
    struct metrics on_train, on_validation, on_test;
    bool closed_form;     /* solved, not trained in epochs */
    double train_seconds; /* of all attempts together */
};

/* Errors everywhere as train_run's. */
int training_schemas(struct training_data *d, const struct train_request *q, struct err *e);
int training_resolve(struct training *t, struct err *e);
/* Reads q's inputs into d, as r wants them. */
int training_read(struct training_data *d, const struct resolved *r, const struct train_request *q,
                  struct watch *w, struct err *e);
/* Split, fitted preprocessing, network, signature. */
int training_prepare(struct training *t, struct err *e);
/* Weights, resumed from the request's checkpoint if there is one. */
int training_fit(struct training *t, struct err *e);
int training_evaluate(struct training *t, struct err *e);
/* Makes m, zeroed, ready to measure `rows` rows as training_evaluate does; scores: and keep what the area
 * under the curve needs. */
int training_metrics(const struct training *t, struct metrics *m, size_t rows, bool scores, struct err *e);
/* Lays down, where the watch wants it, that training is over: what goes on from there has these weights and
 * history. Nothing for a closed form. */
int training_save(struct training *t, struct err *e);
/* The metrics, with how long it took unless that is below 0: without it equal runs give equal texts. */
void training_describe(const struct training *t, double seconds, struct buf *out);
int training_write(struct training *t, struct train_result *out, struct err *e);

void training_dispose(struct training *t);
void training_data_dispose(struct training_data *d);

#endif
