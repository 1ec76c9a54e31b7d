/* What the predict road bills: each answer once, before it goes out, and nothing else. A real server, a real
 * Redis, and peers that speak the workers' messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/mem.h"
#include "queue/placement.h"
#include "tests/unit/gateway/road_scene.h"
#include "tests/unit/queue/redis_fixture.h"

enum { ROWS = 2, MANY = 300 }; /* MANY: more answers than are settled at once */

/* ---- a look at each answer as it leaves
 * --------------------------------------------------------------------------- */

static atomic_bool watching;
static atomic_int answers_seen, answers_uncounted;

/* The server's loop stands still in here, so that what Redis does not get to know now was not sent to it. */
static void look_at(const char *text, size_t len)
{
    static const char head[] = "HTTP/1.1 200";
    if (!watching || len < sizeof head - 1 || memcmp(text, head, sizeof head - 1) != 0) return;
    int seen = ++answers_seen;
    for (int i = 0; i < 200; i++) {
        if (usage_in_redis(road_inc, sums_id).requests >= seen) return;
        usleep(1000); /* until Redis has read what the kernel holds for it */
    }
    answers_uncounted++;
}

/* In place of the C library's. */
ssize_t send(int fd, const void *data, size_t len, int flags)
{
    look_at(data, len);
    return syscall(SYS_sendto, fd, data, len, flags, NULL, 0);
}

static int up(void **state)
{
    redis_fixture_resume_server(); /* a test that failed left it so */
    watching = false;
    answers_seen = answers_uncounted = 0;
    return road_up(state);
}

static void expect_usage(const char *version, int64_t requests)
{
    wait_usage(road_inc, version, requests);
    struct usage_total t = usage_in_redis(road_inc, version);
    assert_int_equal(t.rows, requests * ROWS);
    assert_int_equal(t.compute_us, requests * ROWS * PEER_ROW_US);
    assert_string_equal(t.tenant_id, road_caller.tenant_id);
}

/* Every answer before this one has been settled when it comes. */
static void one_more(const char *path)
{
    expect(path, tfs, 200, "70");
}

static bool has_popped_many(void *arg)
{
    return ((struct peer *)arg)->popped >= MANY;
}

static void open_many(struct client *clients, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        client_open(&clients[i], road_port);
        send_post(&clients[i], "/tfs/sums", tfs);
    }
}

static void close_many(struct client *clients, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct reply r;
        client_reply(&clients[i], &r, false);
        assert_int_equal(r.status, 200);
        reply_dispose(&r);
        client_close(&clients[i]);
    }
}

/* A worker that has the one request, and keeps it. */
static void swallow_one(struct peer *p, struct client *c)
{
    holder_start(p, SWALLOW, sums_id);
    open_many(c, 1);
    wait_until(has_popped, p, "the request was never sent");
}

/* ---- once, and before it goes out
 * ------------------------------------------------------------------------------- */

static void an_answer_is_counted_before_it_goes_out(void **state)
{
    (void)state;
    struct peer p;
    struct client *clients = mem_alloc(MANY, sizeof *clients);
    holder_start(&p, ANSWER, sums_id);
    watching = true;
    for (int i = 0; i < 20; i++) one_more("/tfs/sums");
    assert_int_equal(answers_seen, 20);
    p.manner = SWALLOW;
    p.popped = MANY - 8;
    open_many(clients, 8);
    wait_until(has_popped_many, &p, "the requests were not sent");
    peer_answer_swallowed(&p); /* eight in one turn */
    close_many(clients, 8);
    assert_int_equal(answers_seen, 28);
    assert_int_equal(answers_uncounted, 0);
    watching = false;
    expect_usage(sums_id, 28);
    mem_free(clients);
    peer_stop(&p);
}

static void more_answers_than_a_turn_takes_are_all_counted(void **state)
{
    (void)state;
    struct peer p;
    struct client *clients = mem_alloc(MANY, sizeof *clients);
    road_caller.concurrency_max = 2 * MANY;
    holder_start(&p, SWALLOW, sums_id);
    open_many(clients, MANY);
    wait_until(has_popped_many, &p, "the requests were not sent");
    peer_answer_swallowed(&p);
    close_many(clients, MANY);
    expect_usage(sums_id, MANY);
    mem_free(clients);
    peer_stop(&p);
}

static void each_version_has_its_own_total(void **state)
{
    (void)state;
    struct peer p;
    holder_start(&p, ANSWER, sums_id);
    hold(&p, late_id);
    for (int i = 0; i < 3; i++) one_more("/tfs/sums");
    one_more("/tfs/late");
    expect_usage(sums_id, 3);
    expect_usage(late_id, 1);
    peer_stop(&p);
}

static void a_request_that_a_broken_link_took_along_is_counted_once(void **state)
{
    (void)state;
    struct peer p;
    struct client c;
    swallow_one(&p, &c);
    p.manner = ANSWER;
    peer_hang_up(&p);
    close_many(&c, 1);
    assert_int_equal(road_stats()->resent, 1);
    one_more("/tfs/sums");
    expect_usage(sums_id, 2);
    peer_stop(&p);
}

