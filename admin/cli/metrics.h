/* How a version's metrics are shown: numbers in a list, the confusion matrix as a table. */
#ifndef ADMIN_CLI_METRICS_H
#define ADMIN_CLI_METRICS_H

#include <cjson/cJSON.h>

/* Every number (and the numbers of inner objects) on a line of its own, then the confusion matrix if there is
 * one. */
void metrics_print(const cJSON *metrics);

/* {"labels":[…],"rows":[[…]]}: a row per true class, a column per answer; coloured on a terminal. Nothing for
 * more than 20 classes, or for NULL. */
void metrics_print_confusion(const cJSON *matrix);

/* "  loss 0.4123  accuracy 0.8511": on the line that is open. NULL prints nothing. */
void metrics_print_line(const cJSON *metrics);

#endif
