/* Which worker loads a model that nobody holds: the one with the most free memory, or, where it would fit
 * into no one's, with the most that is free or idle; another one when it does not answer. */
#include "scheduler/policy_state.h"

#include <string.h>
#include "base/mem.h"

int policy__model_wanted(struct policy *p, const struct policy_event *ev, struct err *e)
{
    struct policy_load *l = table_find(&p->loads, ev->version);
    if (l) {
        /* Whoever was asked may have brought it up and given it up again since: nobody says so here. */
        l->again = l->tries > 0 && p->now_ms - l->asked_ms >= p->config.load_again_ms;
        return 0;
    }
    l = mem_try_alloc(1, sizeof *l);
    if (!l) goto nomem;
    memcpy(l->version, ev->version, sizeof l->version);
    memcpy(l->tenant, ev->tenant, sizeof l->tenant);
    l->bytes = ev->model_bytes;
    l->wanted_ms = p->now_ms;
    if (table_put(&p->loads, l->version, l) != 0) goto nomem;
    return 0;
nomem:
    mem_free(l);
    return err_set(e, ERR_NOMEM, NULL, "no memory to keep a placement request");
}

void policy__model_up(struct policy *p, const char *version)
{
    struct policy_load *l = table_find(&p->loads, version);
    if (!l) return;
    table_remove(&p->loads, version);
    mem_free(l);
}

/* Any free memory that suffices is better than memory that somebody has to leave. */
static int64_t room(const struct policy_worker *w, int64_t bytes)
{
    bool fits = w->model_free_bytes >= bytes;
    return fits ? w->model_free_bytes : w->model_free_bytes + w->model_idle_bytes - INT64_MAX / 2;
}

static bool better(const struct policy *p, const struct policy_load *l, const struct policy_worker *a,
                   const struct policy_worker *b)
{
    bool asked_a = strcmp(a->id, l->worker) == 0, asked_b = strcmp(b->id, l->worker) == 0;
    if (asked_a != asked_b) return asked_b;
    int64_t room_a = room(a, l->bytes), room_b = room(b, l->bytes);
    if (room_a != room_b) return room_a > room_b;
    uint64_t ha = table_hash(p->config.seed, a->id), hb = table_hash(p->config.seed, b->id);
    return ha != hb ? ha < hb : strcmp(a->id, b->id) < 0;
}

static struct policy_worker *choose(const struct policy *p, const struct policy_load *l)
{
    struct policy_worker *best = NULL;
    for (size_t i = 0; i < p->workers_len; i++) {
        struct policy_worker *w = p->workers[i];
        if (!w->draining && (!best || better(p, l, w, best))) best = w;
    }
    return best;
}

static int ask(struct policy *p, struct policy_load *l, struct policy_worker *w, struct policy_actions *out,
               struct err *e)
{
    struct policy_action *a = policy__action(out);
    if (!a) return err_set(e, ERR_NOMEM, NULL, "no memory for the scheduler's list of actions");
    a->type = POLICY_LOAD;
    memcpy(a->version, l->version, sizeof a->version);
    memcpy(a->tenant, l->tenant, sizeof a->tenant);
    memcpy(a->worker, w->id, sizeof a->worker);
    memcpy(l->worker, w->id, sizeof l->worker);
    l->asked_ms = p->now_ms;
    l->tries += !l->again;
    l->again = false;
    /* Until its next heartbeat tells the truth, so that a burst of loads spreads. */
    w->model_free_bytes -= l->bytes;
    return 0;
}

static bool given_up(const struct policy *p, const struct policy_load *l)
{
    return l->tries >= p->config.load_tries ||
           (l->tries == 0 && p->now_ms - l->wanted_ms >= p->config.load_retry_ms * p->config.load_tries);
}

int policy__load(struct policy *p, struct policy_actions *out, struct err *e)
{
    struct policy_load *over = NULL, *l;
    size_t cursor = 0;
    while ((l = table_next(&p->loads, &cursor)) != NULL) {
        struct policy_worker *same = l->again ? policy__find_worker(p, l->worker) : NULL;
        if (same && !same->draining) {
            int rc = ask(p, l, same, out, e);
            if (rc != 0) return rc;
            continue;
        }
        if (!l->again && l->tries > 0 && p->now_ms - l->asked_ms < p->config.load_retry_ms) continue;
        if (given_up(p, l)) {
            over = l;
            continue;
        }
        struct policy_worker *w = choose(p, l);
        int rc = w ? ask(p, l, w, out, e) : 0;
        if (rc != 0) return rc;
    }
    /* One a round, since a walk must not remove: each round is a fraction of a second. */
    if (over) policy__model_up(p, over->version);
    return 0;
}
