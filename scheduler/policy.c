/* The policy's state and what each event does to it; who runs where is policy_run.c, who gives way
 * policy_yield.c, what it costs policy_charge.c. */
#include "scheduler/policy_state.h"

#include <string.h>
#include "base/mem.h"

const struct policy_config policy_config_default = {.seed = 1,
                                                    .quantum_ms = 10000,
                                                    .ageing_ms = 60000,
                                                    .reserve_after_ms = 60000,
                                                    .load_retry_ms = 2000,
                                                    .load_again_ms = 100,
                                                    .load_tries = 5};

static int no_memory(struct err *e)
{
    return err_set(e, ERR_NOMEM, NULL, "no memory for the scheduler's queue");
}

int policy_create(struct policy **out, const struct policy_config *config, struct err *e)
{
    *out = NULL;
    if (config->quantum_ms < 1 || config->ageing_ms < 0 || config->load_tries < 1) {
        return err_set(e, ERR_INVALID, "quantum",
                       "quantum and load_tries must be at least 1, ageing at least 0");
    }
    struct policy *p = mem_try_alloc(1, sizeof *p);
    if (!p) return no_memory(e);
    p->config = *config;
    *out = p;
    return 0;
}

static void free_all(struct table *t)
{
    size_t cursor = 0;
    void *value;
    while ((value = table_next(t, &cursor)) != NULL) mem_free(value);
    table_dispose(t);
}

void policy_free(struct policy *p)
{
    if (!p) return;
    size_t cursor = 0;
    struct policy_tenant *t;
    while ((t = table_next(&p->tenants, &cursor)) != NULL) mem_free(t->heap);
    free_all(&p->jobs);
    free_all(&p->tenants);
    free_all(&p->loads);
    for (size_t i = 0; i < p->workers_len; i++) mem_free(p->workers[i]);
    mem_free(p->workers);
    mem_free(p->eligible);
    mem_free(p);
}

void policy_actions_dispose(struct policy_actions *a)
{
    mem_free(a->data);
    memset(a, 0, sizeof *a);
}

struct policy_action *policy__action(struct policy_actions *out)
{
    if (out->len == out->cap) {
        size_t cap = out->cap ? out->cap * 2 : 16;
        struct policy_action *data = mem_try_realloc(out->data, cap, sizeof *data);
        if (!data) return NULL;
        out->data = data;
        out->cap = cap;
    }
    struct policy_action *a = &out->data[out->len++];
    memset(a, 0, sizeof *a);
    return a;
}

/* ---- tenants ---- */

int policy__refresh(struct policy *p, struct policy_tenant *t)
{
    bool eligible = t->heap_len > 0 && t->running < t->max_concurrent && !t->stuck;
    if (eligible == t->eligible) return 0;
    if (!eligible) {
        struct policy_tenant *last = p->eligible[--p->eligible_len];
        p->eligible[t->eligible_index] = last;
        last->eligible_index = t->eligible_index;
    } else {
        if (p->eligible_len == p->eligible_cap) {
            size_t cap = p->eligible_cap ? p->eligible_cap * 2 : 64;
            struct policy_tenant **list = mem_try_realloc(p->eligible, cap, sizeof *list);
            if (!list) return ERR_NOMEM;
            p->eligible = list;
            p->eligible_cap = cap;
        }
        if (t->vtime < p->vtime) t->vtime = p->vtime;
        t->eligible_index = p->eligible_len;
        p->eligible[p->eligible_len++] = t;
    }
    t->eligible = eligible;
    return 0;
}

static struct policy_tenant *tenant_of(struct policy *p, const char *id)
{
    struct policy_tenant *t = table_find(&p->tenants, id);
    if (t) return t;
    t = mem_try_alloc(1, sizeof *t);
    if (!t) return NULL;
    memcpy(t->id, id, sizeof t->id);
    t->weight = 1;
    t->max_concurrent = INT64_MAX;
    t->vtime = p->vtime;
    t->average_ms = p->config.quantum_ms;
    if (table_put(&p->tenants, t->id, t) != 0) {
        mem_free(t);
        return NULL;
    }
    return t;
}

static int on_tenant(struct policy *p, const struct policy_event *ev, struct err *e)
{
    if (ev->weight < 1 || ev->weight > POLICY_WEIGHT_MAX || ev->max_concurrent < 0) {
        return err_set(e, ERR_INVALID, "weight",
                       "tenant %s: weight %lld or max_concurrent %lld is out of bounds", ev->tenant,
                       (long long)ev->weight, (long long)ev->max_concurrent);
    }
    struct policy_tenant *t = tenant_of(p, ev->tenant);
    if (!t) return no_memory(e);
    t->weight = ev->weight;
    t->max_concurrent = ev->max_concurrent;
    return policy__refresh(p, t);
}

/* ---- jobs ---- */

