/* A predict job's run: its stored request, computed by this worker's own predict engine like any other.
 *
 *   blob ─▶ PREDICT ─▶ engine_call ─┬▶ outputs: DONE, the reply is the answer
 *             ▲                     ├▶ the model refuses: FAILED
 *             │                     └▶ not loaded: asked for ─┬▶ it cannot be: FAILED
 *             └─ a moment later ◀─ it comes, no room, dropped ┴▶ not here and now: CRASHED, retried
 *
 * What a version's failed load means is said in queue/placement.h, for gateways that wait for one too. */
#ifndef WORKER_PREDICT_JOB_H
#define WORKER_PREDICT_JOB_H

#include "worker/supervisor_state.h"

/* On the slot's thread, until the end, the job's time limit, or a wish to stop, of which out tells. */
void predict_job_run(struct outcome *out, struct slot *slot, struct run *run, const struct order *order);

#endif
