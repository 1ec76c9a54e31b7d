/* The models of a worker and their sessions: what is counted, what makes room, and what comes and goes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "base/clock.h"
#include "base/mem.h"
#include "tests/unit/worker/model_fixture.h"
#include "worker/model_cache.h"

enum { BUDGET = 64 << 20, THREADS = 2, ROWS = 32, MODELS = 200 };

static struct buf line;
static struct model_cache *cache;
static char tenant[ID_MAX], ids[MODELS][ID_MAX];

static int set_up(void **state)
{
    (void)state;
    cache = model_cache_create(BUDGET, THREADS);
    id_new(tenant, "ten");
    for (int i = 0; i < MODELS; i++) id_new(ids[i], "ver");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    model_cache_free(cache);
    return 0;
}

static struct resident *create(int i, int64_t batch_rows, int64_t pool_bytes)
{
    struct resident *m;
    struct err e;
    struct resident_options o = {
        .sessions = THREADS, .batch_rows = batch_rows, .pool_bytes = pool_bytes, .limit_bytes = BUDGET};
    if (resident_create(&m, tenant, ids[i], line.data, line.len, &o, &e) != 0) fail_msg("%s", e.message);
    return m;
}

static struct resident *add(int i, int64_t batch_rows)
{
    struct resident *m = create(i, batch_rows, model_cache_pool_bytes(cache));
    assert_int_equal(model_cache_add(cache, m, NULL), 0);
    return m;
}

/* Computes one row of a line on that thread's session, as a serving thread does. */
static float compute(int i, int thread)
{
    struct model_session *s;
    float x = 2;
    struct model_input in = {DATATYPE_FP32, &x, sizeof x};
    struct model_output out;
    struct resident *m = model_cache_acquire(cache, tenant, ids[i]);
    assert_non_null(m);
    assert_int_equal(model_cache_session(cache, m, thread, &s, NULL), 0);
    assert_int_equal(model_predict(s, &in, 1, &out, NULL), 0);
    float y = *(const float *)out.data;
    model_cache_release(cache, m);
    return y;
}

static void small_sessions_are_made_when_they_are_needed_and_go_with_their_model(void **state)
{
    (void)state;
    const struct resident *m = add(0, ROWS);
    assert_true(m->pooled);
    assert_int_equal(model_cache_bytes(cache), m->bytes);
    assert_int_equal(model_cache_pool_used(cache), 0);
    float y = compute(0, 0);
    assert_int_equal(model_cache_pool_used(cache), m->session_bytes);
    assert_true(compute(0, 0) == y);
    assert_int_equal(model_cache_pool_used(cache), m->session_bytes);
    assert_true(compute(0, 1) == y);
    assert_int_equal(model_cache_pool_used(cache), 2 * m->session_bytes);
    assert_true(model_cache_remove(cache, ids[0]));
    assert_int_equal(model_cache_pool_used(cache), 0);
    assert_int_equal(model_cache_bytes(cache), 0);
}

static void a_pool_keeps_the_sessions_that_its_thread_used_last(void **state)
{
    (void)state;
    int64_t most = model_cache_pool_bytes(cache), rows = 4000;
    const struct resident *first = add(0, rows), *last = first;
    float y = compute(0, 0);
    int64_t fit = most / first->session_bytes;
    assert_in_range(fit, 4, MODELS - 2);
    for (int i = 1; i <= fit; i++) {
        last = add(i, rows);
        compute(i, 0);
        if (i < fit) compute(0, 0);
        assert_in_range(model_cache_pool_used(cache), 1, most);
    }
    assert_int_equal(model_cache_pool_used(cache), fit * first->session_bytes);
    assert_non_null(first->sessions[0].session);
    assert_ptr_not_equal(last, first);
    assert_non_null(last->sessions[0].session);
    struct resident *second = model_cache_acquire(cache, tenant, ids[1]);
    assert_null(second->sessions[0].session); /* the least recently used one made room */
    model_cache_release(cache, second);
    assert_true(compute(1, 0) == y);
    assert_true(compute(0, 1) == y); /* on the other thread, whose pool is its own */
    for (int i = 0; i <= fit; i++) assert_true(compute(i, 0) == y && compute(i, 1) == y);
    assert_in_range(model_cache_pool_used(cache), most, 2 * most);
    for (int i = 0; i <= fit; i += 2) assert_true(model_cache_remove(cache, ids[i]));
    for (int i = 1; i <= fit; i += 2) assert_true(compute(i, 0) == y);
}

