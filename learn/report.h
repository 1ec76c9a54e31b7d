/* The JSON that a run ends with: how good the model is on each part of the data, how training went, and for a
 * linear regression its coefficients in the data's own units. */
#ifndef LEARN_REPORT_H
#define LEARN_REPORT_H

#include "base/json.h"
#include "learn/fit.h"
#include "learn/metrics.h"
#include "learn/preprocess.h"
#include "tensor/params.h"

struct report {
    const struct resolved *resolved; /* all borrowed */
    const struct preprocess *preprocess;
    const struct params *params;
    const struct fit_result *fit;                    /* NULL for a closed-form solution */
    const struct metrics *train, *validation, *test; /* NULL where there is no such part */
    enum precision precision;                        /* of the products */
    double train_seconds; /* below 0: left out, so that equal runs give equal bytes */
};

/* One object: "evaluated_on" ("test", else "validation", else "train") and the figures of that part at the
 * top, those of each part under its name, then "epochs", "history", "coefficients". */
void report_to_json(const struct report *r, struct json_writer *w);

/* The figures of a version on a dataset that it was not trained with: what report_to_json writes of the test
 * dataset at the top, "evaluated_on" "dataset". */
void report_assessment(const struct metrics *m, const struct preprocess *p, struct json_writer *w);

/* "confusion_matrix", into the open object of w, if there are few enough classes. p names them. */
void report_confusion(const struct metrics *m, const struct preprocess *p, struct json_writer *w);

#endif
