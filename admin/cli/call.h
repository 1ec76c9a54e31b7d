/* A tenant's command that is one call of the API, whose answer is printed. */
#ifndef ADMIN_CLI_CALL_H
#define ADMIN_CLI_CALL_H

#include <cjson/cJSON.h>
#include "base/err.h"

/* Calls the path that fmt gives, without a body, and prints the answer: as it is with --json, else by print.
 */
int call_print(void (*print)(const cJSON *answer), struct err *e, const char *method, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#endif
