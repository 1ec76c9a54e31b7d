/* The parameters behind a header's first word: `; name=token` and `; name="quoted text"`. Any thread. */
#ifndef GATEWAY_HTTP_HEADER_PARAMS_H
#define GATEWAY_HTTP_HEADER_PARAMS_H

#include <stddef.h>

enum { PARAM_NAME_MAX = 32 };

/* Reads the next parameter at *at (which stands behind the first word or an earlier parameter) and moves *at
 * past it. name is in lower case. In quoted text, \" and \\ stand for " and \; any other backslash for
 * itself. Returns 1, 0 at the end, or -1 when malformed or too long for value's cap. */
int header_param_next(const char **at, char name[PARAM_NAME_MAX], char *value, size_t cap);

#endif
