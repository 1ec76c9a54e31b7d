/* The window's arithmetic and the limits' comparison. */
#include "scheduler/rollout_policy.h"

#include <assert.h>
#include <string.h>

enum { BASELINE_REQUESTS = 10 };
static const double slow_allowed = 0.01, times_worse = 2;

const char *rollout_reason_name(enum rollout_reason r)
{
    static const char *const names[] = {"", "error_rate", "latency", "disagreement"};
    assert((size_t)r < sizeof names / sizeof *names);
    return names[r];
}

/* ---- sums ---- */

struct rollout_sums rollout_sums_of(const struct rollout_counts *c)
{
    struct rollout_sums s = {.compared = c->compared, .disagreements = c->disagreements};
    for (size_t i = 0; i < ROLLOUT_ARMS; i++) {
        s.arm[i].requests = c->arm[i].requests;
        s.arm[i].errors = c->arm[i].errors;
        s.arm[i].slow = c->arm[i].slow;
    }
    return s;
}

static void grow(int64_t *to, int64_t before, int64_t now)
{
    if (now > before) *to += now - before;
}

void rollout_sums_grow(struct rollout_sums *to, const struct rollout_sums *before,
                       const struct rollout_sums *now)
{
    for (size_t i = 0; i < ROLLOUT_ARMS; i++) {
        grow(&to->arm[i].requests, before->arm[i].requests, now->arm[i].requests);
        grow(&to->arm[i].errors, before->arm[i].errors, now->arm[i].errors);
        grow(&to->arm[i].slow, before->arm[i].slow, now->arm[i].slow);
    }
    grow(&to->compared, before->compared, now->compared);
    grow(&to->disagreements, before->disagreements, now->disagreements);
}

/* ---- the window ---- */

void rollout_window_init(struct rollout_window *w, int64_t window_ms)
{
    memset(w, 0, sizeof *w);
    w->step_ms = (window_ms + ROLLOUT_SLOTS - 2) / (ROLLOUT_SLOTS - 1);
    if (w->step_ms < 1) w->step_ms = 1;
}

/* Steps that have come since are empty. */
static void turn_to(struct rollout_window *w, int64_t now_ms)
{
    int64_t step = now_ms / w->step_ms;
    if (step - w->newest >= ROLLOUT_SLOTS) {
        memset(w->slots, 0, sizeof w->slots);
        w->newest = step;
    }
    while (w->newest < step) {
        w->newest++;
        memset(&w->slots[w->newest % ROLLOUT_SLOTS], 0, sizeof w->slots[0]);
    }
}

void rollout_window_add(struct rollout_window *w, int64_t now_ms, const struct rollout_sums *more)
{
    static const struct rollout_sums nothing;
    turn_to(w, now_ms);
    rollout_sums_grow(&w->slots[w->newest % ROLLOUT_SLOTS], &nothing, more);
}

struct rollout_sums rollout_window_sum(struct rollout_window *w, int64_t now_ms)
{
    static const struct rollout_sums nothing;
    struct rollout_sums sum = {0};
    turn_to(w, now_ms);
    for (size_t i = 0; i < ROLLOUT_SLOTS; i++) rollout_sums_grow(&sum, &nothing, &w->slots[i]);
    return sum;
}

/* ---- the decision ---- */

static double share(int64_t part, int64_t whole)
{
    return whole > 0 ? (double)part / (double)whole : 0;
}

struct trial {
    const struct alias_limits *limits;
    const struct rollout_sums *sums;
    enum rollout_arm arm;
    bool has_baseline;
};

/* Whether part of the arm's calls break the limit, and more so than the primary's. */
static bool breaks(const struct trial *t, int64_t part, int64_t primary_part, double limit,
                   enum rollout_reason reason, struct rollout_verdict *v)
{
    double value = share(part, t->sums->arm[t->arm].requests);
    double beside = share(primary_part, t->sums->arm[ROLLOUT_PRIMARY].requests);
    if (value <= limit) return false;
    if (t->has_baseline && value < times_worse * beside) return false;
    *v = (struct rollout_verdict){reason, t->arm, value, limit};
    return true;
}

static bool disagrees(const struct trial *t, struct rollout_verdict *v)
{
    const struct alias_limits *l = t->limits;
    double value = share(t->sums->disagreements, t->sums->compared),
           limit = (double)l->disagreement_ppm / 1e6;
    if (t->arm != ROLLOUT_SHADOW || l->disagreement_ppm < 0) return false;
    if (t->sums->compared < l->min_requests || value <= limit) return false;
    *v = (struct rollout_verdict){ROLLOUT_DISAGREEMENT, t->arm, value, limit};
    return true;
}

static bool fails(const struct trial *t, struct rollout_verdict *v)
{
    const struct alias_limits *l = t->limits;
    const struct rollout_sums *s = t->sums;
    if (s->arm[t->arm].requests >= l->min_requests) {
        if (l->error_ppm >= 0 && breaks(t, s->arm[t->arm].errors, s->arm[ROLLOUT_PRIMARY].errors,
                                        (double)l->error_ppm / 1e6, ROLLOUT_ERROR_RATE, v))
            return true;
        if (l->latency_us >= 0 &&
            breaks(t, s->arm[t->arm].slow, s->arm[ROLLOUT_PRIMARY].slow, slow_allowed, ROLLOUT_LATENCY, v))
            return true;
    }
    return disagrees(t, v);
}

struct rollout_verdict rollout_judge(const struct alias_limits *limits, const bool on_trial[ROLLOUT_ARMS],
                                     const struct rollout_sums *sums)
{
    static const enum rollout_arm order[] = {ROLLOUT_CANARY, ROLLOUT_SHADOW, ROLLOUT_PRIMARY};
    struct rollout_verdict v = {.reason = ROLLOUT_FINE};
    bool trusted = !on_trial[ROLLOUT_PRIMARY] && sums->arm[ROLLOUT_PRIMARY].requests >= BASELINE_REQUESTS;
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        struct trial t = {.limits = limits, .sums = sums, .arm = order[i]};
        t.has_baseline = trusted && order[i] != ROLLOUT_PRIMARY;
        if (on_trial[order[i]] && fails(&t, &v)) break;
    }
    return v;
}
