/* What a worker has computed for whom: totals that only grow, kept in the worker's memory and set (never
 * added) in Redis, in the MULTI that delivers the replies. The meter reads them and bills the differences, so
 * reading twice or a lost hash bills nothing twice.
 *
 *   compute ─▶ usage_add ─▶ usage_append_dirty (HSET tnr:usage:<inc> inside the replies' MULTI) ─▶ meter:
 * usage_read
 *
 * struct usage is locked inside: any thread. */
#ifndef QUEUE_USAGE_H
#define QUEUE_USAGE_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/err.h"
#include "base/ids.h"
#include "queue/redis.h"

enum { USAGE_KEY_MAX = 64 };

struct usage_total {
    char tenant_id[ID_MAX], version_id[ID_MAX];
    int64_t requests, rows, compute_us; /* totals of this incarnation */
};

void usage_key(char out[USAGE_KEY_MAX], const char *inc);

/* ---- the worker's side */
struct usage;
struct usage *usage_create(const char *inc); /* dies only when memory for a few bytes is out */
void usage_free(struct usage *u);
/* Adds to the totals. ERR_NOMEM leaves them as they were. */
int usage_add(struct usage *u, const char *tenant_id, const char *version_id, int64_t requests, int64_t rows,
              int64_t compute_us, struct err *e);
/* Appends one HSET with every total that changed since it was last confirmed; *appended says how many
 * commands went out (0 or 1). Call between MULTI and EXEC; then usage_confirm with whether the transaction
 * was seen to succeed. One caller at a time between append and confirm. */
int usage_append_dirty(struct usage *u, struct redis *r, size_t *appended, struct err *e);
void usage_confirm(struct usage *u, bool ok);
/* Marks every total as unconfirmed, so that the next append writes the whole hash (it was lost). */
void usage_touch_all(struct usage *u);

/* ---- the meter's side. Blocking. */
/* Incarnations that have a usage hash; *out is the caller's (mem_free). */
int usage_incarnations(struct redis *r, char (**out)[ID_MAX], size_t *n, struct err *e);
int usage_read(struct redis *r, const char *inc, struct usage_total **out, size_t *n,
               struct err *e); /* *out: mem_free. Malformed fields: ERR_CORRUPT */
int usage_forget(struct redis *r, const char *inc,
                 struct err *e); /* of a dead worker whose totals are billed */

#endif
