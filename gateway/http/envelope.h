/* The error body that every route shares: {"error":{"message","type","param","code"}}. Any thread. */
#ifndef GATEWAY_HTTP_ENVELOPE_H
#define GATEWAY_HTTP_ENVELOPE_H

#include "base/buf.h"
#include "base/err.h"

/* code is a word for programs ("invalid", "not_found"); param may be NULL or "". Appends to out. */
void envelope_write(struct buf *out, int status, const char *code, const char *param, const char *message);

/* From a struct err, whose insides stay inside: a fault of the platform (500) is logged under request_id and
 * told to the client only by that id. Returns the status. */
int envelope_of_err(struct buf *out, const struct err *e, const char *request_id);

/* Seconds for Retry-After, or 0 for none. */
int envelope_retry_after(const struct err *e);

#endif
