/* The models of the predict engine: room made for them, refused, withdrawn, drained. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/mem.h"
#include "queue/heartbeat.h"
#include "queue/inbox.h"
#include "queue/placement.h"
#include "queue/redis_clock.h"
#include "tests/unit/queue/redis_fixture.h"
#include "tests/unit/worker/engine_scene.h"
#include "worker/model_cache.h"

enum { LEAST_BUSY = 30 };

/* ---- models
 * ----------------------------------------------------------------------------------------------------- */

static int64_t bytes_of(const struct buf *artifact)
{
    struct resident *m;
    struct err e;
    struct resident_options o = {.sessions = 2, .batch_rows = 32, .limit_bytes = INT64_MAX};
    assert_int_equal(resident_create(&m, tenants[0], versions[0], artifact->data, artifact->len, &o, &e), 0);
    int64_t bytes = m->bytes;
    resident_free(m);
    return bytes;
}

static void the_least_recently_used_model_makes_room_and_is_withdrawn_first(void **state)
{
    (void)state;
    float x = 1;
    struct heartbeat h;
    struct engine_stats stats;
    engine_free(engine);
    start_engine(bytes_of(&line) + bytes_of(&table) + (int64_t)line.len, 2);
    load(0);
    load(1);
    ask_line(0, 1, &x, 1);
    assert_int_equal(collect_one().code, 0);
    load(2);
    wait_placed(1, false); /* 0 was used since */
    assert_true(is_placed(0));
    engine_describe(engine, &h);
    assert_int_equal(h.model_bytes_max - h.model_bytes_free, 2 * bytes_of(&line));
    engine_stats(engine, &stats);
    assert_int_equal(stats.evictions, 1);
    assert_int_equal(stats.models, 2);
}

static void a_model_too_large_for_the_worker_is_not_loaded_and_not_tried_over_and_over(void **state)
{
    (void)state;
    struct engine_stats stats;
    int64_t until = clock_mono_ms() + PATIENCE_MS;
    engine_free(engine);
    start_engine(bytes_of(&line) - 1, 2);
    for (int i = 0; i < 20; i++) order(MESSAGE_MODEL_LOAD, 0);
    do engine_stats(engine, &stats), pause_briefly();
    while (!stats.load_failures && clock_mono_ms() < until);
    struct message last = {.type = MESSAGE_JOB_RUN}; /* behind the orders in the inbox */
    id_new(last.job.job_id, "job");
    id_new(last.job.tenant_id, "ten");
    push(&last);
    while (!jobs_seen && clock_mono_ms() < until) pause_briefly();
    assert_in_range(fetches, 1, 2);
    assert_int_equal(stats.models, 0);
    assert_false(is_placed(0));
}

static void nothing_leaves_for_an_artifact_that_will_never_fit(void **state)
{
    (void)state;
    enum { BUDGET = 16 << 20, TOO_MUCH = 15 << 20 }; /* an eighth is the sessions' */
    struct engine_stats stats;
    size_t len = table.len;
    int64_t until = clock_mono_ms() + PATIENCE_MS;
    engine_free(engine);
    start_engine(BUDGET, 2);
    load(0);
    char *room = buf_reserve(&table, TOO_MUCH - len);
    assert_non_null(room);
    memset(room, 0, TOO_MUCH - len);
    table.len = TOO_MUCH;
    order(MESSAGE_MODEL_LOAD, 1);
    do engine_stats(engine, &stats), pause_briefly();
    while (!stats.load_failures && clock_mono_ms() < until);
    table.len = len;
    assert_int_equal(stats.load_failures, 1);
    assert_int_equal(stats.evictions, 0);
    assert_true(is_placed(0));
}

static void an_unloaded_model_is_withdrawn_and_gone(void **state)
{
    (void)state;
    float x = 1;
    struct heartbeat h;
    struct engine_stats stats;
    int64_t until = clock_mono_ms() + PATIENCE_MS;
    load(0);
    order(MESSAGE_MODEL_UNLOAD, 0);
    wait_placed(0, false); /* first nobody is sent here any more, then the model goes */
    do engine_stats(engine, &stats), pause_briefly();
    while (stats.models && clock_mono_ms() < until);
    ask_line(0, 1, &x, 1);
    assert_int_equal(collect_one().code, ERR_STALE);
    engine_describe(engine, &h);
    assert_int_equal(h.model_bytes_free, h.model_bytes_max);
}

