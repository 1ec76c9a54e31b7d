/* Places for jobs that take no slot: who gets one, told by a plain count beside it through changes of jobs
 * and of workers, and what asking costs where thousands wait. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/clock.h"
#include "base/mem.h"
#include "scheduler/scheduler_state.h"
#include "store/job.h"
#include "tests/unit/queue/redis_fixture.h"

enum { WORKERS = 12, TENANTS = 5, JOBS = 60, STEPS = 4000, POLL_EVERY = 20, PLACES = 4 };

static struct scheduler s;

static int set_up(void **state)
{
    (void)state;
    memset(&s, 0, sizeof s);
    redis_fixture_start();
    redis_fixture_flush();
    s.redis = redis_fixture_connect();
    return policy_create(&s.policy, &policy_config_default, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    running_clear(&s);
    fleet_clear(&s);
    policy_free(s.policy);
    policy_actions_dispose(&s.actions);
    redis_free(s.redis);
    return 0;
}

static void name(char out[ID_MAX], const char *what, int i)
{
    memset(out, 0, ID_MAX);
    snprintf(out, ID_MAX, "%s_%d", what, i);
}

static void run_job(int job, int tenant, const char *worker, bool aside)
{
    struct running_job j = {.aside = aside, .sent_ms = clock_mono_ms()};
    name(j.id, "job", job);
    name(j.tenant_id, "ten", tenant);
    scheduler__id(j.worker, worker);
    assert_int_equal(running_add(&s, NULL, &j, NULL), 0);
}

static void end_job(int job)
{
    char id[ID_MAX];
    name(id, "job", job);
    running_remove(&s, id);
}

static const struct fleet_worker *place(int tenant, int64_t max_running)
{
    char id[ID_MAX];
    name(id, "ten", tenant);
    return aside_place(&s, id, max_running);
}

/* The rule as it reads: at most half of the places that there are, on the worker with the most free ones. */
static const struct fleet_worker *plain_place(int tenant, int64_t max_running)
{
    const struct fleet_worker *w, *found = NULL;
    const struct running_job *j;
    int64_t least = PLACES, places = 0, mine = 0, mine_aside = 0;
    char id[ID_MAX];
    name(id, "ten", tenant);
    for (size_t at = 0; (w = table_next(&s.fleet, &at)) != NULL;) {
        int64_t n = 0;
        if (w->absent_since_ms || w->beat.draining) continue;
        for (size_t k = 0; (j = table_next(&s.running, &k)) != NULL;)
            n += j->aside && strcmp(j->worker, w->beat.inc) == 0;
        places += PLACES;
        if (n < least) found = w;
        if (n < least) least = n;
    }
    for (size_t k = 0; (j = table_next(&s.running, &k)) != NULL;) {
        mine += strcmp(j->tenant_id, id) == 0;
        mine_aside += j->aside && strcmp(j->tenant_id, id) == 0;
    }
    return mine < max_running && mine_aside < (places + 1) / 2 ? found : NULL;
}

struct beat {
    struct heartbeat h;
    bool silent;
};

static void beat_all(struct beat *beats)
{
    struct err e = {0};
    for (int i = 0; i < WORKERS; i++) {
        int rc = beats[i].silent ? heartbeat_remove(s.redis, beats[i].h.inc, &e)
                                 : heartbeat_publish(s.redis, &beats[i].h, NULL, &e);
        if (rc) fail_msg("%s", e.message);
    }
    if (fleet_poll(&s, &e)) fail_msg("%s", e.message);
}

