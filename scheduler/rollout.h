/* The watch over rollouts: ends a canary, a shadow or a move that breaks its limits.
 *
 *   aliases on trial (Postgres) ─▶ what gateways counted of them (tnr:rollout:…) ─▶ the window
 * (rollout_policy.h) ─▶ alias_end, once per etag, with its audit row ─▶ tnr:changed
 *
 * The memory of what was counted before is only there to tell what is new: a scheduler that starts takes all
 * counts of an alias that changed within its window, and otherwise what comes from then on. One thread. */
#ifndef SCHEDULER_ROLLOUT_H
#define SCHEDULER_ROLLOUT_H

#include "base/err.h"

struct db;
struct redis;
struct rollout_watch;

enum { ROLLOUT_EVERY_MS = 1000 };

struct rollout_watch *rollout_watch_create(void);
void rollout_watch_free(struct rollout_watch *w); /* NULL is fine */

/* A chore's work; arg is the struct rollout_watch. Looks at everything that is on trial once. */
int rollout_work(void *arg, struct db *db, struct redis *redis, struct err *e);

#endif
