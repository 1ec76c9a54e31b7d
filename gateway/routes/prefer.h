/* What a client would like (RFC 7240): an answer later, or none after so long. */
#ifndef GATEWAY_ROUTES_PREFER_H
#define GATEWAY_ROUTES_PREFER_H

#include <stdbool.h>
#include <stdint.h>

struct prefer {
    bool respond_async;
    int64_t wait_s; /* 0: not said */
};

/* Adds the value of one Prefer header; p is zeroed before the first. What is unknown or malformed is ignored,
 * as the RFC has it; of a preference that is there twice the first one counts. */
void prefer_add(struct prefer *p, const char *text);

#endif
