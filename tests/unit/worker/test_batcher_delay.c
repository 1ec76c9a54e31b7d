/* Batches that are held back for company: until they are full, due, or a deadline is near; and against a
 * plain model of the rules, in made-up time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/crypto.h"
#include "queue/redis_clock.h"
#include "worker/batcher.h"

enum { VERSIONS = 12, TENANTS = 5, ROWS_MAX = 32, TOTAL = 30000, LIVE_MAX = 512, FAR_US = 60 * 1000000 };
static char versions[VERSIONS][ID_MAX];

static int set_up(void **state)
{
    (void)state;
    crypto_init();
    for (int i = 0; i < VERSIONS; i++) id_new(versions[i], "ver");
    return 0;
}

/* A request as a gateway's settings make it, at a time of the test's. */
static struct work *a_work(int version, uint64_t id, uint32_t rows, uint32_t max_rows, uint32_t delay_us,
                           int64_t now_us)
{
    struct message m = {.type = MESSAGE_PREDICT};
    m.predict.request_id = id;
    m.predict.rows = rows;
    m.predict.max_batch_rows = max_rows;
    m.predict.max_queue_delay_us = delay_us;
    m.predict.deadline_us = redis_clock_us() + FAR_US;
    memcpy(m.predict.version_id, versions[version], ID_MAX);
    struct work *w = work_create(&m, NULL, NULL);
    w->arrived_us = now_us;
    w->due_us = now_us + delay_us;
    w->deadline_us = now_us + FAR_US;
    return w;
}

static void put(struct batcher *b, struct work *w)
{
    assert_int_equal(batcher_put(b, w, NULL), 0);
}

static void free_list(struct work *first)
{
    for (struct work *next; first; first = next) {
        next = first->next;
        work_free(first);
    }
}

/* Nothing is ready now, and something will be at due_us. */
static void expect_held(struct batcher *b, int64_t now_us, int64_t due_us)
{
    struct work *batch, *expired;
    assert_false(batcher_take(b, now_us, &batch, &expired));
    assert_int_equal(batcher_due_us(b), due_us);
}

static void expect_batch(struct batcher *b, int64_t now_us, size_t n)
{
    struct work *batch, *expired;
    size_t len = 0;
    assert_true(batcher_take(b, now_us, &batch, &expired));
    assert_null(expired);
    for (const struct work *w = batch; w; w = w->next) len++;
    assert_int_equal(len, n);
    free_list(batch);
}

static void without_a_delay_nothing_waits(void **state)
{
    (void)state;
    struct batcher *b = batcher_create(100, 1 << 20, ROWS_MAX);
    put(b, a_work(0, 1, 1, 0, 0, 1000));
    assert_int_equal(batcher_due_us(b), 0);
    expect_batch(b, 1000, 1);
    assert_int_equal(batcher_due_us(b), INT64_MAX);
    batcher_free(b);
}

static void a_held_version_waits_for_its_oldest_requests_delay_and_no_longer(void **state)
{
    (void)state;
    struct batcher *b = batcher_create(100, 1 << 20, ROWS_MAX);
    put(b, a_work(0, 1, 1, 0, 500, 1000));
    put(b, a_work(0, 2, 1, 0, 500, 1400));
    expect_held(b, 1400, 1500);
    expect_held(b, 1499, 1500);
    expect_batch(b, 1500, 2);
    assert_int_equal(batcher_due_us(b), INT64_MAX);
    batcher_free(b);
}

static void a_full_batch_does_not_wait_and_the_rest_does(void **state)
{
    (void)state;
    struct batcher *b = batcher_create(100, 1 << 20, ROWS_MAX);
    for (uint64_t i = 0; i < 5; i++) put(b, a_work(0, i, 2, 8, 500, 1000 + (int64_t)i));
    assert_int_equal(batcher_due_us(b), 0);
    expect_batch(b, 1004, 4);
    expect_held(b, 1004, 1504); /* the fifth's own time */
    expect_batch(b, 1504, 1);
    batcher_free(b);
}

static void a_request_that_does_not_wait_takes_those_along_that_do(void **state)
{
    (void)state;
    struct batcher *b = batcher_create(100, 1 << 20, ROWS_MAX);
    put(b, a_work(0, 1, 1, 0, 500, 1000));
    put(b, a_work(0, 2, 1, 0, 0, 1100));
    expect_batch(b, 1100, 2);
    batcher_free(b);
}

static void a_held_version_does_not_hold_others(void **state)
{
    (void)state;
    struct batcher *b = batcher_create(100, 1 << 20, ROWS_MAX);
    put(b, a_work(0, 1, 1, 0, 90000, 1000));
    put(b, a_work(1, 2, 1, 0, 0, 1001));
    put(b, a_work(2, 3, 1, 0, 200, 1002));
    expect_batch(b, 1002, 1);
    expect_held(b, 1002, 1202);
    expect_batch(b, 1202, 1);
    expect_held(b, 1202, 91000);
    batcher_free(b);
}

