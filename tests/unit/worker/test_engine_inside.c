/* Predictions that the worker itself asks of its engine: as a gateway's, each called back exactly once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>
#include "base/clock.h"
#include "base/mem.h"
#include "engine_scene.h"
#include "queue/redis_clock.h"

enum { CALLS = 200 };

/* What came back for one call. */
struct answer {
    atomic_int calls;
    bool dropped;
    int code;
    float value;
    uint64_t id;
};

static void on_reply(void *arg, const char *record, size_t len)
{
    struct answer *a = arg;
    struct message_tensor tensors[4];
    struct message m;
    struct err e;
    a->dropped = record == NULL;
    if (record && message_decode(&m, tensors, 4, record, len, &e) == 0) {
        a->code = m.reply.code;
        a->id = m.reply.request_id;
        if (m.tensors_len) memcpy(&a->value, m.tensors[0].data, sizeof a->value);
    }
    a->calls++;
}

static void wait_for(struct answer *a)
{
    int64_t until = clock_mono_ms() + PATIENCE_MS;
    while (a->calls == 0 && clock_mono_ms() < until) pause_briefly();
    assert_int_equal(a->calls, 1);
}

static void call(int v, uint64_t id, float x, int64_t deadline_us, struct answer *a)
{
    struct message m = a_predict(v, id, 1);
    struct message_tensor t = {
        .dtype = MESSAGE_FP32, .ndim = 1, .dims = {1}, .data = &x, .data_len = sizeof x};
    struct buf record = {0};
    if (deadline_us) m.predict.deadline_us = deadline_us;
    m.tensors = &t;
    m.tensors_len = 1;
    message_encode(&record, &m);
    engine_call(engine, &record, on_reply, a);
    assert_int_equal(record.len, 0); /* taken over */
    buf_dispose(&record);
}

static void a_call_is_answered_like_a_gateway_s_request(void **state)
{
    (void)state;
    float x = 3;
    struct answer a = {0};
    load(0);
    ask_line(0, 1, &x, 1);
    float wanted = collect_one().floats[0];
    call(0, 9, x, 0, &a);
    wait_for(&a);
    assert_false(a.dropped);
    assert_int_equal(a.code, 0);
    assert_int_equal(a.id, 9);
    assert_memory_equal(&a.value, &wanted, sizeof wanted);
}

static void a_version_that_is_not_here_comes_when_it_is_asked_for(void **state)
{
    (void)state;
    struct answer before = {0}, after = {0};
    call(0, 1, 1, 0, &before);
    wait_for(&before);
    assert_int_equal(before.code, ERR_STALE);
    engine_load(engine, tenants[0], versions[0]);
    wait_placed(0, true);
    call(0, 2, 1, 0, &after);
    wait_for(&after);
    assert_int_equal(after.code, 0);
}

static void what_is_late_or_malformed_is_dropped_and_said_to_be(void **state)
{
    (void)state;
    struct answer late = {0}, broken = {0}, strange = {0};
    struct heartbeat h = {0};
    struct buf junk = {0}, other = {0};
    struct message m = {.type = MESSAGE_PREDICT_CANCEL};
    load(0);
    call(0, 1, 1, redis_clock_us() - 1, &late);
    wait_for(&late);
    assert_true(late.dropped);
    buf_str(&junk, "no record");
    engine_call(engine, &junk, on_reply, &broken);
    wait_for(&broken);
    assert_true(broken.dropped);
    message_encode(&other, &m);
    engine_call(engine, &other, on_reply, &strange);
    wait_for(&strange);
    assert_true(strange.dropped);
    int64_t until = clock_mono_ms() + PATIENCE_MS;
    do engine_describe(engine, &h), pause_briefly();
    while (h.predict_waiting && clock_mono_ms() < until);
    assert_int_equal(h.predict_waiting, 0); /* nothing of them is left behind */
}

static void calls_amid_a_gateway_s_requests_get_their_own_rows(void **state)
{
    (void)state;
    struct answer *a = mem_alloc(CALLS, sizeof *a);
    struct got got;
    float wanted[CALLS];
    load(0);
    for (int i = 0; i < CALLS; i++) {
        float x = (float)i;
        ask_line(0, (uint64_t)i, &x, 1);
        call(0, (uint64_t)i, x, 0, &a[i]);
    }
    for (int i = 0; i < CALLS; i++) {
        got = collect_one();
        assert_int_equal(got.code, 0);
        wanted[got.id] = got.floats[0];
    }
    for (int i = 0; i < CALLS; i++) {
        wait_for(&a[i]);
        assert_int_equal(a[i].code, 0);
        assert_int_equal(a[i].id, i);
        assert_memory_equal(&a[i].value, &wanted[i], sizeof wanted[i]);
    }
    mem_free(a);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_call_is_answered_like_a_gateway_s_request),
        CASE(a_version_that_is_not_here_comes_when_it_is_asked_for),
        CASE(what_is_late_or_malformed_is_dropped_and_said_to_be),
        CASE(calls_amid_a_gateway_s_requests_get_their_own_rows),
    };
    return cmocka_run_group_tests(tests, train_models, drop_models);
}
