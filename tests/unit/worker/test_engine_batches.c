/* Batches that models' settings shape, with real networks: nobody gets another's row, company changes no bit,
 * and what is held back comes on time. */
#include "tests/unit/worker/engine_scene.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "base/crypto.h"
#include "queue/redis_clock.h"
#include "tests/unit/worker/model_fixture.h"

enum { REQUESTS = 1500, ROWS = 8, BATCH = 32, TRIES = 40 };

static struct buf table_bf16;
static struct got alone[REQUESTS], together[REQUESTS];
static float sizes[REQUESTS][ROWS];
static int which[REQUESTS], rows[REQUESTS];

/* ---- rows and bits ---- */

static void ask(int i)
{
    static const char *const colours[] = {"red", "blue"};
    const char *mine[ROWS];
    for (int k = 0; k < rows[i]; k++) mine[k] = colours[((i + k) >> 1) % 2];
    if (which[i] % 2)
        ask_table(which[i], (uint64_t)i, sizes[i], mine, (uint32_t)rows[i]);
    else
        ask_line(which[i], (uint64_t)i, sizes[i], (uint32_t)rows[i]);
}

/* Another setting for each version, and others in the next round. */
static void settle_on(int round)
{
    static const uint32_t caps[] = {0, 8, 1, 20}, delays[] = {0, 300, 5000, 60};
    for (int v = 0; v < VERSIONS; v++) {
        batch_rows[v] = caps[(v + round) % 4];
        queue_delays_us[v] = delays[(v + 3 * round) % 4];
    }
}

static void check_same(const struct got *a, const struct got *b, uint32_t cap)
{
    uint32_t own = (uint32_t)rows[b->id];
    assert_int_equal(a->id, b->id);
    assert_int_equal(b->code, 0);
    assert_int_equal(b->floats_len, own * (which[b->id] % 2 ? 2 : 1));
    assert_memory_equal(a->floats, b->floats, b->floats_len * sizeof(float));
    assert_true(b->batch_rows >= own);
    assert_true(b->batch_rows <= (cap ? cap : BATCH) || b->batch_rows == own);
}

static void every_answer_has_its_own_bits_in_any_company(void)
{
    struct engine_stats before, after;
    srandom(23);
    for (int v = 0; v < VERSIONS; v++) load(v);
    for (int i = 0; i < REQUESTS; i++) {
        which[i] = (int)(random() % VERSIONS);
        rows[i] = 1 + (int)(random() % ROWS);
        for (int k = 0; k < rows[i]; k++) sizes[i][k] = (float)(random() % 100000) / 1571;
        ask(i);
        collect(&alone[i], 1);
    }
    for (int round = 0; round < 4; round++) {
        settle_on(round);
        engine_stats(engine, &before);
        for (int i = 0; i < REQUESTS; i++) ask(i);
        collect(together, REQUESTS);
        engine_stats(engine, &after);
        assert_true(after.batches - before.batches < REQUESTS);                /* there was company */
        assert_int_equal(after.rows - before.rows, before.rows / (round + 1)); /* each row once */
        for (int i = 0; i < REQUESTS; i++)
            check_same(&alone[together[i].id], &together[i], batch_rows[which[together[i].id]]);
    }
}

static void nobody_gets_anothers_row_in_f32_whatever_the_settings(void **state)
{
    (void)state;
    every_answer_has_its_own_bits_in_any_company();
}

static void nobody_gets_anothers_row_in_bf16_whatever_the_settings(void **state)
{
    (void)state;
    struct buf f32 = table;
    if (!table_bf16.len) skip();
    assert_non_null(memmem(table_bf16.data, table_bf16.len, "\"bf16\"", 6));
    table = table_bf16;
    every_answer_has_its_own_bits_in_any_company();
    table = f32;
}

/* ---- requests that stay where they were read ---- */

enum { LARGE_ROWS = 30000, VALUES = 200, LARGE_REQUESTS = 24 };
static float large[LARGE_ROWS], expected[LARGE_ROWS], answers[VALUES];

static float value(int i)
{
    return (float)i * 3.25f - 100;
}

/* Rows of values whose answers are known: the crc of what must come. */
static uint32_t make_large(uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        int v = (int)(random() % VALUES);
        large[i] = value(v);
        expected[i] = answers[v];
    }
    return crypto_crc32(0, expected, n * sizeof *expected);
}

static void ask_values_alone(void)
{
    load(0);
    for (int i = 0; i < VALUES; i++) {
        float x = value(i);
        ask_line(0, 0, &x, 1);
        answers[i] = collect_one().floats[0];
    }
}

