/* The simulated platform and its independent checker. */
#include "tests/unit/scheduler/policy_sim.h"

#include <assert.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include "scheduler/policy.h"
#include "scheduler/table.h"

enum { TENANTS = 5, WORKERS = 3, JOBS = 160, ROUNDS = 220, SLOTS_MAX = 4, LOOK_PAST = 16 };
enum { MIB = 1 << 20, AGEING_MS = 30000, QUANTUM_MS = 10000, YIELD_MS = 400 };

enum sim_job_state { ABSENT, WAITS, RUNS, OVER };

struct sim_job {
    char id[ID_MAX];
    enum sim_job_state state;
    int tenant, worker;
    int64_t slots, memory, priority, queued_at, estimate, length, ends_at, started_at, yields_at;
    bool yieldable, yielding;
};

struct sim_tenant {
    char id[ID_MAX];
    int64_t weight, cap, running;
    double largest; /* normalised charge of its costliest job */
    bool eligible;
};

struct sim_worker {
    char id[ID_MAX];
    int64_t slots, memory, used_slots, used_memory;
    bool alive, draining;
};

/* Normalised service of tenant a less that of b since both began to wait, and its extremes. */
struct sim_pair {
    bool both;
    double now, low, high;
};

struct sim {
    struct sim_outcome *out;
    struct policy *policy;
    struct policy_actions actions;
    enum sim_mode mode;
    enum sim_mutation mutation;
    uint64_t random;
    int64_t now;
    bool reserves;
    double largest; /* charge of anybody, as estimated or as used */
    int n_jobs;
    struct sim_job jobs[JOBS];
    struct sim_tenant tenants[TENANTS];
    struct sim_worker workers[WORKERS];
    struct sim_pair pairs[TENANTS][TENANTS];
};