static void a_place_is_what_a_plain_count_says_whatever_changes(void **state)
{
    (void)state;
    struct beat *beats = mem_alloc(WORKERS, sizeof *beats);
    struct heartbeat *stranger = mem_alloc(1, sizeof *stranger);
    int found = 0, refused = 0;
    id_new(stranger->inc, "inc");
    for (int i = 0; i < WORKERS; i++) id_new(beats[i].h.inc, "inc");
    srandom(7);
    for (int step = 0; step < STEPS; step++) {
        int worker = (int)(random() % (WORKERS + 1)), job = (int)(random() % JOBS);
        if (step % POLL_EVERY == 0) {
            struct beat *b = &beats[random() % WORKERS];
            b->silent = random() % 3 == 0;
            b->h.draining = random() % 4 == 0;
            beat_all(beats);
        } else if (random() % 3 == 0) {
            end_job(job);
        } else { /* the last one is nobody that we know of, as after a change of leader */
            run_job(job, (int)(random() % TENANTS), worker < WORKERS ? beats[worker].h.inc : stranger->inc,
                    random() % 4 > 0);
        }
        for (int t = 0; t <= TENANTS; t++) {
            int64_t most = random() % 20;
            const struct fleet_worker *w = place(t, most);
            assert_ptr_equal(w, plain_place(t, most));
            found += w != NULL;
            refused += w == NULL;
        }
    }
    assert_true(found > STEPS && refused > STEPS); /* both are seen */
    mem_free(beats);
    mem_free(stranger);
}

static void nobody_is_left_when_all_is_forgotten(void **state)
{
    (void)state;
    struct beat *beats = mem_alloc(WORKERS, sizeof *beats);
    for (int i = 0; i < WORKERS; i++) id_new(beats[i].h.inc, "inc");
    beat_all(beats);
    run_job(0, 0, beats[0].h.inc, true);
    assert_non_null(place(0, 2));
    assert_null(place(0, 1));
    running_clear(&s);
    assert_non_null(place(0, 1));
    fleet_clear(&s);
    assert_null(place(0, 1));
    mem_free(beats);
}

static void without_memory_to_count_nobody_gets_a_place_and_then_all_is_as_before(void **state)
{
    (void)state;
    struct beat *beats = mem_alloc(WORKERS, sizeof *beats);
    for (int i = 0; i < WORKERS; i++) id_new(beats[i].h.inc, "inc");
    beat_all(beats);
    run_job(0, 0, beats[0].h.inc, true);
    for (size_t nth = 1; nth <= 2; nth++) {
        mem_fail_at(nth, false);
        assert_null(place(0, 2));
        mem_fail_at(0, false);
        assert_ptr_equal(place(0, 2), plain_place(0, 2));
        aside_changed(&s);
    }
    mem_free(beats);
}

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* A thousand workers, every place of theirs taken, and a sweep over many jobs that wait: as many comparisons
 * as jobs × workers × places would take hours. */
static void a_sweep_that_finds_no_place_costs_little_whoever_waits(void **state)
{
    (void)state;
    enum { MANY = 1000, WAITING = 100000, ENOUGH_S = 5 };
    for (int i = 0; i < MANY; i++) {
        struct fleet_worker *w = mem_alloc(1, sizeof *w);
        name(w->beat.inc, "inc", i);
        assert_int_equal(table_put(&s.fleet, w->beat.inc, w), 0);
        for (int k = 0; k < PLACES; k++) run_job(i * PLACES + k, i * PLACES + k, w->beat.inc, true);
    }
    double begin = cpu_seconds();
    for (int i = 0; i < WAITING; i++) {
        struct job_brief b = {.aside = true, .max_running = 100};
        name(b.id, "waits", i);
        name(b.tenant_id, "ten", i % (2 * MANY * PLACES)); /* half of them have something running */
        aside_queued(&s, &b);                              /* claims nothing: there is no database to ask */
        if (cpu_seconds() - begin > ENOUGH_S) fail_msg("%d looks took %d s", i + 1, ENOUGH_S);
    }
    assert_int_equal(s.running.len, MANY * PLACES);
    end_job(17);
    assert_non_null(place(0, 2));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_place_is_what_a_plain_count_says_whatever_changes),
        TEST(nobody_is_left_when_all_is_forgotten),
        TEST(without_memory_to_count_nobody_gets_a_place_and_then_all_is_as_before),
        TEST(a_sweep_that_finds_no_place_costs_little_whoever_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
