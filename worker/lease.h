/* Keeps the leases of a worker's running jobs, and raises the alarm in time when one cannot be kept.
 *
 *   lease_add ─▶ renewed every lease/3 ─┬─ ERR_STALE: somebody else owns the job ──────────▶ on_lost
 *                                       ├─ cancel_requested ──────────────────────────────▶ on_cancel
 *                                       └─ no success until shortly before the lease ends ─▶ on_lost
 * (Postgres is away) lease_remove ◀── the job has ended
 *
 * Two threads: the renewer, with a database connection of its own, and the watchdog, which never does
 * anything that could block, so that the alarm comes in time whatever the renewer waits for. Durations are
 * monotonic and counted from before the renewal was sent, so this side's lease always ends before Postgres'
 * does. */
#ifndef WORKER_LEASE_H
#define WORKER_LEASE_H

#include <stdint.h>
#include "base/err.h"
#include "base/ids.h"

struct lease_keeper;

struct lease_config {
    const char *postgres_url; /* borrowed until lease_free */
    int64_t lease_ms;
    /* Each at most once per lease; on the renewer's or the watchdog's thread; must not block and not call
     * back into here. */
    void (*on_cancel)(void *arg, const char *job_id, int64_t fence);
    void (*on_lost)(void *arg, const char *job_id, int64_t fence);
    void *arg;
};

int lease_create(struct lease_keeper **out, const struct lease_config *config, struct err *e);
void lease_free(struct lease_keeper *k); /* joins; leases still kept are left to run out. NULL is fine */

/* Keeps it from now on; the first renewal is asked for at once and counts from now. ERR_OVERLOAD beyond
 * LEASE_MAX, ERR_CONFLICT when that job's lease is kept already under the same fence; an older fence's is
 * replaced. */
enum { LEASE_MAX = 64 };
int lease_add(struct lease_keeper *k, const char *job_id, const char *tenant_id, int64_t fence,
              struct err *e);
void lease_remove(struct lease_keeper *k, const char *job_id, int64_t fence);

/* How long it is certain to be ours; ≤ 0 when it may have ended, was lost or is not kept. */
int64_t lease_left_ms(struct lease_keeper *k, const char *job_id, int64_t fence);

#endif