static uint64_t next(struct sim *s)
{
    s->random += 0x9e3779b97f4a7c15u;
    uint64_t z = s->random;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static int64_t between(struct sim *s, int64_t low, int64_t high)
{
    return low + (int64_t)(next(s) % (uint64_t)(high - low + 1));
}

static bool one_in(struct sim *s, int n)
{
    return next(s) % (uint64_t)n == 0;
}

__attribute__((format(printf, 2, 3))) static void broken(struct sim *s, const char *fmt, ...)
{
    if (s->out->broken[0]) return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(s->out->broken, sizeof s->out->broken, fmt, ap);
    va_end(ap);
}

static void step(struct sim *s, struct policy_event *ev)
{
    ev->now_ms = s->now;
    struct err e = {0};
    if (policy_step(s->policy, ev, &s->actions, &e) != 0) broken(s, "step failed: %s", e.message);
}

/* ---- what the policy is told, truly or not ---- */

static void tell_tenant(struct sim *s, int i)
{
    const struct sim_tenant *t = &s->tenants[i];
    struct policy_event ev = {.type = POLICY_TENANT, .weight = t->weight, .max_concurrent = t->cap};
    if (s->mutation == SIM_EQUAL_WEIGHTS) ev.weight = 1;
    if (s->mutation == SIM_NO_CAP) ev.max_concurrent = 1000;
    memcpy(ev.tenant, t->id, sizeof ev.tenant);
    step(s, &ev);
}

static void tell_worker(struct sim *s, int i)
{
    const struct sim_worker *w = &s->workers[i];
    struct policy_event ev = {
        .type = POLICY_WORKER_SEEN, .slots = w->slots, .memory_bytes = w->memory, .draining = w->draining};
    if (s->mutation == SIM_EXTRA_SLOT) ev.slots++;
    if (s->mutation == SIM_EXTRA_MEMORY) ev.memory_bytes *= 2;
    memcpy(ev.worker, w->id, sizeof ev.worker);
    step(s, &ev);
}

static void tell_job(struct sim *s, enum policy_event_type type, const struct sim_job *j, int64_t used)
{
    struct policy_event ev = {.type = type,
                              .slots = j->slots,
                              .memory_bytes = j->memory,
                              .priority = s->mutation == SIM_UPSIDE_DOWN ? -j->priority : j->priority,
                              .queued_at_ms = j->queued_at,
                              .estimate_ms = s->mutation == SIM_NO_CHARGE ? 1 : j->estimate,
                              .used_ms = s->mutation == SIM_NO_CHARGE ? 1 : used,
                              .yieldable = j->yieldable};
    memcpy(ev.job, j->id, sizeof ev.job);
    memcpy(ev.tenant, s->tenants[j->tenant].id, sizeof ev.tenant);
    if (type == POLICY_JOB_ENDED && s->mutation == SIM_NEVER_FREES && j->priority > 0) return;
    step(s, &ev);
}

/* ---- the books ---- */

static double charge(const struct sim *s, const struct sim_job *j, int64_t ms)
{
    return (double)(ms * j->slots * 1000) / (double)s->tenants[j->tenant].weight;
}

static void free_job(struct sim *s, struct sim_job *j, enum sim_job_state state)
{
    if (j->state == RUNS) {
        s->workers[j->worker].used_slots -= j->slots;
        s->workers[j->worker].used_memory -= j->memory;
        s->tenants[j->tenant].running--;
    }
    j->state = state;
}

static bool fits(const struct sim_worker *w, const struct sim_job *j)
{
    return w->alive && !w->draining && w->slots - w->used_slots >= j->slots &&
           w->memory - w->used_memory >= j->memory;
}

static int waiting(const struct sim *s, int tenant)
{
    int n = 0;
    for (int i = 0; i < s->n_jobs; i++) n += s->jobs[i].state == WAITS && s->jobs[i].tenant == tenant;
    return n;
}

/* Called after everything that may change who waits: restarts the interval of each pair that was interrupted.
 */
static void note_eligible(struct sim *s)
{
    for (int i = 0; i < TENANTS; i++) {
        struct sim_tenant *t = &s->tenants[i];
        t->eligible = waiting(s, i) > 0 && t->running < t->cap;
    }
    for (int a = 0; a < TENANTS; a++) {
        for (int b = a + 1; b < TENANTS; b++) {
            bool both = s->tenants[a].eligible && s->tenants[b].eligible;
            if (!both || !s->pairs[a][b].both) s->pairs[a][b] = (struct sim_pair){.both = both};
        }
    }
}

static void served(struct sim *s, int tenant, double service)
{
    for (int a = 0; a < TENANTS; a++) {
        for (int b = a + 1; b < TENANTS; b++) {
            struct sim_pair *p = &s->pairs[a][b];
            if (!p->both || (a != tenant && b != tenant)) continue;
            p->now += a == tenant ? service : -service;
            if (p->now < p->low) p->low = p->now;
            if (p->now > p->high) p->high = p->now;
            double bound = s->tenants[a].largest + s->tenants[b].largest;
            if (s->mode == SIM_EXACT && p->high - p->low > bound * 1.001 + 4) {
                broken(s, "service of %d and %d differs by %.0f, bound %.0f", a, b, p->high - p->low, bound);
            }
        }
    }
}

/* A job that yields runs on for a moment, and so do others of its tenant meanwhile: a quantum a slot. */
static double vtime_bound(const struct sim *s)
{
    int64_t slots = 0;
    for (int i = 0; i < WORKERS; i++) slots += s->workers[i].slots;
    if (s->mode == SIM_QUANTA) return s->largest * (double)(2 + slots);
    return s->largest * (s->mode == SIM_EXACT ? 1 : 1 + 2 * WORKERS * SLOTS_MAX);
}

static void check_vtimes(struct sim *s)
{
    double bound = vtime_bound(s) + 4;
    for (int a = 0; a < TENANTS; a++) {
        for (int b = 0; b < TENANTS; b++) {
            int64_t va, vb;
            bool ea, eb;
            if (!policy_tenant_state(s->policy, s->tenants[a].id, &va, &ea) ||
                !policy_tenant_state(s->policy, s->tenants[b].id, &vb, &eb) || !ea || !eb) {
                continue;
            }
            if ((double)(va - vb) > bound)
                broken(s, "virtual times %.0f apart, bound %.0f", (double)(va - vb), bound);
        }
    }
}

/* A slot may be idle only if nothing that waits could use it. */
static void check_idle(struct sim *s)
{
    if (s->reserves) return;
    for (int i = 0; i < s->n_jobs; i++) {
        const struct sim_job *j = &s->jobs[i];
        if (j->state != WAITS || !s->tenants[j->tenant].eligible || waiting(s, j->tenant) > LOOK_PAST)
            continue;
        for (int k = 0; k < WORKERS; k++) {
            if (fits(&s->workers[k], j)) broken(s, "job %d waits while worker %d could run it", i, k);
        }
    }
}

static void check_order(struct sim *s, const struct sim_job *picked)
{
    if (s->mode == SIM_MEMORY) return;
    for (int i = 0; i < s->n_jobs; i++) {
        const struct sim_job *j = &s->jobs[i];
        if (j->state != WAITS || j->tenant != picked->tenant || j == picked || j->slots > picked->slots)
            continue;
        if (j->queued_at - j->priority * AGEING_MS < picked->queued_at - picked->priority * AGEING_MS) {
            broken(s, "job %s went before %s, which is due first", picked->id, j->id);
        }
    }
}

/* ---- what the policy decided ---- */

/* Only for another tenant that waits, and for each job that waits at most one. */
static void check_yield(struct sim *s, const struct sim_job *j)
{
    int others = 0, yielding = 0;
    for (int i = 0; i < s->n_jobs; i++) {
        const struct sim_job *k = &s->jobs[i];
        others += k->state == WAITS && k->tenant != j->tenant && s->tenants[k->tenant].eligible;
        /* One whose own tenant waits makes room for that at best. */
        yielding += k->state == RUNS && k->yielding && k != j && waiting(s, k->tenant) == 0;
    }
    if (j->state != RUNS || !j->yieldable) broken(s, "job %s was asked to yield, which it cannot", j->id);
    if (others == 0) broken(s, "job %s was asked to yield to nobody", j->id);
    if (s->mode == SIM_QUANTA && yielding >= others)
        broken(s, "job %s was asked to yield beside %d others for %d jobs that wait", j->id, yielding,
               others);
    if (s->now - j->started_at < QUANTUM_MS)
        broken(s, "job %s was asked to yield after %lld ms", j->id, (long long)(s->now - j->started_at));
}

static void yield(struct sim *s, const struct policy_action *a)
{
    s->out->yields++;
    for (int i = 0; i < s->n_jobs; i++) {
        struct sim_job *j = &s->jobs[i];
        if (strcmp(j->id, a->job) != 0) continue;
        check_yield(s, j);
        if (s->mutation == SIM_DEAF) return;
        if (!j->yielding) j->yields_at = s->now + between(s, 0, YIELD_MS);
        j->yielding = true;
        return;
    }
    broken(s, "job %s was asked to yield, which nobody knows", a->job);
}

static void carry_out(struct sim *s, const struct policy_action *a)
{
    s->out->trace = table_hash(s->out->trace, a->job);
    s->out->trace = table_hash(s->out->trace, a->worker);
    if (a->type == POLICY_YIELD) {
        yield(s, a);
        return;
    }
    s->out->dispatched++;
    struct sim_job *j = NULL;
    struct sim_worker *w = NULL;
    for (int i = 0; i < s->n_jobs; i++) {
        if (strcmp(s->jobs[i].id, a->job) == 0) j = &s->jobs[i];
    }
    for (int i = 0; i < WORKERS; i++) {
        if (strcmp(s->workers[i].id, a->worker) == 0) w = &s->workers[i];
    }
    if (!j || !w || j->state != WAITS) {
        broken(s, "job %s was dispatched although it does not wait", a->job);
        return;
    }
    if (!fits(w, j)) broken(s, "worker %s has no room for job %s", w->id, j->id);
    if (s->tenants[j->tenant].running >= s->tenants[j->tenant].cap)
        broken(s, "tenant %d is over its limit", j->tenant);
    check_order(s, j);
    if (s->mode == SIM_CHAOS && one_in(s, 12)) { /* the claim is refused: somebody cancelled it */
        j->state = OVER;
        tell_job(s, POLICY_JOB_GONE, j, 0);
        note_eligible(s);
        return;
    }
    j->state = RUNS;
    j->worker = (int)(w - s->workers);
    j->ends_at = s->now + j->length;
    j->started_at = s->now;
    j->yielding = false;
    w->used_slots += j->slots;
    w->used_memory += j->memory;
    s->tenants[j->tenant].running++;
    served(s, j->tenant, charge(s, j, j->estimate));
    note_eligible(s);
}

static void fill(struct sim *s)
{
    struct policy_event ev = {.type = POLICY_FILL};
    step(s, &ev);
    struct policy_actions todo = s->actions;
    memset(&s->actions, 0, sizeof s->actions);
    for (size_t i = 0; i < todo.len; i++) {
        if (s->mutation == SIM_LAZY && i > 0) break;
        carry_out(s, &todo.data[i]);
        if (s->mutation == SIM_TWICE && one_in(s, 20)) carry_out(s, &todo.data[i]);
    }
    for (int i = 0; i < s->n_jobs && s->mutation == SIM_RESTLESS; i++) {
        struct policy_action a = {.type = POLICY_YIELD};
        memcpy(a.job, s->jobs[i].id, sizeof a.job);
        if (s->jobs[i].state == RUNS && s->jobs[i].yieldable) carry_out(s, &a);
    }
    policy_actions_dispose(&todo);
    if (s->mode != SIM_CHAOS) check_idle(s); /* a refused claim frees its slot until the next round */
    check_vtimes(s);
}

/* ---- what happens on the platform ---- */

static void submit(struct sim *s)
{
    if (s->n_jobs == JOBS) return;
    struct sim_job *j = &s->jobs[s->n_jobs];
    bool memory = s->mode == SIM_MEMORY;
    *j = (struct sim_job){.state = WAITS, .tenant = (int)between(s, 0, TENANTS - 1), .slots = 1};
    snprintf(j->id, sizeof j->id, "job_%03d", s->n_jobs++);
    j->priority = between(s, -3, 3);
    j->queued_at = s->now;
    j->estimate = between(s, 500, 2 * QUANTUM_MS);
    j->length = s->mode == SIM_CHAOS ? between(s, 1, 4 * QUANTUM_MS) : j->estimate;
    j->yieldable = s->mode == SIM_QUANTA || (s->mode != SIM_EXACT && one_in(s, 2));
    if (s->mode == SIM_QUANTA) {
        j->length = one_in(s, 3) ? between(s, 500, 3000) : between(s, QUANTUM_MS, 8 * QUANTUM_MS);
        j->estimate = QUANTUM_MS;
    }
    j->memory = memory ? between(s, 1, one_in(s, 6) ? 900 : 300) * MIB : 0;
    double c = charge(s, j, j->estimate), used = charge(s, j, j->length + QUANTUM_MS);
    if (c > s->tenants[j->tenant].largest) s->tenants[j->tenant].largest = c;
    if (c > s->largest) s->largest = c;
    if (s->mode == SIM_CHAOS && used > s->largest) s->largest = used;
    if (s->mutation != SIM_LOSES_JOBS || !one_in(s, 20)) tell_job(s, POLICY_JOB_QUEUED, j, 0);
    note_eligible(s);
}

/* What it has done counts: it goes on from there. */
static void give_way(struct sim *s, struct sim_job *j)
{
    int64_t used = s->now - j->started_at;
    j->length -= used;
    free_job(s, j, WAITS);
    tell_job(s, POLICY_JOB_ENDED, j, used);
    tell_job(s, POLICY_JOB_QUEUED, j, 0);
    j->yielding = false;
}

static void finish_due(struct sim *s)
{
    for (int i = 0; i < s->n_jobs; i++) {
        struct sim_job *j = &s->jobs[i];
        if (j->state == RUNS && j->yielding && j->yields_at <= s->now && j->ends_at > s->now) give_way(s, j);
        if (j->state != RUNS || j->ends_at > s->now) continue;
        free_job(s, j, OVER);
        tell_job(s, POLICY_JOB_ENDED, j, j->length);
    }
    note_eligible(s);
}

static void lose_worker(struct sim *s, int k)
{
    struct sim_worker *w = &s->workers[k];
    struct policy_event ev = {.type = POLICY_WORKER_LOST};
    memcpy(ev.worker, w->id, sizeof ev.worker);
    step(s, &ev);
    for (int i = 0; i < s->n_jobs; i++) {
        struct sim_job *j = &s->jobs[i];
        if (j->state != RUNS || j->worker != k) continue;
        free_job(s, j, WAITS);
        tell_job(s, POLICY_JOB_QUEUED, j, 0);
    }
    w->alive = false;
    note_eligible(s);
}

static void disturb(struct sim *s)
{
    int k = (int)between(s, 0, WORKERS - 1);
    struct sim_worker *w = &s->workers[k];
    if (!w->alive) {
        w->alive = true;
        w->draining = false;
        tell_worker(s, k);
    } else if (one_in(s, 3)) {
        lose_worker(s, k);
    } else if (one_in(s, 3)) {
        w->draining = !w->draining;
        tell_worker(s, k);
    }
    struct sim_job *j = s->n_jobs ? &s->jobs[between(s, 0, s->n_jobs - 1)] : NULL;
    if (j && j->state == WAITS && one_in(s, 3)) { /* cancelled in the queue */
        j->state = OVER;
        tell_job(s, POLICY_JOB_GONE, j, 0);
    }
    note_eligible(s);
}

static void set_up(struct sim *s, uint64_t seed)
{
    struct policy_config config = {.seed = seed,
                                   .quantum_ms = QUANTUM_MS,
                                   .ageing_ms = AGEING_MS,
                                   .reserve_after_ms = s->reserves ? 20000 : INT64_MAX / 2,
                                   .load_retry_ms = 1000,
                                   .load_tries = 3};
    struct err e = {0};
    if (policy_create(&s->policy, &config, &e) != 0) broken(s, "create: %s", e.message);
    for (int i = 0; i < TENANTS; i++) {
        struct sim_tenant *t = &s->tenants[i];
        snprintf(t->id, sizeof t->id, "ten_%d", i);
        t->weight = between(s, 1, 5);
        t->cap = one_in(s, 3) ? between(s, 1, 3) : 1000;
        tell_tenant(s, i);
    }
    for (int i = 0; i < WORKERS; i++) {
        struct sim_worker *w = &s->workers[i];
        snprintf(w->id, sizeof w->id, "inc_%d", i);
        w->slots = between(s, 1, s->mode == SIM_QUANTA ? 2 : SLOTS_MAX);
        w->memory = (int64_t)1000 * MIB;
        w->alive = true;
        tell_worker(s, i);
    }
}

/* No more arrivals and no more trouble: everything that waits must run and end. */
static void drain(struct sim *s)
{
    for (int k = 0; k < WORKERS; k++) {
        s->workers[k].alive = true;
        s->workers[k].draining = false;
        tell_worker(s, k);
    }
    note_eligible(s);
    for (int round = 0; round < 2000 && !s->out->broken[0]; round++) {
        s->now += 2000;
        finish_due(s);
        fill(s);
        bool all = true;
        for (int i = 0; i < s->n_jobs; i++) all = all && s->jobs[i].state == OVER;
        if (all) return;
    }
    broken(s, "a job starved");
}

void sim_run(struct sim_outcome *out, uint64_t seed, enum sim_mode mode, enum sim_mutation mutation)
{
    memset(out, 0, sizeof *out);
    struct sim s = {.out = out, .mode = mode, .mutation = mutation, .random = seed};
    s.reserves = mode == SIM_MEMORY && seed % 2 == 0;
    set_up(&s, seed);
    for (int round = 0; round < ROUNDS && !out->broken[0]; round++) {
        s.now += between(&s, 0, mode == SIM_QUANTA ? 1000 : 3000);
        finish_due(&s);
        for (int64_t n = between(&s, 0, round % 40 < 20 ? 2 : 0); n > 0; n--) submit(&s);
        if (mode == SIM_CHAOS && one_in(&s, 8)) disturb(&s);
        fill(&s);
    }
    if (!out->broken[0]) drain(&s);
    struct policy_counts c;
    policy_counts(s.policy, &c);
    if (!out->broken[0] && (c.queued || c.running))
        broken(&s, "%zu queued and %zu running at the end", c.queued, c.running);
    policy_actions_dispose(&s.actions);
    policy_free(s.policy);
}
