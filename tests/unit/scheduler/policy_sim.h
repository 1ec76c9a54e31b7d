/* A simulated platform around the policy: tenants submit, workers run, die and come back, claims are refused,
 * all from one seed. Beside it stands a checker that believes nothing the policy says: it keeps its own books
 * of what waits, runs and is free, and of the service that each tenant got.
 *
 * A mutation makes the platform lie to the policy (or garbles what the policy decides), which has the effect
 * of a bug inside it; the checker must notice. */
#ifndef TESTS_UNIT_SCHEDULER_POLICY_SIM_H
#define TESTS_UNIT_SCHEDULER_POLICY_SIM_H

#include <stdint.h>

enum sim_mode {
    SIM_EXACT,  /* jobs take as long as estimated, nothing fails: the strict fairness bounds hold */
    SIM_CHAOS,  /* wrong estimates, refused claims, cancelled jobs, dying and draining workers */
    SIM_MEMORY, /* jobs need memory, some of them nearly a whole worker; half of them can yield */
    SIM_QUANTA, /* long jobs that yield, some time after they were asked to */
    SIM_MODES
};

enum sim_mutation {
    SIM_HONEST,
    SIM_EQUAL_WEIGHTS, /* the policy ignores weights */
    SIM_NO_CAP,        /* …and max_concurrent */
    SIM_UPSIDE_DOWN,   /* …turns priorities round */
    SIM_EXTRA_SLOT,    /* …thinks that each worker has one slot more */
    SIM_EXTRA_MEMORY,  /* …and twice the memory */
    SIM_LOSES_JOBS,    /* …forgets one job in twenty */
    SIM_LAZY,          /* …hands out at most one slot at a time */
    SIM_TWICE,         /* …dispatches a job a second time */
    SIM_NO_CHARGE,     /* …charges nothing for a dispatch */
    SIM_NEVER_FREES,   /* …does not see that jobs end */
    SIM_DEAF,          /* …asks nobody to yield */
    SIM_RESTLESS,      /* …asks somebody to yield in each round */
    SIM_MUTATIONS
};

struct sim_outcome {
    uint64_t trace; /* hash over all that the policy decided */
    long dispatched, yields;
    char broken[200]; /* the first invariant that did not hold; "" for none */
};

void sim_run(struct sim_outcome *out, uint64_t seed, enum sim_mode mode, enum sim_mutation mutation);

#endif
