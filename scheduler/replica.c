/* Each version's load beside what its holders can do, and since when it has been so. */
#include "scheduler/replica.h"

#include <string.h>
#include "base/mem.h"
#include "scheduler/table.h"

const struct replica_config replica_config_default = {.hot_milli = 700,
                                                      .share_milli = 150,
                                                      .waiting_milli = 8000,
                                                      .easy_milli = 400,
                                                      .hot_ms = 2500,
                                                      .cold_ms = 30000,
                                                      .settle_ms = 5000,
                                                      .settle_max_ms = 60000};

/* A version that is hot or has several holders. */
struct tracked {
    char version[ID_MAX], tenant[ID_MAX];
    int64_t hot_since_ms, cold_since_ms; /* −1: it is not */
    int64_t settled_ms;                  /* nothing is decided before */
    int64_t settle_ms;
    size_t holders_before; /* of the last ADD; 0: none was made, or it came up */
    bool done;             /* neither hot nor held by several any more */
};

struct replicas {
    struct replica_config config;
    struct table tracked; /* struct tracked, owned */
};

/* What one step sees and says. */
struct look {
    struct replicas *r;
    int64_t now_ms;
    struct replica_worker *workers;
    size_t workers_len;
    struct replica_actions *out;
};

/* ---- life ---- */

int replicas_create(struct replicas **out, const struct replica_config *config, struct err *e)
{
    *out = mem_try_alloc(1, sizeof **out);
    if (!*out) return err_set(e, ERR_NOMEM, NULL, "no memory to keep an eye on hot models");
    (*out)->config = *config;
    return 0;
}

void replicas_free(struct replicas *r)
{
    if (!r) return;
    size_t cursor = 0;
    struct tracked *t;
    while ((t = table_next(&r->tracked, &cursor)) != NULL) mem_free(t);
    table_dispose(&r->tracked);
    mem_free(r);
}

const char *replicas_next(const struct replicas *r, size_t *cursor, const char **tenant)
{
    const struct tracked *t = table_next(&r->tracked, cursor);
    if (!t) return NULL;
    *tenant = t->tenant;
    return t->version;
}

static struct tracked *track(struct replicas *r, const struct replica_version *v)
{
    struct tracked *t = table_find(&r->tracked, v->version);
    if (t) return t;
    t = mem_try_alloc(1, sizeof *t);
    if (!t) return NULL;
    memcpy(t->version, v->version, sizeof t->version);
    memcpy(t->tenant, v->tenant, sizeof t->tenant);
    t->hot_since_ms = t->cold_since_ms = -1;
    t->settle_ms = r->config.settle_ms;
    if (table_put(&r->tracked, t->version, t) == 0) return t;
    mem_free(t);
    return NULL;
}

/* ---- what a version's holders do ---- */

static int64_t busy_of_holders(const struct look *l, const struct replica_version *v)
{
    int64_t sum = 0;
    for (size_t i = 0; i < v->holders_len; i++) sum += l->workers[v->holders[i]].busy_milli;
    return sum;
}

static bool is_hot(const struct look *l, const struct replica_version *v)
{
    const struct replica_config *c = &l->r->config;
    int64_t n = (int64_t)v->holders_len, busy = busy_of_holders(l, v) / n;
    if (v->busy_milli / n < c->share_milli) return false;
    return busy >= c->hot_milli || (busy >= c->hot_milli / 2 && v->waiting_milli / n >= c->waiting_milli);
}

/* The one whose going relieves most; where they are alike, the one with the least room. */
static size_t spare_holder(const struct look *l, const struct replica_version *v)
{
    size_t best = v->holders[0];
    for (size_t i = 1; i < v->holders_len; i++) {
        const struct replica_worker *a = &l->workers[v->holders[i]], *b = &l->workers[best];
        if (a->busy_milli > b->busy_milli ||
            (a->busy_milli == b->busy_milli && a->model_bytes_free < b->model_bytes_free))
            best = v->holders[i];
    }
    return best;
}

/* Without that holder the others would take over its part of the version. */
static bool would_do_without(const struct look *l, const struct replica_version *v, size_t spare)
{
    int64_t n = (int64_t)v->holders_len;
    int64_t rest = busy_of_holders(l, v) - l->workers[spare].busy_milli + v->busy_milli / n;
    return rest / (n - 1) <= l->r->config.easy_milli && v->waiting_milli / n < l->r->config.waiting_milli;
}

static bool holds(const struct replica_version *v, size_t worker)
{
    for (size_t i = 0; i < v->holders_len; i++)
        if (v->holders[i] == worker) return true;
    return false;
}