static void large_requests_are_answered_as_their_rows_alone(void **state)
{
    (void)state;
    static struct got got[2 * LARGE_REQUESTS];
    uint32_t crcs[LARGE_REQUESTS], lens[LARGE_REQUESTS];
    ask_values_alone();
    for (int i = 0; i < LARGE_REQUESTS; i++) { /* each with a small one behind */
        lens[i] = i % 4 ? 4096 + (uint32_t)random() % (LARGE_ROWS - 4096) : LARGE_ROWS;
        crcs[i] = make_large(lens[i]);
        ask_line(0, (uint64_t)i, large, lens[i]);
        ask_line(0, LARGE_REQUESTS + (uint64_t)i, large, 1);
    }
    collect(got, 2 * LARGE_REQUESTS);
    for (int i = 0; i < 2 * LARGE_REQUESTS; i++) {
        assert_int_equal(got[i].code, 0);
        if (got[i].id >= LARGE_REQUESTS) continue;
        assert_int_equal(got[i].floats_len, lens[got[i].id]);
        assert_int_equal(got[i].crc, crcs[got[i].id]);
    }
}

static void a_gateway_that_goes_takes_its_large_requests_along(void **state)
{
    (void)state;
    ask_values_alone();
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < 6; i++) {
            make_large(LARGE_ROWS);
            ask_line(0, (uint64_t)i, large, LARGE_ROWS);
            if (i % 2) continue;
            struct message m = {.type = MESSAGE_PREDICT_CANCEL, .predict = {.request_id = (uint64_t)i}};
            send_message(&m);
        }
        if (round % 2) collect_one(); /* the others wait, or are being computed */
        hang_up();
    }
    uint32_t crc = make_large(LARGE_ROWS);
    ask_line(0, 77, large, LARGE_ROWS);
    struct got g = collect_one();
    assert_int_equal(g.id, 77);
    assert_int_equal(g.crc, crc);
}

/* ---- time ---- */

static struct got ask_one(int v, uint64_t id)
{
    float x = 2;
    ask_line(v, id, &x, 1);
    return collect_one();
}

/* On a busy machine some tries are late; a timer of whole milliseconds makes each of them late. */
static void what_is_held_back_comes_when_it_is_due_to_the_microsecond(void **state)
{
    (void)state;
    static const uint32_t delays[] = {250, 1300, 5200};
    load(0);
    for (size_t d = 0; d < sizeof delays / sizeof *delays; d++) {
        uint32_t best = UINT32_MAX;
        queue_delays_us[0] = delays[d];
        for (uint64_t i = 0; i < TRIES; i++) {
            struct got g = ask_one(0, i);
            assert_int_equal(g.code, 0);
            assert_true(g.queue_us >= delays[d]);
            if (g.queue_us < best) best = g.queue_us;
        }
        assert_in_range(best - delays[d], 0, 400);
    }
}

static void without_a_setting_an_idle_worker_lets_nothing_wait(void **state)
{
    (void)state;
    uint32_t best = UINT32_MAX;
    load(0);
    for (uint64_t i = 0; i < TRIES; i++) {
        struct got g = ask_one(0, i);
        if (g.queue_us < best) best = g.queue_us;
    }
    assert_in_range(best, 0, 200);
}

static void a_full_batch_goes_before_its_delay_is_over(void **state)
{
    (void)state;
    struct got got[4];
    float x = 2;
    load(0);
    batch_rows[0] = 4;
    queue_delays_us[0] = 100000;
    uint32_t best = UINT32_MAX;
    for (int round = 0; round < TRIES; round++) {
        for (uint64_t i = 0; i < 4; i++) ask_line(0, i, &x, 1);
        collect(got, 4);
        for (int i = 0; i < 4; i++) {
            assert_int_equal(got[i].batch_rows, 4);
            if (got[i].queue_us < best) best = got[i].queue_us;
        }
    }
    assert_in_range(best, 0, 50000);
}

static void a_request_whose_deadline_is_near_is_answered_before_it(void **state)
{
    (void)state;
    float x = 2;
    int answered = 0;
    load(0);
    queue_delays_us[0] = 100000;
    for (uint64_t i = 0; i < 10 && !answered; i++) {
        struct message m = a_predict(0, i, 1);
        struct message_tensor t = {
            .dtype = MESSAGE_FP32, .ndim = 1, .dims = {1}, .data = &x, .data_len = sizeof x};
        m.tensors = &t;
        m.tensors_len = 1;
        m.predict.deadline_us = redis_clock_us() + 50000;
        send_message(&m);
        struct got g = collect_one();
        assert_int_equal(g.code, 0);
        answered = g.queue_us < 50000;
    }
    assert_true(answered);
}

static int train_all(void **state)
{
    train_models(state);
    model_fixture_table_bf16(&table_bf16);
    return 0;
}

static int drop_all(void **state)
{
    buf_dispose(&table_bf16);
    return drop_models(state);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(nobody_gets_anothers_row_in_f32_whatever_the_settings),
        CASE(nobody_gets_anothers_row_in_bf16_whatever_the_settings),
        CASE(large_requests_are_answered_as_their_rows_alone),
        CASE(a_gateway_that_goes_takes_its_large_requests_along),
        CASE(what_is_held_back_comes_when_it_is_due_to_the_microsecond),
        CASE(without_a_setting_an_idle_worker_lets_nothing_wait),
        CASE(a_full_batch_goes_before_its_delay_is_over),
        CASE(a_request_whose_deadline_is_near_is_answered_before_it),
    };
    return cmocka_run_group_tests(tests, train_all, drop_all);
}
