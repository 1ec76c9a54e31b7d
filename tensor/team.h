/* Threads that carry out one piece of work together, again and again: the steps of a training run.
 *
 *     caller (member 0)   team_run ─┬─ work(ctx, 0) ── team_meet ── … ─┬─ team_run returns
 *     threads 1 … n−1     (wait)    └─ work(ctx, i) ── team_meet ── … ─┘  (wait)
 *
 * Who waits spins for SPIN_NS and then sleeps in the kernel: a hand-over to a spinning thread takes well
 * under a microsecond, to a sleeping one about thirty. Nothing is allocated after team_create. One caller at
 * a time; the members block every signal. */
#ifndef TENSOR_TEAM_H
#define TENSOR_TEAM_H

#include "base/err.h"

enum { TEAM_MAX_MEMBERS = 64 };

struct team;
typedef void (*team_work)(void *ctx, int member);

/* members: 1 to TEAM_MAX_MEMBERS, the caller included. ERR_UNAVAILABLE when a thread cannot be started. */
int team_create(struct team **out, int members, struct err *e);
void team_free(struct team *t); /* joins the threads; NULL is fine */
int team_members(const struct team *t);

/* Runs work once on every member and returns when all have returned; what they wrote is seen by the caller.
 */
void team_run(struct team *t, team_work work, void *ctx);

/* Inside work, and by every member alike: returns once all members are here; what was written before is seen
 * by all after it. */
void team_meet(struct team *t);

#endif
