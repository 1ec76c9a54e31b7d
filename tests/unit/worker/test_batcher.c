/* The batcher by itself: batches of one version in order, versions in turns, bounds, and expiry. */
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

enum { VERSIONS = 3 };
static char versions[VERSIONS][ID_MAX];

static int set_up(void **state)
{
    (void)state;
    crypto_init();
    for (int i = 0; i < VERSIONS; i++) id_new(versions[i], "ver");
    return 0;
}

static struct work *a_work(int version, uint64_t id, uint32_t rows)
{
    struct message m = {.type = MESSAGE_PREDICT};
    m.predict.request_id = id;
    m.predict.rows = rows;
    m.predict.deadline_us = redis_clock_us() + 60 * 1000000;
    memcpy(m.predict.version_id, versions[version], ID_MAX);
    return work_create(&m, NULL);
}

static void put(struct batcher *b, int version, uint64_t id, uint32_t rows)
{
    assert_int_equal(batcher_put(b, a_work(version, id, rows), NULL), 0);
}

static void free_list(struct work *first)
{
    for (struct work *next; first; first = next) {
        next = first->next;
        work_free(first);
    }
}

/* Takes a batch of which the ids must be these, in order. */
static void expect(struct batcher *b, size_t n, const uint64_t *ids)
{
    struct work *batch, *expired;
    assert_true(batcher_take(b, clock_mono_us(), &batch, &expired));
    assert_null(expired);
    const struct work *w = batch;
    for (size_t i = 0; i < n; i++, w = w->next) {
        assert_non_null(w);
        assert_int_equal(w->message.predict.request_id, ids[i]);
    }
    assert_null(w);
    free_list(batch);
}

static void a_batch_is_filled_with_one_versions_requests_up_to_the_rows(void **state)
{
    (void)state;
    struct batcher *b = batcher_create(100, 1 << 20, 10);
    for (uint64_t i = 0; i < 5; i++) put(b, 0, i, 4);
    expect(b, 2, (const uint64_t[]){0, 1});
    expect(b, 2, (const uint64_t[]){2, 3});
    expect(b, 1, (const uint64_t[]){4});
    batcher_free(b);
}

static void a_request_larger_than_a_batch_goes_alone(void **state)
{
    (void)state;
    struct batcher *b = batcher_create(100, 1 << 20, 256);
    put(b, 0, 1, 1);
    put(b, 0, 2, 1000);
    put(b, 0, 3, 1);
    expect(b, 1, (const uint64_t[]){1});
    expect(b, 1, (const uint64_t[]){2});
    expect(b, 1, (const uint64_t[]){3});
    batcher_free(b);
}

static void versions_take_turns_whoever_has_more(void **state)
{
    (void)state;
    struct batcher *b = batcher_create(100, 1 << 20, 4);
    for (uint64_t i = 0; i < 6; i++) put(b, 0, i, 2);
    put(b, 1, 10, 2);
    put(b, 2, 20, 2);
    expect(b, 2, (const uint64_t[]){0, 1});
    expect(b, 1, (const uint64_t[]){10});
    expect(b, 1, (const uint64_t[]){20});
    expect(b, 2, (const uint64_t[]){2, 3});
    expect(b, 2, (const uint64_t[]){4, 5});
    assert_int_equal(batcher_waiting(b), 0);
    batcher_free(b);
}

static void one_version_cannot_fill_the_queue(void **state)
{
    (void)state;
    struct batcher *b = batcher_create(8, 1 << 20, 256);
    struct err e = {0};
    for (uint64_t i = 0; i < 4; i++) put(b, 0, i, 1);
    struct work *w = a_work(0, 9, 1);
    assert_int_equal(batcher_put(b, w, &e), ERR_OVERLOAD);
    assert_true(e.retry_after_ms > 0);
    work_free(w);
    for (uint64_t i = 0; i < 4; i++) put(b, 1, i, 1);
    w = a_work(2, 9, 1);
    assert_int_equal(batcher_put(b, w, &e), ERR_OVERLOAD);
    work_free(w);
    batcher_free(b);
}

static void bytes_are_bounded_as_well(void **state)
{
    (void)state;
    struct work *w = a_work(0, 1, 1);
    struct batcher *b = batcher_create(100, w->bytes * 4, 1);
    assert_int_equal(batcher_put(b, w, NULL), 0);
    put(b, 0, 2, 1);
    w = a_work(0, 3, 1);
    assert_int_equal(batcher_put(b, w, NULL), ERR_OVERLOAD);
    work_free(w);
    expect(b, 1, (const uint64_t[]){1});
    put(b, 0, 3, 1); /* taken bytes are free again */
    batcher_free(b);
}

