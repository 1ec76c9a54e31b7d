/* From a parsed head to a struct request: the seam between the HTTP/1 parser and what routes see. */
#ifndef GATEWAY_HTTP_REQUEST_BUILD_H
#define GATEWAY_HTTP_REQUEST_BUILD_H

#include "base/arena.h"
#include "base/err.h"
#include "gateway/http/parser.h"
#include "gateway/http/request.h"

/* Fills everything but peer, id, tls and arrived_us of a zeroed r, in a's memory. p stands behind
 * PARSER_HEAD. ERR_INVALID (400) with field "path" or "query" for text that cannot be decoded safely. */
int request__build(struct request *r, struct arena *a, const struct parser *p, struct err *e);

#endif
