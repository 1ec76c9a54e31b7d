/* Who is alive: each worker sets tnr:hb:<inc> every second with a life of 3 s, and stands in tnr:workers. No
 * heartbeat, no worker. */
#ifndef QUEUE_HEARTBEAT_H
#define QUEUE_HEARTBEAT_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/err.h"
#include "base/ids.h"
#include "queue/link.h"
#include "queue/redis.h"

enum {
    HEARTBEAT_EVERY_MS = 1000,
    HEARTBEAT_LIFE_MS = 3000,
    HEARTBEAT_JOBS_MAX = 64,
    HEARTBEAT_PORTS_MAX = 64,
    HEARTBEAT_MODELS_MAX = 16,
    HEARTBEAT_IDLE_MS = 30000, /* a model unused for so long may leave for a replica of a hot one */
    HEARTBEAT_FORGET_MS = 60000,
    HEARTBEAT_KEY_MAX = 64
};
#define HEARTBEAT_WORKERS "tnr:workers"

struct heartbeat_job {
    char job_id[ID_MAX];
    int64_t fence;
};

/* What a model version costs its worker: of all those that it holds, the busiest. */
struct heartbeat_model {
    char version_id[ID_MAX], tenant_id[ID_MAX];
    int busy_milli;    /* part in predict_busy_milli */
    int waiting_milli; /* thousandths of a request that waited, on average, in the last second */
    int64_t bytes;     /* that it takes of the memory for models */
};

struct heartbeat {
    char inc[ID_MAX];
    int slots, slots_free;    /* training slots */
    int64_t job_memory_bytes; /* of all training jobs together; 0: no limit known */
    int64_t job_memory_free;  /* what the jobs that run here have left of it */
    int64_t model_bytes_max, model_bytes_free;
    int64_t model_bytes_idle; /* of models unused for HEARTBEAT_IDLE_MS; not more than that, maybe less */
    int predict_waiting;      /* requests queued or running in the predict engine */
    int predict_busy_milli; /* thousandths of the last second in which the serving threads computed or waited
                             for a processor */
    bool draining;          /* gets no new work */
    size_t ports_len;       /* serving threads: where each takes predictions (queue/link.h) */
    char ports[HEARTBEAT_PORTS_MAX][LINK_ADDRESS_MAX];
    size_t jobs_len;
    struct heartbeat_job jobs[HEARTBEAT_JOBS_MAX];
    size_t models_len; /* busiest first */
    struct heartbeat_model models[HEARTBEAT_MODELS_MAX];
};

void heartbeat_key(char out[HEARTBEAT_KEY_MAX], const char *inc);

/* Blocking. *was_gone (may be NULL) tells that Redis knew no heartbeat of this incarnation: it is the first,
 * or Redis lost its memory, or it came too late. Then everything else this worker keeps in Redis must be
 * written again (engine_republish). */
int heartbeat_publish(struct redis *r, const struct heartbeat *h, bool *was_gone, struct err *e);
int heartbeat_remove(struct redis *r, const char *inc,
                     struct err *e); /* on a clean stop; drops the worker's inbox too */

/* All living workers, in no order. *out is the caller's (mem_free); NULL when *n is 0. Incarnations unheard
 * of for HEARTBEAT_FORGET_MS are dropped from tnr:workers along with their inbox. */
int heartbeat_list(struct redis *r, struct heartbeat **out, size_t *n, struct err *e);

/* One heartbeat as its JSON text. */
int heartbeat_decode(struct heartbeat *out, const char *json, size_t len, struct err *e);

#endif
