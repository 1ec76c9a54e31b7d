/* Counting: the exposition's numbers, and the places that a tenant may hold in the pools. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "base/ids.h"
#include "gateway/lanes.h"
#include "gateway/metrics.h"
#include "gateway/route.h"

static const struct route *route_named(const char *pattern)
{
    for (size_t i = 0; i < route_table_len; i++)
        if (strcmp(route_table[i].pattern, pattern) == 0) return &route_table[i];
    fail_msg("no route %s", pattern);
    return NULL;
}

static void assert_line(const struct buf *text, const char *line)
{
    const char *at = strstr(text->data, line);
    if (at == NULL || at[strlen(line)] != '\n' || (at != text->data && at[-1] != '\n'))
        fail_msg("no line %s in:\n%s", line, text->data);
}

static void requests_are_counted_by_route_and_code(void **state)
{
    (void)state;
    struct metrics *m = metrics_create(route_table, route_table_len);
    struct metrics_gauges g = {
        .ready = 1,
        .bulk_waiting = 3,
        .predicts = {
            .answered = 7, .failed = 6, .limited = 1, .overloaded = 2, .timed_out = 2, .compute_us = 1500}};
    struct buf out = {0};
    const struct route *jobs = route_named("/v1/jobs/{job}");
    metrics_request(m, jobs, 200, 700);
    metrics_request(m, jobs, 200, 30000);
    metrics_request(m, jobs, 404, 400);
    metrics_request(m, NULL, 404, 100);
    metrics_request(m, jobs, 299, 100);
    metrics_upload(m, 1 << 20);
    metrics_key_lookup(m, true);
    metrics_write(m, &g, &out);
    assert_line(&out, "tenor_gateway_requests_total{method=\"GET\",route=\"/v1/jobs/{job}\",code=\"200\"} 2");
    assert_line(&out, "tenor_gateway_requests_total{method=\"GET\",route=\"/v1/jobs/{job}\",code=\"404\"} 1");
    assert_line(&out,
                "tenor_gateway_requests_total{method=\"GET\",route=\"/v1/jobs/{job}\",code=\"other\"} 1");
    assert_line(&out, "tenor_gateway_requests_total{method=\"\",route=\"none\",code=\"404\"} 1");
    assert_line(&out, "tenor_gateway_request_duration_seconds_bucket{method=\"GET\",route=\"/v1/jobs/"
                      "{job}\",le=\"0.001\"} 3");
    assert_line(&out, "tenor_gateway_request_duration_seconds_bucket{method=\"GET\",route=\"/v1/jobs/"
                      "{job}\",le=\"+Inf\"} 4");
    assert_line(
        &out, "tenor_gateway_request_duration_seconds_sum{method=\"GET\",route=\"/v1/jobs/{job}\"} 0.031200");
    assert_line(&out, "tenor_gateway_upload_bytes_total 1048576");
    assert_line(&out, "tenor_gateway_pool_waiting{pool=\"bulk\"} 3");
    assert_line(&out, "tenor_gateway_key_lookups_total{result=\"hit\"} 1");
    assert_line(&out, "tenor_gateway_predicts_total{result=\"answered\"} 7");
    assert_line(&out, "tenor_gateway_predicts_total{result=\"timed_out\"} 2");
    assert_line(&out, "tenor_gateway_predicts_total{result=\"failed\"} 1");
    assert_line(&out, "tenor_gateway_predict_compute_seconds_total 0.001500");
    buf_dispose(&out);
    metrics_free(m);
}

static void a_tenant_over_its_places_is_refused_and_others_are_not(void **state)
{
    (void)state;
    const int limits[LANE_COUNT] = {[LANE_CONTROL] = 2, [LANE_BULK] = 1};
    struct lanes *l = lanes_create(limits);
    struct err e = {0};
    assert_int_equal(lanes_enter(l, LANE_CONTROL, "ten_a", 0, &e), 0);
    assert_int_equal(lanes_enter(l, LANE_CONTROL, "ten_a", 0, &e), 0);
    assert_int_equal(lanes_enter(l, LANE_CONTROL, "ten_a", 0, &e), ERR_LIMIT);
    assert_true(e.retry_after_ms > 0);
    assert_int_equal(lanes_enter(l, LANE_BULK, "ten_a", 0, &e), 0);
    assert_int_equal(lanes_enter(l, LANE_CONTROL, "ten_b", 1, &e), 0);
    assert_int_equal(lanes_enter(l, LANE_CONTROL, "ten_b", 1, &e), ERR_LIMIT); /* the plan's own limit */
    lanes_leave(l, LANE_CONTROL, "ten_a");
    assert_int_equal(lanes_enter(l, LANE_CONTROL, "ten_a", 0, &e), 0);
    lanes_free(l);
}

static void places_are_given_back_for_any_number_of_tenants(void **state)
{
    (void)state;
    const int limits[LANE_COUNT] = {1, 1};
    struct lanes *l = lanes_create(limits);
    char id[ID_MAX];
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 1000; i++) {
            snprintf(id, sizeof(id), "ten_%d", i);
            assert_int_equal(lanes_enter(l, LANE_CONTROL, id, 0, NULL), 0);
        }
        for (int i = 999; i >= 0; i--) {
            snprintf(id, sizeof(id), "ten_%d", i);
            lanes_leave(l, LANE_CONTROL, id);
        }
    }
    lanes_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_counted_by_route_and_code),
        cmocka_unit_test(a_tenant_over_its_places_is_refused_and_others_are_not),
        cmocka_unit_test(places_are_given_back_for_any_number_of_tenants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