static void no_batch_is_larger_than_any_of_its_requests_allows(void **state)
{
    (void)state;
    struct batcher *b = batcher_create(100, 1 << 20, ROWS_MAX);
    put(b, a_work(0, 1, 4, 0, 0, 1000));
    put(b, a_work(0, 2, 4, 8, 0, 1000));
    put(b, a_work(0, 3, 4, 0, 0, 1000)); /* it would make twelve */
    expect_batch(b, 1000, 2);
    put(b, a_work(0, 4, 4, 4, 0, 1000));
    expect_batch(b, 1000, 1);
    put(b, a_work(0, 5, 100, 4096, 0, 1000)); /* more than a batch: alone */
    expect_batch(b, 1000, 1);
    expect_batch(b, 1000, 1);
    batcher_free(b);
}

static void what_is_withdrawn_is_not_waited_for(void **state)
{
    (void)state;
    struct batcher *b = batcher_create(100, 1 << 20, ROWS_MAX);
    put(b, a_work(0, 1, 1, 0, 300, 1000));
    put(b, a_work(0, 2, 1, 0, 900, 1000));
    work_free(batcher_withdraw(b, NULL, 1));
    expect_held(b, 1000, 1900);
    put(b, a_work(0, 3, 7, 8, 900, 1100)); /* full with the second */
    work_free(batcher_withdraw(b, NULL, 3));
    expect_held(b, 1100, 1900);
    work_free(batcher_withdraw(b, NULL, 2));
    assert_int_equal(batcher_due_us(b), INT64_MAX);
    assert_int_equal(batcher_waiting(b), 0);
    batcher_free(b);
}

static void a_deadline_wins_over_a_delay(void **state)
{
    (void)state;
    struct message m = {.type = MESSAGE_PREDICT, .predict = {.rows = 1, .max_queue_delay_us = 100000}};
    m.predict.deadline_us = redis_clock_us() + 20000;
    struct work *w = work_create(&m, NULL, NULL);
    assert_in_range(w->due_us - w->arrived_us, 1, 10000);
    assert_true(w->deadline_us - w->due_us >= w->due_us - w->arrived_us);
    assert_true(w->deadline_us - w->arrived_us <= 20000);
    work_free(w);
    m.predict.deadline_us = INT64_MAX; /* nonsense does no harm */
    w = work_create(&m, NULL, NULL);
    assert_int_equal(w->due_us - w->arrived_us, 100000);
    work_free(w);
    m.predict.deadline_us = redis_clock_us() - 5;
    w = work_create(&m, NULL, NULL);
    assert_int_equal(w->due_us, w->arrived_us);
    work_free(w);
}

/* ---- the model: the requests that wait, in order of arrival, and the rules read off the header ---- */

struct waiting {
    uint64_t id;
    int version, from;
    int64_t rows, cap, due_us, deadline_us;
};
static struct waiting waiting[LIVE_MAX];
static size_t waiting_len;

static void forget(size_t i)
{
    memmove(&waiting[i], &waiting[i + 1], (--waiting_len - i) * sizeof *waiting);
}

static bool model_ready(int version, int64_t now_us)
{
    int64_t rows = 0, cap = INT64_MAX;
    bool due = false;
    for (size_t i = 0; i < waiting_len; i++) {
        if (waiting[i].version != version) continue;
        rows += waiting[i].rows;
        if (waiting[i].cap < cap) cap = waiting[i].cap;
        due |= waiting[i].due_us <= now_us;
    }
    return due || rows >= cap;
}

static int64_t model_next_due(void)
{
    int64_t due = INT64_MAX;
    for (size_t i = 0; i < waiting_len; i++)
        if (waiting[i].due_us < due) due = waiting[i].due_us;
    return due;
}

/* The place of its first one, waiting_len when it has none. */
static size_t model_first(int version)
{
    size_t i = 0;
    while (i < waiting_len && waiting[i].version != version) i++;
    return i;
}

static int version_of(const struct work *w)
{
    for (int i = 0; i < VERSIONS; i++)
        if (strcmp(versions[i], w->message.predict.version_id) == 0) return i;
    return -1;
}

static int froms[TENANTS];

/* The batch is what the model would have taken: its version's next ones in order, that fit, of one version.
 */
