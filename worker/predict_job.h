/* A predict job's run: its stored request, computed by this worker's own predict engine like any other.
 *
 *   blob ─▶ PREDICT, marked as sent before ─▶ engine_call ─┬▶ outputs: DONE, the reply is the answer
 *             ▲                                            ├▶ the model refuses: FAILED
 *             └── a moment later ◀── not loaded (it is now asked for), no room, dropped
 *
 * The mark keeps the engine from counting rows that the job's end bills. */
#ifndef WORKER_PREDICT_JOB_H
#define WORKER_PREDICT_JOB_H

#include "worker/supervisor_state.h"

/* On the slot's thread, until the end, the job's time limit, or a wish to stop, of which out tells. */
void predict_job_run(struct outcome *out, struct slot *slot, struct run *run, const struct order *order);

#endif
