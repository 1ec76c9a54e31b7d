/* A team's members see each other's work, however long they wait and however few processors there are. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>
#include "base/clock.h"
#include "base/mem.h"
#include "net.h"
#include "tensor/team.h"

/* Plain numbers: what orders them is the team. */
struct sums {
    struct team *team;
    int64_t part[TEAM_MAX_MEMBERS], whole[TEAM_MAX_MEMBERS];
    int64_t turn;
};

static void add_up(void *ctx, int member)
{
    struct sums *s = ctx;
    s->part[member] = s->turn * (member + 1);
    team_meet(s->team);
    s->whole[member] = 0;
    for (int i = 0; i < team_members(s->team); i++) s->whole[member] += s->part[i];
}

static void members_see_what_the_others_wrote_before_they_met(void **state)
{
    (void)state;
    for (int n = 1; n <= 5; n++) {
        struct sums s = {0};
        struct err e = {0};
        must(team_create(&s.team, n, &e), &e);
        for (s.turn = 1; s.turn <= 2000; s.turn++) {
            team_run(s.team, add_up, &s);
            for (int i = 0; i < n; i++) assert_int_equal(s.whole[i], s.turn * n * (n + 1) / 2);
        }
        team_free(s.team);
    }
}

/* Longer than anybody spins. */
static void work_for_a_while(int64_t ns)
{
    int64_t until = clock_mono_ns() + ns;
    while (clock_mono_ns() < until) continue;
}

static void dawdle(void *ctx, int member)
{
    struct sums *s = ctx;
    if (member == s->turn % team_members(s->team)) work_for_a_while(300000);
    add_up(ctx, member);
}

static void members_that_fell_asleep_are_woken(void **state)
{
    struct sums s = {0};
    struct err e = {0};
    (void)state;
    must(team_create(&s.team, 3, &e), &e);
    for (s.turn = 1; s.turn <= 30; s.turn++) {
        team_run(s.team, dawdle, &s);
        for (int i = 0; i < 3; i++) assert_int_equal(s.whole[i], s.turn * 6);
        work_for_a_while(200000);
    }
    team_free(s.team);
}

static void *on_one_processor(void *arg)
{
    struct sums *s = arg;
    struct err e = {0};
    cpu_set_t one;
    int cpu = sched_getcpu();
    CPU_ZERO(&one);
    CPU_SET(cpu < 0 ? 0 : cpu, &one);
    if (sched_setaffinity(0, sizeof one, &one) != 0 || team_create(&s->team, 3, &e)) return NULL;
    for (s->turn = 1; s->turn <= 200; s->turn++) team_run(s->team, add_up, s);
    team_free(s->team);
    return s;
}

static void a_team_gets_by_with_one_processor(void **state)
{
    struct sums s = {0};
    pthread_t id;
    void *done;
    (void)state;
    assert_int_equal(pthread_create(&id, NULL, on_one_processor, &s), 0);
    pthread_join(id, &done);
    assert_ptr_equal(done, &s);
    assert_int_equal(s.whole[2], 200 * 6);
}

static void ask_mask(void *ctx, int member)
{
    sigset_t *set = ctx;
    pthread_sigmask(SIG_SETMASK, NULL, &set[member]);
}

static void signals_are_left_to_the_caller(void **state)
{
    struct team *t;
    struct err e = {0};
    sigset_t mask[2];
    (void)state;
    must(team_create(&t, 2, &e), &e);
    team_run(t, ask_mask, mask);
    assert_int_equal(sigismember(&mask[0], SIGTERM), 0);
    assert_int_equal(sigismember(&mask[1], SIGTERM), 1);
    team_free(t);
}

static void teams_of_no_one_and_of_too_many_are_refused(void **state)
{
    struct team *t;
    struct err e = {0};
    (void)state;
    assert_int_equal(team_create(&t, 0, &e), ERR_INVALID);
    assert_int_equal(team_create(&t, TEAM_MAX_MEMBERS + 1, &e), ERR_INVALID);
    assert_string_equal(e.field, "threads");
    mem_fail_at(1, false);
    assert_int_equal(team_create(&t, 2, &e), ERR_NOMEM);
    mem_fail_at(0, false);
    team_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_see_what_the_others_wrote_before_they_met),
        cmocka_unit_test(members_that_fell_asleep_are_woken),
        cmocka_unit_test(a_team_gets_by_with_one_processor),
        cmocka_unit_test(signals_are_left_to_the_caller),
        cmocka_unit_test(teams_of_no_one_and_of_too_many_are_refused),
    };
    return cmocka_run_group_tests_name("tensor/team", tests, NULL, NULL);
}
