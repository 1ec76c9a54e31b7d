/* The predict engine with real models behind a real Redis: right answers to the right callers, in any company
 * and through any mishap. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/clock.h"
#include "base/mem.h"
#include "queue/inbox.h"
#include "queue/placement.h"
#include "queue/redis_clock.h"
#include "queue/usage.h"
#include "tests/unit/queue/redis_fixture.h"
#include "tests/unit/worker/model_fixture.h"
#include "worker/engine.h"
#include "worker/model_cache.h"

enum { PATIENCE_MS = 20000, VERSIONS = 4, REQUESTS_MAX = 4096 };

/* ---- what stands for store and supervisor
 * --------------------------------------------------------------------------- */

static struct buf line, table;
static char versions[VERSIONS][ID_MAX], tenants[VERSIONS][ID_MAX]; /* even ones are lines, odd ones tables */
static atomic_int fetches, jobs_seen;
static struct engine *engine;
static struct engine_config config;
static struct redis *redis;
static char gateway_inc[ID_MAX];

static int fetch(void *arg, const char *tenant_id, const char *version_id, struct buf *out, struct err *e)
{
    (void)arg;
    fetches++;
    for (int i = 0; i < VERSIONS; i++) {
        if (strcmp(versions[i], version_id) != 0 || strcmp(tenants[i], tenant_id) != 0) continue;
        const struct buf *artifact = i % 2 ? &table : &line;
        buf_append(out, artifact->data, artifact->len);
        return 0;
    }
    return err_set(e, ERR_NOT_FOUND, NULL, "no such version");
}

static void on_message(void *arg, const struct message *m)
{
    (void)arg;
    if (m->type == MESSAGE_JOB_RUN) jobs_seen++;
}

static void start_engine(int64_t model_bytes_max, int threads)
{
    struct err e = {0};
    config = (struct engine_config){.redis = redis_fixture_start(),
                                    .predict_threads = threads,
                                    .model_bytes_max = model_bytes_max,
                                    .batch_rows_max = 32,
                                    .fetch = fetch,
                                    .on_message = on_message};
    id_new(config.inc, "inc");
    if (engine_create(&engine, &config, &e) || engine_start(engine, &e)) fail_msg("%s", e.message);
}

static int set_up(void **state)
{
    (void)state;
    redis_fixture_flush();
    redis = redis_fixture_connect();
    id_new(gateway_inc, "inc");
    for (int i = 0; i < VERSIONS; i++) {
        id_new(versions[i], "ver");
        id_new(tenants[i], "ten");
    }
    fetches = jobs_seen = 0;
    redis_clock_measure(redis, NULL);
    start_engine(64 << 20, 2);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    engine_free(engine);
    redis_free(redis);
    return 0;
}

/* ---- a gateway
 * -------------------------------------------------------------------------------------------------- */

static void push(const struct message *m)
{
    char key[INBOX_KEY_MAX];
    inbox_worker_key(key, config.inc);
    assert_int_equal(inbox_push(redis, key, m, NULL), 0);
}

static void order(enum message_type type, int v)
{
    struct message m = {.type = type};
    memcpy(m.model.version_id, versions[v], ID_MAX);
    memcpy(m.model.tenant_id, tenants[v], ID_MAX);
    push(&m);
}

static bool is_placed(int v)
{
    char incs[PLACEMENT_HOLDERS_MAX][ID_MAX];
    size_t n;
    assert_int_equal(placement_holders(redis, versions[v], incs, &n, NULL), 0);
    return n == 1 && strcmp(incs[0], config.inc) == 0;
}

static void pause_briefly(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL); /* between two looks at a condition */
}

static void wait_placed(int v, bool placed)
{
    int64_t until = clock_mono_ms() + PATIENCE_MS;
    while (is_placed(v) != placed && clock_mono_ms() < until) pause_briefly();
    assert_int_equal(is_placed(v), placed);
}

static void load(int v)
{
    order(MESSAGE_MODEL_LOAD, v);
    wait_placed(v, true);
}

static struct message a_predict(int v, uint64_t id, uint32_t rows)
{
    struct message m = {.type = MESSAGE_PREDICT};
    m.predict.request_id = id;
    memcpy(m.predict.reply_inc, gateway_inc, ID_MAX);
    m.predict.reply_loop = 1;
    memcpy(m.predict.tenant_id, tenants[v], ID_MAX);
    memcpy(m.predict.version_id, versions[v], ID_MAX);
    m.predict.deadline_us = redis_clock_us() + 60 * 1000000;
    m.predict.rows = rows;
    return m;
}

