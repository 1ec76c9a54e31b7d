/* Small models, trained for real, for the tests of this folder. */
#ifndef TESTS_UNIT_WORKER_MODEL_FIXTURE_H
#define TESTS_UNIT_WORKER_MODEL_FIXTURE_H

#include <stdbool.h>
#include "base/buf.h"

/* Input `input` FP32 [-1, 1]; output `prediction` FP32 [-1]: about 3x + 2. Appends the artifact. */
void model_fixture_line(struct buf *artifact);

/* Inputs `size` FP32 [-1] and `colour` BYTES [-1] ("red" or "blue"); outputs `probabilities` FP32 [-1, 2] and
 * `label` BYTES [-1]
 * ("big" or "small"). A hidden layer, so that the answer's bits could depend on the batch. */
void model_fixture_table(struct buf *artifact);

/* As the table's, computed in bf16. false: this CPU cannot, and nothing was appended. */
bool model_fixture_table_bf16(struct buf *artifact);

#endif
