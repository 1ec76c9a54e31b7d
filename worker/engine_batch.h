/* Computing one batch: requests of one version, staged on a thread's session, answered each for itself.
 * Inside worker/ only. */
#ifndef WORKER_ENGINE_BATCH_H
#define WORKER_ENGINE_BATCH_H

#include "learn/model.h"
#include "worker/batcher.h"
#include "worker/reply.h"

struct batch_counts {
    int64_t requests, rows, runs, failed;
    int64_t compute_us; /* of the network alone */
    int64_t queue_us;   /* that the requests waited before, together */
};

/* Computes batch (borrowed) on s and returns a reply per request, in any order; NULL only when memory is out
 * for all of them. A request that the model refuses gets its own error; the others are computed all the same.
 * A request larger than the session is computed in pieces. Adds to *counts. */
struct reply *engine__batch_run(struct model_session *s, const struct signature *sig, struct work *batch,
                                struct batch_counts *counts);

#endif