static void ask_line(int v, uint64_t id, const float *x, uint32_t rows, bool resent)
{
    struct message m = a_predict(v, id, rows);
    struct message_tensor t = {
        .dtype = MESSAGE_FP32, .ndim = 1, .dims = {rows}, .data = x, .data_len = rows * sizeof *x};
    m.predict.resent = resent;
    m.tensors = &t;
    m.tensors_len = 1;
    push(&m);
}

static void ask_table(int v, uint64_t id, const float *sizes, const char *const *colours, uint32_t rows)
{
    struct message m = a_predict(v, id, rows);
    struct buf texts = {0};
    for (uint32_t i = 0; i < rows; i++) {
        uint32_t len = (uint32_t)strlen(colours[i]);
        buf_append(&texts, &len, sizeof len);
        buf_append(&texts, colours[i], len);
    }
    struct message_tensor t[2] = {
        {.dtype = MESSAGE_FP32, .ndim = 1, .dims = {rows}, .data = sizes, .data_len = rows * sizeof *sizes},
        {.dtype = MESSAGE_BYTES, .ndim = 1, .dims = {rows}, .data = texts.data, .data_len = texts.len}};
    m.tensors = t;
    m.tensors_len = 2;
    push(&m);
    buf_dispose(&texts);
}

/* A reply, copied out: floats are the first output's. */
struct got {
    uint64_t id;
    int code;
    char field[96], message[416];
    size_t outputs, floats_len;
    float floats[256];
    uint32_t batch_rows;
};

static void keep(struct got *out, const struct message *m)
{
    memset(out, 0, sizeof *out);
    out->id = m->reply.request_id;
    out->code = m->reply.code;
    memcpy(out->field, m->reply.field, sizeof out->field);
    memcpy(out->message, m->reply.message, sizeof out->message);
    out->outputs = m->tensors_len;
    out->batch_rows = m->reply.batch_rows;
    if (!m->tensors_len) return;
    out->floats_len = m->tensors[0].data_len / sizeof(float);
    assert_in_range(out->floats_len, 1, 256);
    memcpy(out->floats, m->tensors[0].data, m->tensors[0].data_len);
}

/* Takes n replies, in any order. */
static void collect(struct got *out, size_t n)
{
    char key[INBOX_KEY_MAX];
    struct message_tensor room[4];
    int64_t until = clock_mono_ms() + PATIENCE_MS;
    inbox_loop_key(key, gateway_inc, 1);
    for (size_t have = 0; have < n;) {
        struct inbox_batch batch;
        struct message m;
        if (clock_mono_ms() > until) fail_msg("%zu replies of %zu came", have, n);
        assert_int_equal(inbox_pop(redis, key, n - have, 500, &batch, NULL), 0);
        for (size_t i = 0; i < batch.len; i++) {
            struct inbox_record record = inbox_batch_get(&batch, i);
            assert_int_equal(message_decode(&m, room, 4, record.data, record.len, NULL), 0);
            keep(&out[have++], &m);
        }
        inbox_batch_dispose(&batch);
    }
}

static struct got collect_one(void)
{
    struct got g;
    collect(&g, 1);
    return g;
}

static struct usage_total usage_of(int v)
{
    struct usage_total *rows, found = {0};
    size_t n;
    assert_int_equal(usage_read(redis, config.inc, &rows, &n, NULL), 0);
    for (size_t i = 0; i < n; i++)
        if (strcmp(rows[i].version_id, versions[v]) == 0) found = rows[i];
    mem_free(rows);
    return found;
}

/* ---- tests
 * ------------------------------------------------------------------------------------------------------ */

static void a_loaded_model_is_announced_and_answers(void **state)
{
    (void)state;
    float x[2] = {1, -10};
    load(0);
    ask_line(0, 7, x, 2, false);
    struct got g = collect_one();
    assert_int_equal(g.code, 0);
    assert_int_equal(g.id, 7);
    assert_true(fabsf(g.floats[0] - 5) < 0.01F && fabsf(g.floats[1] + 28) < 0.01F);
    assert_int_equal(usage_of(0).rows, 2); /* in the transaction that delivered the reply */
    assert_int_equal(usage_of(0).requests, 1);
    assert_string_equal(usage_of(0).tenant_id, tenants[0]);
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
    }
    assert_int_equal(usage_of(1).requests, 2); /* a refused request costs nothing */
    assert_int_equal(usage_of(1).rows, 4);
}

static void a_version_that_is_not_here_is_said_to_be_elsewhere(void **state)
{
    (void)state;
    float x = 1;
    placement_announce(redis, versions[0], config.inc,
                       NULL); /* somebody's error, or a withdrawal that Redis never got */
    ask_line(0, 1, &x, 1, false);
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
    push(&m);
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
    push(&m);
    ask_line(0, 2, &x, 1, false);
    assert_int_equal(collect_one().id, 2);
    engine_stats(engine, &stats);
    assert_int_equal(stats.expired, 1);
    assert_int_equal(usage_of(0).requests, 1);
}

