/* Waiting for a version to be loaded before an alias moves, against a real Redis: the test plays workers and
 * scheduler. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "base/clock.h"
#include "base/crypto.h"
#include "base/mem.h"
#include "gateway/warm.h"
#include "queue/heartbeat.h"
#include "queue/inbox.h"
#include "queue/placement.h"
#include "tests/unit/queue/redis_fixture.h"

enum { WORKERS = 3, SHORT_MS = 300, PATIENCE_MS = 20000 };

static struct redis *redis, *mine; /* the pool thread's, and the test's */
static struct gateway_options options = {.pool_threads = 4};
static struct gateway *gateway;
static char workers[WORKERS][ID_MAX], tenant[ID_MAX], version[ID_MAX], present[ID_MAX];

static int set_up(void **state)
{
    (void)state;
    redis_fixture_flush();
    redis = redis_fixture_connect();
    mine = redis_fixture_connect();
    gateway = mem_alloc(1, sizeof *gateway);
    gateway->options = &options;
    gateway->lanes = lanes_create((const int[LANE_COUNT]){9, 9, 2});
    for (int i = 0; i < WORKERS; i++) id_new(workers[i], "inc");
    id_new(tenant, "ten");
    id_new(version, "ver");
    id_new(present, "ver");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    assert_int_equal(gateway->warming, 0);
    lanes_free(gateway->lanes);
    mem_free(gateway);
    redis_free(redis);
    redis_free(mine);
    return 0;
}

static void start_worker(int i, bool draining)
{
    struct heartbeat *h = mem_alloc(1, sizeof *h);
    memcpy(h->inc, workers[i], ID_MAX);
    h->draining = draining;
    assert_int_equal(heartbeat_publish(mine, h, NULL, NULL), 0);
    mem_free(h);
}

static void announce(const char *version_id, int i)
{
    assert_int_equal(placement_announce(mine, version_id, workers[i], NULL), 0);
}

static int warm(const char *now, int wait_ms, enum warm_outcome *out, struct err *e)
{
    struct warm_request q = {.tenant_id = tenant,
                             .version_id = version,
                             .version = 7,
                             .present = now,
                             .deadline_ms = clock_mono_ms() + wait_ms};
    return warm_version(gateway, redis, &q, out, e);
}

/* What was asked of the inbox: the types, in order, as digits. */
static const char *asked(const char *key)
{
    static char text[64];
    struct inbox_batch batch;
    size_t n = 0;
    assert_int_equal(inbox_pop(mine, key, 32, 0, &batch, NULL), 0);
    for (size_t i = 0; i < batch.len; i++) {
        struct inbox_record r = inbox_batch_get(&batch, i);
        struct message m;
        assert_int_equal(message_decode(&m, NULL, 0, r.data, r.len, NULL), 0);
        assert_string_equal(m.model.version_id, version);
        assert_string_equal(m.model.tenant_id, tenant);
        n += (size_t)snprintf(text + n, sizeof text - n, "%d ", (int)m.type);
    }
    text[n] = '\0';
    inbox_batch_dispose(&batch);
    return text;
}

static const char *asked_worker(int i)
{
    char key[INBOX_KEY_MAX];
    inbox_worker_key(key, workers[i]);
    return asked(key);
}

static void a_version_that_is_held_is_not_asked_for(void **state)
{
    (void)state;
    struct err e = {0};
    enum warm_outcome out = WARM_NOBODY;
    start_worker(0, false);
    announce(version, 0);
    announce(present, 0);
    assert_int_equal(warm(present, SHORT_MS, &out, &e), 0);
    assert_int_equal(out, WARM_HELD);
    assert_string_equal(asked(INBOX_SCHEDULER), "");
}

static void without_a_living_worker_there_is_nobody_to_wait_for(void **state)
{
    (void)state;
    struct err e = {0};
    enum warm_outcome out = WARM_HELD;
    announce(version, 0); /* it died since */
    int64_t begin = clock_mono_ms();
    assert_int_equal(warm(NULL, PATIENCE_MS, &out, &e), 0);
    assert_int_equal(out, WARM_NOBODY);
    assert_true(clock_mono_ms() - begin < PATIENCE_MS / 2);
}

