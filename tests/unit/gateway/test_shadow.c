/* A version on trial on the predict road: what is counted of it, that a shadow never changes what a client
 * gets, and that it is the first to be left out. A real server, a real Redis, and peers that speak the
 * workers' messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "gateway/predict/shadow.h"
#include "queue/rollout.h"
#include "tests/unit/gateway/road_scene.h"
#include "tests/unit/queue/redis_fixture.h"

static char ids[ROLLOUT_ARMS][ID_MAX];
static struct route_answer trial; /* what the alias says: shares, tolerance, limit */
static bool with_canary, with_shadow;
static struct peer primary, other;
static struct redis *redis;

static struct route_answer version_of(const struct model_ref *ref, enum rollout_arm arm)
{
    return road_answer(ref, 1 + (int)arm, ids[arm]);
}

static void resolve(void *arg, struct predict *p, struct route_lookup *lookup, const char *tenant_id,
                    const struct model_ref *ref)
{
    (void)arg, (void)tenant_id;
    struct route_answer canary = version_of(ref, ROLLOUT_CANARY), shadow = version_of(ref, ROLLOUT_SHADOW);
    struct route_answer a = version_of(ref, ROLLOUT_PRIMARY);
    a.canary = with_canary ? &canary : NULL;
    a.shadow = with_shadow ? &shadow : NULL;
    a.canary_share = trial.canary_share;
    a.shadow_share = trial.shadow_share;
    a.shadow_tolerance = trial.shadow_tolerance;
    a.slow_us = trial.slow_us;
    a.etag = 5;
    strcpy(a.alias, "live");
    predict_route_done(p, lookup, 0, &a, NULL);
}

/* Two workers: the primary's, and one that holds the versions on trial (or, cold, loads what is asked for)
 * and behaves in that manner. */
static void open_road_to(enum manner manner, bool cold)
{
    holder_start(&primary, ANSWER, ids[ROLLOUT_PRIMARY]);
    peer_start(&other, manner, cold);
    for (size_t i = ROLLOUT_CANARY; i <= ROLLOUT_SHADOW && !cold; i++) hold(&other, ids[i]);
    road_open(&(struct predict_config){.timeout_ms = 2000, .resolve = resolve}, NULL);
}

static void open_road(enum manner manner)
{
    open_road_to(manner, false);
}

static int set_up(void **state)
{
    (void)state;
    road_begin();
    redis = redis_fixture_connect();
    memset(&trial, 0, sizeof trial);
    with_canary = with_shadow = false;
    for (size_t i = 0; i < ROLLOUT_ARMS; i++) id_new(ids[i], "ver");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    road_close();
    peer_stop(&primary);
    peer_stop(&other);
    redis_free(redis);
    return 0;
}

static void set_shadow(double share, double tolerance)
{
    with_shadow = true;
    trial.shadow_share = share;
    trial.shadow_tolerance = tolerance;
}

/* One after another on one connection. The status of the last. */
static int call(int times, const char *expected)
{
    struct client c;
    int status = 0;
    client_open(&c, road_port);
    for (int i = 0; i < times; i++) {
        struct reply r;
        send_post(&c, "/tfs/sums", tfs);
        client_reply(&c, &r, false);
        status = r.status;
        if (expected && (r.status != 200 || strcmp(r.body.data, expected) != 0))
            fail_msg("%d %s", r.status, r.body.data);
        reply_dispose(&r);
    }
    client_close(&c);
    return status;
}
static const char right[] = "{\"predictions\":[3,70]}";

/* ---- what reached Redis */

static int add_writer(void *arg, const char *writer, const struct rollout_counts *c, struct err *e)
{
    (void)writer, (void)e;
    rollout_add(arg, c);
    return 0;
}

static struct rollout_counts counts(void)
{
    struct rollout_id id = {.model = "sums", .alias = "live", .etag = 5};
    struct rollout_counts sum = {0};
    memcpy(id.tenant_id, road_caller.tenant_id, ID_MAX);
    assert_int_equal(rollout_read(redis, &id, add_writer, &sum, NULL), 0);
    return sum;
}

/* Every call has left its mark. */
struct expected {
    int64_t calls, shadows; /* shadows: compared, failed or skipped */
};

