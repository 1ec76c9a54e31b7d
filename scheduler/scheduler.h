/* tenor-scheduler: the shell around the pure policy.
 *
 *   standby ──advisory lock──▶ leading: rebuild from Postgres + heartbeats, then round and round:
 *      ▲                          inbox (hints, ends, placements) ─┐
 *      │ lock or connection lost  heartbeats, every half second   ─┼─▶ policy events ─▶ FILL ─▶ claim
 * (Postgres) ─▶ JOB_RUN (inbox) └────────────────────────  reap, release, sweeps           ─┘ MODEL_LOAD
 * (inbox)
 *
 * Threads: the policy loop, which alone touches the policy, and one each for the meter, the sealer and
 * housekeeping, with connections of their own; these work only while the loop leads. Postgres decides
 * everything, so nothing here is kept: after a restart, a lost connection or an emptied Redis the state is
 * built again. */
#ifndef SCHEDULER_SCHEDULER_H
#define SCHEDULER_SCHEDULER_H

#include <stdint.h>
#include "base/err.h"
#include "queue/redis.h"

struct scheduler_config {
    const char *postgres_url; /* borrowed until scheduler_free, as all texts here */
    struct redis_address redis;
    const char *blob_dir; /* NULL: unreferenced blobs are not collected by this process */
    int64_t lease_ms;
    int64_t sweep_ms;
    int64_t meter_ms;
    int64_t seal_ms;
    int64_t cron_ms;
    int64_t blob_grace_s;
    int64_t quantum_ms;
    uint64_t seed;
};

struct scheduler;

/* Starts the threads; servers that are away are waited for. One thread calls create, stop and free. */
int scheduler_create(struct scheduler **out, const struct scheduler_config *config, struct err *e);
/* Stops and joins. What runs on workers goes on without a scheduler. */
void scheduler_free(struct scheduler *s);

#endif
