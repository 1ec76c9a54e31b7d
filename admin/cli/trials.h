/* Tables of what a job's metrics hold beside figures: the trials of a search, the folds of a
 * cross-validation. */
#ifndef ADMIN_CLI_TRIALS_H
#define ADMIN_CLI_TRIALS_H

#include <cjson/cJSON.h>

/* metrics: of a job's result; NULL, and those of other jobs, print nothing. */
void trials_print(const cJSON *metrics);

#endif