static bool are_counted(void *arg)
{
    const struct expected *e = arg;
    struct rollout_counts c = counts();
    return c.arm[ROLLOUT_PRIMARY].requests + c.arm[ROLLOUT_CANARY].requests == e->calls &&
           c.compared + c.skipped + c.arm[ROLLOUT_SHADOW].errors == e->shadows;
}

static struct rollout_counts wait_counts(int64_t calls, int64_t shadows)
{
    struct expected e = {calls, shadows};
    wait_until(are_counted, &e, "the counts never came to what was called");
    return counts();
}

/* The first calls find no link yet; they are not what is tested. */
static bool is_linked(void *arg)
{
    (void)arg;
    call(1, right);
    return other.popped > 0;
}

/* As many calls as a worker may have copies of one tenant: however slow it is, none is left out. */
enum { FEW = SHADOW_BUSY / 2 };

/* What was counted until the link was there. */
static struct rollout_counts link_up_first(void)
{
    wait_until(is_linked, NULL, "no copy ever came");
    return wait_counts(primary.popped, primary.popped);
}

/* ---- tests */

static void a_shadow_that_agrees_is_compared_and_nothing_else(void **state)
{
    (void)state;
    set_shadow(1, 0);
    open_road(ANSWER);
    int64_t skipped = link_up_first().skipped, before = primary.popped;
    call(FEW, right);
    struct rollout_counts c = wait_counts(before + FEW, before + FEW);
    assert_int_equal(c.skipped, skipped);
    assert_int_equal(c.compared, before + FEW - skipped);
    assert_int_equal(c.disagreements, 0);
    assert_int_equal(c.arm[ROLLOUT_SHADOW].requests, c.compared);
    assert_int_equal(c.arm[ROLLOUT_SHADOW].errors, 0);
    assert_true(rollout_quantile_us(&c.arm[ROLLOUT_PRIMARY], 0.99) > 0);
    assert_true(rollout_quantile_us(&c.arm[ROLLOUT_SHADOW], 0.99) > 0);
}

static void expect_usage(enum rollout_arm arm, int64_t requests)
{
    wait_usage(road_inc, ids[arm], requests);
    struct usage_total t = usage_in_redis(road_inc, ids[arm]);
    assert_int_equal(t.rows, 2 * requests);
    assert_int_equal(t.compute_us, 2 * requests * PEER_ROW_US);
    assert_string_equal(t.tenant_id, road_caller.tenant_id);
}

static void a_shadow_is_billed_for_what_it_computed_as_the_primary_is(void **state)
{
    (void)state;
    set_shadow(1, 0);
    open_road(ANSWER_MORE);
    link_up_first();
    call(FEW, right);
    wait_counts(primary.popped, primary.popped);
    expect_usage(ROLLOUT_PRIMARY, primary.popped);
    expect_usage(ROLLOUT_SHADOW, other.popped);
    assert_in_range(other.popped, FEW, primary.popped);
}

static void a_shadow_that_gives_no_answer_is_not_billed(void **state)
{
    (void)state;
    set_shadow(1, 0);
    open_road(SAY_INTERNAL);
    wait_until(is_linked, NULL, "no copy ever came");
    int calls = primary.popped;
    other.manner = SAY_INVALID;
    call(3, right);
    wait_counts(calls + 3, calls + 3);
    other.manner = ANSWER;
    call(1, right);
    wait_counts(calls + 4, calls + 4);
    expect_usage(ROLLOUT_SHADOW, 1);
    expect_usage(ROLLOUT_PRIMARY, calls + 4);
}

static bool has_said_that_it_counts(void *arg)
{
    return redis_fixture_int("EXISTS %s", (char *)arg) == 1;
}

/* No later answer carries it along, nor does the biller's next look at Redis: that was just now. */
static void what_a_shadow_computed_last_is_billed_though_the_gateway_stops(void **state)
{
    (void)state;
    set_shadow(1, 0);
    open_road(ANSWER);
    char key[USAGE_KEY_MAX];
    link_up_first();
    usage_counting_key(key, road_inc);
    wait_until(has_said_that_it_counts, key, "the gateway never said that it counts");
    assert_int_equal(redis_fixture_int("DEL %s", key), 1);
    wait_until(has_said_that_it_counts, key, "the gateway never said again that it counts");
    call(1, right);
    wait_counts(primary.popped, primary.popped);
    road_close();
    expect_usage(ROLLOUT_SHADOW, other.popped);
    expect_usage(ROLLOUT_PRIMARY, primary.popped);
}

