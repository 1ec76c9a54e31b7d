/* A predict job's run against a real engine: its answer, and its end where the version cannot be loaded. */
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
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/fs.h"
#include "queue/placement.h"
#include "queue/redis_clock.h"
#include "tests/unit/queue/redis_fixture.h"
#include "tests/unit/worker/model_fixture.h"
#include "worker/predict_job.h"

/* SOON: far less than the job's time limit, and than a failed load is remembered for. */
enum { SOON_MS = PLACEMENT_FAIL_MS / 2, LIMIT_S = 60 };

static char folder[] = "/tmp/tenor-test-predict-XXXXXX";
static struct buf line;
static atomic_int fetches;
static struct err broken[8]; /* what the nth fetch fails with; code 0: it does not */
static struct engine *engine;
static struct supervisor supervisor;
static struct slot slot;
static struct run run;
static struct order order;
static struct outcome outcome;

static int fetch(void *arg, const char *tenant_id, const char *version_id, struct buf *out, struct err *e)
{
    (void)arg;
    size_t n = (size_t)atomic_fetch_add(&fetches, 1);
    const struct err *why = &broken[n < 7 ? n : 7];
    if (why->code) return err_set(e, why->code, NULL, "%s", why->message);
    if (strcmp(tenant_id, order.job.tenant_id) != 0 || strcmp(version_id, order.job.version_id) != 0)
        return err_set(e, ERR_NOT_FOUND, NULL, "no such version");
    buf_append(out, line.data, line.len);
    return 0;
}

static int set_up_group(void **state)
{
    (void)state;
    redis_fixture_start();
    model_fixture_line(&line);
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down_group(void **state)
{
    (void)state;
    buf_dispose(&line);
    return fs_remove_tree(folder, NULL);
}

static void store_request(void)
{
    float x = 5;
    struct message_tensor t = {
        .dtype = MESSAGE_FP32, .ndim = 1, .dims = {1}, .data = &x, .data_len = sizeof x};
    struct message m = {.type = MESSAGE_PREDICT, .tensors = &t, .tensors_len = 1};
    struct blob_writer *w = NULL;
    struct buf record = {0};
    m.predict.rows = 1;
    memcpy(m.predict.tenant_id, order.job.tenant_id, ID_MAX);
    memcpy(m.predict.version_id, order.job.version_id, ID_MAX);
    message_encode(&record, &m);
    assert_int_equal(blob_writer_create(&w, supervisor.config.blobs, &order.key, 1 << 20, NULL), 0);
    assert_int_equal(blob_writer_append(w, record.data, record.len, NULL), 0);
    assert_int_equal(blob_writer_finish(w, &order.input, NULL), 0);
    blob_writer_free(w);
    buf_dispose(&record);
}

static int set_up(void **state)
{
    (void)state;
    static const struct keyring unused;
    static char listen[64], job[ID_MAX];
    struct engine_config config = {.redis = redis_fixture_start(),
                                   .predict_threads = 1,
                                   .listen = listen,
                                   .model_bytes_max = 64 << 20,
                                   .fetch = fetch};
    redis_fixture_flush();
    memset(&order, 0, sizeof order);
    memset(&outcome, 0, sizeof outcome);
    memset(broken, 0, sizeof broken);
    fetches = 0;
    snprintf(listen, sizeof listen, "unix:%s", folder);
    id_new(config.inc, "inc");
    id_new(order.job.tenant_id, "ten");
    id_new(order.job.version_id, "ver");
    id_new(job, "job");
    order.job.max_seconds = LIMIT_S;
    memcpy(order.key.tenant_id, order.job.tenant_id, ID_MAX);
    if (engine_create(&engine, &config, NULL) || engine_start(engine, NULL)) return -1;
    supervisor.config.engine = &engine;
    if (blob_store_open(&supervisor.config.blobs, folder, &unused, NULL)) return -1;
    pthread_mutex_init(&supervisor.lock, NULL);
    slot.s = &supervisor;
    run = (struct run){.state = RUN_TAKEN, .wake_fd = eventfd(0, EFD_NONBLOCK), .pidfd = -1};
    memcpy(run.job_id, job, ID_MAX);
    store_request();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    engine_free(engine);
    blob_store_free(supervisor.config.blobs);
    pthread_mutex_destroy(&supervisor.lock);
    close(run.wake_fd);
    buf_dispose(&outcome.answer);
    return 0;
}

static void breaks(size_t from, size_t to, int code, const char *why)
{
    for (size_t i = from; i <= to; i++) err_set(&broken[i], code, NULL, "%s", why);
}

/* How long it took, in ms. */
static int64_t run_job(void)
{
    int64_t begin = clock_mono_ms();
    predict_job_run(&outcome, &slot, &run, &order);
    return clock_mono_ms() - begin;
}

/* The engine has tried to load the version, outside any job. */
static void load_in_vain(void)
{
    struct err why;
    engine_load(engine, order.job.tenant_id, order.job.version_id);
    int64_t until = clock_mono_ms() + SOON_MS;
    while (!engine_load_failed_ms(engine, order.job.tenant_id, order.job.version_id, &why) &&
           clock_mono_ms() < until)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL); /* the job begins in a later millisecond */
    assert_int_equal(fetches, 1);
}

