/* The engine's tests' engine, models and gateway. */
#include "tests/unit/worker/engine_scene.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "base/clock.h"
#include "base/crypto.h"
#include "base/mem.h"
#include "queue/inbox.h"
#include "queue/link.h"
#include "queue/placement.h"
#include "queue/redis_clock.h"
#include "tests/unit/queue/redis_fixture.h"
#include "tests/unit/worker/model_fixture.h"

/* ---- what stands for store and supervisor
 * --------------------------------------------------------------------------- */

struct buf line, table;
char versions[VERSIONS][ID_MAX], tenants[VERSIONS][ID_MAX];
uint32_t batch_rows[VERSIONS], queue_delays_us[VERSIONS];
atomic_int fetches, jobs_seen;
struct engine *engine;
struct engine_config config;
struct redis *redis;
static struct loop *loop; /* the gateway's */
static struct link *link;
static char folder[64];

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

static void keep(struct got *out, const struct message *m)
{
    memset(out, 0, sizeof *out);
    out->id = m->reply.request_id;
    out->code = m->reply.code;
    memcpy(out->field, m->reply.field, sizeof out->field);
    memcpy(out->message, m->reply.message, sizeof out->message);
    out->outputs = m->tensors_len;
    out->batch_rows = m->reply.batch_rows;
    out->queue_us = m->reply.queue_us;
    out->compute_us = m->reply.compute_us;
    if (!m->tensors_len) return;
    size_t len = m->tensors[0].data_len;
    out->floats_len = len / sizeof(float);
    out->crc = crypto_crc32(0, m->tensors[0].data, len);
    memcpy(out->floats, m->tensors[0].data, len < sizeof out->floats ? len : sizeof out->floats);
}

static struct got replies[REQUESTS_MAX]; /* come, and not yet collected */
static size_t replies_len;

static void on_record(void *arg, const char *data, size_t len)
{
    (void)arg;
    struct message m;
    struct message_tensor room[4];
    assert_int_equal(message_decode(&m, room, 4, data, len, NULL), 0);
    assert_true(replies_len < REQUESTS_MAX);
    keep(&replies[replies_len++], &m);
}

/* Lets the gateway's loop run what is there, or waits a moment for more. */
static void turn(void)
{
    struct timeval moment = {.tv_usec = 10000};
    event_base_loopexit(loop_base(loop), &moment);
    event_base_loop(loop_base(loop), EVLOOP_ONCE);
}

static void wait_for_replies(size_t n)
{
    int64_t until = clock_mono_ms() + PATIENCE_MS;
    while (replies_len < n && clock_mono_ms() < until) turn();
    if (replies_len < n) fail_msg("%zu replies of %zu came", replies_len, n);
}

static void dial(int thread)
{
    struct heartbeat *h = mem_alloc(1, sizeof *h);
    struct link_events events = {.on_record = on_record};
    uint8_t key[LINK_KEY_LEN];
    int64_t until = clock_mono_ms() + PATIENCE_MS;
    engine_describe(engine, h);
    link_free(link);
    link_key(key, config.redis);
    assert_true((size_t)thread < h->ports_len);
    assert_int_equal(link_dial(&link, loop, h->ports[thread], key, &events, NULL), 0);
    while (!link_up(link) && clock_mono_ms() < until) turn();
    assert_true(link_up(link));
    replies_len = 0;
    mem_free(h);
}

void hang_up(void)
{
    link_free(link);
    link = NULL;
    dial(0);
}

void send_message(const struct message *m)
{
    struct record record = {0};
    record_encode(&record, m, NULL);
    assert_int_equal(link_send(link, &record), 0);
    record_dispose(&record);
}

void start_engine(int64_t model_bytes_max, int threads)
{
    struct err e = {0};
    config = (struct engine_config){.redis = redis_fixture_start(),
                                    .predict_threads = threads,
                                    .listen = folder,
                                    .model_bytes_max = model_bytes_max,
                                    .batch_rows_max = 32,
                                    .fetch = fetch,
                                    .on_message = on_message};
    snprintf(folder, sizeof folder, "unix:/tmp");
    id_new(config.inc, "inc");
    if (engine_create(&engine, &config, &e) || engine_start(engine, &e)) fail_msg("%s", e.message);
    dial(0);
}

