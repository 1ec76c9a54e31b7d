/* The predict engine with real models behind a real Redis: right answers to the right callers, in any company
 * and through any mishap. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/mem.h"
#include "queue/placement.h"
#include "queue/redis_clock.h"
#include "tests/unit/queue/redis_fixture.h"
#include "tests/unit/worker/engine_scene.h"

/* ---- tests
 * ------------------------------------------------------------------------------------------------------ */

static void a_loaded_model_is_announced_and_answers(void **state)
{
    (void)state;
    float x[2] = {1, -10};
    load(0);
    ask_line(0, 7, x, 2);
    struct got g = collect_one();
    assert_int_equal(g.code, 0);
    assert_int_equal(g.id, 7);
    assert_true(fabsf(g.floats[0] - 5) < 0.01F && fabsf(g.floats[1] + 28) < 0.01F);
    assert_in_range(g.compute_us, 1, PATIENCE_MS * 1000);
}

static void a_request_is_refused_alone_and_its_neighbours_are_answered(void **state)
{
    (void)state;
    static const char *const good[] = {"red", "blue"}, *const bad[] = {"red", "mauve"};
    float sizes[2] = {3, 60};
    struct got g[3];
    load(1);
    ask_table(1, 1, sizes, good, 2);
    ask_table(1, 2, sizes, bad, 2);
    ask_table(1, 3, sizes, good, 2);
    collect(g, 3);
    for (int i = 0; i < 3; i++) {
        if (g[i].id != 2) {
            assert_int_equal(g[i].code, 0);
            assert_int_equal(g[i].outputs, 2);
            continue;
        }
        assert_int_equal(g[i].code, ERR_INVALID);
        assert_string_equal(g[i].field, "colour");
        assert_int_equal(g[i].compute_us, 0);
    }
}

static void a_version_that_is_not_here_is_said_to_be_elsewhere(void **state)
{
    (void)state;
    float x = 1;
    placement_announce(redis, versions[0], config.inc,
                       NULL); /* somebody's error, or a withdrawal that Redis never got */
    ask_line(0, 1, &x, 1);
    assert_int_equal(collect_one().code, ERR_STALE);
    wait_placed(0, false);
}

static void a_tenant_cannot_use_another_tenants_version(void **state)
{
    (void)state;
    float x = 1;
    load(0);
    struct message m = a_predict(0, 5, 1);
    struct message_tensor t = {.dtype = MESSAGE_FP32, .ndim = 1, .dims = {1}, .data = &x, .data_len = 4};
    memcpy(m.predict.tenant_id, tenants[1], ID_MAX);
    m.tensors = &t;
    m.tensors_len = 1;
    send_message(&m);
    assert_int_equal(collect_one().code, ERR_STALE);
    order(MESSAGE_MODEL_LOAD, 1);
    wait_placed(1, true);
}

static void expired_requests_are_dropped_before_they_are_computed(void **state)
{
    (void)state;
    float x = 1;
    struct engine_stats stats;
    load(0);
    struct message m = a_predict(0, 1, 1);
    struct message_tensor t = {.dtype = MESSAGE_FP32, .ndim = 1, .dims = {1}, .data = &x, .data_len = 4};
    m.predict.deadline_us = redis_clock_us() - 1;
    m.tensors = &t;
    m.tensors_len = 1;
    send_message(&m);
    ask_line(0, 2, &x, 1);
    assert_int_equal(collect_one().id, 2);
    engine_stats(engine, &stats);
    assert_int_equal(stats.expired, 1);
    assert_int_equal(stats.requests, 1);
}

static void a_request_larger_than_a_batch_is_answered_whole(void **state)
{
    (void)state;
    float x[200];
    for (int i = 0; i < 200; i++) x[i] = (float)i / 4;
    load(0);
    ask_line(0, 1, x, 200);
    struct got g = collect_one();
    assert_int_equal(g.code, 0);
    assert_int_equal(g.floats_len, 200);
    for (int i = 0; i < 200; i++) assert_true(fabsf(g.floats[i] - (3 * x[i] + 2)) < 0.01F);
}

static void a_shape_that_does_not_fit_the_model_is_refused_not_read(void **state)
{
    (void)state;
    float x[4] = {0};
    load(0);
    struct message m = a_predict(0, 1, 2);
    struct message_tensor t = {.dtype = MESSAGE_FP32, .ndim = 2, .dims = {2, 2}, .data = x, .data_len = 16};
    m.tensors = &t;
    m.tensors_len = 1;
    send_message(&m);
    struct got g = collect_one();
    assert_int_equal(g.code, ERR_INVALID);
    assert_string_equal(g.field, "input");
}

static void messages_for_others_are_handed_on(void **state)
{
    (void)state;
    struct message m = {.type = MESSAGE_JOB_RUN};
    int64_t until = clock_mono_ms() + PATIENCE_MS;
    id_new(m.job.job_id, "job");
    id_new(m.job.tenant_id, "ten");
    push(&m);
    while (!jobs_seen && clock_mono_ms() < until) pause_briefly();
    assert_int_equal(jobs_seen, 1);
}

