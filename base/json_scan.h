/* The strict reader of JSON's grammar that runs before cJSON sees a byte. Inside base/ only. */
#ifndef BASE_JSON_SCAN_H
#define BASE_JSON_SCAN_H

#include <stddef.h>
#include "base/err.h"

enum {
    JSON_DEPTH_MAX = 32,
    JSON_NUMBER_MAX = 63, /* bytes of one number: cJSON copies it into a buffer of 64 */
};

/* 0 when the len bytes at text are exactly one JSON value (RFC 8259) of at most max_tokens values and names,
 * within the rules of json.h; else ERR_INVALID, ERR_TOO_LARGE (tokens) or ERR_NOMEM, with line and column in
 * the message. */
int json__scan(const char *text, size_t len, size_t max_tokens, struct err *e);

/* Length of the well-formed UTF-8 sequence (The Unicode Standard, table 3-7) at text < end, or 0 if none is
 * there. */
size_t json__utf8_len(const char *text, const char *end);

#endif
