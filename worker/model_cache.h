/* The models that a worker holds: loaded, warmed, each with one session per predict thread, within a budget
 * of bytes.
 *
 *   absent ──add──▶ resident ──remove──▶ leaving (found by nobody) ──last release──▶ freed
 *
 * The budget counts model and sessions exactly, until they are freed. Least recently used goes first. Any
 * thread; a session belongs to its predict thread. */
#ifndef WORKER_MODEL_CACHE_H
#define WORKER_MODEL_CACHE_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/err.h"
#include "base/ids.h"
#include "learn/model.h"

/* A model with its sessions: made by the loader, then the cache's. Immutable but for the sessions. */
struct resident {
    char version_id[ID_MAX], tenant_id[ID_MAX];
    struct model *model;             /* owned */
    struct model_session **sessions; /* owned: one per predict thread */
    int sessions_len;
    int64_t bytes; /* model and sessions */

    /* The cache's, under its lock. */
    struct resident *hash_next;
    struct resident *older, *newer;
    int users;
    bool leaving;
};

/* Loads the artifact, makes the sessions, and computes one row on each, so that the first request finds every
 * page touched. ERR_TOO_LARGE beyond limit_bytes, model and sessions together. *out is the caller's until
 * model_cache_add. */
int resident_create(struct resident **out, const char *tenant_id, const char *version_id,
                    const void *artifact, size_t len, int sessions, int64_t batch_rows, int64_t limit_bytes,
                    struct err *e);
void resident_free(struct resident *m);

struct model_cache;

struct model_cache *model_cache_create(int64_t bytes_max);
void model_cache_free(struct model_cache *c); /* nobody may use a model any more */

/* The model, kept alive until the release; NULL when it is not resident or belongs to another tenant. Marks
 * it as used. */
struct resident *model_cache_acquire(struct model_cache *c, const char *tenant_id, const char *version_id);
void model_cache_release(struct model_cache *c, struct resident *m);
bool model_cache_holds(struct model_cache *c, const char *version_id);

/* Takes m over. ERR_CONFLICT: the version is resident already; ERR_LIMIT: it does not fit (make room first);
 * m stays the caller's. */
int model_cache_add(struct model_cache *c, struct resident *m, struct err *e);

/* The least recently used version when `bytes` more would not fit now: to be un-announced, then removed.
 * false: they fit, or there is none left. */
bool model_cache_victim(struct model_cache *c, int64_t bytes, char version_id[ID_MAX]);
/* Nobody finds it from now on. Returns when the last user has released it and it is freed. false: not
 * resident. */
bool model_cache_remove(struct model_cache *c, const char *version_id);

/* The resident versions; *out is the caller's (mem_free), NULL when there are none or memory is out. */
void model_cache_versions(struct model_cache *c, char (**out)[ID_MAX], size_t *n);
int64_t model_cache_bytes(struct model_cache *c);
size_t model_cache_count(struct model_cache *c);

#endif