static void another_tenants_or_a_damaged_artifact_is_not_announced(void **state)
{
    (void)state;
    struct engine_stats stats;
    int64_t until = clock_mono_ms() + PATIENCE_MS;
    struct message m = {.type = MESSAGE_MODEL_LOAD};
    memcpy(m.model.version_id, versions[0], ID_MAX);
    memcpy(m.model.tenant_id, tenants[1], ID_MAX);
    push(&m);
    line.len -= 3; /* its last weight is cut short */
    order(MESSAGE_MODEL_LOAD, 2);
    do engine_stats(engine, &stats), pause_briefly();
    while (stats.load_failures < 2 && clock_mono_ms() < until);
    line.len += 3;
    assert_int_equal(stats.load_failures, 2);
    assert_false(is_placed(0) || is_placed(2));
}

/* Another worker's heartbeat and announcements, written by the test. */
static void another_worker(char inc[ID_MAX], bool draining)
{
    struct heartbeat *h = mem_alloc(1, sizeof *h);
    id_new(h->inc, "inc");
    memcpy(inc, h->inc, ID_MAX);
    h->draining = draining;
    assert_int_equal(heartbeat_publish(redis, h, NULL, NULL), 0);
    mem_free(h);
}

static void a_replica_displaces_no_model_that_is_in_use(void **state)
{
    (void)state;
    struct engine_stats stats;
    int64_t until = clock_mono_ms() + PATIENCE_MS;
    engine_free(engine);
    start_engine(bytes_of(&line) + (int64_t)line.len / 2, 2);
    load(0);
    order(MESSAGE_MODEL_REPLICATE, 2);
    struct message wrong = {.type = MESSAGE_MODEL_LOAD}; /* fails, behind it */
    memcpy(wrong.model.tenant_id, tenants[1], ID_MAX);
    id_new(wrong.model.version_id, "ver");
    push(&wrong);
    do engine_stats(engine, &stats), pause_briefly();
    while (!stats.load_failures && clock_mono_ms() < until);
    assert_int_equal(stats.load_failures, 1);
    assert_int_equal(fetches, 3);
    assert_true(is_placed(0));
    assert_false(is_placed(2));
    load(2); /* a refused replica does not stand in the way of a load that somebody waits for */
    wait_placed(0, false);
    engine_stats(engine, &stats);
    assert_int_equal(stats.evictions, 1);
}

static void a_replica_is_announced_where_there_is_room(void **state)
{
    (void)state;
    load(0);
    order(MESSAGE_MODEL_REPLICATE, 2);
    wait_placed(2, true);
    assert_true(is_placed(0));
}

static void the_heartbeat_tells_which_models_are_busy_and_how(void **state)
{
    (void)state;
    float x[32] = {0};
    struct heartbeat *h = mem_alloc(1, sizeof *h);
    int64_t until = clock_mono_ms() + PATIENCE_MS;
    load(0);
    load(2);
    engine_describe(engine, h);
    assert_int_equal(h->models_len, 0);
    for (uint64_t id = 1; h->models_len == 0 && clock_mono_ms() < until; id += 20) {
        struct got got[20];
        for (uint64_t i = 0; i < 20; i++) ask_line(0, id + i, x, 32);
        collect(got, 20);
        engine_describe(engine, h);
    }
    assert_int_equal(h->models_len, 1);
    assert_string_equal(h->models[0].version_id, versions[0]);
    assert_string_equal(h->models[0].tenant_id, tenants[0]);
    assert_int_equal(h->models[0].bytes * 2, h->model_bytes_max - h->model_bytes_free);
    assert_in_range(h->predict_busy_milli, LEAST_BUSY, 1000);
    assert_in_range(h->models[0].busy_milli, h->predict_busy_milli * 9 / 10, h->predict_busy_milli);
    assert_int_equal(h->model_bytes_idle, 0);
    mem_free(h);
}

static void nothing_is_handed_over_where_no_other_worker_stays(void **state)
{
    (void)state;
    char inc[ID_MAX];
    load(0);
    int64_t begin = clock_mono_ms();
    assert_int_equal(engine_hand_over(engine, PATIENCE_MS), 0);
    another_worker(inc, true);
    assert_int_equal(engine_hand_over(engine, PATIENCE_MS), 0);
    assert_in_range(clock_mono_ms() - begin, 0, PATIENCE_MS / 2);
}

