/* Heartbeats and placement sets made into what replica.h looks at, and its decisions into messages. */
#include "scheduler/scheduler_state.h"

#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "queue/inbox.h"
#include "queue/placement.h"

/* A worker that is less busy than this makes nobody look up who holds what it tells of. */
enum { INTERESTING_MILLI = 350 };

struct view {
    struct replica_worker *workers;    /* owned, as all below */
    const struct fleet_worker **fleet; /* the same ones; borrowed */
    size_t workers_len;
    struct replica_version *versions;
    size_t versions_len, versions_cap;
    struct table by_id; /* of versions */
};

static void view_dispose(struct view *v)
{
    mem_free(v->workers);
    mem_free(v->fleet);
    mem_free(v->versions);
    table_dispose(&v->by_id);
}

/* The version's entry, which is made when `make` says so; NULL when it is not there. */
static struct replica_version *entry(struct view *v, const char *version, const char *tenant, bool make)
{
    struct replica_version *found = table_find(&v->by_id, version);
    if (found || !make || v->versions_len == v->versions_cap) return found;
    found = &v->versions[v->versions_len];
    memcpy(found->version, version, sizeof found->version);
    memcpy(found->tenant, tenant, sizeof found->tenant);
    if (table_put(&v->by_id, found->version, found) != 0) return NULL;
    v->versions_len++;
    return found;
}

static int view_room(struct scheduler *s, struct view *v, struct err *e)
{
    size_t cursor = 0;
    const struct fleet_worker *w;
    const char *tenant;
    while ((w = table_next(&s->fleet, &cursor)) != NULL) v->versions_cap += w->beat.models_len;
    cursor = 0;
    while (replicas_next(s->replicas, &cursor, &tenant)) v->versions_cap++;
    v->workers = mem_try_alloc(s->fleet.len + 1, sizeof *v->workers);
    v->fleet = mem_try_alloc(s->fleet.len + 1, sizeof *v->fleet);
    v->versions = mem_try_alloc(v->versions_cap + 1, sizeof *v->versions);
    if (v->workers && v->fleet && v->versions) return 0;
    return err_set(e, ERR_NOMEM, NULL, "no memory to look at the load of %zu workers", s->fleet.len);
}

static void see_workers(struct scheduler *s, struct view *v)
{
    size_t cursor = 0;
    const struct fleet_worker *w;
    while ((w = table_next(&s->fleet, &cursor)) != NULL) {
        if (w->absent_since_ms != 0) continue;
        v->fleet[v->workers_len] = w;
        struct replica_worker *to = &v->workers[v->workers_len++];
        memcpy(to->id, w->beat.inc, sizeof to->id);
        to->busy_milli = w->beat.predict_busy_milli;
        to->model_bytes_free = w->beat.model_bytes_free;
        to->model_bytes_idle = w->beat.model_bytes_idle;
        to->draining = w->beat.draining;
    }
}

/* First which versions matter, then what everybody tells of them. */
static void see_loads(struct scheduler *s, struct view *v)
{
    size_t cursor = 0;
    const char *version, *tenant;
    while ((version = replicas_next(s->replicas, &cursor, &tenant)) != NULL) entry(v, version, tenant, true);
    for (size_t i = 0; i < v->workers_len; i++) {
        const struct heartbeat *b = &v->fleet[i]->beat;
        for (size_t k = 0; b->predict_busy_milli >= INTERESTING_MILLI && k < b->models_len; k++)
            entry(v, b->models[k].version_id, b->models[k].tenant_id, true);
    }
    for (size_t i = 0; i < v->workers_len; i++) {
        const struct heartbeat *b = &v->fleet[i]->beat;
        for (size_t k = 0; k < b->models_len; k++) {
            struct replica_version *to = entry(v, b->models[k].version_id, NULL, false);
            if (!to) continue;
            to->busy_milli += b->models[k].busy_milli;
            to->waiting_milli += b->models[k].waiting_milli;
            if (b->models[k].bytes > to->bytes) to->bytes = b->models[k].bytes;
        }
    }
}

static int see_holders(struct scheduler *s, struct view *v, struct replica_version *of, struct err *e)
{
    char holders[PLACEMENT_HOLDERS_MAX][ID_MAX];
    size_t n = 0;
    int rc = placement_holders(s->redis, of->version, holders, &n, e);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < v->workers_len; k++)
            if (!v->workers[k].draining && of->holders_len < REPLICA_HOLDERS_MAX &&
                strcmp(v->workers[k].id, holders[i]) == 0)
                of->holders[of->holders_len++] = k;
    return rc;
}

static void carry_out(struct scheduler *s, const struct replica_action *a)
{
    bool adds = a->kind == REPLICA_ADD;
    struct message m = {.type = adds ? MESSAGE_MODEL_REPLICATE : MESSAGE_MODEL_UNLOAD};
    memcpy(m.model.version_id, a->version, sizeof m.model.version_id);
    memcpy(m.model.tenant_id, a->tenant, sizeof m.model.tenant_id);
    char key[INBOX_KEY_MAX];
    inbox_worker_key(key, a->worker);
    struct err e = {0};
    int rc = inbox_push(s->redis, key, &m, &e);
    log_info(adds ? "replica_added" : "replica_dropped", "version=%s worker=%s sent=%s", a->version,
             a->worker, rc == 0 ? "yes" : e.message);
}

int replicate_hot(struct scheduler *s, struct err *e)
{
    struct view v = {0};
    struct replica_actions actions = {.len = 0};
    int rc = view_room(s, &v, e);
    if (rc == 0) {
        see_workers(s, &v);
        see_loads(s, &v);
    }
    for (size_t i = 0; rc == 0 && i < v.versions_len; i++) rc = see_holders(s, &v, &v.versions[i], e);
    if (rc == 0)
        rc = replicas_step(s->replicas, clock_mono_ms(), v.workers, v.workers_len, v.versions, v.versions_len,
                           &actions, e);
    for (size_t i = 0; i < actions.len; i++) carry_out(s, &actions.data[i]);
    view_dispose(&v);
    return rc;
}
