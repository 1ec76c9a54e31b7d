/* The models that a worker holds: loaded, warmed, and the sessions that its predict threads compute them
 * with, within a budget of bytes.
 *
 *   absent ──add──▶ resident ──remove──▶ leaving (found by nobody) ──last release──▶ freed
 *
 * An eighth of the budget is the predict threads' pools of sessions, in equal parts. A session that is small
 * beside its pool is made when its thread first computes the model, and the thread's least recently used ones
 * make room for it: so thousands of small models need no session each, whose room for a batch of rows may be
 * larger than the model. Others are made with the model, one per thread, stay as long as it, and are counted
 * as its bytes. Everything is counted exactly until it is freed. Least recently used goes first. Any thread;
 * a session belongs to its predict thread (docs/decisions/0017). */
#ifndef WORKER_MODEL_CACHE_H
#define WORKER_MODEL_CACHE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/err.h"
#include "base/ids.h"
#include "learn/model.h"

/* What a model has cost since it was loaded: counted by the serving threads, read by any thread. */
struct resident_cost {
    _Atomic int64_t requests, compute_us, queue_us;
};

struct resident;

/* A predict thread's session of a model, in its pool while it is made, if it is pooled. */
struct resident_session {
    struct model_session *session; /* owned; NULL: not made yet, or made room for others */
    struct resident *older, *newer;
};

/* A model with its sessions: made by the loader, then the cache's. Immutable but for sessions and cost. */
struct resident {
    char version_id[ID_MAX], tenant_id[ID_MAX];
    struct model *model;               /* owned */
    struct resident_session *sessions; /* owned: one per predict thread */
    int sessions_len;
    bool pooled;           /* they come and go */
    int64_t session_bytes; /* of one */
    int64_t batch_rows;    /* it has room for */
    int64_t bytes;         /* model, and sessions that are not pooled */
    struct resident_cost cost;

    /* The cache's, under its lock. */
    struct resident *hash_next;
    struct resident *older, *newer;
    int users;
    bool leaving;
    int64_t used_ms; /* when it was last acquired, or added */
    struct {
        int64_t requests, compute_us, queue_us;
    } told, window; /* engine_load.c's: the cost at the end of the last window, and in it */
};

struct resident_options {
    int sessions; /* predict threads */
    int64_t batch_rows;
    int64_t pool_bytes;  /* of one thread's pool: model_cache_pool_bytes */
    int64_t limit_bytes; /* for model and sessions */
};

/* Loads the artifact, makes the sessions, and computes one row on each, so that the first request finds the
 * model's pages touched; pooled sessions go again. ERR_TOO_LARGE beyond limit_bytes. *out is the caller's
 * until model_cache_add. */
int resident_create(struct resident **out, const char *tenant_id, const char *version_id,
                    const void *artifact, size_t len, const struct resident_options *o, struct err *e);
void resident_free(struct resident *m);

struct model_cache;

struct model_cache *model_cache_create(int64_t bytes_max, int threads);
/* A thread's part of the pool; 0 where the budget is too small for one to be worth it. */
int64_t model_cache_pool_bytes(const struct model_cache *c);
int64_t model_cache_bytes_max(const struct model_cache *c); /* the budget without the pools */
void model_cache_free(struct model_cache *c);               /* nobody may use a model any more */

/* The model, kept alive until the release; NULL when it is not resident or belongs to another tenant. Marks
 * it as used. */
struct resident *model_cache_acquire(struct model_cache *c, const char *tenant_id, const char *version_id);
void model_cache_release(struct model_cache *c, struct resident *m);
/* The calling predict thread's session of a model that it has acquired, good until the release. ERR_NOMEM. */
int model_cache_session(struct model_cache *c, struct resident *m, int thread, struct model_session **out,
                        struct err *e);
bool model_cache_holds(struct model_cache *c, const char *version_id);

/* Takes m over. ERR_CONFLICT: the version is resident already; ERR_LIMIT: it does not fit (make room first);
 * m stays the caller's. */
int model_cache_add(struct model_cache *c, struct resident *m, struct err *e);

/* The least recently used version when `bytes` more would not fit now: to be un-announced, then removed.
 * false: they fit, or there is none left. */
bool model_cache_victim(struct model_cache *c, int64_t bytes, char version_id[ID_MAX]);
/* Whether bytes more would fit if all models left that nobody has used since before_ms (monotonic). */
bool model_cache_has_idle(struct model_cache *c, int64_t bytes, int64_t before_ms);
/* Nobody finds it from now on. Returns when the last user has released it and it is freed. false: not
 * resident. */
bool model_cache_remove(struct model_cache *c, const char *version_id);

/* Calls each (which must not block, nor come back) for every model that was used since then, the latest
 * first. */
void model_cache_each_used(struct model_cache *c, int64_t since_ms,
                           void (*each)(void *arg, struct resident *m), void *arg);
/* Bytes of models that nobody has used since before_ms: of the first few hundred of them at most. */
int64_t model_cache_idle_bytes(struct model_cache *c, int64_t before_ms);

/* The resident versions; *out is the caller's (mem_free), NULL when there are none or memory is out. */
void model_cache_versions(struct model_cache *c, char (**out)[ID_MAX], size_t *n); /* least used first */
int64_t model_cache_bytes(struct model_cache *c);                                  /* of models */
int64_t model_cache_pool_used(struct model_cache *c);                              /* of pooled sessions */
size_t model_cache_count(struct model_cache *c);

#endif