void policy__unreserve(struct policy *p)
{
    for (size_t i = 0; i < p->workers_len; i++) p->workers[i]->reserved_for = NULL;
    p->reserved = NULL;
}

/* Takes the job out of wherever it is; the charge of a running one is what used_ms says, or nothing when it
 * is 0. */
static int forget(struct policy *p, struct policy_job *j, int64_t used_ms)
{
    struct policy_tenant *t = j->tenant;
    if (p->reserved == j) policy__unreserve(p);
    if (!j->worker) {
        policy__heap_remove(t, j);
    } else {
        policy__unrun(p, j);
        if (used_ms > 0) {
            policy__charge_settle(j, used_ms);
        } else {
            t->vtime -= j->charged;
        }
    }
    table_remove(&p->jobs, j->id);
    mem_free(j);
    t->stuck = false;
    return policy__refresh(p, t);
}

static int64_t elapsed_ms(const struct policy *p, const struct policy_job *j)
{
    int64_t ms = p->now_ms - j->started_ms;
    return ms > 0 ? ms : 1;
}

static int add_job(struct policy *p, struct policy_job **out, const struct policy_event *ev, struct err *e)
{
    if (ev->slots < 1 || ev->memory_bytes < 0 || ev->priority < -POLICY_PRIORITY_MAX ||
        ev->priority > POLICY_PRIORITY_MAX) {
        return err_set(e, ERR_INVALID, "job", "job %s: slots, memory or priority out of bounds", ev->job);
    }
    struct policy_tenant *t = tenant_of(p, ev->tenant);
    struct policy_job *j = t ? mem_try_alloc(1, sizeof *j) : NULL;
    if (!j) return no_memory(e);
    memcpy(j->id, ev->job, sizeof j->id);
    j->tenant = t;
    j->order_key = ev->queued_at_ms - ev->priority * p->config.ageing_ms;
    j->slots = ev->slots;
    j->memory_bytes = ev->memory_bytes;
    j->estimate_ms = ev->estimate_ms;
    j->yieldable = ev->yieldable;
    j->blocked_since_ms = -1;
    if (table_put(&p->jobs, j->id, j) != 0) {
        mem_free(j);
        return no_memory(e);
    }
    *out = j;
    return 0;
}

static int on_queued(struct policy *p, const struct policy_event *ev, struct err *e)
{
    struct policy_job *j = table_find(&p->jobs, ev->job);
    if (j && !j->worker) return 0;
    int rc = j ? forget(p, j, elapsed_ms(p, j)) : 0;
    if (rc == 0) rc = add_job(p, &j, ev, e);
    if (rc != 0) return rc;
    rc = policy__heap_push(j->tenant, j);
    if (rc != 0) {
        table_remove(&p->jobs, j->id);
        mem_free(j);
        return no_memory(e);
    }
    j->tenant->stuck = false;
    return policy__refresh(p, j->tenant);
}

static int on_running(struct policy *p, const struct policy_event *ev, struct err *e)
{
    struct policy_worker *w = policy__find_worker(p, ev->worker);
    if (!w) {
        return err_set(e, ERR_NOT_FOUND, "worker", "job %s runs on %s, which has not been seen", ev->job,
                       ev->worker);
    }
    struct policy_job *j = table_find(&p->jobs, ev->job);
    if (j && j->worker == w) return 0;
    int rc = j ? forget(p, j, j->worker ? elapsed_ms(p, j) : 0) : 0;
    if (rc == 0) rc = add_job(p, &j, ev, e);
    if (rc != 0) return rc;
    policy__run(p, j, w, ev->used_ms > 0 ? ev->used_ms : 0);
    return policy__refresh(p, j->tenant);
}

static int on_ended(struct policy *p, const struct policy_event *ev)
{
    struct policy_job *j = table_find(&p->jobs, ev->job);
    if (!j) return 0;
    if (!j->worker) return forget(p, j, 0);
    int64_t used_ms = ev->used_ms < 0 ? elapsed_ms(p, j) : ev->used_ms > 0 ? ev->used_ms : 1;
    if (!j->yielding) policy__charge_learn(p, j->tenant, used_ms); /* a part of a job says nothing */
    return forget(p, j, used_ms);
}

static int on_gone(struct policy *p, const struct policy_event *ev)
{
    struct policy_job *j = table_find(&p->jobs, ev->job);
    return j ? forget(p, j, 0) : 0;
}

/* ---- workers ---- */

struct policy_worker *policy__find_worker(const struct policy *p, const char *id)
{
    for (size_t i = 0; i < p->workers_len; i++) {
        if (strcmp(p->workers[i]->id, id) == 0) return p->workers[i];
    }
    return NULL;
}

