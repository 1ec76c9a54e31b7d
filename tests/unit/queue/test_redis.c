/* Connections, inboxes, heartbeats, placements and change messages against a real Redis. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "base/mem.h"
#include "queue/changed.h"
#include "queue/heartbeat.h"
#include "queue/inbox.h"
#include "queue/placement.h"
#include "queue/redis_clock.h"
#include "tests/unit/queue/redis_fixture.h"

static int flush(void **state)
{
    (void)state;
    redis_fixture_flush();
    return 0;
}

static void addresses_are_read_or_refused_with_the_reason(void **state)
{
    (void)state;
    struct redis_address a;
    struct err e;
    assert_int_equal(redis_address_parse(&a, "unix:/tmp/x.sock", NULL, &e), 0);
    assert_true(a.is_unix);
    assert_string_equal(a.host, "/tmp/x.sock");
    assert_int_equal(redis_address_parse(&a, "redis://db.example:7000", "pw", &e), 0);
    assert_string_equal(a.host, "db.example");
    assert_int_equal(a.port, 7000);
    assert_string_equal(a.password, "pw");
    assert_int_equal(redis_address_parse(&a, "redis://[::1]", NULL, &e), 0);
    assert_string_equal(a.host, "::1");
    assert_int_equal(a.port, 6379);
    static const char *const bad[] = {
        "", "unix:", "redis://", "redis://h:0", "redis://h:99999", "redis://h:x", "redis://[::1", "http://h"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(redis_address_parse(&a, bad[i], NULL, &e), ERR_INVALID);
        assert_string_equal(e.field, "redis-url");
    }
}

static void a_wrong_password_is_told_and_backed_off_from(void **state)
{
    (void)state;
    struct redis_address a = *redis_fixture_start();
    struct err e;
    strcpy(a.password, "wrong");
    struct redis *r = redis_create(&a, 1000);
    assert_int_equal(redis_backoff_ms(r), 0);
    assert_int_equal(redis_call(r, NULL, &e, "PING"), ERR_UNAVAILABLE);
    assert_string_equal(e.field, "redis-password");
    assert_in_range(redis_backoff_ms(r), 1, 2000);
    redis_free(r);
}

static void an_error_reply_is_a_failure_that_keeps_the_connection(void **state)
{
    (void)state;
    struct redis *r = redis_fixture_connect();
    struct err e;
    assert_int_equal(redis_call(r, NULL, &e, "NOSUCHCOMMAND"), ERR_INTERNAL);
    assert_true(redis_connected(r));
    assert_int_equal(redis_call(r, NULL, &e, "PING"), 0);
    redis_free(r);
}

static void a_connection_comes_back_after_the_server_was_killed(void **state)
{
    (void)state;
    struct redis *r = redis_fixture_connect();
    struct err e;
    assert_int_equal(redis_call(r, NULL, &e, "PING"), 0);
    redis_fixture_stop_server();
    assert_int_equal(redis_call(r, NULL, &e, "PING"), ERR_UNAVAILABLE);
    assert_int_equal(redis_call(r, NULL, &e, "PING"), ERR_UNAVAILABLE);
    redis_fixture_start_server();
    assert_int_equal(redis_call(r, NULL, &e, "PING"), 0);
    assert_int_equal(redis_backoff_ms(r), 0);
    redis_free(r);
}

static void a_reply_that_takes_too_long_ends_the_connection(void **state)
{
    (void)state;
    struct redis *r = redis_create(redis_fixture_start(), 50);
    struct err e;
    assert_int_equal(redis_call(r, NULL, &e, "BLPOP nothing 1"), ERR_UNAVAILABLE);
    assert_false(redis_connected(r));
    redis_free(r);
}

static void the_redis_clock_follows_redis_not_the_wall(void **state)
{
    (void)state;
    struct redis *r = redis_fixture_connect();
    struct err e;
    redisReply *t;
    assert_int_equal(redis_clock_measure(r, &e), 0);
    assert_int_equal(redis_call(r, &t, &e, "TIME"), 0);
    int64_t theirs = redis_reply_int(t->element[0], 0) * 1000000 + redis_reply_int(t->element[1], 0);
    int64_t apart = redis_clock_us() - theirs;
    assert_in_range(apart + 50000, 0, 150000);
    /* A Redis an hour ahead. */
    redisReply *elements[2] = {&(redisReply){.type = REDIS_REPLY_INTEGER, .integer = theirs / 1000000 + 3600},
                               &(redisReply){.type = REDIS_REPLY_INTEGER, .integer = 0}};
    redisReply ahead = {.type = REDIS_REPLY_ARRAY, .elements = 2, .element = elements};
    redis_clock_learn(&ahead, clock_mono_us());
    assert_true(redis_clock_us() - theirs > INT64_C(3590) * 1000000);
    assert_int_equal(redis_clock_measure(r, &e), 0);
    freeReplyObject(t);
    redis_free(r);
}

