/* The policy in thousands of random lives, and the bugs that the checker must find in it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdbool.h>
#include <stdio.h>
#include "tests/unit/scheduler/policy_sim.h"

enum { SEEDS = 1500, HUNT_SEEDS = 60 };

static void run_mode(enum sim_mode mode)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct sim_outcome o;
        sim_run(&o, seed, mode, SIM_HONEST);
        if (o.broken[0]) fail_msg("mode %d, seed %llu: %s", (int)mode, (unsigned long long)seed, o.broken);
        assert_true(o.dispatched > 20);
    }
}

static void fairness_bounds_hold_when_estimates_are_exact(void **state)
{
    (void)state;
    run_mode(SIM_EXACT);
}

static void invariants_hold_while_workers_die_and_estimates_lie(void **state)
{
    (void)state;
    run_mode(SIM_CHAOS);
}

static void nothing_starves_and_nothing_overflows_when_memory_is_short(void **state)
{
    (void)state;
    run_mode(SIM_MEMORY);
}

static void long_jobs_take_turns_within_a_quantum_and_nobody_yields_for_nothing(void **state)
{
    (void)state;
    run_mode(SIM_QUANTA);
}

static void the_same_seed_gives_the_same_trace(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        for (int mode = 0; mode < SIM_MODES; mode++) {
            struct sim_outcome a, b, other;
            sim_run(&a, seed, (enum sim_mode)mode, SIM_HONEST);
            sim_run(&b, seed, (enum sim_mode)mode, SIM_HONEST);
            sim_run(&other, seed + 1000, (enum sim_mode)mode, SIM_HONEST);
            assert_true(a.trace == b.trace);
            assert_true(a.trace != other.trace);
        }
    }
}

static bool hunted_down(enum sim_mutation mutation)
{
    for (uint64_t seed = 1; seed <= HUNT_SEEDS; seed++) {
        for (int mode = 0; mode < SIM_MODES; mode++) {
            struct sim_outcome o;
            sim_run(&o, seed, (enum sim_mode)mode, mutation);
            if (o.broken[0]) return true;
        }
    }
    return false;
}

static void every_planted_bug_is_found(void **state)
{
    (void)state;
    for (int m = SIM_HONEST + 1; m < SIM_MUTATIONS; m++) {
        if (!hunted_down((enum sim_mutation)m)) fail_msg("nobody noticed mutation %d", m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fairness_bounds_hold_when_estimates_are_exact),
        cmocka_unit_test(invariants_hold_while_workers_die_and_estimates_lie),
        cmocka_unit_test(nothing_starves_and_nothing_overflows_when_memory_is_short),
        cmocka_unit_test(long_jobs_take_turns_within_a_quantum_and_nobody_yields_for_nothing),
        cmocka_unit_test(the_same_seed_gives_the_same_trace),
        cmocka_unit_test(every_planted_bug_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
