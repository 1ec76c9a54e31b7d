/* How busy the predict engine is and with which models: what its heartbeat tells of the last second. Inside
 * worker/ only. */
#ifndef WORKER_ENGINE_LOAD_H
#define WORKER_ENGINE_LOAD_H

#include "queue/heartbeat.h"
#include "worker/model_cache.h"

enum { LOAD_WINDOW_MS = 500, LOAD_BUSY_LEAST = 20 };

/* Zero it before first use. One thread at a time. */
struct engine_load {
    int64_t begun_us, wanted_us; /* of the window that is under way */
    int64_t total_us;            /* what the models cost in the last one, as their counters say */
    int64_t overhead_ns;         /* of a request in it: time beyond the network's */
    int64_t length_us;
    int busy_milli;
    size_t models_len;
    struct heartbeat_model models[HEARTBEAT_MODELS_MAX];
};

/* Fills predict_busy_milli, models and model_bytes_idle of h. wanted_us: what all serving threads have taken
 * so far. Looks less than LOAD_WINDOW_MS after the last one tell the same again. Models with less than
 * LOAD_BUSY_LEAST thousandths are not told of. */
void engine__load_describe(struct engine_load *l, struct model_cache *c, int64_t wanted_us, int threads,
                           struct heartbeat *h);

#endif
