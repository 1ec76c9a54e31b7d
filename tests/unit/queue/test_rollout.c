/* The counts of a rollout: their buckets, sums and text, and a hash of them in a real Redis. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "queue/rollout.h"
#include "tests/unit/queue/redis_fixture.h"

static void answered(struct rollout_arm_counts *a, int64_t us, int64_t times)
{
    a->requests += times;
    a->latency[rollout_bucket(us)] += times;
}

static void buckets_grow_with_latency_and_hold_every_one(void **state)
{
    (void)state;
    size_t last = 0;
    for (int64_t us = 0; us < (int64_t)1 << 40; us += us / 64 + 1) {
        size_t bucket = rollout_bucket(us);
        assert_in_range(bucket, last, last + 1);
        assert_in_range(bucket, 0, ROLLOUT_BUCKETS - 1);
        last = bucket;
    }
    assert_int_equal(last, ROLLOUT_BUCKETS - 1);
    assert_int_equal(rollout_bucket(INT64_MAX), ROLLOUT_BUCKETS - 1);
    assert_int_equal(rollout_bucket(-5), 0);
}

static void a_quantile_is_within_a_buckets_width_of_the_truth(void **state)
{
    (void)state;
    for (int64_t us = 20; us < 60000000; us = us * 3 / 2 + 1) {
        struct rollout_arm_counts a = {0};
        answered(&a, us, 980);
        answered(&a, us * 10, 20);
        assert_true((double)rollout_quantile_us(&a, 0.5) > 0.79 * (double)us);
        assert_true((double)rollout_quantile_us(&a, 0.5) < 1.26 * (double)us);
        if (us * 10 > 60000000) continue;
        assert_true((double)rollout_quantile_us(&a, 0.99) > 7.9 * (double)us);
        assert_true((double)rollout_quantile_us(&a, 0.99) < 12.6 * (double)us);
    }
    struct rollout_arm_counts none = {.requests = 5, .errors = 5};
    assert_int_equal(rollout_quantile_us(&none, 0.99), 0);
}

static struct rollout_counts some(void)
{
    struct rollout_counts c = {.skipped = 3, .compared = 40, .disagreements = 2, .largest_difference = 0.125};
    answered(&c.arm[ROLLOUT_PRIMARY], 300, 90);
    answered(&c.arm[ROLLOUT_PRIMARY], 5000, 10);
    answered(&c.arm[ROLLOUT_SHADOW], 0, 7);
    answered(&c.arm[ROLLOUT_SHADOW], INT64_MAX, 1);
    c.arm[ROLLOUT_CANARY].requests = c.arm[ROLLOUT_CANARY].errors = 4;
    c.arm[ROLLOUT_PRIMARY].slow = 10;
    return c;
}

static void counts_read_back_as_they_were_written(void **state)
{
    (void)state;
    struct rollout_counts c = some(), back;
    struct buf text = {0};
    struct err e;
    rollout_encode(&text, &c);
    if (rollout_decode(&back, text.data, &e)) fail_msg("%s: %s", text.data, e.message);
    assert_memory_equal(&c, &back, sizeof c);
    buf_dispose(&text);
}

static void a_text_that_is_cut_or_lengthened_anywhere_is_refused(void **state)
{
    (void)state;
    struct rollout_counts c = some(), back;
    struct buf text = {0};
    rollout_encode(&text, &c);
    char *copy = mem_strdup(text.data);
    for (size_t len = 0; len < text.len; len++) {
        if (len > 0 && copy[len - 1] != ' ' && copy[len] != ' ') continue; /* a shorter number is a number */
        memcpy(copy, text.data, text.len + 1);
        copy[len] = '\0';
        assert_int_equal(rollout_decode(&back, copy, NULL), ERR_CORRUPT);
    }
    mem_free(copy);
    buf_str(&text, " 1");
    assert_int_equal(rollout_decode(&back, text.data, NULL), ERR_CORRUPT);
    static const char *const junk[] = {"x",
                                       "-1 0 0 0",
                                       "0 0 0 nan",
                                       "0 0 0 -1 0 0 0 0 0 0 0 0 0 0 0 0",
                                       "0 0 0 0 0 0 0 1 90 1 0 0 0 0 0 0 0 0",
                                       "9223372036854775807 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0",
                                       "99999999999999999999999 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0"};
    for (size_t i = 0; i < sizeof junk / sizeof *junk; i++)
        assert_int_equal(rollout_decode(&back, junk[i], NULL), ERR_CORRUPT);
    assert_int_equal(rollout_decode(&back, "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0", NULL), 0);
    buf_dispose(&text);
}

static void sums_add_everything_and_keep_the_largest_difference(void **state)
{
    (void)state;
    struct rollout_counts sum = some(), more = some();
    more.largest_difference = 7;
    rollout_add(&sum, &more);
    assert_int_equal(sum.skipped, 6);
    assert_int_equal(sum.compared, 80);
    assert_int_equal(sum.disagreements, 4);
    assert_true(sum.largest_difference == 7);
    assert_int_equal(sum.arm[ROLLOUT_PRIMARY].requests, 200);
    assert_int_equal(sum.arm[ROLLOUT_PRIMARY].slow, 20);
    assert_int_equal(sum.arm[ROLLOUT_PRIMARY].latency[rollout_bucket(300)], 180);
    assert_int_equal(sum.arm[ROLLOUT_CANARY].errors, 8);
}

static void a_hash_gives_every_writers_counts_and_no_other_etags(void **state)
{
    (void)state;
    struct redis *r = redis_fixture_connect();
    struct rollout_id id = {.model = "iris", .alias = "live", .etag = 7}, other;
    struct rollout_counts c = some();
    struct rollout_row *rows;
    struct buf text = {0};
    struct err e;
    char key[ROLLOUT_KEY_MAX];
    size_t n;
    id_new(id.tenant_id, "ten_");
    rollout_encode(&text, &c);
    rollout_key(key, &id);
    redis_fixture_flush();
    assert_int_equal(
        redis_call(r, NULL, &e, "HSET %s %s %s %s %s %s junk", key, "a 1", text.data, "b 1", text.data, "c"),
        0);
    assert_int_equal(rollout_read(r, &id, &rows, &n, &e), 0);
    assert_int_equal(n, 2); /* junk is nobody's counts */
    assert_memory_equal(&rows[0].counts, &c, sizeof c);
    assert_true(strcmp(rows[0].writer, "a 1") == 0 || strcmp(rows[1].writer, "a 1") == 0);
    mem_free(rows);
    other = id;
    other.etag = 8;
    assert_int_equal(rollout_read(r, &other, &rows, &n, &e), 0);
    assert_int_equal(n, 0);
    mem_free(rows);
    buf_dispose(&text);
    redis_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buckets_grow_with_latency_and_hold_every_one),
        cmocka_unit_test(a_quantile_is_within_a_buckets_width_of_the_truth),
        cmocka_unit_test(counts_read_back_as_they_were_written),
        cmocka_unit_test(a_text_that_is_cut_or_lengthened_anywhere_is_refused),
        cmocka_unit_test(sums_add_everything_and_keep_the_largest_difference),
        cmocka_unit_test(a_hash_gives_every_writers_counts_and_no_other_etags),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
