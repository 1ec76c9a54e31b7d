/* Asks Postgres, Redis and the loops each second whether they answer: what /readyz tells.
 *
 * One thread of its own; probe_ready and probe_reason from any thread. */
#ifndef GATEWAY_PROBE_H
#define GATEWAY_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"

struct gateway;
struct probe;

enum { PROBE_REASON_MAX = 256 };

/* Before the loops run, so that they find it; "starting" until probe_start, which starts the thread. */
int probe_create(struct probe **out, struct gateway *g, struct err *e);
int probe_start(struct probe *p, struct err *e); /* after server_start */
void probe_free(struct probe *p);                /* stops it; NULL is fine */

/* Whether requests can be served, as of the last second. reason gets what is missing, or "". */
bool probe_ready(struct probe *p, char reason[PROBE_REASON_MAX]);

#endif
