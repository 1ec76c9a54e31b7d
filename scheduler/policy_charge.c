/* Virtual time: what a tenant is charged when a job starts, while it outlives its estimate, and when it ends.
 */
#include "scheduler/policy_state.h"

enum { AVERAGE_SHARE = 4, LONGEST_QUANTA = 360 };

static int64_t clamp(int64_t v, int64_t min, int64_t max)
{
    return v < min ? min : v > max ? max : v;
}

/* The job's dominant share in thousandths of a slot. A fleet that tells of no memory makes slots the only
 * resource. */
static int64_t share_of(const struct policy *p, const struct policy_job *j)
{
    int64_t slots = 0, memory_mib = 0;
    for (size_t i = 0; i < p->workers_len; i++) {
        const struct policy_worker *w = p->workers[i];
        if (w->memory_bytes <= 0) continue;
        slots += w->slots;
        memory_mib += w->memory_bytes >> 20;
    }
    int64_t by_slots = j->slots * 1000;
    if (slots == 0 || memory_mib == 0) return by_slots;
    int64_t by_memory = (int64_t)((__int128)(j->memory_bytes >> 20) * slots * 1000 / memory_mib);
    return by_memory > by_slots ? by_memory : by_slots;
}

/* ms × thousandths of a slot = slot-microseconds. At least 1, so that no job is free of charge. */
static int64_t charge_of(const struct policy_job *j, int64_t ms)
{
    int64_t v = (int64_t)((__int128)ms * j->share_milli / j->weight);
    return v > 0 ? v : 1;
}

static void charge_to(struct policy_job *j, int64_t ms)
{
    int64_t charge = charge_of(j, ms);
    j->tenant->vtime += charge - j->charged;
    j->charged = charge;
    j->charged_ms = ms;
}

void policy__charge_start(struct policy *p, struct policy_job *j, int64_t used_ms)
{
    int64_t estimate_ms = j->estimate_ms > 0 ? j->estimate_ms : j->tenant->average_ms;
    j->share_milli = share_of(p, j);
    j->weight = j->tenant->weight;
    j->charged = 0;
    if (j->yieldable && estimate_ms > p->config.quantum_ms) estimate_ms = p->config.quantum_ms;
    charge_to(j, used_ms > estimate_ms ? used_ms : estimate_ms);
}

void policy__charge_settle(struct policy_job *j, int64_t used_ms)
{
    charge_to(j, used_ms);
    j->charged = 0;
}

bool policy__charge_is_used(const struct policy *p, const struct policy_job *j)
{
    return p->now_ms - j->started_ms >= j->charged_ms;
}

bool policy__quantum_is_over(const struct policy *p, const struct policy_job *j)
{
    return p->now_ms - j->started_ms >= p->config.quantum_ms;
}

void policy__charge_quantum(struct policy *p, struct policy_job *j)
{
    if (j->yieldable && !policy__quantum_is_over(p, j)) { /* it was thought to be shorter than one */
        charge_to(j, p->config.quantum_ms);
        return;
    }
    int64_t over_ms = p->now_ms - j->started_ms - j->charged_ms;
    int64_t quanta = (over_ms > 0 ? over_ms : 0) / p->config.quantum_ms + 1;
    charge_to(j, j->charged_ms + quanta * p->config.quantum_ms);
}

void policy__charge_overruns(struct policy *p)
{
    for (struct policy_job *j = p->running; j; j = j->next)
        if (!j->yieldable && policy__charge_is_used(p, j)) policy__charge_quantum(p, j);
}

void policy__charge_learn(const struct policy *p, struct policy_tenant *t, int64_t used_ms)
{
    t->average_ms += (used_ms - t->average_ms) / AVERAGE_SHARE;
    int64_t quantum_ms = p->config.quantum_ms;
    t->average_ms = clamp(t->average_ms, (quantum_ms + 9) / 10, quantum_ms * LONGEST_QUANTA);
}
