/* Which hot model versions get further holders, and which of several holders a version can do without. Pure:
 * no I/O, no clock, and the same observations give the same decisions.
 *
 *   held ──hot for hot_ms──▶ ADD: the least busy worker that has room for it ──settles──▶ …another one
 *    ▲                                                                                       │
 *    └────────── DROP: fewer would do it at ease, for cold_ms ◀──────────────────────────────┘
 *
 * Hot: the holders' serving threads are busy beyond hot_milli, or requests wait there in numbers, and the
 * version has a good part in that. The distance between hot_milli and easy_milli, and the times, keep a load
 * that stands still from making it go to and fro. A worker takes a replica only into memory that is free or
 * that idle models hold, and only when it would not become hot itself. One thread. */
#ifndef SCHEDULER_REPLICA_H
#define SCHEDULER_REPLICA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/ids.h"

struct replica_config {
    int hot_milli;     /* thousandths of a worker's serving threads */
    int share_milli;   /* the least part of a holder that is worth a replica */
    int waiting_milli; /* requests of the version that wait at a holder, in thousandths, that make it hot */
    int easy_milli;    /* what the rest may be busy with after a DROP */
    int64_t hot_ms;    /* how long it must be hot */
    int64_t cold_ms;   /* how long fewer holders must do */
    int64_t settle_ms; /* after a decision nothing is decided for so long */
    int64_t settle_max_ms; /* an ADD that brought no holder doubles it up to this */
};
extern const struct replica_config replica_config_default;

/* A living worker as its heartbeat tells of it. */
struct replica_worker {
    char id[ID_MAX];
    int busy_milli;
    int64_t model_bytes_free, model_bytes_idle;
    bool draining;
};

enum { REPLICA_HOLDERS_MAX = 64, REPLICA_ACTIONS_MAX = 32 };

/* A version as all that hold it tell of it. */
struct replica_version {
    char version[ID_MAX], tenant[ID_MAX];
    int64_t bytes;                       /* that it takes of a worker's memory for models */
    int64_t busy_milli, waiting_milli;   /* sums over its holders */
    size_t holders[REPLICA_HOLDERS_MAX]; /* indexes of workers that live and do not drain */
    size_t holders_len;
};

enum replica_kind { REPLICA_ADD, REPLICA_DROP };
struct replica_action {
    enum replica_kind kind;
    char version[ID_MAX], tenant[ID_MAX], worker[ID_MAX];
};
struct replica_actions {
    struct replica_action data[REPLICA_ACTIONS_MAX];
    size_t len;
};

struct replicas;
int replicas_create(struct replicas **out, const struct replica_config *config,
                    struct err *e);     /* ERR_NOMEM */
void replicas_free(struct replicas *r); /* NULL is fine */

/* The versions that the next step must see even when no worker tells of them: start with *cursor = 0; the
 * tenant is in *tenant. NULL at the end. Borrowed until the next step. */
const char *replicas_next(const struct replicas *r, size_t *cursor, const char **tenant);

/* One look at all. versions: those that workers tell of and those of replicas_next, each once. workers is
 * changed: what was decided is taken off their room. now_ms is monotonic. What finds no place in out is
 * decided in the next step. ERR_NOMEM: some versions were not looked at. */
int replicas_step(struct replicas *r, int64_t now_ms, struct replica_worker *workers, size_t workers_len,
                  const struct replica_version *versions, size_t versions_len, struct replica_actions *out,
                  struct err *e);

#endif
