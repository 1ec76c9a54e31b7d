/* The counts of a rollout: their buckets, sums and text, and a hash of them in a real Redis. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "queue/redis_clock.h"
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
    int64_t written_ms;
    rollout_encode(&text, &c, 1800000000123);
    if (rollout_decode(&back, &written_ms, text.data, &e)) fail_msg("%s: %s", text.data, e.message);
    assert_memory_equal(&c, &back, sizeof c);
    assert_int_equal(written_ms, 1800000000123);
    buf_dispose(&text);
}

static void a_text_that_is_cut_or_lengthened_anywhere_is_refused(void **state)
{
    (void)state;
    struct rollout_counts c = some(), back;
    struct buf text = {0};
    int64_t written_ms;
    rollout_encode(&text, &c, 1800000000123);
    char *copy = mem_strdup(text.data);
    for (size_t len = 0; len < text.len; len++) {
        if (len > 0 && copy[len - 1] != ' ' && copy[len] != ' ') continue; /* a shorter number is a number */
        memcpy(copy, text.data, text.len + 1);
        copy[len] = '\0';
        assert_int_equal(rollout_decode(&back, &written_ms, copy, NULL), ERR_CORRUPT);
    }
    mem_free(copy);
    buf_str(&text, " 1");
    assert_int_equal(rollout_decode(&back, &written_ms, text.data, NULL), ERR_CORRUPT);
    static const char *const junk[] = {"x",
                                       "-1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0",
                                       "5 -1 0 0 0",
                                       "0 0 0 0 nan",
                                       "0 0 0 0 -1 0 0 0 0 0 0 0 0 0 0 0 0",
                                       "0 0 0 0 0 0 0 0 1 90 1 0 0 0 0 0 0 0 0",
                                       "0 9223372036854775807 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0",
                                       "0 99999999999999999999999 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0"};
    for (size_t i = 0; i < sizeof junk / sizeof *junk; i++)
        assert_int_equal(rollout_decode(&back, &written_ms, junk[i], NULL), ERR_CORRUPT);
    assert_int_equal(rollout_decode(&back, &written_ms, "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0", NULL), 0);
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

/* ---- in Redis ---- */

static struct redis *redis;
static struct rollout_id id;
static char key[ROLLOUT_KEY_MAX];