static void a_shadow_that_differs_changes_no_answer_and_is_told_of(void **state)
{
    (void)state;
    set_shadow(1, 0.5);
    open_road(ANSWER_MORE);
    link_up_first();
    call(FEW, right);
    struct rollout_counts c = wait_counts(primary.popped, primary.popped);
    assert_in_range(c.compared, FEW, 10000);
    assert_int_equal(c.disagreements, c.compared);
    assert_true(c.largest_difference == 1);
}

static void a_tolerance_lets_small_differences_pass(void **state)
{
    (void)state;
    set_shadow(1, 1);
    open_road(ANSWER_MORE);
    struct rollout_counts c = link_up_first();
    assert_int_equal(c.disagreements, 0);
    assert_true(c.largest_difference == 1);
}

static bool has_its_share(void *arg)
{
    (void)arg;
    struct rollout_counts c = counts();
    return c.arm[ROLLOUT_PRIMARY].requests == primary.popped && c.compared + c.skipped >= primary.popped / 4;
}

static void a_shadow_gets_its_share_of_the_calls(void **state)
{
    (void)state;
    set_shadow(0.25, 0);
    open_road(ANSWER);
    wait_until(is_linked, NULL, "no copy ever came");
    call(40, right);
    wait_until(has_its_share, NULL, "the shadow never got its share");
    struct rollout_counts c = counts();
    assert_in_range(c.compared + c.skipped, primary.popped / 4,
                    primary.popped / 4 + 1); /* it begins at random */
}

static void a_shadow_that_nobody_holds_is_loaded_and_no_call_waits_for_it(void **state)
{
    (void)state;
    set_shadow(1, 0);
    open_road_to(ANSWER, true);
    call(1, right);
    wait_until(is_linked, NULL, "the shadow was never loaded");
    assert_in_range(other.place_orders, 1, 3);
    struct rollout_counts c = wait_counts(primary.popped, primary.popped);
    assert_in_range(c.skipped, 1, primary.popped - 1);
    assert_int_equal(c.arm[ROLLOUT_SHADOW].errors, 0);
}

static void a_shadow_that_fails_or_refuses_is_an_error_or_another_answer(void **state)
{
    (void)state;
    set_shadow(1, 0);
    open_road(SAY_INTERNAL);
    wait_until(is_linked, NULL, "no copy ever came");
    int64_t calls = primary.popped;
    struct rollout_counts c = wait_counts(calls, calls);
    assert_int_equal(c.arm[ROLLOUT_SHADOW].errors, other.popped);
    assert_int_equal(c.compared, 0);
    other.manner = SAY_INVALID;
    call(5, right);
    c = wait_counts(calls + 5, calls + 5);
    assert_int_equal(c.disagreements, 5);
    assert_int_equal(c.compared, 5);
}

static bool is_full(void *arg)
{
    (void)arg;
    call(1, right);
    return other.popped >= FEW;
}

static void a_shadow_that_never_answers_holds_nobody_up_and_is_bounded(void **state)
{
    (void)state;
    set_shadow(1, 0);
    open_road(SWALLOW);
    wait_until(is_full, NULL, "no copies came");
    int64_t start = clock_mono_ms();
    call(50, right);
    assert_in_range(clock_mono_ms() - start, 0, 1500); /* none waited for a deadline of 2 s */
    assert_int_equal(other.popped, FEW);
    struct rollout_counts c =
        wait_counts(primary.popped, primary.popped); /* the deadline makes them errors */
    assert_int_equal(c.arm[ROLLOUT_SHADOW].errors, FEW);
    assert_int_equal(c.arm[ROLLOUT_PRIMARY].errors, 0);
}