/* Many tenants' requests of many sizes at once: each answer has the bits that the same request gets alone. */
static void nobody_gets_anothers_row_and_company_changes_no_bit(void **state)
{
    (void)state;
    static struct got alone[REQUESTS_MAX], together[REQUESTS_MAX];
    static float x[REQUESTS_MAX][8];
    enum { REQUESTS = 400 };
    static const char *const colours[] = {"red", "blue"};
    const char *mine[8];
    struct engine_stats before, after;
    int which[REQUESTS], rows[REQUESTS];
    srandom(11);
    for (int v = 0; v < VERSIONS; v++) load(v);
    for (int i = 0; i < REQUESTS; i++) {
        which[i] = (int)(random() % VERSIONS);
        rows[i] = 1 + (int)(random() % 8);
        for (int k = 0; k < rows[i]; k++) x[i][k] = (float)(random() % 1000) / 7;
    }
    for (int round = 0; round < 2; round++) {
        if (round) engine_stats(engine, &before);
        for (int i = 0; i < REQUESTS; i++) {
            for (int k = 0; k < rows[i]; k++) mine[k] = colours[((i + k) >> 1) % 2];
            if (which[i] % 2)
                ask_table(which[i], (uint64_t)i, x[i], mine, (uint32_t)rows[i]);
            else
                ask_line(which[i], (uint64_t)i, x[i], (uint32_t)rows[i]);
            if (!round) collect(&alone[i], 1);
        }
    }
    collect(together, REQUESTS);
    engine_stats(engine, &after);
    assert_true(after.batches - before.batches < REQUESTS); /* there was company */
    for (int i = 0; i < REQUESTS; i++) {
        const struct got *a = &alone[together[i].id], *b = &together[i];
        assert_int_equal(a->id, b->id);
        assert_int_equal(b->code, 0);
        assert_int_equal(b->floats_len, (size_t)rows[b->id] * (which[b->id] % 2 ? 2 : 1));
        assert_memory_equal(a->floats, b->floats, b->floats_len * sizeof(float));
    }
}

/* ---- mishaps
 * ---------------------------------------------------------------------------------------------------- */

/* By a gateway whose link broke: a prediction is pure, and whose answer counts is the gateway's business. */
static void the_same_request_sent_again_is_answered_again(void **state)
{
    (void)state;
    float x = 2;
    load(0);
    ask_line(0, 1, &x, 1);
    struct got first = collect_one();
    ask_line(0, 1, &x, 1);
    struct got second = collect_one();
    assert_int_equal(second.id, 1);
    assert_int_equal(second.code, 0);
    assert_memory_equal(first.floats, second.floats, sizeof x);
}

static void a_redis_that_forgot_gets_the_placements_again(void **state)
{
    (void)state;
    float x = 2;
    load(0);
    redis_fixture_flush();
    assert_false(is_placed(0));
    engine_republish(engine);
    wait_placed(0, true);
    ask_line(0, 9, &x, 1);
    assert_int_equal(collect_one().code, 0);
}

static void answers_go_out_while_redis_is_dead(void **state)
{
    (void)state;
    float x = 2;
    load(0);
    redis_fixture_stop_server();
    ask_line(0, 1, &x, 1);
    assert_int_equal(collect_one().code, 0);
    redis_fixture_start_server();
    redis_free(redis);
    redis = redis_fixture_connect();
    engine_republish(engine); /* as the heartbeat would have it */
    wait_placed(0, true);
    ask_line(0, 2, &x, 1);
    assert_int_equal(collect_one().id, 2);
}

static void a_cancelled_request_is_withdrawn_before_it_is_computed(void **state)
{
    (void)state;
    float x = 1;
    struct engine_stats stats;
    struct message cancel = {.type = MESSAGE_PREDICT_CANCEL, .predict = {.request_id = 1}};
    load(0);
    ask_line(0, 1, &x, 1);
    send_message(&cancel); /* leaves in the same write, so it is read before anything is computed */
    ask_line(0, 2, &x, 1);
    assert_int_equal(collect_one().id, 2);
    send_message(&cancel); /* too late for anything: no harm */
    ask_line(0, 3, &x, 1);
    assert_int_equal(collect_one().id, 3);
    engine_stats(engine, &stats);
    assert_int_equal(stats.cancelled, 1);
    assert_int_equal(stats.requests, 2);
}

static void a_gateway_that_dies_takes_nobody_along(void **state)
{
    (void)state;
    float x[32] = {0};
    struct heartbeat h = {0};
    int64_t until = clock_mono_ms() + PATIENCE_MS;
    load(0);
    for (int i = 0; i < 200; i++) ask_line(0, (uint64_t)i, x, 32);
    hang_up();
    ask_line(0, 1000, x, 1);
    assert_int_equal(collect_one().id, 1000);
    do engine_describe(engine, &h), pause_briefly();
    while (h.predict_waiting && clock_mono_ms() < until);
    assert_int_equal(h.predict_waiting, 0);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_loaded_model_is_announced_and_answers),
        CASE(a_request_is_refused_alone_and_its_neighbours_are_answered),
        CASE(a_version_that_is_not_here_is_said_to_be_elsewhere),
        CASE(a_tenant_cannot_use_another_tenants_version),
        CASE(expired_requests_are_dropped_before_they_are_computed),
        CASE(a_request_larger_than_a_batch_is_answered_whole),
        CASE(a_shape_that_does_not_fit_the_model_is_refused_not_read),
        CASE(messages_for_others_are_handed_on),
        CASE(nobody_gets_anothers_row_and_company_changes_no_bit),
        CASE(the_same_request_sent_again_is_answered_again),
        CASE(a_redis_that_forgot_gets_the_placements_again),
        CASE(answers_go_out_while_redis_is_dead),
        CASE(a_cancelled_request_is_withdrawn_before_it_is_computed),
        CASE(a_gateway_that_dies_takes_nobody_along),
    };
    return cmocka_run_group_tests(tests, train_models, drop_models);
}