/* It had computed the request when it died, as far as anybody knows. */
static void a_request_whose_worker_died_with_it_is_counted_once(void **state)
{
    (void)state;
    struct peer dying, other;
    struct client c;
    swallow_one(&dying, &c);
    peer_stop(&dying);
    holder_start(&other, ANSWER, sums_id);
    close_many(&c, 1);
    assert_int_equal(road_stats()->resent, 1);
    one_more("/tfs/sums");
    expect_usage(sums_id, 2);
    peer_stop(&other);
}

/* A worker that was only thought dead answers after the one that was asked in its place. */
static void whoever_answers_second_is_not_counted(void **state)
{
    (void)state;
    struct peer slow, other;
    struct client c;
    swallow_one(&slow, &c);
    slow.dumb = true;
    holder_start(&other, ANSWER, sums_id);
    close_many(&c, 1);
    assert_int_equal(other.popped, 1);
    slow.dumb = false;
    peer_answer_swallowed(&slow);
    for (int i = 0; i < 5; i++) one_more("/tfs/sums");
    expect_usage(sums_id, 6);
    peer_stop(&slow);
    peer_stop(&other);
}

/* ---- what is not billed
 * ------------------------------------------------------------------------------------------- */

static void an_answer_after_the_deadline_is_not_counted(void **state)
{
    (void)state;
    struct peer p;
    holder_start(&p, SWALLOW, sums_id);
    expect("/infer/sums",
           "{\"parameters\":{\"timeout\":200000},\"inputs\":[{\"name\":\"input\",\"shape\":[2,2],"
           "\"datatype\":\"FP32\",\"data\":[1,2,30,40]}]}",
           504, "deadline");
    assert_int_equal(p.popped, 1);
    peer_answer_swallowed(&p);
    one_more("/tfs/sums"); /* comes behind it on the same link */
    expect_usage(sums_id, 1);
    peer_stop(&p);
}

static void an_answer_to_a_client_that_left_is_not_counted(void **state)
{
    (void)state;
    struct peer p;
    struct client c;
    swallow_one(&p, &c);
    client_close(&c);
    wait_until(nothing_is_pending, NULL, "the request stayed");
    peer_answer_swallowed(&p);
    one_more("/tfs/sums");
    expect_usage(sums_id, 1);
    peer_stop(&p);
}

static void refusals_and_failures_are_not_counted(void **state)
{
    (void)state;
    struct peer p;
    holder_start(&p, SAY_INVALID, sums_id);
    expect("/tfs/sums", tfs, 400, "row 0: not a number");
    expect("/tfs/sums", "{\"instances\":[[1,2],[3]]}", 400, "where 2 were expected");
    p.manner = SAY_INTERNAL;
    expect("/tfs/sums", tfs, 500, "");
    p.manner = ANSWER;
    one_more("/tfs/sums");
    expect_usage(sums_id, 1);
    peer_stop(&p);
}

static void a_request_that_is_put_off_is_not_counted(void **state)
{
    (void)state;
    struct peer p;
    holder_start(&p, ANSWER, sums_id);
    expect("/later/sums", tfs, 202, "{}");
    one_more("/tfs/sums");
    expect_usage(sums_id, 1);
    assert_int_equal(p.popped, 1);
    peer_stop(&p);
}

/* ---- Redis
 * ------------------------------------------------------------------------------------------------------ */

static void answers_wait_for_no_redis_and_their_totals_follow(void **state)
{
    (void)state;
    struct peer p;
    holder_start(&p, ANSWER, sums_id);
    one_more("/tfs/sums");
    redis_fixture_pause_server();
    for (int i = 0; i < 20; i++) one_more("/tfs/sums");
    redis_fixture_resume_server();
    expect_usage(sums_id, 21);
    redis_fixture_stop_server();
    for (int i = 0; i < 20; i++) one_more("/tfs/sums");
    redis_fixture_start_server();
    expect_usage(sums_id, 41);
    peer_stop(&p);
}

/* One version goes on, so that a part of the totals comes back at once; the other comes too. */
static void a_redis_that_forgets_amid_traffic_has_every_total_again(void **state)
{
    (void)state;
    struct peer p;
    holder_start(&p, ANSWER, sums_id);
    hold(&p, late_id);
    for (int i = 0; i < 3; i++) one_more("/tfs/sums");
    one_more("/tfs/late");
    expect_usage(late_id, 1);
    redis_fixture_flush();
    hold(&p, sums_id);
    one_more("/tfs/late");
    expect_usage(late_id, 2);
    expect_usage(sums_id, 3);
    peer_stop(&p);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, up, road_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(an_answer_is_counted_before_it_goes_out),
        CASE(more_answers_than_a_turn_takes_are_all_counted),
        CASE(each_version_has_its_own_total),
        CASE(a_request_that_a_broken_link_took_along_is_counted_once),
        CASE(a_request_whose_worker_died_with_it_is_counted_once),
        CASE(whoever_answers_second_is_not_counted),
        CASE(an_answer_after_the_deadline_is_not_counted),
        CASE(an_answer_to_a_client_that_left_is_not_counted),
        CASE(refusals_and_failures_are_not_counted),
        CASE(a_request_that_is_put_off_is_not_counted),
        CASE(answers_wait_for_no_redis_and_their_totals_follow),
        CASE(a_redis_that_forgets_amid_traffic_has_every_total_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