static void a_shadow_whose_worker_is_lost_is_dropped_uncounted(void **state)
{
    (void)state;
    set_shadow(1, 0);
    open_road(SWALLOW);
    wait_until(is_linked, NULL, "no copy ever came");
    peer_hang_up(&other);
    call(5, right);
    struct rollout_counts c = counts();
    assert_int_equal(c.arm[ROLLOUT_SHADOW].errors, 0);
}

static void a_canarys_failures_and_the_primarys_answers_are_counted_apart(void **state)
{
    (void)state;
    with_canary = true;
    trial.canary_share = 0.5;
    open_road(SAY_INTERNAL);
    call(20, NULL);
    struct rollout_counts c = wait_counts(20, 0);
    assert_int_equal(c.arm[ROLLOUT_CANARY].requests, 10);
    assert_int_equal(c.arm[ROLLOUT_CANARY].errors, 10);
    assert_int_equal(c.arm[ROLLOUT_PRIMARY].requests, 10);
    assert_int_equal(c.arm[ROLLOUT_PRIMARY].errors, 0);
}

static void a_clients_mistake_is_no_versions_error(void **state)
{
    (void)state;
    with_canary = true;
    trial.canary_share = 0.5;
    open_road(SAY_INVALID);
    call(20, NULL);
    struct rollout_counts c = wait_counts(10, 0);
    assert_int_equal(c.arm[ROLLOUT_CANARY].requests, 0);
    assert_int_equal(c.arm[ROLLOUT_PRIMARY].requests, 10);
}

static void answers_beyond_the_limit_of_latency_are_slow(void **state)
{
    (void)state;
    trial.slow_us = 1; /* no link is that fast */
    open_road(ANSWER);
    call(10, right);
    struct rollout_counts c = wait_counts(10, 0);
    assert_int_equal(c.arm[ROLLOUT_PRIMARY].slow, 10);
}

static void a_client_that_leaves_a_late_call_tells_that_it_was_slow(void **state)
{
    (void)state;
    struct client c;
    trial.slow_us = 1;
    open_road(ANSWER);
    primary.manner = SWALLOW;
    client_open(&c, road_port);
    send_post(&c, "/tfs/sums", tfs);
    wait_until(has_popped, &primary, "the call never came");
    client_close(&c);
    struct rollout_counts seen = wait_counts(1, 0);
    assert_int_equal(seen.arm[ROLLOUT_PRIMARY].slow, 1);
    assert_int_equal(seen.arm[ROLLOUT_PRIMARY].errors, 0);
}

static void an_emptied_redis_has_all_counts_again_after_the_next_call(void **state)
{
    (void)state;
    open_road(ANSWER);
    call(5, right);
    wait_counts(5, 0);
    struct rollout_id id = {.model = "sums", .alias = "live", .etag = 5};
    char key[ROLLOUT_KEY_MAX];
    memcpy(id.tenant_id, road_caller.tenant_id, ID_MAX);
    rollout_key(key, &id);
    assert_int_equal(redis_fixture_int("DEL %s", key), 1);
    call(1, right);
    wait_counts(6, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_shadow_that_agrees_is_compared_and_nothing_else),
        TEST(a_shadow_is_billed_for_what_it_computed_as_the_primary_is),
        TEST(a_shadow_that_gives_no_answer_is_not_billed),
        TEST(what_a_shadow_computed_last_is_billed_though_the_gateway_stops),
        TEST(a_shadow_that_differs_changes_no_answer_and_is_told_of),
        TEST(a_tolerance_lets_small_differences_pass),
        TEST(a_shadow_gets_its_share_of_the_calls),
        TEST(a_shadow_that_nobody_holds_is_loaded_and_no_call_waits_for_it),
        TEST(a_shadow_that_fails_or_refuses_is_an_error_or_another_answer),
        TEST(a_shadow_that_never_answers_holds_nobody_up_and_is_bounded),
        TEST(a_shadow_whose_worker_is_lost_is_dropped_uncounted),
        TEST(a_canarys_failures_and_the_primarys_answers_are_counted_apart),
        TEST(a_clients_mistake_is_no_versions_error),
        TEST(answers_beyond_the_limit_of_latency_are_slow),
        TEST(a_client_that_leaves_a_late_call_tells_that_it_was_slow),
        TEST(an_emptied_redis_has_all_counts_again_after_the_next_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