static int set_up(void **state)
{
    (void)state;
    redis_fixture_start();
    redis_fixture_flush();
    redis = redis_fixture_connect();
    id = (struct rollout_id){.model = "iris", .alias = "live", .etag = 7};
    id_new(id.tenant_id, "ten_");
    rollout_key(key, &id);
    return redis_clock_measure(redis, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    redis_free(redis);
    return 0;
}

/* As a loop does, so long ago. */
static void write_counts(const char *writer, const struct rollout_counts *c, int64_t ago_ms)
{
    struct buf text = {0};
    struct err e;
    rollout_encode(&text, c, redis_clock_us() / 1000 - ago_ms);
    if (redis_call(redis, NULL, &e, "HSET %s %s %s", key, writer, text.data)) fail_msg("%s", e.message);
    buf_dispose(&text);
}

/* What one reading told. */
struct told {
    size_t writers, ends;
    struct rollout_counts living, gone;
    char last[ROLLOUT_WRITER_MAX];
};

static int tell(void *arg, const char *writer, const struct rollout_counts *counts, struct err *e)
{
    struct told *t = arg;
    (void)e;
    assert_int_equal(t->ends, 0); /* those that are gone come last */
    rollout_add(writer ? &t->living : &t->gone, counts);
    t->writers += writer != NULL;
    t->ends += writer == NULL;
    if (writer) snprintf(t->last, sizeof t->last, "%s", writer);
    return 0;
}

static struct told read_all(void)
{
    struct told t = {0};
    struct err e;
    if (rollout_read(redis, &id, tell, &t, &e)) fail_msg("%s", e.message);
    assert_int_equal(t.ends, 1);
    return t;
}

static long long fields(void)
{
    return redis_fixture_int("HLEN %s", key);
}

static void a_hash_gives_every_writers_counts_and_no_other_etags(void **state)
{
    (void)state;
    struct rollout_counts c = some(), twice = some();
    static const struct rollout_counts none;
    rollout_add(&twice, &c);
    write_counts("a 1", &c, 0);
    write_counts("b 1", &c, ROLLOUT_QUIET_MS);
    redis_fixture_int("HSET %s c junk", key);
    struct told t = read_all();
    assert_int_equal(t.writers, 2); /* junk is nobody's counts */
    assert_memory_equal(&t.living, &twice, sizeof twice);
    assert_memory_equal(&t.gone, &none, sizeof none);
    assert_int_equal(fields(), 3);
    id.etag = 8;
    assert_int_equal(read_all().writers, 0);
}

static void however_many_write_each_is_told(void **state)
{
    (void)state;
    enum { MANY = 6000 };
    struct rollout_counts c = {.skipped = 1};
    char writer[ROLLOUT_WRITER_MAX];
    for (int i = 0; i < MANY; i++) {
        snprintf(writer, sizeof writer, "inc_%d 1", i);
        write_counts(writer, &c, 0);
    }
    struct told t = read_all();
    assert_int_equal(t.writers, MANY);
    assert_int_equal(t.living.skipped, MANY);
}

static void fields_of_loops_that_are_gone_become_one_and_nothing_is_lost(void **state)
{
    (void)state;
    enum { DAYS = 40, LOOPS = 20 };
    struct rollout_counts c = {.skipped = 1}, written = {0};
    char writer[ROLLOUT_WRITER_MAX];
    answered(&c.arm[ROLLOUT_CANARY], 300, 2);
    c.arm[ROLLOUT_CANARY].errors = 1;
    for (int day = 0; day < DAYS; day++)
        for (int i = 0; i < LOOPS; i++) { /* new ones each day, and each day somebody reads */
            snprintf(writer, sizeof writer, "inc_%d_%d 1", day, i);
            c.largest_difference = day;
            write_counts(writer, &c, day < DAYS - 1 ? ROLLOUT_LIFE_MS + 1000 : 0);
            rollout_add(&written, &c);
            if (i < LOOPS - 1) continue;
            struct told t = read_all();
            rollout_add(&t.living, &t.gone);
            assert_memory_equal(&t.living, &written, sizeof written);
        }
    assert_int_equal(fields(), LOOPS + 1);
    struct told t = read_all();
    assert_int_equal(t.writers, LOOPS);
    assert_int_equal(t.gone.skipped, (DAYS - 1) * LOOPS);
}

static void a_heap_of_old_fields_is_gone_after_a_few_readings(void **state)
{
    (void)state;
    enum { MANY = 1000 };
    struct rollout_counts c = {.skipped = 1};
    char writer[ROLLOUT_WRITER_MAX];
    for (int i = 0; i < MANY; i++) {
        snprintf(writer, sizeof writer, "inc_%d 1", i);
        write_counts(writer, &c, ROLLOUT_LIFE_MS + 1000);
    }
    for (int i = 0; i < 5; i++) {
        struct told t = read_all();
        assert_int_equal(t.living.skipped + t.gone.skipped, MANY);
    }
    assert_int_equal(fields(), 1);
}

/* Another reader comes between the reading and the folding of the first one, and finds a field more. */
static int read_inside(void *arg, const char *writer, const struct rollout_counts *counts, struct err *e)
{
    struct rollout_counts c = {.skipped = 3};
    (void)counts, (void)e;
    bool *first = arg;
    if (!writer && *first) {
        *first = false;
        write_counts("b 1", &c, ROLLOUT_LIFE_MS + 1000);
        assert_int_equal(read_all().gone.skipped, 6);
    }
    return 0;
}

static void two_readers_at_once_lose_nothing_and_count_nothing_twice(void **state)
{
    (void)state;
    struct rollout_counts c = {.skipped = 3};
    bool first = true;
    write_counts("a 1", &c, ROLLOUT_LIFE_MS + 1000);
    assert_int_equal(rollout_read(redis, &id, read_inside, &first, NULL), 0);
    assert_int_equal(read_all().gone.skipped, 6);
    assert_int_equal(fields(), 1);
}

static int empty_inside(void *arg, const char *writer, const struct rollout_counts *counts, struct err *e)
{
    (void)arg, (void)writer, (void)counts, (void)e;
    redis_fixture_flush();
    return 0;
}

static void a_hash_that_is_lost_meanwhile_does_not_come_back_for_good(void **state)
{
    (void)state;
    struct rollout_counts c = {.skipped = 3};
    write_counts("a 1", &c, ROLLOUT_LIFE_MS + 1000);
    assert_int_equal(rollout_read(redis, &id, empty_inside, NULL, NULL), 0);
    assert_int_equal(fields(), 0); /* nobody would ever take it away */
}

static int refuse(void *arg, const char *writer, const struct rollout_counts *counts, struct err *e)
{
    (void)arg, (void)writer, (void)counts;
    return err_set(e, ERR_NOMEM, NULL, "enough");
}

static void a_reader_that_has_enough_changes_nothing(void **state)
{
    (void)state;
    struct rollout_counts c = {.skipped = 3};
    write_counts("a 1", &c, ROLLOUT_LIFE_MS + 1000);
    assert_int_equal(read_all().gone.skipped, 3);
    write_counts("b 1", &c, ROLLOUT_LIFE_MS + 1000);
    for (int i = 0; i < 20; i++) write_counts(i % 2 ? "c 1" : "d 1", &c, 0);
    assert_int_equal(rollout_read(redis, &id, refuse, NULL, NULL), ERR_NOMEM);
    struct told t = read_all();
    assert_int_equal(t.gone.skipped, 6);
    assert_int_equal(t.living.skipped, 6);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buckets_grow_with_latency_and_hold_every_one),
        cmocka_unit_test(a_quantile_is_within_a_buckets_width_of_the_truth),
        cmocka_unit_test(counts_read_back_as_they_were_written),
        cmocka_unit_test(a_text_that_is_cut_or_lengthened_anywhere_is_refused),
        cmocka_unit_test(sums_add_everything_and_keep_the_largest_difference),
        TEST(a_hash_gives_every_writers_counts_and_no_other_etags),
        TEST(however_many_write_each_is_told),
        TEST(fields_of_loops_that_are_gone_become_one_and_nothing_is_lost),
        TEST(a_heap_of_old_fields_is_gone_after_a_few_readings),
        TEST(two_readers_at_once_lose_nothing_and_count_nothing_twice),
        TEST(a_hash_that_is_lost_meanwhile_does_not_come_back_for_good),
        TEST(a_reader_that_has_enough_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
