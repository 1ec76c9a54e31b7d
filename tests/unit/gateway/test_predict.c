/* The predict road of a gateway: a real server, a real Redis, and peers that speak the workers' and the
 * scheduler's messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "gateway/http/server.h"
#include "gateway/predict/predict.h"
#include "queue/placement.h"
#include "tests/unit/gateway/http_client.h"
#include "tests/unit/gateway/predict_peer.h"
#include "tests/unit/queue/redis_fixture.h"

static const char signature_json[] =
    "{\"inputs\":[{\"name\":\"input\",\"datatype\":\"FP32\",\"shape\":[-1,2]}],"
    "\"outputs\":[{\"name\":\"sum\",\"datatype\":\"FP32\",\"shape\":[-1]}]}";
static const char *const allowed[] = {"sums", "late", "missing"};

/* ---- the gateway
 * ------------------------------------------------------------------------------------------------ */

static struct server *server;
static struct predict *road;
static struct loop *road_loop;
static struct predict_caller caller;
static char version_id[ID_MAX], late_id[ID_MAX];
static int port;
static atomic_int lookups, all_changes;

static void resolve(void *arg, struct predict *p, struct route_lookup *lookup, const char *tenant_id,
                    const struct model_ref *ref)
{
    (void)arg;
    struct err e = {0};
    struct route_answer a = {.version = 3,
                             .bytes = 100,
                             .signature_json = signature_json,
                             .signature_len = sizeof signature_json - 1};
    lookups++;
    assert_string_equal(tenant_id, caller.tenant_id);
    snprintf(a.model, sizeof a.model, "%s", ref->model);
    memcpy(a.version_id, strcmp(ref->model, "late") == 0 ? late_id : version_id, ID_MAX);
    if (strcmp(ref->model, "sums") != 0 && strcmp(ref->model, "late") != 0)
        predict_route_done(p, lookup, err_set(&e, ERR_NOT_FOUND, NULL, "whatever"), NULL, &e);
    else
        predict_route_done(p, lookup, 0, &a, NULL);
}

static void on_changed(void *arg, const struct changed *c)
{
    (void)arg;
    if (c->kind == CHANGED_ALL) all_changes++;
}

static int loop_init(void **ctx, struct loop *loop, int index, void *arg, struct err *e)
{
    (void)arg;
    struct predict_config c = {
        .loop_index = index, .redis = redis_fixture_start(), .resolve = resolve, .on_changed = on_changed};
    int rc = predict_create(&road, loop, &c, e);
    road_loop = loop;
    *ctx = road;
    return rc;
}

static void loop_done(void *ctx)
{
    predict_free(ctx);
}

static void on_request(struct exchange *x, void *ctx)
{
    const struct request *r = exchange_request(x);
    struct model_ref ref = {.model = r->segments[1]};
    if (strcmp(r->segments[0], "infer") == 0)
        predict_run(ctx, x, &caller, &ref, &(struct predict_options){.protocol = PREDICT_OIP});
    else
        predict_run(ctx, x, &caller, &ref, &(struct predict_options){.protocol = PREDICT_TFS});
}

static void read_ready(void *arg)
{
    atomic_int *out = arg;
    *out = 1 + predict_ready(road);
}

static bool is_ready(void *arg)
{
    (void)arg;
    atomic_int answer_of_loop = 0;
    loop_post(road_loop, read_ready, &answer_of_loop);
    while (!answer_of_loop) continue; /* the loop always runs what is posted */
    return answer_of_loop == 2;
}

static int set_up(void **state)
{
    (void)state;
    struct server_config c = {.listeners = {{.address = "127.0.0.1:0"}}, .listeners_len = 1, .loops = 1};
    struct err e = {0};
    redis_fixture_start();
    redis_fixture_flush();
    memset(&caller, 0, sizeof caller);
    id_new(caller.tenant_id, "ten");
    id_new(caller.key_id, "key");
    id_new(version_id, "ver");
    id_new(late_id, "ver");
    lookups = 0;
    c.on_request = on_request;
    c.loop_init = loop_init;
    c.loop_free = loop_done;
    if (server_create(&server, &c, &e) || server_start(server, &e)) fail_msg("%s", e.message);
    port = server_port(server, 0);
    wait_until(is_ready, NULL, "the road never became ready");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    server_drain(server, 2000);
    server_free(server);
    return 0;
}

static void hold(const struct peer *p, const char *version)
{
    struct redis *r = redis_fixture_connect();
    assert_int_equal(placement_announce(r, version, p->inc, NULL), 0);
    redis_free(r);
}

static void send_post(struct client *c, const char *path, const char *body)
{
    char text[1024];
    snprintf(text, sizeof text, "POST %s HTTP/1.1\r\nHost: t\r\nContent-Length: %zu\r\n\r\n%s", path,
             strlen(body), body);
    client_text(c, text);
}

