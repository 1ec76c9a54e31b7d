/* JSON pulled from text, token by token, without a tree: what tensors need, and no bigger than their text.
 *
 * Strict (RFC 8259): UTF-8 is checked, nothing follows the value, depth ≤ 32. Failures are ERR_INVALID with
 * the byte's place in the message. */
#ifndef GATEWAY_PREDICT_JSON_READER_H
#define GATEWAY_PREDICT_JSON_READER_H

#include <stddef.h>
#include <stdbool.h>
#include "base/buf.h"
#include "base/err.h"

enum { JSON_READER_DEPTH_MAX = 32 };

struct json_reader {
    const char *start, *p, *end; /* borrowed */
};

void json_reader_init(struct json_reader *r, const char *text, size_t len);

/* The next byte that is not a blank, not taken; '\0' at the end. */
char json_peek(struct json_reader *r);
bool json_take(struct json_reader *r, char c); /* takes it if it is next */

/* Steps through an object or array whose opening bracket json_open took: 1 a member or element is next (an
 * object's name is in name, its colon taken), 0 the closing bracket was taken. first starts as true. A name
 * longer than cap − 1 bytes is refused. */
int json_open(struct json_reader *r, char bracket, const char *what, struct err *e);
int json_member(struct json_reader *r, bool *first, char *name, size_t cap, struct err *e);
int json_element(struct json_reader *r, bool *first, struct err *e);

int json_read_number(struct json_reader *r, double *out, struct err *e);
int json_read_string(struct json_reader *r, struct buf *out, struct err *e); /* appends the decoded bytes */
int json_read_text(struct json_reader *r, char *out, size_t cap,
                   struct err *e); /* NUL-terminated; refuses longer ones and \u0000 */
int json_read_bool(struct json_reader *r, bool *out, struct err *e);
bool json_take_null(struct json_reader *r);
int json_skip(struct json_reader *r, struct err *e); /* any value, checked as strictly */
int json_end(struct json_reader *r, struct err *e);  /* nothing but blanks is left */

/* ERR_INVALID "<what> at byte N". */
int json_fail(const struct json_reader *r, struct err *e, const char *what);

#endif