static void a_version_that_nobody_has_asked_for_is_loaded_and_answers(void **state)
{
    (void)state;
    run_job();
    assert_int_equal(outcome.type, OUTCOME_DONE);
    assert_true(outcome.answer.len > 0);
    assert_int_equal(fetches, 1);
}

static void a_damaged_version_fails_the_job_at_once_with_the_reason(void **state)
{
    (void)state;
    breaks(0, 7, ERR_CORRUPT, "chunk 3 fails its check");
    assert_in_range(run_job(), 0, SOON_MS);
    assert_int_equal(outcome.type, OUTCOME_FAILED);
    assert_int_equal(outcome.why.code, ERR_CORRUPT);
    assert_string_equal(outcome.why.message, "no worker can serve the version: chunk 3 fails its check");
    assert_int_equal(fetches, 1);
}

static void a_version_that_is_known_to_be_damaged_is_not_tried_again_for_the_job(void **state)
{
    (void)state;
    breaks(0, 7, ERR_NOT_FOUND, "no such version");
    load_in_vain();
    assert_in_range(run_job(), 0, SOON_MS);
    assert_int_equal(outcome.type, OUTCOME_FAILED);
    assert_int_equal(outcome.why.code, ERR_NOT_FOUND);
    assert_int_equal(fetches, 1);
}

static void a_load_that_may_go_better_elsewhere_gives_the_place_up_for_another_try(void **state)
{
    (void)state;
    breaks(0, 7, ERR_LIMIT, "no room for models");
    assert_in_range(run_job(), 0, SOON_MS);
    assert_int_equal(outcome.type, OUTCOME_CRASHED);
    assert_string_equal(outcome.why.message, "the worker cannot serve the version: no room for models");
}

static void what_is_wrong_inside_the_platform_is_not_told(void **state)
{
    (void)state;
    breaks(0, 7, ERR_IO, "open /srv/blobs/1: Input/output error");
    run_job();
    assert_int_equal(outcome.type, OUTCOME_CRASHED);
    assert_null(strstr(outcome.why.message, "/srv"));
}

/* One failed load costs a job one attempt, however soon the next attempt comes. */
static void a_passing_failure_from_before_the_attempt_is_tried_again(void **state)
{
    (void)state;
    breaks(0, 0, ERR_UNAVAILABLE, "Postgres is away");
    load_in_vain();
    int64_t took_ms = run_job();
    assert_int_equal(outcome.type, OUTCOME_DONE);
    assert_in_range(took_ms, 1, 2 * PLACEMENT_FAIL_MS);
    assert_int_equal(fetches, 2);
}

static void another_tenants_failure_is_not_this_ones(void **state)
{
    (void)state;
    char other[ID_MAX];
    struct err why;
    id_new(other, "ten");
    breaks(0, 7, ERR_CORRUPT, "chunk 3 fails its check");
    load_in_vain();
    assert_int_equal(engine_load_failed_ms(engine, other, order.job.version_id, &why), 0);
    assert_true(engine_load_failed_ms(engine, order.job.tenant_id, order.job.version_id, &why) > 0);
    assert_int_equal(why.code, ERR_CORRUPT);
}

static void a_cancel_comes_before_a_failure(void **state)
{
    (void)state;
    breaks(0, 7, ERR_CORRUPT, "chunk 3 fails its check");
    run.wish = RUN_CANCEL;
    run_job();
    assert_int_equal(outcome.type, OUTCOME_CANCELLED);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_version_that_nobody_has_asked_for_is_loaded_and_answers),
        TEST(a_damaged_version_fails_the_job_at_once_with_the_reason),
        TEST(a_version_that_is_known_to_be_damaged_is_not_tried_again_for_the_job),
        TEST(a_load_that_may_go_better_elsewhere_gives_the_place_up_for_another_try),
        TEST(what_is_wrong_inside_the_platform_is_not_told),
        TEST(a_passing_failure_from_before_the_attempt_is_tried_again),
        TEST(another_tenants_failure_is_not_this_ones),
        TEST(a_cancel_comes_before_a_failure),
    };
    return cmocka_run_group_tests(tests, set_up_group, tear_down_group);
}
