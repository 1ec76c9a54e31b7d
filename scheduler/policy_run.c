/* Which waiting job runs where: the least virtual time first, around jobs that cannot fit now, onto the
 * emptiest worker. */
#include "scheduler/policy_state.h"

#include <assert.h>
#include <string.h>

/* So many of a tenant's jobs are looked at when the first ones need more memory than is free. */
enum { LOOK_PAST_MAX = 16 };

enum fit { FIT_NOW, FIT_LATER, FIT_NEVER };

int64_t policy__free_slots(const struct policy_worker *w)
{
    return !w->draining && w->slots > w->used_slots ? w->slots - w->used_slots : 0;
}

static int64_t free_memory(const struct policy_worker *w)
{
    if (w->memory_bytes == 0) return INT64_MAX;
    return w->memory_bytes > w->used_memory_bytes ? w->memory_bytes - w->used_memory_bytes : 0;
}

static bool fits_empty(const struct policy_worker *w, const struct policy_job *j)
{
    return !w->draining && w->slots >= j->slots &&
           (w->memory_bytes == 0 || w->memory_bytes >= j->memory_bytes);
}

static bool fits_now(const struct policy_worker *w, const struct policy_job *j)
{
    return policy__free_slots(w) >= j->slots && free_memory(w) >= j->memory_bytes &&
           (!w->reserved_for || w->reserved_for == j);
}

/* Whether a is the better home: more free slots, then more free memory, then the seed decides. */
static bool roomier(const struct policy *p, const struct policy_worker *a, const struct policy_worker *b)
{
    int64_t sa = policy__free_slots(a), sb = policy__free_slots(b);
    if (sa != sb) return sa > sb;
    int64_t ma = free_memory(a), mb = free_memory(b);
    if (ma != mb) return ma > mb;
    uint64_t ha = table_hash(p->config.seed, a->id), hb = table_hash(p->config.seed, b->id);
    return ha != hb ? ha < hb : strcmp(a->id, b->id) < 0;
}

static enum fit fit(const struct policy *p, const struct policy_job *j, struct policy_worker **home)
{
    enum fit best = FIT_NEVER;
    *home = NULL;
    for (size_t i = 0; i < p->workers_len; i++) {
        struct policy_worker *w = p->workers[i];
        if (!fits_empty(w, j)) continue;
        if (best == FIT_NEVER) best = FIT_LATER;
        if (fits_now(w, j) && (!*home || roomier(p, w, *home))) *home = w;
    }
    return *home ? FIT_NOW : best;
}

/* Whether waits would fit if runs were gone. A worker that is kept for a job is cleared for it, however much
 * that takes. */
bool policy__fits_instead(const struct policy_job *waits, const struct policy_job *runs)
{
    const struct policy_worker *w = runs->worker;
    if (waits->never || !fits_empty(w, waits)) return false;
    if (w->reserved_for) return w->reserved_for == waits;
    if (policy__free_slots(w) + runs->slots < waits->slots) return false;
    return w->memory_bytes == 0 || free_memory(w) >= waits->memory_bytes - runs->memory_bytes;
}

void policy__run(struct policy *p, struct policy_job *j, struct policy_worker *w, int64_t used_ms)
{
    if (p->reserved == j) policy__unreserve(p);
    j->worker = w;
    j->started_ms = p->now_ms - used_ms;
    j->blocked_since_ms = -1;
    j->yielding = false;
    j->yields_to = NULL;
    w->used_slots += j->slots;
    w->used_memory_bytes += j->memory_bytes;
    j->tenant->running++;
    j->prev = NULL;
    j->next = p->running;
    if (p->running) p->running->prev = j;
    p->running = j;
    p->running_len++;
    policy__charge_start(p, j, used_ms);
}

void policy__unrun(struct policy *p, struct policy_job *j)
{
    assert(j->worker);
    policy__break_promise(j);
    j->worker->used_slots -= j->slots;
    j->worker->used_memory_bytes -= j->memory_bytes;
    j->worker = NULL;
    j->tenant->running--;
    if (j->prev) {
        j->prev->next = j->next;
    } else {
        p->running = j->next;
    }
    if (j->next) j->next->prev = j->prev;
    p->running_len--;
}