static void expired_requests_are_set_apart(void **state)
{
    (void)state;
    struct batcher *b = batcher_create(100, 1 << 20, 256);
    struct work *batch, *expired, *late = a_work(0, 2, 1);
    late->deadline_us = late->due_us = late->arrived_us - 1;
    put(b, 0, 1, 1);
    assert_int_equal(batcher_put(b, late, NULL), 0);
    put(b, 0, 3, 1);
    assert_true(batcher_take(b, clock_mono_us(), &batch, &expired));
    assert_int_equal(expired->message.predict.request_id, 2);
    assert_null(expired->next);
    assert_int_equal(batch->message.predict.request_id, 1);
    assert_int_equal(batch->next->message.predict.request_id, 3);
    free_list(batch);
    free_list(expired);
    batcher_free(b);
}

static void tensors_are_copied_out_of_the_record(void **state)
{
    (void)state;
    char bytes[] = "abcdefgh";
    struct message_tensor t[2] = {
        {.dtype = MESSAGE_UINT8, .ndim = 1, .dims = {4}, .data = bytes, .data_len = 4},
        {.dtype = MESSAGE_UINT8, .ndim = 1, .dims = {4}, .data = bytes + 4, .data_len = 4}};
    struct message m = {.type = MESSAGE_PREDICT, .tensors = t, .tensors_len = 2};
    struct work *w = work_create(&m, NULL);
    memset(bytes, 'x', sizeof bytes);
    assert_memory_equal(w->message.tensors[0].data, "abcd", 4);
    assert_memory_equal(w->message.tensors[1].data, "efgh", 4);
    work_free(w);
}

static void a_withdrawn_request_is_gone_and_its_neighbours_stay(void **state)
{
    (void)state;
    struct batcher *b = batcher_create(100, 1 << 20, 256);
    int me, other;
    for (uint64_t i = 0; i < 6; i++) {
        struct work *w = a_work((int)(i % 2), i, 1);
        w->from = i == 3 ? (void *)&other : (void *)&me;
        assert_int_equal(batcher_put(b, w, NULL), 0);
    }
    assert_null(batcher_withdraw(b, &me, 3)); /* another's */
    struct work *w = batcher_withdraw(b, &me, 4);
    assert_int_equal(w->message.predict.request_id, 4); /* the last of its version */
    work_free(w);
    put(b, 0, 6, 1);
    expect(b, 3, (const uint64_t[]){0, 2, 6});
    for (uint64_t id = 1; id <= 5; id += 4) {
        w = batcher_withdraw_any(b, &me);
        assert_int_equal(w->message.predict.request_id, id);
        work_free(w);
    }
    assert_null(batcher_withdraw_any(b, &me));
    expect(b, 1, (const uint64_t[]){3});
    assert_int_equal(batcher_waiting(b), 0);
    batcher_free(b);
}

static void a_version_of_which_all_was_withdrawn_leaves_nothing_behind(void **state)
{
    (void)state;
    struct batcher *b = batcher_create(100, 1 << 20, 256);
    struct work *batch, *expired;
    put(b, 0, 1, 1);
    work_free(batcher_withdraw(b, NULL, 1));
    assert_false(batcher_take(b, clock_mono_us(), &batch, &expired)); /* its turn, with nothing in it */
    assert_int_equal(batcher_due_us(b), INT64_MAX);
    put(b, 0, 2, 1);
    expect(b, 1, (const uint64_t[]){2});
    batcher_free(b);
}

static void every_request_is_taken_exactly_once(void **state)
{
    (void)state;
    enum { TOTAL = 20000 };
    static int taken[TOTAL];
    struct batcher *b = batcher_create(1000, 1 << 30, 16);
    struct work *batch, *expired;
    srandom(5);
    for (int i = 0; i < TOTAL;) {
        struct work *w = a_work((int)(random() % VERSIONS), (uint64_t)i, 1 + (uint32_t)(random() % 5));
        if (batcher_put(b, w, NULL) == 0)
            i++;
        else
            work_free(w); /* full */
        if (random() % 4 && i < TOTAL) continue;
        while (batcher_take(b, clock_mono_us(), &batch, &expired)) {
            for (const struct work *t = batch; t; t = t->next) {
                taken[t->message.predict.request_id]++;
                assert_string_equal(t->message.predict.version_id, batch->message.predict.version_id);
            }
            free_list(batch);
            if (random() % 3 == 0 && i < TOTAL) break;
        }
    }
    for (int i = 0; i < TOTAL; i++) assert_int_equal(taken[i], 1);
    batcher_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_is_filled_with_one_versions_requests_up_to_the_rows),
        cmocka_unit_test(a_request_larger_than_a_batch_goes_alone),
        cmocka_unit_test(versions_take_turns_whoever_has_more),
        cmocka_unit_test(one_version_cannot_fill_the_queue),
        cmocka_unit_test(bytes_are_bounded_as_well),
        cmocka_unit_test(expired_requests_are_set_apart),
        cmocka_unit_test(tensors_are_copied_out_of_the_record),
        cmocka_unit_test(a_withdrawn_request_is_gone_and_its_neighbours_stay),
        cmocka_unit_test(a_version_of_which_all_was_withdrawn_leaves_nothing_behind),
        cmocka_unit_test(every_request_is_taken_exactly_once),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