static void a_request_larger_than_a_batch_is_answered_whole(void **state)
{
    (void)state;
    float x[200];
    for (int i = 0; i < 200; i++) x[i] = (float)i / 4;
    load(0);
    ask_line(0, 1, x, 200, false);
    struct got g = collect_one();
    assert_int_equal(g.code, 0);
    assert_int_equal(g.floats_len, 200);
    for (int i = 0; i < 200; i++) assert_true(fabsf(g.floats[i] - (3 * x[i] + 2)) < 0.01F);
    assert_int_equal(usage_of(0).rows, 200);
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
    push(&m);
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
                ask_line(which[i], (uint64_t)i, x[i], (uint32_t)rows[i], false);
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

/* ---- money
 * ------------------------------------------------------------------------------------------------------ */

static void a_resent_request_is_answered_and_not_counted_again(void **state)
{
    (void)state;
    float x = 2;
    load(0);
    ask_line(0, 1, &x, 1, false);
    collect_one();
    ask_line(0, 1, &x, 1, true);
    assert_int_equal(collect_one().code, 0);
    assert_int_equal(usage_of(0).requests, 1);
}

static void wait_usage(int v, int64_t requests)
{
    int64_t until = clock_mono_ms() + PATIENCE_MS;
    while (usage_of(v).requests != requests && clock_mono_ms() < until) pause_briefly();
    assert_int_equal(usage_of(v).requests, requests);
}

static void a_redis_that_forgot_gets_the_totals_and_placements_again(void **state)
{
    (void)state;
    float x = 2;
    load(0);
    for (int i = 0; i < 5; i++) {
        ask_line(0, (uint64_t)i, &x, 1, false);
        collect_one();
    }
    redis_fixture_flush();
    assert_false(is_placed(0));
    engine_republish(engine);
    wait_usage(0, 5);
    wait_placed(0, true);
    ask_line(0, 9, &x, 1, false);
    assert_int_equal(collect_one().code, 0);
    assert_int_equal(usage_of(0).requests, 6);
}

static void forgetting_amid_traffic_loses_and_doubles_nothing_in_the_totals(void **state)
{
    (void)state;
    float x = 2;
    struct engine_stats stats;
    int64_t until = clock_mono_ms() + PATIENCE_MS;
    load(0);
    for (int i = 0; i < 300; i++) {
        ask_line(0, (uint64_t)i, &x, 1, false);
        if (i % 100 == 50) redis_fixture_flush();
    }
    /* The flushes took requests with them: what was computed is what must be counted, once. */
    ask_line(0, 1000, &x, 1, false);
    do collect_one(), engine_stats(engine, &stats);
    while (stats.requests < 1);
    engine_republish(engine);
    struct heartbeat h = {0};
    do engine_describe(engine, &h), pause_briefly();
    while (h.predict_waiting && clock_mono_ms() < until);
    engine_stats(engine, &stats);
    assert_in_range(stats.requests, 1, 301);
    wait_usage(0, stats.requests);
}

static void replies_outlive_a_redis_that_dies(void **state)
{
    (void)state;
    float x = 2;
    load(0);
    ask_line(0, 1, &x, 1, false);
    collect_one();
    redis_fixture_stop_server();
    redis_fixture_start_server();
    redis_free(redis);
    redis = redis_fixture_connect();
    engine_republish(engine); /* as the heartbeat would have it */
    wait_placed(0, true);
    wait_usage(0, 1);
    ask_line(0, 2, &x, 1, false);
    /* The first reply may come twice: it was delivered, but perhaps not yet seen to be. */
    while (collect_one().id != 2) continue;
    assert_int_equal(usage_of(0).requests, 2);
}

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

static int train_models(void **state)
{
    (void)state;
    redis_fixture_start();
    model_fixture_line(&line);
    model_fixture_table(&table);
    return 0;
}

static int drop_models(void **state)
{
    (void)state;
    buf_dispose(&line);
    buf_dispose(&table);
    return 0;
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
        CASE(a_resent_request_is_answered_and_not_counted_again),
        CASE(a_redis_that_forgot_gets_the_totals_and_placements_again),
        CASE(forgetting_amid_traffic_loses_and_doubles_nothing_in_the_totals),
        CASE(replies_outlive_a_redis_that_dies),
        CASE(the_least_recently_used_model_makes_room_and_is_withdrawn_first),
        CASE(a_model_too_large_for_the_worker_is_not_loaded_and_not_tried_over_and_over),
        CASE(an_unloaded_model_is_withdrawn_and_gone),
        CASE(draining_withdraws_every_model_and_still_answers),
        CASE(another_tenants_or_a_damaged_artifact_is_not_announced),
    };
    return cmocka_run_group_tests(tests, train_models, drop_models);
}