struct late {
    pthread_t thread;
    int worker;
};

/* A worker that loads when it has been asked to. */
static void *load_when_asked(void *arg)
{
    const struct late *l = arg;
    struct redis *r = redis_fixture_connect();
    struct inbox_batch batch = {0};
    char key[INBOX_KEY_MAX] = INBOX_SCHEDULER;
    if (l->worker > 0) inbox_worker_key(key, workers[l->worker]);
    int rc = inbox_pop(r, key, 1, PATIENCE_MS, &batch, NULL);
    if (rc == 0 && batch.len) rc = placement_announce(r, version, workers[l->worker], NULL);
    inbox_batch_dispose(&batch);
    redis_free(r);
    return rc == 0 ? arg : NULL;
}

static void begin_late(struct late *l, int worker)
{
    l->worker = worker;
    assert_int_equal(pthread_create(&l->thread, NULL, load_when_asked, l), 0);
}

static void end_late(struct late *l)
{
    void *worked;
    pthread_join(l->thread, &worked);
    assert_non_null(worked);
}

static void it_waits_until_a_worker_has_loaded_the_version(void **state)
{
    (void)state;
    struct err e = {0};
    enum warm_outcome out;
    struct late l;
    start_worker(0, false);
    begin_late(&l, 0);
    assert_int_equal(warm(NULL, PATIENCE_MS, &out, &e), 0);
    assert_int_equal(out, WARM_HELD);
    end_late(&l);
}

static void as_many_are_asked_for_as_hold_the_present_version(void **state)
{
    (void)state;
    struct err e = {0};
    enum warm_outcome out;
    struct late l[WORKERS];
    char holders[PLACEMENT_HOLDERS_MAX][ID_MAX];
    size_t n;
    for (int i = 0; i < WORKERS; i++) {
        start_worker(i, false);
        announce(present, i);
        begin_late(&l[i], i);
    }
    assert_int_equal(warm(present, PATIENCE_MS, &out, &e), 0);
    assert_int_equal(placement_holders(mine, version, holders, &n, NULL), 0);
    assert_int_equal(n, WORKERS);
    for (int i = 0; i < WORKERS; i++) end_late(&l[i]);
}

static void replicas_that_do_not_come_are_not_waited_for_for_long(void **state)
{
    (void)state;
    struct err e = {0};
    enum warm_outcome out;
    for (int i = 0; i < 2; i++) {
        start_worker(i, false);
        announce(present, i);
    }
    announce(version, 0);
    int64_t begin = clock_mono_ms();
    assert_int_equal(warm(present, SHORT_MS, &out, &e), 0);
    assert_int_equal(out, WARM_HELD);
    assert_true(clock_mono_ms() - begin < PATIENCE_MS / 2);
    assert_string_equal(asked(INBOX_SCHEDULER), "");
    assert_string_equal(asked_worker(0), "");
    assert_string_equal(asked_worker(1), "12 ");
}

static void a_worker_that_drains_holds_nothing_for_long(void **state)
{
    (void)state;
    struct err e = {0};
    enum warm_outcome out;
    start_worker(0, true);
    start_worker(1, false);
    announce(version, 0);
    assert_int_equal(warm(NULL, SHORT_MS, &out, &e), ERR_OVERLOAD);
    assert_non_null(strstr(e.message, "version 7"));
    assert_true(e.retry_after_ms > 0);
}

static void fail_load(int code, const char *why)
{
    struct err e = {0};
    err_set(&e, code, NULL, "%s", why);
    assert_int_equal(placement_fail(mine, version, &e, NULL), 0);
}

static void a_load_that_failed_is_told_with_its_reason(void **state)
{
    (void)state;
    struct err e = {0};
    enum warm_outcome out;
    start_worker(0, false);
    start_worker(1, false);
    fail_load(ERR_CORRUPT, "the artifact is damaged: 50% of it");
    int64_t begin = clock_mono_ms();
    assert_int_equal(warm(NULL, PATIENCE_MS, &out, &e), ERR_CONFLICT);
    assert_non_null(strstr(e.message, "the artifact is damaged: 50% of it"));
    assert_string_equal(e.field, "version");
    assert_true(clock_mono_ms() - begin < PATIENCE_MS / 2);
}

