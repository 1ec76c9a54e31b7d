/* Whether a version on trial is to be taken back: counts in, decision out. Pure: no clock, no I/O.
 *
 *   rollout_window_add (what came since the last look) ─▶ rollout_window_sum (of the limits' window) ─▶
 * rollout_judge
 */
#ifndef SCHEDULER_ROLLOUT_POLICY_H
#define SCHEDULER_ROLLOUT_POLICY_H

#include <stdbool.h>
#include <stdint.h>
#include "queue/rollout.h"
#include "store/alias_watch.h"

/* What the limits look at; the rest of struct rollout_counts is for people. */
struct rollout_sums {
    struct {
        int64_t requests, errors, slow;
    } arm[ROLLOUT_ARMS];
    int64_t compared, disagreements;
};

struct rollout_sums rollout_sums_of(const struct rollout_counts *c);
/* Adds what now has more than before. A smaller count adds nothing: Redis may have lost some. */
void rollout_sums_grow(struct rollout_sums *to, const struct rollout_sums *before,
                       const struct rollout_sums *now);

/* A sliding window in SLOTS steps: what it sums is at most one step longer than asked for. */
enum { ROLLOUT_SLOTS = 32 };
struct rollout_window {
    int64_t step_ms;
    int64_t newest; /* the step that is being filled, counted from time 0 */
    struct rollout_sums slots[ROLLOUT_SLOTS];
};
void rollout_window_init(struct rollout_window *w, int64_t window_ms);
/* now_ms: of any clock that does not go back. */
void rollout_window_add(struct rollout_window *w, int64_t now_ms, const struct rollout_sums *more);
struct rollout_sums rollout_window_sum(struct rollout_window *w, int64_t now_ms);

enum rollout_reason { ROLLOUT_FINE, ROLLOUT_ERROR_RATE, ROLLOUT_LATENCY, ROLLOUT_DISAGREEMENT };
const char *rollout_reason_name(enum rollout_reason r); /* as struct alias_ended has it */

struct rollout_verdict {
    enum rollout_reason reason;
    enum rollout_arm arm; /* whose trial ends */
    double value, limit;  /* shares, of LATENCY the share of calls beyond the limit, where 0.01 are allowed */
};

/* Which arms are on trial: those with a version. PRIMARY: it was moved to lately, and there is one to go back
 * to.
 *
 * An arm is taken back when, of at least min_requests in the window, more failed, or more than a hundredth
 * were slower, than the limits allow; and, beside a primary that is not on trial itself and had 10 calls,
 * only when its share is at least twice the primary's: what befalls both is the platform's fault, and no
 * reason to blame a version. The shadow's answers that differ need min_requests comparisons. The first that
 * breaks its limit is named, canary before shadow before primary. */
struct rollout_verdict rollout_judge(const struct alias_limits *limits, const bool on_trial[ROLLOUT_ARMS],
                                     const struct rollout_sums *sums);

#endif