static void check_batch(const struct work *batch, int64_t now_us)
{
    int version = version_of(batch);
    int64_t rows = 0, cap = INT64_MAX;
    for (const struct work *w = batch; w; w = w->next) {
        size_t at = model_first(version);
        assert_true(at < waiting_len);
        const struct waiting first = waiting[at];
        assert_int_equal(w->message.predict.request_id, first.id);
        assert_ptr_equal(w->from, &froms[first.from]);
        assert_int_equal(version_of(w), version);
        assert_true(first.deadline_us > now_us);
        rows += first.rows;
        if (first.cap < cap) cap = first.cap;
        forget(at);
    }
    assert_true(rows <= cap || !batch->next);
    size_t next = model_first(version);
    if (next < waiting_len && waiting[next].deadline_us > now_us)
        assert_true(rows + waiting[next].rows > (waiting[next].cap < cap ? waiting[next].cap : cap));
}

static void check_expired(const struct work *expired, int64_t now_us)
{
    for (const struct work *w = expired; w; w = w->next) {
        size_t i = 0;
        while (i < waiting_len && waiting[i].id != w->message.predict.request_id) i++;
        assert_true(i < waiting_len && waiting[i].deadline_us <= now_us);
        forget(i);
    }
}

/* Takes until nothing is ready. A batch takes up to a millisecond to compute. */
static void take_all(struct batcher *b, int64_t *now_us)
{
    struct work *batch, *expired;
    while (batcher_take(b, *now_us, &batch, &expired)) {
        assert_true(model_ready(version_of(batch ? batch : expired), *now_us));
        check_expired(expired, *now_us);
        if (batch) check_batch(batch, *now_us);
        free_list(batch);
        free_list(expired);
        *now_us += random() % 1000;
    }
    for (int i = 0; i < VERSIONS; i++) assert_false(model_ready(i, *now_us));
    assert_int_equal(batcher_due_us(b), model_next_due());
    assert_int_equal(batcher_waiting(b), waiting_len);
}

static void put_some(struct batcher *b, uint64_t id, int64_t now_us)
{
    static const uint32_t delays[] = {0, 0, 50, 1000, 1000, 20000};
    static const uint32_t caps[] = {0, 0, 1, 4, 16, 4096};
    int version = (int)(random() % VERSIONS), from = (int)(random() % TENANTS);
    /* A version's settings are the same for all of its calls, until they change. */
    size_t of = ((size_t)version + (size_t)(id / 3000)) % 6;
    struct work *w =
        a_work(version, id, 1 + (uint32_t)(random() % 6), caps[of], delays[(of * 5) % 6], now_us);
    w->from = &froms[from];
    if (random() % 20 == 0) w->deadline_us = now_us + 1 + random() % 3000;
    if (w->due_us > w->deadline_us) w->due_us = now_us + (w->deadline_us - now_us) / 2;
    int64_t cap = caps[of] && caps[of] < ROWS_MAX ? caps[of] : ROWS_MAX;
    waiting[waiting_len++] = (struct waiting){.id = id,
                                              .version = version,
                                              .from = from,
                                              .rows = w->message.predict.rows,
                                              .cap = cap,
                                              .due_us = w->due_us,
                                              .deadline_us = w->deadline_us};
    put(b, w);
}

static void withdraw_one(struct batcher *b)
{
    size_t i = (size_t)random() % waiting_len;
    struct work *w = batcher_withdraw(b, &froms[waiting[i].from], waiting[i].id);
    assert_non_null(w);
    assert_int_equal(w->message.predict.request_id, waiting[i].id);
    work_free(w);
    forget(i);
}

static void it_does_what_the_rules_say_whatever_comes(void **state)
{
    (void)state;
    struct batcher *b = batcher_create(LIVE_MAX * 2, 1 << 30, ROWS_MAX);
    int64_t now_us = 1;
    srandom(11);
    for (uint64_t id = 1; id <= TOTAL; id++) {
        now_us += random() % 200;
        put_some(b, id, now_us);
        if (random() % 16 == 0) withdraw_one(b);
        if (random() % 3 == 0 || waiting_len > LIVE_MAX - 8) take_all(b, &now_us);
        if (waiting_len > LIVE_MAX - 8) now_us += 20000;
    }
    now_us += FAR_US;
    take_all(b, &now_us);
    assert_int_equal(waiting_len, 0);
    batcher_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_delay_nothing_waits),
        cmocka_unit_test(a_held_version_waits_for_its_oldest_requests_delay_and_no_longer),
        cmocka_unit_test(a_full_batch_does_not_wait_and_the_rest_does),
        cmocka_unit_test(a_request_that_does_not_wait_takes_those_along_that_do),
        cmocka_unit_test(a_held_version_does_not_hold_others),
        cmocka_unit_test(no_batch_is_larger_than_any_of_its_requests_allows),
        cmocka_unit_test(what_is_withdrawn_is_not_waited_for),
        cmocka_unit_test(a_deadline_wins_over_a_delay),
        cmocka_unit_test(it_does_what_the_rules_say_whatever_comes),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
