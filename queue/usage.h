/* What a worker has computed for whom: totals that only grow, kept in the worker's memory and set (never
 * added) in Redis before the replies that they count go out. The meter reads them and bills the differences,
 * so reading twice or a lost hash bills nothing twice.
 *
 *   compute ─▶ usage_add ─▶ usage_take_dirty: HSET tnr:usage:<inc> ─▶ meter: usage_read
 *
 * Each serving thread has totals of its own (a shard), so that of one field there is one writer; the meter
 * gets their sums. A struct usage belongs to one thread. */
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
struct usage *usage_create(const char *inc, int shard); /* dies only when memory for a few bytes is out */
void usage_free(struct usage *u);
/* Adds to the totals. ERR_NOMEM leaves them as they were. */
int usage_add(struct usage *u, const char *tenant_id, const char *version_id, int64_t requests, int64_t rows,
              int64_t compute_us, struct err *e);
bool usage_dirty(
    const struct usage *u); /* some total has changed since it was last confirmed, and is not on its way */

/* One HSET, ready to be sent. */
struct usage_command {
    int argc;
    const char **argv; /* owned; its texts are its own or live as long as the totals */
};
/* Composes the HSET of every total that has changed; usage_confirm then says whether it was seen to succeed.
 * One at a time. ERR_NOMEM: nothing was composed. */
int usage_take_dirty(struct usage *u, struct usage_command *out, struct err *e);
void usage_command_dispose(struct usage_command *c);
void usage_confirm(struct usage *u, bool ok);
/* Marks every total as unconfirmed, so that the next command writes the whole hash (it was lost). */
void usage_touch_all(struct usage *u);

/* ---- the meter's side. Blocking. */
/* Incarnations that have a usage hash; *out is the caller's (mem_free). */
int usage_incarnations(struct redis *r, char (**out)[ID_MAX], size_t *n, struct err *e);
/* The sums over all shards. *out: mem_free. Malformed fields: ERR_CORRUPT. */
int usage_read(struct redis *r, const char *inc, struct usage_total **out, size_t *n, struct err *e);
int usage_forget(struct redis *r, const char *inc,
                 struct err *e); /* of a dead worker whose totals are billed */

#endif
