/* The predict road of a gateway: a real server, a real Redis, and peers that speak the workers' and the
 * scheduler's messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "queue/placement.h"
#include "tests/unit/gateway/road_scene.h"
#include "tests/unit/queue/redis_fixture.h"

static const char *const allowed[] = {"sums", "late", "missing"};

/* ---- tests
 * ------------------------------------------------------------------------------------------------------- */

static void both_protocols_are_answered_by_the_holder(void **state)
{
    (void)state;
    struct peer p;
    peer_start(&p, ANSWER, false);
    hold(&p, sums_id);
    expect("/tfs/sums", tfs, 200, "{\"predictions\":[3,70]}");
    expect("/infer/sums", oip, 200,
           "{\"model_name\":\"sums\",\"model_version\":\"3\",\"id\":\"a\",\"outputs\":[{\"name\":\"sum\","
           "\"datatype\":\"FP32\",\"shape\":[2],\"data\":[3,70]}]}");
    assert_int_equal(road_lookups, 1); /* the second request found the route in the cache */
    assert_int_equal(road_stats()->resent, 0);
    peer_stop(&p);
}

static void a_missing_and_a_forbidden_model_look_the_same(void **state)
{
    (void)state;
    struct reply missing, forbidden;
    road_caller.models = allowed;
    road_caller.models_len = 3;
    post("/tfs/missing", tfs, &missing);
    road_caller.models_len = 2;
    post("/tfs/missing", tfs, &forbidden);
    assert_int_equal(missing.status, 404);
    assert_int_equal(forbidden.status, 404);
    assert_string_equal(missing.body.data, forbidden.body.data);
    reply_dispose(&missing);
    reply_dispose(&forbidden);
    expect("/tfs/UPPER", tfs, 404, "no model");
}

static void wrong_input_is_told_by_gateway_and_worker_alike(void **state)
{
    (void)state;
    struct peer p;
    peer_start(&p, SAY_INVALID, false);
    hold(&p, sums_id);
    expect("/tfs/sums", "{\"instances\":[[1,2],[3]]}", 400, "instances[1]: 1 values where 2 were expected");
    expect("/infer/sums", "{\"inputs\":[]}", 400, "\"input\\\" is missing");
    assert_int_equal(p.popped, 0);
    expect("/tfs/sums", tfs, 400, "row 0: not a number");
    peer_stop(&p);
}

static void a_cold_model_is_asked_for_and_waited_for(void **state)
{
    (void)state;
    struct peer p;
    peer_start(&p, ANSWER, true);
    expect("/tfs/late", tfs, 200, "[3,70]");
    assert_in_range(p.place_orders, 1, 2);
    expect("/tfs/late", tfs, 200, "[3,70]");
    assert_in_range(p.place_orders, 1, 2);
    peer_stop(&p);
}

static void a_model_that_nobody_takes_ends_with_the_deadline(void **state)
{
    (void)state;
    struct reply r;
    int64_t before = clock_mono_ms();
    post("/infer/late",
         "{\"parameters\":{\"timeout\":300000},\"inputs\":[{\"name\":\"input\",\"shape\":[1,2],\"datatype\":"
         "\"FP32\",\"data\":[1,2]}]}",
         &r);
    assert_int_equal(r.status, 503);
    assert_string_equal(reply_header(&r, "retry-after"), "1");
    assert_in_range(clock_mono_ms() - before, 290, 3000);
    reply_dispose(&r);
}

/* A model that nobody takes, and a lookup of its route that costs half of the time or more than all of it. */
static void a_slow_lookup_is_part_of_the_requests_time(void **state)
{
    (void)state;
    static const struct {
        const char *path; /* whose route is not known yet */
        int lookup_ms, timeout_ms;
    } calls[] = {{"/infer/late", 600, 1000}, {"/infer/sums", 600, 300}};
    char body[256];
    struct reply r;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        int64_t before = clock_mono_ms();
        road_lookup_ms = calls[i].lookup_ms;
        snprintf(body, sizeof body,
                 "{\"parameters\":{\"timeout\":%d000},\"inputs\":[{\"name\":\"input\",\"shape\":[1,2],"
                 "\"datatype\":\"FP32\",\"data\":[1,2]}]}",
                 calls[i].timeout_ms);
        post(calls[i].path, body, &r);
        assert_int_equal(r.status, 503);
        int most = calls[i].lookup_ms > calls[i].timeout_ms ? calls[i].lookup_ms : calls[i].timeout_ms;
        assert_in_range(clock_mono_ms() - before, most - 10, most + 350);
        reply_dispose(&r);
    }
}