static struct policy_worker *add_worker(struct policy *p, const char *id)
{
    if (p->workers_len == p->workers_cap) {
        size_t cap = p->workers_cap ? p->workers_cap * 2 : 16;
        struct policy_worker **list = mem_try_realloc(p->workers, cap, sizeof *list);
        if (!list) return NULL;
        p->workers = list;
        p->workers_cap = cap;
    }
    struct policy_worker *w = mem_try_alloc(1, sizeof *w);
    if (!w) return NULL;
    memcpy(w->id, id, sizeof w->id);
    p->workers[p->workers_len++] = w;
    return w;
}

/* More room than before may hold what nothing could hold. */
static int unstick(struct policy *p)
{
    size_t cursor = 0;
    struct policy_tenant *t;
    while ((t = table_next(&p->tenants, &cursor)) != NULL) {
        policy__heap_revive(t);
        if (!t->stuck) continue;
        t->stuck = false;
        if (policy__refresh(p, t) != 0) return ERR_NOMEM;
    }
    return 0;
}

static int on_seen(struct policy *p, const struct policy_event *ev, struct err *e)
{
    if (ev->slots < 0 || ev->memory_bytes < 0) {
        return err_set(e, ERR_INVALID, "worker", "worker %s: slots or memory below 0", ev->worker);
    }
    struct policy_worker *w = policy__find_worker(p, ev->worker);
    bool changed =
        !w || w->slots != ev->slots || w->memory_bytes != ev->memory_bytes || w->draining != ev->draining;
    if (!w) w = add_worker(p, ev->worker);
    if (!w) return no_memory(e);
    w->slots = ev->slots;
    w->memory_bytes = ev->memory_bytes;
    w->model_free_bytes = ev->model_free_bytes;
    w->model_idle_bytes = ev->model_idle_bytes;
    w->draining = ev->draining;
    if (w->draining && w->reserved_for) policy__unreserve(p);
    return changed ? unstick(p) : 0;
}

static int on_lost(struct policy *p, const struct policy_event *ev)
{
    struct policy_worker *w = policy__find_worker(p, ev->worker);
    if (!w) return 0;
    if (w->reserved_for) policy__unreserve(p);
    int rc = 0;
    for (struct policy_job *j = p->running, *next; j; j = next) {
        next = j->next;
        if (j->worker == w && forget(p, j, elapsed_ms(p, j)) != 0) rc = ERR_NOMEM;
    }
    size_t i = 0;
    while (p->workers[i] != w) i++;
    p->workers[i] = p->workers[--p->workers_len];
    mem_free(w);
    return rc;
}

/* ---- the step ---- */

static int apply(struct policy *p, const struct policy_event *ev, struct policy_actions *out, struct err *e)
{
    switch (ev->type) {
    case POLICY_TENANT:
        return on_tenant(p, ev, e);
    case POLICY_JOB_QUEUED:
        return on_queued(p, ev, e);
    case POLICY_JOB_RUNNING:
        return on_running(p, ev, e);
    case POLICY_JOB_ENDED:
        return on_ended(p, ev);
    case POLICY_JOB_GONE:
        return on_gone(p, ev);
    case POLICY_WORKER_SEEN:
        return on_seen(p, ev, e);
    case POLICY_WORKER_LOST:
        return on_lost(p, ev);
    case POLICY_MODEL_WANTED:
        return policy__model_wanted(p, ev, e);
    case POLICY_MODEL_UP:
        policy__model_up(p, ev->version);
        return 0;
    case POLICY_FILL:
        break;
    }
    policy__charge_overruns(p);
    int rc = policy__fill(p, out, e);
    if (rc == 0) rc = policy__quanta(p, out, e);
    return rc == 0 ? policy__load(p, out, e) : rc;
}

int policy_step(struct policy *p, const struct policy_event *ev, struct policy_actions *out, struct err *e)
{
    out->len = 0;
    if (ev->now_ms > p->now_ms) p->now_ms = ev->now_ms;
    int rc = apply(p, ev, out, e);
    if (rc == ERR_NOMEM) no_memory(e);
    return rc;
}

/* ---- observers ---- */

void policy_counts(const struct policy *p, struct policy_counts *out)
{
    *out = (struct policy_counts){.queued = p->jobs.len - p->running_len,
                                  .running = p->running_len,
                                  .tenants = p->tenants.len,
                                  .workers = p->workers_len,
                                  .loads = p->loads.len};
    for (size_t i = 0; i < p->workers_len; i++) out->free_slots += policy__free_slots(p->workers[i]);
}

enum policy_job_state policy_job_state(const struct policy *p, const char *job, const char **worker)
{
    const struct policy_job *j = table_find(&p->jobs, job);
    if (worker) *worker = j && j->worker ? j->worker->id : "";
    return !j ? POLICY_UNKNOWN : j->worker ? POLICY_RUNNING : POLICY_WAITING;
}

bool policy_tenant_state(const struct policy *p, const char *tenant, int64_t *vtime, bool *eligible)
{
    const struct policy_tenant *t = table_find(&p->tenants, tenant);
    if (!t) return false;
    *vtime = t->vtime;
    *eligible = t->eligible;
    return true;
}
