/* What a worker that stops does first: has the models that it serves brought up elsewhere, and goes on
 * serving until they are. Inside worker/ only. */
#ifndef WORKER_ENGINE_HANDOVER_H
#define WORKER_ENGINE_HANDOVER_H

#include "worker/engine.h"
#include "worker/model_cache.h"

/* Models that were used within so long are handed over, the latest first; the others can be loaded when
 * somebody asks for them. */
enum { HANDOVER_USED_MS = 60000 };

/* Blocks for deadline_ms at most: until another worker, that does not stop, has announced each of them, or
 * there is no such worker. The heartbeat must say already that this one drains. 0, or ERR_TIMEOUT: some are
 * held by this worker alone. */
int engine__hand_over(const struct engine_config *config, struct model_cache *cache, int deadline_ms);

#endif