static struct message a_hint(int64_t fence)
{
    struct message m = {.type = MESSAGE_HINT};
    id_new(m.job.job_id, "job");
    id_new(m.job.tenant_id, "ten");
    m.job.fence = fence;
    return m;
}

static void an_inbox_gives_batches_in_order_and_then_nothing(void **state)
{
    (void)state;
    struct redis *r = redis_fixture_connect();
    struct err e;
    struct inbox_batch batch;
    struct message got;
    for (int i = 0; i < 5; i++) {
        struct message m = a_hint(i);
        assert_int_equal(inbox_push(r, INBOX_SCHEDULER, &m, &e), 0);
    }
    int64_t expect = 0;
    for (size_t sizes[] = {3, 2}, i = 0; i < 2; i++) {
        assert_int_equal(inbox_pop(r, INBOX_SCHEDULER, 3, 100, &batch, &e), 0);
        assert_int_equal(batch.len, sizes[i]);
        for (size_t k = 0; k < batch.len; k++) {
            struct inbox_record record = inbox_batch_get(&batch, k);
            assert_int_equal(message_decode(&got, NULL, 0, record.data, record.len, &e), 0);
            assert_int_equal(got.job.fence, expect++);
        }
        inbox_batch_dispose(&batch);
    }
    int64_t before = clock_mono_ms();
    assert_int_equal(inbox_pop(r, INBOX_SCHEDULER, 3, 50, &batch, &e), 0);
    assert_int_equal(batch.len, 0);
    assert_true(clock_mono_ms() - before >= 45);
    inbox_batch_dispose(&batch);
    assert_int_equal(inbox_pop(r, INBOX_SCHEDULER, 3, 0, &batch, &e), 0);
    assert_int_equal(batch.len, 0);
    inbox_batch_dispose(&batch);
    redis_free(r);
}

static void an_inbox_left_behind_expires(void **state)
{
    (void)state;
    struct redis *r = redis_fixture_connect();
    struct message m = a_hint(1);
    char inc[ID_MAX], key[INBOX_KEY_MAX];
    id_new(inc, "inc");
    inbox_worker_key(key, inc);
    assert_int_equal(inbox_push(r, key, &m, NULL), 0);
    assert_in_range(redis_fixture_int("PTTL %s", key), 1, INBOX_EXPIRE_MS);
    redis_free(r);
}

static struct heartbeat a_heartbeat(void)
{
    struct heartbeat h = {.slots = 2,
                          .slots_free = 1,
                          .job_memory_bytes = INT64_C(8) << 30,
                          .job_memory_free = INT64_C(3) << 30,
                          .model_bytes_max = 100,
                          .model_bytes_free = 40,
                          .model_bytes_idle = 20,
                          .predict_waiting = 3,
                          .predict_busy_milli = 900,
                          .jobs_len = 1,
                          .models_len = 2};
    id_new(h.inc, "inc");
    id_new(h.jobs[0].job_id, "job");
    h.jobs[0].fence = 77;
    for (size_t i = 0; i < h.models_len; i++) {
        h.models[i] = (struct heartbeat_model){.busy_milli = 1000, .waiting_milli = (int)i, .bytes = 1 << 20};
        id_new(h.models[i].version_id, "ver");
        id_new(h.models[i].tenant_id, "ten");
    }
    return h;
}

