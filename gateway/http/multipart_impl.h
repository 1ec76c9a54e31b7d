/* The head of a part, apart from the stream that it comes in. */
#ifndef GATEWAY_HTTP_MULTIPART_IMPL_H
#define GATEWAY_HTTP_MULTIPART_IMPL_H

#include "gateway/http/multipart.h"

/* Understands the header lines of one part: len bytes that end with the CRLF of the last line. Modifies them.
 */
int multipart__head(struct multipart_part *part, char *lines, size_t len, struct err *e);

/* The boundary of a multipart/form-data Content-Type. */
int multipart__boundary(char out[MULTIPART_BOUNDARY_MAX + 1], const char *content_type, struct err *e);

#endif