/* Its index, or workers_len when there is none that would bear it. */
static size_t new_holder(const struct look *l, const struct replica_version *v)
{
    int64_t part = v->busy_milli / (int64_t)(v->holders_len + 1);
    size_t best = l->workers_len;
    for (size_t i = 0; i < l->workers_len; i++) {
        const struct replica_worker *w = &l->workers[i], *b = &l->workers[best];
        if (w->draining || holds(v, i) || w->busy_milli + part > l->r->config.hot_milli ||
            v->bytes > w->model_bytes_free + w->model_bytes_idle)
            continue;
        if (best == l->workers_len || w->busy_milli < b->busy_milli ||
            (w->busy_milli == b->busy_milli && w->model_bytes_free > b->model_bytes_free))
            best = i;
    }
    return best;
}

/* ---- deciding ---- */

static void act(struct look *l, struct tracked *t, enum replica_kind kind, size_t worker)
{
    struct replica_action *a = &l->out->data[l->out->len++];
    a->kind = kind;
    memcpy(a->version, t->version, sizeof a->version);
    memcpy(a->tenant, t->tenant, sizeof a->tenant);
    memcpy(a->worker, l->workers[worker].id, sizeof a->worker);
    t->settled_ms = l->now_ms + t->settle_ms;
    t->hot_since_ms = t->cold_since_ms = -1;
}

static void add(struct look *l, struct tracked *t, const struct replica_version *v)
{
    size_t to = new_holder(l, v);
    if (to == l->workers_len) return;
    if (t->holders_before == v->holders_len) {
        t->settle_ms *= 2;
        if (t->settle_ms > l->r->config.settle_max_ms) t->settle_ms = l->r->config.settle_max_ms;
    }
    t->holders_before = v->holders_len;
    l->workers[to].busy_milli += (int)(v->busy_milli / (int64_t)(v->holders_len + 1));
    l->workers[to].model_bytes_free -= v->bytes;
    act(l, t, REPLICA_ADD, to);
}

static void since(int64_t *since_ms, bool is, int64_t now_ms)
{
    if (!is)
        *since_ms = -1;
    else if (*since_ms < 0)
        *since_ms = now_ms;
}

static bool for_long(const struct look *l, int64_t since_ms, int64_t ms)
{
    return since_ms >= 0 && l->now_ms - since_ms >= ms;
}

static int look_at(struct look *l, const struct replica_version *v)
{
    const struct replica_config *c = &l->r->config;
    bool hot = v->holders_len > 0 && is_hot(l, v), several = v->holders_len > 1;
    struct tracked *t = table_find(&l->r->tracked, v->version);
    if (!t && !hot && !several) return 0;
    if (!t && !(t = track(l->r, v))) return ERR_NOMEM;
    t->done = !hot && !several && l->now_ms >= t->settled_ms;
    if (t->holders_before && v->holders_len > t->holders_before) {
        t->holders_before = 0;
        t->settle_ms = c->settle_ms;
    }
    size_t spare = several ? spare_holder(l, v) : 0;
    since(&t->hot_since_ms, hot, l->now_ms);
    since(&t->cold_since_ms, several && would_do_without(l, v, spare), l->now_ms);
    if (l->now_ms < t->settled_ms || l->out->len == REPLICA_ACTIONS_MAX) return 0;
    if (for_long(l, t->hot_since_ms, c->hot_ms))
        add(l, t, v);
    else if (for_long(l, t->cold_since_ms, c->cold_ms))
        act(l, t, REPLICA_DROP, spare);
    return 0;
}

static void forget_done(struct replicas *r)
{
    bool found = true;
    while (found) { /* a walk must not remove */
        found = false;
        size_t cursor = 0;
        struct tracked *t;
        while (!found && (t = table_next(&r->tracked, &cursor)) != NULL) {
            found = t->done;
            if (!found) continue;
            table_remove(&r->tracked, t->version);
            mem_free(t);
        }
    }
}

int replicas_step(struct replicas *r, int64_t now_ms, struct replica_worker *workers, size_t workers_len,
                  const struct replica_version *versions, size_t versions_len, struct replica_actions *out,
                  struct err *e)
{
    struct look l = {.r = r, .now_ms = now_ms, .workers = workers, .workers_len = workers_len, .out = out};
    int rc = 0;
    out->len = 0;
    for (size_t i = 0; i < versions_len; i++)
        if (look_at(&l, &versions[i]) != 0)
            rc = err_set(e, ERR_NOMEM, NULL, "no memory to keep an eye on hot models");
    forget_done(r);
    return rc;
}