static void post(const char *path, const char *body, struct reply *out)
{
    struct client c;
    client_open(&c, port);
    send_post(&c, path, body);
    client_reply(&c, out, false);
    client_close(&c);
}

static void expect(const char *path, const char *body, int status, const char *text)
{
    struct reply r;
    post(path, body, &r);
    if (r.status != status || !strstr(r.body.data, text)) fail_msg("%s: %d %s", path, r.status, r.body.data);
    reply_dispose(&r);
}

static struct predict_stats stats_now;
static atomic_bool stats_read;

static void read_stats(void *arg)
{
    (void)arg;
    predict_stats(road, &stats_now);
    stats_read = true;
}

static const struct predict_stats *stats(void)
{
    stats_read = false;
    loop_post(road_loop, read_stats, NULL);
    while (!stats_read) continue;
    return &stats_now;
}

static bool has_popped(void *arg)
{
    return ((struct peer *)arg)->popped > 0;
}

static const char tfs[] = "{\"instances\":[[1,2],[30,40]]}";
static const char oip[] = "{\"id\":\"a\",\"inputs\":[{\"name\":\"input\",\"shape\":[2,2],\"datatype\":"
                          "\"FP32\",\"data\":[1,2,30,40]}]}";

/* ---- tests
 * ------------------------------------------------------------------------------------------------------- */

static void both_protocols_are_answered_by_the_holder(void **state)
{
    (void)state;
    struct peer p;
    peer_start(&p, ANSWER, false);
    hold(&p, version_id);
    expect("/tfs/sums", tfs, 200, "{\"predictions\":[3,70]}");
    expect("/infer/sums", oip, 200,
           "{\"model_name\":\"sums\",\"model_version\":\"3\",\"id\":\"a\",\"outputs\":[{\"name\":\"sum\","
           "\"datatype\":\"FP32\",\"shape\":[2],\"data\":[3,70]}]}");
    assert_int_equal(lookups, 1); /* the second request found the route in the cache */
    assert_int_equal(p.resent, 0);
    peer_stop(&p);
}

