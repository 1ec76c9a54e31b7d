/* The predict engine of a worker: serving threads that answer gateways, the models that they share, and the
 * worker's inbox.
 *
 *   gateways ══ links ══▶ serving threads (worker/serve.h): batch, compute, count in Redis, answer
 *   inbox thread: LMPOP ─┬▶ MODEL_LOAD, MODEL_REPLICATE, MODEL_UNLOAD ─▶ loader thread: fetch, load, warm,
 * announce └▶ every other message ─▶ config.on_message
 *
 * create, start, drain and free are called from one thread; the rest from any. */
#ifndef WORKER_ENGINE_H
#define WORKER_ENGINE_H

#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/err.h"
#include "base/ids.h"
#include "queue/heartbeat.h"
#include "queue/message.h"
#include "queue/redis.h"

struct engine_config {
    char inc[ID_MAX];                  /* the worker's incarnation */
    const struct redis_address *redis; /* borrowed until engine_free */
    int predict_threads;               /* ≥ 1 */
    const char *listen; /* where they take predictions: "unix:@name", "unix:/folder", or "host:port" and the
                           ports after it */
    const char *advertise;    /* the numeric host that gateways dial; NULL: as in listen */
    int64_t model_bytes_max;  /* resident models together */
    int batch_rows_max;       /* 0: 256 */
    size_t waiting_max;       /* requests waiting or running, all tenants; 0: 4,096. Beyond: ERR_OVERLOAD */
    size_t waiting_bytes_max; /* their bytes; 0: 256 MiB */

    /* Loader thread; may block. Appends the version's artifact, decrypted and checked, to out. ERR_NOT_FOUND
     * when there is no such version of that tenant. */
    int (*fetch)(void *arg, const char *tenant_id, const char *version_id, struct buf *out, struct err *e);
    /* Inbox thread; must not block. JOB_RUN and JOB_CANCEL. m is borrowed for the call. */
    void (*on_message)(void *arg, const struct message *m);
    void *arg;
};

struct engine;

int engine_create(struct engine **out, const struct engine_config *config, struct err *e);
int engine_start(struct engine *g, struct err *e); /* starts the threads; Redis may still be away */

/* Once the heartbeat says that the worker drains: has every model in use loaded elsewhere, while predictions
 * go on being answered. Returns when they are announced there or nobody is there, or after deadline_ms: 0 or
 * ERR_TIMEOUT. */
int engine_hand_over(struct engine *g, int deadline_ms);

/* Un-announces every model, keeps answering what arrives, returns when nothing waits or after deadline_ms: 0
 * or ERR_TIMEOUT. */
int engine_drain(struct engine *g, int deadline_ms);
void engine_free(struct engine *g); /* joins; what still waits is dropped (the gateways ask another worker) */

/* Fills what the heartbeat tells of the engine: memory for models, ports, what waits, and how busy it is with
 * which models. One thread at a time. */
void engine_describe(struct engine *g, struct heartbeat *h);

/* After heartbeat_publish said was_gone: announces every resident model again. Does not block: the
 * loader does it. */
void engine_republish(struct engine *g);

/* ---- for the worker itself; any thread, none blocks */

/* Brings the version in, unless it is here, or could not be loaded a moment ago. What becomes of it shows in
 * the next call. */
void engine_load(struct engine *g, const char *tenant_id, const char *version_id);
/* When (clock_mono_ms) the version was last loaded in vain, and why, for as long as it is not tried again
 * (PLACEMENT_FAIL_MS); 0: nothing of that kind. */
int64_t engine_load_failed_ms(struct engine *g, const char *tenant_id, const char *version_id,
                              struct err *why);

/* A prediction from inside this process, by the serving thread that has the least to do; as serve_call. The
 * answer is ERR_STALE where the version is not loaded. */
typedef void (*engine_reply_fn)(void *arg, const char *record, size_t len);
void engine_call(struct engine *g, struct buf *record, engine_reply_fn fn, void *arg);

struct engine_stats {
    int64_t requests, rows, batches, expired, cancelled, refused, failed, replies_lost, loads, load_failures,
        evictions;
    int64_t models, model_bytes;
};
void engine_stats(struct engine *g, struct engine_stats *out);

#endif
