/* What a gateway has answered for whom: totals that only grow, kept in its memory and set (never added) in
 * Redis before the answers that they count go out. The meter reads them and bills the differences, so reading
 * twice or a lost hash bills nothing twice.
 *
 *   answer ─▶ usage_add ─▶ usage_take_dirty: HSET tnr:usage:<inc> ─▶ meter: usage_read
 *
 * Each loop has totals of its own (a shard), so that of one field there is one writer; the meter gets their
 * sums. A struct usage belongs to one thread. */
#ifndef QUEUE_USAGE_H
#define QUEUE_USAGE_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/err.h"
#include "base/ids.h"
#include "queue/redis.h"

/* COUNTING_MS: so long a gateway counts as alive after it said so. */
enum { USAGE_KEY_MAX = 64, USAGE_COUNTING_MS = 5000 };

struct usage_total {
    char tenant_id[ID_MAX], version_id[ID_MAX];
    int64_t requests, rows, compute_us; /* totals of this incarnation */
};

void usage_key(char out[USAGE_KEY_MAX], const char *inc);
/* A hash with a field for each loop that counts, which sets it each second and lets the key live for
 * USAGE_COUNTING_MS: as long, the totals are not cleared up; and a loop whose field was not there knows that
 * its totals may be gone. */
void usage_counting_key(char out[USAGE_KEY_MAX], const char *inc);

/* ---- the gateway's side */
struct usage;
struct usage *usage_create(const char *inc, int shard); /* dies only when memory for a few bytes is out */
void usage_free(struct usage *u);
/* Adds to the totals. ERR_NOMEM leaves them as they were. */
int usage_add(struct usage *u, const char *tenant_id, const char *version_id, int64_t requests, int64_t rows,
              int64_t compute_us, struct err *e);
bool usage_dirty(const struct usage *u); /* some total has changed since it was last taken */

/* One HSET, ready to be sent. */
struct usage_command {
    int argc;
    const char **argv; /* owned; its texts are its own or live as long as the totals */
};
/* Composes the HSET of every total that has changed and counts them as written. ERR_NOMEM: nothing was
 * composed. */
int usage_take_dirty(struct usage *u, struct usage_command *out, struct err *e);
void usage_command_dispose(struct usage_command *c);
/* Marks every total as changed, so that the next command writes the whole hash: a command may have failed, or
 * the hash is gone. */
void usage_touch_all(struct usage *u);

/* ---- the meter's side. Blocking. */
/* Incarnations that have a usage hash; *out is the caller's (mem_free). */
int usage_incarnations(struct redis *r, char (**out)[ID_MAX], size_t *n, struct err *e);
/* The sums over all shards. *out: mem_free. Malformed fields: ERR_CORRUPT. */
int usage_read(struct redis *r, const char *inc, struct usage_total **out, size_t *n, struct err *e);
int usage_counting(struct redis *r, const char *inc, bool *out, struct err *e); /* whether it lives */
/* Of a dead gateway whose totals are billed. */
int usage_forget(struct redis *r, const char *inc, struct err *e);

#endif