static void a_missing_and_a_forbidden_model_look_the_same(void **state)
{
    (void)state;
    struct reply missing, forbidden;
    caller.models = allowed;
    caller.models_len = 3;
    post("/tfs/missing", tfs, &missing);
    caller.models_len = 2;
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
    hold(&p, version_id);
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

static bool is_struck_out(void *arg)
{
    return redis_fixture_int("SISMEMBER tnr:place:%s %s", version_id, ((struct peer *)arg)->inc) == 0;
}

static void a_lost_workers_request_goes_to_another(void **state)
{
    (void)state;
    struct peer dying, other;
    struct client c;
    struct reply r;
    peer_start(&dying, SWALLOW, false);
    hold(&dying, version_id);
    client_open(&c, port);
    send_post(&c, "/tfs/sums", tfs);
    wait_until(has_popped, &dying, "the request was never sent");
    peer_stop(&dying);
    peer_start(&other, ANSWER, false);
    hold(&other, version_id);
    client_reply(&c, &r, false);
    assert_int_equal(r.status, 200);
    assert_int_equal(other.resent, 1); /* told not to count it: the dead one may have */
    wait_until(is_struck_out, &dying, "the dead worker is still said to hold it");
    assert_int_equal(redis_fixture_int("SISMEMBER tnr:place:%s %s", version_id, other.inc), 1);
    reply_dispose(&r);
    client_close(&c);
    peer_stop(&other);
}

static void a_worker_that_let_the_model_go_is_passed_over(void **state)
{
    (void)state;
    struct peer stale, holder;
    peer_start(&stale, SAY_STALE, false);
    hold(&stale, version_id);
    struct client c;
    struct reply r;
    client_open(&c, port);
    send_post(&c, "/tfs/sums", tfs);
    wait_until(has_popped, &stale, "the request was never sent");
    struct redis *redis = redis_fixture_connect();
    assert_int_equal(placement_withdraw(redis, version_id, stale.inc, NULL), 0);
    redis_free(redis);
    peer_start(&holder, ANSWER, false);
    hold(&holder, version_id);
    client_reply(&c, &r, false);
    assert_int_equal(r.status, 200);
    assert_int_equal(holder.resent, 0); /* nobody has computed it yet */
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
    caller.rate_per_second = 2;
    caller.burst = 3;
    peer_start(&p, ANSWER, false);
    hold(&p, version_id);
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
    assert_int_equal(stats()->limited, 1);
    peer_stop(&p);
}

static void more_rows_than_the_plan_allows_are_refused_with_its_limit(void **state)
{
    (void)state;
    struct peer p;
    caller.rows_max = 1;
    peer_start(&p, ANSWER, false);
    hold(&p, version_id);
    expect("/tfs/sums", tfs, 400, "2 rows in one request, where the plan allows 1");
    expect("/infer/sums", oip, 400, "max_request_rows");
    caller.rows_max = 2;
    expect("/tfs/sums", tfs, 200, "70");
    peer_stop(&p);
}

static void a_tenants_requests_in_flight_are_bounded(void **state)
{
    (void)state;
    struct peer p;
    struct client first;
    struct reply r;
    caller.concurrency_max = 1;
    peer_start(&p, SWALLOW, false);
    hold(&p, version_id);
    client_open(&first, port);
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

static bool nothing_is_pending(void *arg)
{
    (void)arg;
    return stats()->pending == 0;
}

static void a_client_that_leaves_takes_its_request_along(void **state)
{
    (void)state;
    struct peer p;
    struct client c;
    peer_start(&p, SWALLOW, false);
    hold(&p, version_id);
    client_open(&c, port);
    send_post(&c, "/tfs/sums", tfs);
    wait_until(has_popped, &p, "the request was never sent");
    client_close(&c);
    wait_until(nothing_is_pending, NULL, "the request stayed");
    assert_int_equal(stats()->cancelled, 1);
    wait_until(has_heard_of_the_cancel, &p, "the worker was not told");
    peer_stop(&p);
}

static void a_redis_that_forgets_everything_costs_time_only(void **state)
{
    (void)state;
    struct peer p;
    peer_start(&p, ANSWER, false);
    hold(&p, version_id);
    expect("/tfs/sums", tfs, 200, "70");
    redis_fixture_flush();
    hold(&p, version_id); /* as a worker does that finds its heartbeat gone */
    for (int i = 0; i < 20; i++) expect("/tfs/sums", tfs, 200, "70");
    assert_int_equal(p.popped, 21);
    assert_int_equal(p.resent, 0); /* what is on a link is not Redis's to forget */
    peer_stop(&p);
}

static bool has_heard_of_changes(void *arg)
{
    return all_changes > *(int *)arg;
}

static void predictions_go_on_while_redis_is_away(void **state)
{
    (void)state;
    struct peer p;
    int changes = all_changes;
    peer_start(&p, ANSWER, true);
    hold(&p, version_id);
    expect("/tfs/sums", tfs, 200, "70");
    redis_fixture_stop_server();
    for (int i = 0; i < 5; i++) expect("/tfs/sums", tfs, 200, "70");
    redis_fixture_start_server();
    wait_until(has_heard_of_changes, &changes,
               "the caches were not dropped"); /* what was published is lost */
    expect("/tfs/sums", tfs, 200, "70");
    peer_stop(&p);
}

static void a_broken_link_may_have_swallowed_the_reply(void **state)
{
    (void)state;
    struct peer p;
    struct client c;
    struct reply r;
    peer_start(&p, SWALLOW, false);
    hold(&p, version_id);
    client_open(&c, port);
    send_post(&c, "/tfs/sums", tfs);
    wait_until(has_popped, &p, "the request was never sent");
    p.manner = ANSWER;
    peer_hang_up(&p);
    client_reply(&c, &r, false);
    assert_int_equal(r.status, 200);
    assert_int_equal(p.resent, 1);
    reply_dispose(&r);
    client_close(&c);
    peer_stop(&p);
}

static bool was_looked_up_again(void *arg)
{
    struct reply r;
    post("/tfs/sums", tfs, &r);
    reply_dispose(&r);
    return lookups > *(int *)arg;
}

static void a_change_makes_the_name_be_looked_up_again(void **state)
{
    (void)state;
    struct peer p;
    struct changed c = {.kind = CHANGED_MODEL, .model = "sums"};
    peer_start(&p, ANSWER, false);
    hold(&p, version_id);
    expect("/tfs/sums", tfs, 200, "70");
    expect("/tfs/sums", tfs, 200, "70");
    int before = lookups;
    memcpy(c.tenant_id, caller.tenant_id, ID_MAX);
    struct redis *r = redis_fixture_connect();
    assert_int_equal(changed_publish(r, &c, NULL), 0);
    redis_free(r);
    wait_until(was_looked_up_again, &before, "the cache kept its answer");
    peer_stop(&p);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(both_protocols_are_answered_by_the_holder),
        CASE(a_missing_and_a_forbidden_model_look_the_same),
        CASE(wrong_input_is_told_by_gateway_and_worker_alike),
        CASE(a_cold_model_is_asked_for_and_waited_for),
        CASE(a_model_that_nobody_takes_ends_with_the_deadline),
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