static void what_is_wrong_inside_the_platform_is_not_told(void **state)
{
    (void)state;
    struct err e = {0};
    enum warm_outcome out;
    start_worker(0, false);
    fail_load(ERR_IO, "open /srv/blobs/1: Input/output error");
    assert_int_equal(warm(NULL, PATIENCE_MS, &out, &e), ERR_CONFLICT);
    assert_null(strstr(e.message, "/srv"));
    assert_non_null(strstr(e.message, "version 7"));
}

static void what_does_not_fit_into_one_worker_may_fit_into_another(void **state)
{
    (void)state;
    struct err e = {0};
    enum warm_outcome out;
    struct late l;
    start_worker(0, false);
    fail_load(ERR_TOO_LARGE, "no room");
    assert_int_equal(warm(NULL, PATIENCE_MS, &out, &e), ERR_CONFLICT); /* there is no other */
    start_worker(1, false);
    begin_late(&l, 0);
    assert_int_equal(warm(NULL, PATIENCE_MS, &out, &e), 0);
    end_late(&l);
    redis_fixture_flush();
    start_worker(0, false);
    start_worker(1, false);
    fail_load(ERR_TOO_LARGE, "no room");
    assert_int_equal(warm(NULL, SHORT_MS, &out, &e), ERR_CONFLICT); /* but it did not */
    assert_non_null(strstr(e.message, "no room"));
}

static void a_tenant_lets_few_moves_wait_and_all_tenants_half_of_the_pool(void **state)
{
    (void)state;
    struct err e = {0};
    enum warm_outcome out;
    start_worker(0, false);
    for (int i = 0; i < 2; i++) assert_int_equal(lanes_enter(gateway->lanes, LANE_WARM, tenant, 0, NULL), 0);
    assert_int_equal(warm(NULL, SHORT_MS, &out, &e), ERR_LIMIT);
    for (int i = 0; i < 2; i++) lanes_leave(gateway->lanes, LANE_WARM, tenant);
    gateway->warming = 2;
    assert_int_equal(warm(NULL, PATIENCE_MS, &out, &e), ERR_OVERLOAD);
    assert_int_equal(gateway->warming, 2);
    announce(version, 0);
    assert_int_equal(warm(NULL, SHORT_MS, &out, &e), 0); /* who needs not wait needs no place */
    gateway->warming = 0;
}

static void a_gateway_that_stops_lets_nobody_wait(void **state)
{
    (void)state;
    struct err e = {0};
    enum warm_outcome out;
    start_worker(0, false);
    gateway->draining = true;
    assert_int_equal(warm(NULL, PATIENCE_MS, &out, &e), ERR_OVERLOAD);
    assert_non_null(strstr(e.message, "stopping"));
}

static void workers_that_cannot_be_seen_are_no_reason_to_move(void **state)
{
    (void)state;
    struct err e = {0};
    enum warm_outcome out;
    redis_fixture_stop_server();
    assert_int_equal(warm(NULL, SHORT_MS, &out, &e), ERR_OVERLOAD);
    assert_non_null(strstr(e.message, "\"warm\":false"));
    redis_fixture_start_server();
}

static int start(void **state)
{
    (void)state;
    crypto_init();
    redis_fixture_start();
    return 0;
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(a_version_that_is_held_is_not_asked_for),
        CASE(without_a_living_worker_there_is_nobody_to_wait_for),
        CASE(it_waits_until_a_worker_has_loaded_the_version),
        CASE(as_many_are_asked_for_as_hold_the_present_version),
        CASE(replicas_that_do_not_come_are_not_waited_for_for_long),
        CASE(a_worker_that_drains_holds_nothing_for_long),
        CASE(a_load_that_failed_is_told_with_its_reason),
        CASE(what_is_wrong_inside_the_platform_is_not_told),
        CASE(what_does_not_fit_into_one_worker_may_fit_into_another),
        CASE(a_tenant_lets_few_moves_wait_and_all_tenants_half_of_the_pool),
        CASE(a_gateway_that_stops_lets_nobody_wait),
        CASE(workers_that_cannot_be_seen_are_no_reason_to_move),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