static void a_session_that_is_large_beside_its_pool_stays_and_is_counted_as_the_model_s(void **state)
{
    (void)state;
    struct resident *small = create(0, ROWS, model_cache_pool_bytes(cache));
    struct resident *large = create(1, ROWS, 3 * small->session_bytes);
    assert_false(large->pooled);
    assert_int_equal(large->bytes, small->bytes + THREADS * small->session_bytes);
    assert_int_equal(model_cache_add(cache, large, NULL), 0);
    assert_non_null(large->sessions[0].session);
    assert_non_null(large->sessions[THREADS - 1].session);
    compute(1, 0);
    assert_int_equal(model_cache_pool_used(cache), 0);
    resident_free(small);
}

static void the_pools_are_taken_off_the_budget(void **state)
{
    (void)state;
    assert_int_equal(model_cache_bytes_max(cache) + THREADS * model_cache_pool_bytes(cache), BUDGET);
    struct model_cache *tiny = model_cache_create(1 << 20, THREADS); /* nothing to share out */
    assert_int_equal(model_cache_pool_bytes(tiny), 0);
    assert_int_equal(model_cache_bytes_max(tiny), 1 << 20);
    model_cache_free(tiny);
}

/* Waits until the clock of uses has gone on. */
static int64_t next_ms(void)
{
    int64_t now = clock_mono_ms();
    while (clock_mono_ms() == now) nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    return clock_mono_ms();
}

static void only_idle_models_count_as_room_for_a_replica(void **state)
{
    (void)state;
    int64_t each = add(0, ROWS)->bytes;
    add(1, ROWS);
    int64_t later = next_ms();
    compute(1, 0);
    assert_int_equal(model_cache_idle_bytes(cache, later), each);
    int64_t free_bytes = model_cache_bytes_max(cache) - 2 * each;
    assert_true(model_cache_has_idle(cache, free_bytes + each, later));
    assert_false(model_cache_has_idle(cache, free_bytes + each + 1, later));
    assert_false(model_cache_has_idle(cache, free_bytes + 1, later - 10000));
}

struct seen {
    char ids[4][ID_MAX];
    size_t len;
};

static void see(void *arg, struct resident *m)
{
    struct seen *s = arg;
    memcpy(s->ids[s->len++], m->version_id, ID_MAX);
}

static void models_used_since_are_told_the_latest_first(void **state)
{
    (void)state;
    struct seen s = {.len = 0};
    for (int i = 0; i < 3; i++) add(i, ROWS);
    int64_t later = next_ms();
    compute(2, 0);
    compute(0, 0);
    model_cache_each_used(cache, later, see, &s);
    assert_int_equal(s.len, 2);
    assert_string_equal(s.ids[0], ids[0]);
    assert_string_equal(s.ids[1], ids[2]);
}

static void a_session_that_finds_no_memory_leaves_all_as_it_was(void **state)
{
    (void)state;
    struct model_session *s;
    add(0, ROWS);
    struct resident *m = model_cache_acquire(cache, tenant, ids[0]);
    mem_fail_at(1, false);
    int rc = model_cache_session(cache, m, 0, &s, NULL);
    mem_fail_at(0, false);
    assert_int_equal(rc, ERR_NOMEM);
    assert_null(s);
    assert_int_equal(model_cache_pool_used(cache), 0);
    model_cache_release(cache, m);
    compute(0, 0);
}

static int train(void **state)
{
    (void)state;
    model_fixture_line(&line);
    return 0;
}

static int drop(void **state)
{
    (void)state;
    buf_dispose(&line);
    return 0;
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(small_sessions_are_made_when_they_are_needed_and_go_with_their_model),
        CASE(a_pool_keeps_the_sessions_that_its_thread_used_last),
        CASE(a_session_that_is_large_beside_its_pool_stays_and_is_counted_as_the_model_s),
        CASE(the_pools_are_taken_off_the_budget),
        CASE(only_idle_models_count_as_room_for_a_replica),
        CASE(models_used_since_are_told_the_latest_first),
        CASE(a_session_that_finds_no_memory_leaves_all_as_it_was),
    };
    return cmocka_run_group_tests(tests, train, drop);
}
