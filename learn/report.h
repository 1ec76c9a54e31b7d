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
    double train_seconds; /* below 0: left out, so that equal runs give equal bytes */
};

/* One object: "evaluated_on" ("test", else "validation", else "train") and the figures of that part at the
 * top, those of each part under its name, then "epochs", "history", "coefficients". */
void report_to_json(const struct report *r, struct json_writer *w);

#endif