static bool is_struck_out(void *arg)
{
    return redis_fixture_int("SISMEMBER tnr:place:%s %s", sums_id, ((struct peer *)arg)->inc) == 0;
}

static void a_lost_workers_request_goes_to_another(void **state)
{
    (void)state;
    struct peer dying, other;
    struct client c;
    struct reply r;
    peer_start(&dying, SWALLOW, false);
    hold(&dying, sums_id);
    client_open(&c, road_port);
    send_post(&c, "/tfs/sums", tfs);
    wait_until(has_popped, &dying, "the request was never sent");
    peer_stop(&dying);
    peer_start(&other, ANSWER, false);
    hold(&other, sums_id);
    client_reply(&c, &r, false);
    assert_int_equal(r.status, 200);
    assert_int_equal(road_stats()->resent, 1);
    wait_until(is_struck_out, &dying, "the dead worker is still said to hold it");
    assert_int_equal(redis_fixture_int("SISMEMBER tnr:place:%s %s", sums_id, other.inc), 1);
    reply_dispose(&r);
    client_close(&c);
    peer_stop(&other);
}

static void a_worker_that_let_the_model_go_is_passed_over(void **state)
{
    (void)state;
    struct peer stale, holder;
    peer_start(&stale, SAY_STALE, false);
    hold(&stale, sums_id);
    struct client c;
    struct reply r;
    client_open(&c, road_port);
    send_post(&c, "/tfs/sums", tfs);
    wait_until(has_popped, &stale, "the request was never sent");
    struct redis *redis = redis_fixture_connect();
    assert_int_equal(placement_withdraw(redis, sums_id, stale.inc, NULL), 0);
    redis_free(redis);
    peer_start(&holder, ANSWER, false);
    hold(&holder, sums_id);
    client_reply(&c, &r, false);
    assert_int_equal(r.status, 200);
    assert_int_equal(road_stats()->resent, 0);
    reply_dispose(&r);
    client_close(&c);
    peer_stop(&stale);
    peer_stop(&holder);
}

static void the_plans_rate_is_kept_with_a_true_time_to_wait(void **state)
{
    (void)state;
    struct peer p;
    struct reply r;
    road_caller.rate_per_second = 2;
    road_caller.burst = 3;
    peer_start(&p, ANSWER, false);
    hold(&p, sums_id);
    post("/tfs/sums", tfs, &r);
    assert_int_equal(r.status, 200);
    assert_string_equal(reply_header(&r, "ratelimit"), "\"requests\";r=2;t=1");
    reply_dispose(&r);
    for (int i = 0; i < 2; i++) expect("/tfs/sums", tfs, 200, "70");
    post("/tfs/sums", tfs, &r);
    assert_int_equal(r.status, 429);
    assert_string_equal(reply_header(&r, "ratelimit"), "\"requests\";r=0;t=2");
    assert_string_equal(reply_header(&r, "retry-after"), "1");
    reply_dispose(&r);
    assert_int_equal(road_stats()->limited, 1);
    peer_stop(&p);
}

static void more_rows_than_the_plan_allows_are_refused_with_its_limit(void **state)
{
    (void)state;
    struct peer p;
    road_caller.rows_max = 1;
    peer_start(&p, ANSWER, false);
    hold(&p, sums_id);
    expect("/tfs/sums", tfs, 400, "2 rows in one request, where the plan allows 1");
    expect("/infer/sums", oip, 400, "max_request_rows");
    road_caller.rows_max = 2;
    expect("/tfs/sums", tfs, 200, "70");
    peer_stop(&p);
}

static void a_tenants_requests_in_flight_are_bounded(void **state)
{
    (void)state;
    struct peer p;
    struct client first;
    struct reply r;
    road_caller.concurrency_max = 1;
    peer_start(&p, SWALLOW, false);
    hold(&p, sums_id);
    client_open(&first, road_port);
    send_post(&first, "/tfs/sums", tfs);
    wait_until(has_popped, &p, "the request was never sent");
    expect("/tfs/sums", tfs, 429, "in flight");
    client_close(&first);
    p.manner = ANSWER;
    do post("/tfs/sums", tfs, &r); /* until the gateway has seen the first client leave */
    while (r.status == 429 && (reply_dispose(&r), true));
    assert_int_equal(r.status, 200);
    reply_dispose(&r);
    peer_stop(&p);
}

static bool has_heard_of_the_cancel(void *arg)
{
    return ((struct peer *)arg)->cancelled == 1;
}

