/* What the route table says about itself: /openapi.json for programs, the table of docs/api.md for people. */
#ifndef GATEWAY_OPENAPI_H
#define GATEWAY_OPENAPI_H

#include <stddef.h>
#include "base/buf.h"
#include "gateway/route.h"

/* Appends the OpenAPI 3.1 document of the public routes. */
void openapi_write(struct buf *out, const struct route *routes, size_t n);

/* Appends a Markdown table of all routes, one line each. */
void openapi_markdown(struct buf *out, const struct route *routes, size_t n);

#endif
