/* The models of the predict engine: room made for them, refused, withdrawn, drained. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/mem.h"
#include "queue/placement.h"
#include "queue/redis_clock.h"
#include "tests/unit/queue/redis_fixture.h"
#include "tests/unit/worker/engine_scene.h"
#include "worker/model_cache.h"

/* ---- models
 * ----------------------------------------------------------------------------------------------------- */

static int64_t bytes_of(const struct buf *artifact)
{
    struct resident *m;
    struct err e;
    assert_int_equal(
        resident_create(&m, tenants[0], versions[0], artifact->data, artifact->len, 2, 32, INT64_MAX, &e), 0);
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
    ask_line(0, 1, &x, 1, false);
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
    ask_line(0, 1, &x, 1, false);
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

static void draining_withdraws_every_model_and_still_answers(void **state)
{
    (void)state;
    float x = 1;
    load(0);
    load(1);
    ask_line(0, 1, &x, 1, false);
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
        CASE(an_unloaded_model_is_withdrawn_and_gone),
        CASE(another_tenants_or_a_damaged_artifact_is_not_announced),
        CASE(draining_withdraws_every_model_and_still_answers),
    };
    return cmocka_run_group_tests(tests, train_models, drop_models);
}