/* Keeps the roomiest worker that could ever hold the job; one job at a time has this right. */
static void reserve(struct policy *p, struct policy_job *j)
{
    struct policy_worker *best = NULL;
    for (size_t i = 0; i < p->workers_len; i++) {
        struct policy_worker *w = p->workers[i];
        if (!fits_empty(w, j)) continue;
        if (!best || free_memory(w) > free_memory(best) ||
            (free_memory(w) == free_memory(best) && roomier(p, w, best))) {
            best = w;
        }
    }
    if (!best) return;
    best->reserved_for = j;
    p->reserved = j;
}

void policy__passed_over(struct policy *p, struct policy_job *j)
{
    if (j->blocked_since_ms < 0) j->blocked_since_ms = p->now_ms;
    if (!p->reserved && p->now_ms - j->blocked_since_ms >= p->config.reserve_after_ms) reserve(p, j);
}

/* Into the heap's memory, where its place still is. */
static void put_back(struct policy_tenant *t, struct policy_job *j)
{
    int rc = policy__heap_push(t, j);
    assert(rc == 0);
    (void)rc;
}

/* The tenant's first job that fits now. The jobs looked past are taken out of the heap meanwhile and put
 * back; one that fits nowhere goes behind all others, so that it cannot use up the look. */
static enum fit first_fit(struct policy *p, struct policy_tenant *t, struct policy_job **job,
                          struct policy_worker **home)
{
    struct policy_job *past[LOOK_PAST_MAX];
    size_t n = 0;
    enum fit best = FIT_NEVER;
    *job = NULL;
    while (t->heap_len > 0 && n < LOOK_PAST_MAX && best != FIT_NOW && !t->heap[0]->never) {
        struct policy_job *j = t->heap[0];
        enum fit f = fit(p, j, home);
        if (f < best) best = f;
        if (f == FIT_NOW) {
            *job = j;
            continue;
        }
        policy__heap_remove(t, j);
        if (f == FIT_NEVER) {
            j->never = true;
            put_back(t, j);
        } else {
            policy__passed_over(p, j);
            past[n++] = j;
        }
    }
    while (n > 0) put_back(t, past[--n]);
    return best;
}

/* The eligible tenant with the least virtual time that was not passed over in this round; ties by seed. */
static struct policy_tenant *next_tenant(const struct policy *p)
{
    struct policy_tenant *best = NULL;
    uint64_t best_hash = 0;
    for (size_t i = 0; i < p->eligible_len; i++) {
        struct policy_tenant *t = p->eligible[i];
        if (t->skip_round == p->round) continue;
        if (best && t->vtime > best->vtime) continue;
        uint64_t hash = table_hash(p->config.seed, t->id);
        if (!best || t->vtime < best->vtime || hash < best_hash ||
            (hash == best_hash && strcmp(t->id, best->id) < 0)) {
            best = t;
            best_hash = hash;
        }
    }
    return best;
}

static bool any_free(const struct policy *p)
{
    for (size_t i = 0; i < p->workers_len; i++) {
        if (policy__free_slots(p->workers[i]) > 0) return true;
    }
    return false;
}

static int dispatch(struct policy *p, struct policy_job *j, struct policy_worker *w,
                    struct policy_actions *out, struct err *e)
{
    struct policy_action *a = policy__action(out);
    if (!a) return err_set(e, ERR_NOMEM, NULL, "no memory for the scheduler's list of actions");
    a->type = POLICY_DISPATCH;
    memcpy(a->job, j->id, sizeof a->job);
    memcpy(a->tenant, j->tenant->id, sizeof a->tenant);
    memcpy(a->worker, w->id, sizeof a->worker);
    if (j->tenant->vtime > p->vtime) p->vtime = j->tenant->vtime;
    policy__heap_remove(j->tenant, j);
    policy__run(p, j, w, 0);
    return policy__refresh(p, j->tenant);
}

int policy__fill(struct policy *p, struct policy_actions *out, struct err *e)
{
    p->round++;
    while (any_free(p)) {
        struct policy_tenant *t = next_tenant(p);
        if (!t) break;
        struct policy_job *j;
        struct policy_worker *w;
        enum fit f = first_fit(p, t, &j, &w);
        int rc = 0;
        if (f == FIT_NOW) {
            rc = dispatch(p, j, w, out, e);
        } else {
            t->skip_round = p->round;
            t->stuck = f == FIT_NEVER;
            if (t->stuck) rc = policy__refresh(p, t);
        }
        if (rc != 0) return rc;
    }
    return 0;
}