static void heartbeats_are_listed_until_they_stop(void **state)
{
    (void)state;
    struct redis *r = redis_fixture_connect();
    struct err e;
    struct heartbeat a = a_heartbeat(), b = a_heartbeat(), *list;
    size_t n;
    bool was_gone;
    b.draining = true;
    assert_int_equal(heartbeat_publish(r, &a, &was_gone, &e), 0);
    assert_true(was_gone);
    assert_int_equal(heartbeat_publish(r, &a, &was_gone, &e), 0);
    assert_false(was_gone);
    assert_int_equal(heartbeat_publish(r, &b, NULL, &e), 0);
    assert_int_equal(heartbeat_list(r, &list, &n, &e), 0);
    assert_int_equal(n, 2);
    const struct heartbeat *first = strcmp(list[0].inc, a.inc) == 0 ? &list[0] : &list[1];
    assert_memory_equal(first, &a, sizeof a);
    mem_free(list);
    assert_int_equal(heartbeat_remove(r, a.inc, &e), 0);
    assert_int_equal(heartbeat_list(r, &list, &n, &e), 0);
    assert_int_equal(n, 1);
    assert_true(list[0].draining);
    mem_free(list);
    redis_fixture_flush();
    assert_int_equal(heartbeat_list(r, &list, &n, &e), 0);
    assert_int_equal(n, 0);
    assert_int_equal(heartbeat_publish(r, &b, &was_gone, &e), 0);
    assert_true(was_gone); /* Redis forgot: everything else must be written again */
    redis_free(r);
}

static void a_worker_unheard_of_for_long_is_forgotten_with_its_inbox(void **state)
{
    (void)state;
    struct redis *r = redis_fixture_connect();
    struct heartbeat *list;
    struct message m = a_hint(1);
    char inc[ID_MAX], key[INBOX_KEY_MAX];
    size_t n;
    id_new(inc, "inc");
    inbox_worker_key(key, inc);
    assert_int_equal(inbox_push(r, key, &m, NULL), 0);
    redis_fixture_int("ZADD " HEARTBEAT_WORKERS " 5 %s", inc);
    assert_int_equal(heartbeat_list(r, &list, &n, NULL), 0);
    assert_int_equal(n, 0);
    assert_int_equal(redis_fixture_int("ZCARD " HEARTBEAT_WORKERS), 0);
    assert_int_equal(redis_fixture_int("EXISTS %s", key), 0);
    redis_free(r);
}

static void a_clock_that_is_ahead_drops_no_living_worker(void **state)
{
    (void)state;
    struct redis *r = redis_fixture_connect();
    struct err e;
    struct heartbeat a = a_heartbeat(), *list;
    size_t n;
    assert_int_equal(heartbeat_publish(r, &a, NULL, &e), 0);
    redisReply seconds = {.type = REDIS_REPLY_INTEGER}, micros = {.type = REDIS_REPLY_INTEGER};
    redisReply *parts[] = {&seconds, &micros};
    redisReply ahead = {.type = REDIS_REPLY_ARRAY, .elements = 2, .element = parts};
    seconds.integer = redis_clock_us() / 1000000 + 3600;
    redis_clock_learn(&ahead, clock_mono_us());
    assert_int_equal(heartbeat_list(r, &list, &n, &e), 0);
    assert_int_equal(n, 1);
    mem_free(list);
    heartbeat_remove(r, a.inc, &e);
    redis_free(r);
}

static void a_heartbeat_from_before_there_were_loads_is_read(void **state)
{
    (void)state;
    const char *text =
        "{\"inc\":\"inc_01h455vb4pex5vsknk084sn02q\",\"slots\":1,\"slots_free\":1,\"model_bytes_max\":9,"
        "\"model_bytes_free\":9,\"predict_waiting\":0,\"draining\":false,\"ports\":[],\"jobs\":[]}";
    struct heartbeat h;
    struct err e;
    if (heartbeat_decode(&h, text, strlen(text), &e) != 0) fail_msg("%s", e.message);
    assert_int_equal(h.models_len, 0);
}