struct hand_over {
    int rc;
    _Atomic bool done;
};

static void *hand_over(void *arg)
{
    struct hand_over *h = arg;
    h->rc = engine_hand_over(engine, PATIENCE_MS);
    h->done = true;
    return NULL;
}

/* What the scheduler is asked to place, as it comes: each at least once. */
static void see_asked(bool seen[VERSIONS])
{
    struct inbox_batch batch;
    assert_int_equal(inbox_pop(redis, INBOX_SCHEDULER, 16, 100, &batch, NULL), 0);
    for (size_t i = 0; i < batch.len; i++) {
        struct message m;
        struct inbox_record r = inbox_batch_get(&batch, i);
        assert_int_equal(message_decode(&m, NULL, 0, r.data, r.len, NULL), 0);
        assert_int_equal(m.type, MESSAGE_PLACE);
        for (int v = 0; v < VERSIONS; v++)
            if (strcmp(m.model.version_id, versions[v]) == 0) {
                assert_string_equal(m.model.tenant_id, tenants[v]);
                seen[v] = true;
            }
    }
    inbox_batch_dispose(&batch);
}

static void a_worker_that_stops_serves_until_its_models_are_up_elsewhere(void **state)
{
    (void)state;
    float x = 1;
    char inc[ID_MAX];
    bool seen[VERSIONS] = {false};
    struct hand_over h = {.rc = 1};
    pthread_t thread;
    int64_t until = clock_mono_ms() + PATIENCE_MS;
    load(0);
    load(1);
    another_worker(inc, false);
    assert_int_equal(pthread_create(&thread, NULL, hand_over, &h), 0);
    while (!(seen[0] && seen[1]) && clock_mono_ms() < until) see_asked(seen);
    assert_true(seen[0] && seen[1] && !seen[2]);
    assert_int_equal(placement_announce(redis, versions[1], inc, NULL), 0);
    seen[0] = false;
    while (!seen[0] && clock_mono_ms() < until) see_asked(seen); /* the one that is left, again */
    assert_false(h.done);
    ask_line(0, 1, &x, 1);
    assert_int_equal(collect_one().code, 0);
    assert_int_equal(placement_announce(redis, versions[0], inc, NULL), 0);
    pthread_join(thread, NULL);
    assert_int_equal(h.rc, 0);
}

static void a_model_that_comes_up_nowhere_holds_a_stop_up_no_longer_than_the_drain(void **state)
{
    (void)state;
    char inc[ID_MAX];
    load(0);
    another_worker(inc, false);
    int64_t begin = clock_mono_ms();
    assert_int_equal(engine_hand_over(engine, 500), ERR_TIMEOUT);
    assert_in_range(clock_mono_ms() - begin, 450, PATIENCE_MS / 2);
}

static void draining_withdraws_every_model_and_still_answers(void **state)
{
    (void)state;
    float x = 1;
    load(0);
    load(1);
    ask_line(0, 1, &x, 1);
    assert_int_equal(engine_drain(engine, 10000), 0);
    assert_false(is_placed(0) || is_placed(1));
    assert_int_equal(collect_one().code, 0);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(the_least_recently_used_model_makes_room_and_is_withdrawn_first),
        CASE(a_model_too_large_for_the_worker_is_not_loaded_and_not_tried_over_and_over),
        CASE(nothing_leaves_for_an_artifact_that_will_never_fit),
        CASE(an_unloaded_model_is_withdrawn_and_gone),
        CASE(another_tenants_or_a_damaged_artifact_is_not_announced),
        CASE(a_replica_displaces_no_model_that_is_in_use),
        CASE(a_replica_is_announced_where_there_is_room),
        CASE(the_heartbeat_tells_which_models_are_busy_and_how),
        CASE(nothing_is_handed_over_where_no_other_worker_stays),
        CASE(a_worker_that_stops_serves_until_its_models_are_up_elsewhere),
        CASE(a_model_that_comes_up_nowhere_holds_a_stop_up_no_longer_than_the_drain),
        CASE(draining_withdraws_every_model_and_still_answers),
    };
    return cmocka_run_group_tests(tests, train_models, drop_models);
}