int set_up(void **state)
{
    (void)state;
    redis_fixture_flush();
    redis = redis_fixture_connect();
    assert_int_equal(loop_create(&loop, NULL), 0);
    for (int i = 0; i < VERSIONS; i++) {
        id_new(versions[i], "ver");
        id_new(tenants[i], "ten");
    }
    fetches = jobs_seen = 0;
    memset(batch_rows, 0, sizeof batch_rows);
    memset(queue_delays_us, 0, sizeof queue_delays_us);
    redis_clock_measure(redis, NULL);
    start_engine(64 << 20, 2);
    return 0;
}

int tear_down(void **state)
{
    (void)state;
    link_free(link);
    link = NULL;
    loop_free(loop);
    engine_free(engine);
    redis_free(redis);
    return 0;
}

/* ---- a gateway
 * -------------------------------------------------------------------------------------------------- */

void push(const struct message *m)
{
    char key[INBOX_KEY_MAX];
    inbox_worker_key(key, config.inc);
    assert_int_equal(inbox_push(redis, key, m, NULL), 0);
}

void order(enum message_type type, int v)
{
    struct message m = {.type = type};
    memcpy(m.model.version_id, versions[v], ID_MAX);
    memcpy(m.model.tenant_id, tenants[v], ID_MAX);
    push(&m);
}

bool is_placed(int v)
{
    char incs[PLACEMENT_HOLDERS_MAX][ID_MAX];
    size_t n;
    assert_int_equal(placement_holders(redis, versions[v], incs, &n, NULL), 0);
    return n == 1 && strcmp(incs[0], config.inc) == 0;
}

void pause_briefly(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL); /* between two looks at a condition */
}

void wait_placed(int v, bool placed)
{
    int64_t until = clock_mono_ms() + PATIENCE_MS;
    while (is_placed(v) != placed && clock_mono_ms() < until) pause_briefly();
    assert_int_equal(is_placed(v), placed);
}

void load(int v)
{
    order(MESSAGE_MODEL_LOAD, v);
    wait_placed(v, true);
}

struct message a_predict(int v, uint64_t id, uint32_t rows)
{
    struct message m = {.type = MESSAGE_PREDICT};
    m.predict.request_id = id;
    memcpy(m.predict.tenant_id, tenants[v], ID_MAX);
    memcpy(m.predict.version_id, versions[v], ID_MAX);
    m.predict.deadline_us = redis_clock_us() + 60 * 1000000;
    m.predict.rows = rows;
    m.predict.max_batch_rows = batch_rows[v];
    m.predict.max_queue_delay_us = queue_delays_us[v];
    return m;
}

void ask_line(int v, uint64_t id, const float *x, uint32_t rows)
{
    struct message m = a_predict(v, id, rows);
    struct message_tensor t = {
        .dtype = MESSAGE_FP32, .ndim = 1, .dims = {rows}, .data = x, .data_len = rows * sizeof *x};
    m.tensors = &t;
    m.tensors_len = 1;
    send_message(&m);
}

void ask_table(int v, uint64_t id, const float *sizes, const char *const *colours, uint32_t rows)
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
    send_message(&m);
    buf_dispose(&texts);
}

/* Takes n replies, in any order. */
void collect(struct got *out, size_t n)
{
    wait_for_replies(n);
    memcpy(out, replies, n * sizeof *out);
    replies_len -= n;
    memmove(replies, replies + n, replies_len * sizeof *replies);
}

struct got collect_one(void)
{
    struct got g;
    collect(&g, 1);
    return g;
}

int train_models(void **state)
{
    (void)state;
    redis_fixture_start();
    model_fixture_line(&line);
    model_fixture_table(&table);
    return 0;
}

int drop_models(void **state)
{
    (void)state;
    buf_dispose(&line);
    buf_dispose(&table);
    return 0;
}