static void malformed_heartbeats_are_refused(void **state)
{
    (void)state;
    struct heartbeat h;
    static const char *const bad[] = {"", "{}", "[]", "{\"inc\":\"x\"}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_true(heartbeat_decode(&h, bad[i], strlen(bad[i]), NULL) < 0);
}

static void placements_are_announced_withdrawn_and_told(void **state)
{
    (void)state;
    struct redis *r = redis_fixture_connect(), *listener = redis_fixture_connect();
    struct err e;
    char versions[2][ID_MAX], inc[ID_MAX], holders[PLACEMENT_HOLDERS_MAX][ID_MAX];
    size_t n;
    struct placement_change change;
    redisReply *told;
    id_new(versions[0], "ver");
    id_new(versions[1], "ver");
    id_new(inc, "inc");
    assert_int_equal(redis_call(listener, NULL, &e, "SUBSCRIBE " PLACEMENT_CHANNEL), 0);
    assert_int_equal(placement_announce(r, versions[0], inc, &e), 0);
    assert_int_equal(redis_take(listener, &told, &e), 0);
    assert_int_equal(placement_parse(&change, told->element[2]->str, told->element[2]->len, &e), 0);
    assert_string_equal(change.version_id, versions[0]);
    assert_string_equal(change.inc, inc);
    assert_true(change.up);
    freeReplyObject(told);
    assert_int_equal(placement_announce_all(r, (const char(*)[ID_MAX])versions, 2, inc, &e), 0);
    assert_int_equal(placement_holders(r, versions[1], holders, &n, &e), 0);
    assert_int_equal(n, 1);
    assert_string_equal(holders[0], inc);
    assert_in_range(redis_fixture_int("PTTL tnr:place:%s", versions[1]), 1, PLACEMENT_LIFE_MS);
    assert_int_equal(placement_withdraw(r, versions[1], inc, &e), 0);
    assert_int_equal(placement_holders(r, versions[1], holders, &n, &e), 0);
    assert_int_equal(n, 0);
    static const char *const bad[] = {"", "ver_x inc_y up", "up", "a b c d"};
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(placement_parse(&change, bad[i], strlen(bad[i]), NULL), ERR_CORRUPT);
    redis_free(r);
    redis_free(listener);
}

static void changes_arrive_as_they_were_sent(void **state)
{
    (void)state;
    struct redis *r = redis_fixture_connect(), *listener = redis_fixture_connect();
    struct err e;
    struct changed sent[3] = {{.kind = CHANGED_KEY}, {.kind = CHANGED_MODEL}, {.kind = CHANGED_TENANT}}, got;
    id_new(sent[0].key_id, "key");
    id_new(sent[1].tenant_id, "ten");
    strcpy(sent[1].model, "fashion.v-2");
    id_new(sent[2].tenant_id, "ten");
    assert_int_equal(redis_call(listener, NULL, &e, "SUBSCRIBE " CHANGED_CHANNEL), 0);
    for (size_t i = 0; i < 3; i++) {
        redisReply *told;
        assert_int_equal(changed_publish(r, &sent[i], &e), 0);
        assert_int_equal(redis_take(listener, &told, &e), 0);
        assert_int_equal(changed_parse(&got, told->element[2]->str, told->element[2]->len, &e), 0);
        assert_memory_equal(&got, &sent[i], sizeof got);
        freeReplyObject(told);
    }
    static const char *const bad[] = {"",       "key",        "key ten_1", "model x y",
                                      "tenant", "everything", "key a b c"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(changed_parse(&got, bad[i], strlen(bad[i]), NULL), ERR_CORRUPT);
    redis_free(r);
    redis_free(listener);
}

int main(void)
{
    redis_fixture_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_read_or_refused_with_the_reason),
        cmocka_unit_test(a_wrong_password_is_told_and_backed_off_from),
        cmocka_unit_test(an_error_reply_is_a_failure_that_keeps_the_connection),
        cmocka_unit_test(a_connection_comes_back_after_the_server_was_killed),
        cmocka_unit_test(a_reply_that_takes_too_long_ends_the_connection),
        cmocka_unit_test(the_redis_clock_follows_redis_not_the_wall),
        cmocka_unit_test_setup(an_inbox_gives_batches_in_order_and_then_nothing, flush),
        cmocka_unit_test_setup(an_inbox_left_behind_expires, flush),
        cmocka_unit_test_setup(heartbeats_are_listed_until_they_stop, flush),
        cmocka_unit_test_setup(a_worker_unheard_of_for_long_is_forgotten_with_its_inbox, flush),
        cmocka_unit_test(a_clock_that_is_ahead_drops_no_living_worker),
        cmocka_unit_test(a_heartbeat_from_before_there_were_loads_is_read),
        cmocka_unit_test(malformed_heartbeats_are_refused),
        cmocka_unit_test_setup(placements_are_announced_withdrawn_and_told, flush),
        cmocka_unit_test_setup(changes_arrive_as_they_were_sent, flush),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