static void a_client_that_leaves_takes_its_request_along(void **state)
{
    (void)state;
    struct peer p;
    struct client c;
    peer_start(&p, SWALLOW, false);
    hold(&p, sums_id);
    client_open(&c, road_port);
    send_post(&c, "/tfs/sums", tfs);
    wait_until(has_popped, &p, "the request was never sent");
    client_close(&c);
    wait_until(nothing_is_pending, NULL, "the request stayed");
    assert_int_equal(road_stats()->cancelled, 1);
    wait_until(has_heard_of_the_cancel, &p, "the worker was not told");
    peer_stop(&p);
}

static void a_redis_that_forgets_everything_costs_time_only(void **state)
{
    (void)state;
    struct peer p;
    peer_start(&p, ANSWER, false);
    hold(&p, sums_id);
    expect("/tfs/sums", tfs, 200, "70");
    redis_fixture_flush();
    hold(&p, sums_id); /* as a worker does that finds its heartbeat gone */
    for (int i = 0; i < 20; i++) expect("/tfs/sums", tfs, 200, "70");
    assert_int_equal(p.popped, 21);
    wait_usage(road_inc, sums_id, 21);
    assert_int_equal(road_stats()->resent, 0); /* what is on a link is not Redis's to forget */
    peer_stop(&p);
}

static bool has_heard_of_changes(void *arg)
{
    return road_all_changes > *(int *)arg;
}

static void predictions_go_on_while_redis_is_away(void **state)
{
    (void)state;
    struct peer p;
    int changes = road_all_changes;
    peer_start(&p, ANSWER, true);
    hold(&p, sums_id);
    expect("/tfs/sums", tfs, 200, "70");
    redis_fixture_stop_server();
    for (int i = 0; i < 5; i++) expect("/tfs/sums", tfs, 200, "70");
    redis_fixture_start_server();
    wait_until(has_heard_of_changes, &changes,
               "the caches were not dropped"); /* what was published is lost */
    expect("/tfs/sums", tfs, 200, "70");
    wait_usage(road_inc, sums_id, 7);
    peer_stop(&p);
}

static void a_broken_link_may_have_swallowed_the_reply(void **state)
{
    (void)state;
    struct peer p;
    struct client c;
    struct reply r;
    peer_start(&p, SWALLOW, false);
    hold(&p, sums_id);
    client_open(&c, road_port);
    send_post(&c, "/tfs/sums", tfs);
    wait_until(has_popped, &p, "the request was never sent");
    p.manner = ANSWER;
    peer_hang_up(&p);
    client_reply(&c, &r, false);
    assert_int_equal(r.status, 200);
    assert_int_equal(road_stats()->resent, 1);
    reply_dispose(&r);
    client_close(&c);
    peer_stop(&p);
}

static bool was_looked_up_again(void *arg)
{
    struct reply r;
    post("/tfs/sums", tfs, &r);
    reply_dispose(&r);
    return road_lookups > *(int *)arg;
}

static void a_change_makes_the_name_be_looked_up_again(void **state)
{
    (void)state;
    struct peer p;
    struct changed c = {.kind = CHANGED_MODEL, .model = "sums"};
    peer_start(&p, ANSWER, false);
    hold(&p, sums_id);
    expect("/tfs/sums", tfs, 200, "70");
    expect("/tfs/sums", tfs, 200, "70");
    int before = road_lookups;
    memcpy(c.tenant_id, road_caller.tenant_id, ID_MAX);
    struct redis *r = redis_fixture_connect();
    assert_int_equal(changed_publish(r, &c, NULL), 0);
    redis_free(r);
    wait_until(was_looked_up_again, &before, "the cache kept its answer");
    peer_stop(&p);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, road_up, road_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(both_protocols_are_answered_by_the_holder),
        CASE(a_missing_and_a_forbidden_model_look_the_same),
        CASE(wrong_input_is_told_by_gateway_and_worker_alike),
        CASE(a_cold_model_is_asked_for_and_waited_for),
        CASE(a_model_that_nobody_takes_ends_with_the_deadline),
        CASE(a_slow_lookup_is_part_of_the_requests_time),
        CASE(a_lost_workers_request_goes_to_another),
        CASE(a_worker_that_let_the_model_go_is_passed_over),
        CASE(the_plans_rate_is_kept_with_a_true_time_to_wait),
        CASE(more_rows_than_the_plan_allows_are_refused_with_its_limit),
        CASE(a_tenants_requests_in_flight_are_bounded),
        CASE(a_client_that_leaves_takes_its_request_along),
        CASE(a_redis_that_forgets_everything_costs_time_only),
        CASE(predictions_go_on_while_redis_is_away),
        CASE(a_broken_link_may_have_swallowed_the_reply),
        CASE(a_change_makes_the_name_be_looked_up_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
