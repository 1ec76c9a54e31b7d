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
#include "base/mem.h"
#include "queue/redis_clock.h"
#include "worker/batcher.h"

enum { VERSIONS = 3 };
static char versions[VERSIONS][ID_MAX], tenants[2][ID_MAX];
static int owner[VERSIONS]; /* of each version: which tenant */

static int set_up(void **state)
{
    (void)state;
    crypto_init();
    for (int i = 0; i < VERSIONS; i++) id_new(versions[i], "ver");
    for (int i = 0; i < 2; i++) id_new(tenants[i], "ten");
    return 0;
}

static struct work *a_work_due(int version, uint64_t id, uint32_t rows, int64_t within_us)
{
    struct message m = {.type = MESSAGE_PREDICT};
    m.predict.request_id = id;
    m.predict.rows = rows;
    m.predict.deadline_us = redis_clock_us() + within_us;
    memcpy(m.predict.version_id, versions[version], ID_MAX);
    memcpy(m.predict.tenant_id, tenants[owner[version]], ID_MAX);
    return work_create(&m, NULL, NULL);
}

static struct work *a_work(int version, uint64_t id, uint32_t rows)
{
    return a_work_due(version, id, rows, 60 * 1000000);
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

static void a_tenant_with_more_versions_gets_no_more_turns(void **state)
{
    (void)state;
    struct batcher *b = batcher_create(100, 1 << 20, 1);
    owner[2] = 1;
    for (uint64_t i = 0; i < 2; i++) put(b, 0, i, 1);
    for (uint64_t i = 10; i < 12; i++) put(b, 1, i, 1);
    for (uint64_t i = 20; i < 24; i++) put(b, 2, i, 1);
    const uint64_t order[] = {0, 20, 10, 21, 1, 22, 11, 23};
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) expect(b, 1, &order[i]);
    owner[2] = 0;
    batcher_free(b);
}

static void a_batch_takes_no_longer_than_a_turn_while_others_wait(void **state)
{
    (void)state;
    struct batcher *b = batcher_create(200, 1 << 20, 16);
    for (uint64_t i = 0; i < 60; i++) put(b, 0, i, 1);
    expect(b, 16, (const uint64_t[]){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15});
    batcher_took(b, versions[0], 16, BATCHER_TURN_US * 4); /* four rows a turn */
    put(b, 1, 100, 1);
    expect(b, 4, (const uint64_t[]){16, 17, 18, 19});
    expect(b, 1, (const uint64_t[]){100});
    expect(
        b, 16,
        (const uint64_t[]){20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35}); /* alone again */
    batcher_took(b, versions[0], 16, BATCHER_TURN_US * 1000);
    put(b, 1, 101, 1);
    expect(b, 1, (const uint64_t[]){36});   /* but one */
    batcher_took(b, versions[2], 16, 1000); /* nothing of it waits */
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

static void what_cannot_be_done_in_time_is_not_begun(void **state)
{
    (void)state;
    struct batcher *b = batcher_create(100, 1 << 20, 256);
    struct work *batch, *expired;
    put(b, 0, 1, 2);
    put(b, 0, 2, 2);
    expect(b, 2, (const uint64_t[]){1, 2});
    put(b, 0, 3, 2);
    batcher_took(b, versions[0], 4, 400000); /* 100 ms a row */
    assert_int_equal(batcher_put(b, a_work_due(0, 4, 2, 190000), NULL), 0);
    assert_int_equal(batcher_put(b, a_work_due(0, 5, 1000, 450000), NULL),
                     0); /* at least as long as four rows */
    assert_true(batcher_take(b, clock_mono_us(), &batch, &expired));
    assert_int_equal(batch->message.predict.request_id, 3);
    assert_null(batch->next); /* not with 5, which company would make late: it may begin by itself */
    assert_int_equal(expired->message.predict.request_id, 4);
    assert_null(expired->next);
    free_list(batch);
    free_list(expired);
    expect(b, 1, (const uint64_t[]){5}); /* nobody waits behind it: what may just do is tried */
    batcher_free(b);
}

static void one_that_waited_for_most_of_its_time_makes_room(void **state)
{
    (void)state;
    struct batcher *b = batcher_create(100, 1 << 20, 4);
    struct work *batch, *expired, *old = a_work_due(0, 10, 1, 300000), *fresh = a_work_due(0, 11, 1, 300000);
    for (uint64_t i = 0; i < 5; i++) put(b, 0, i, 1);
    expect(b, 4, (const uint64_t[]){0, 1, 2, 3});
    batcher_took(b, versions[0], 4, 200000); /* 50 ms a row */
    old->arrived_us -= 400000;
    assert_int_equal(batcher_put(b, old, NULL), 0);
    assert_int_equal(batcher_put(b, fresh, NULL), 0);
    for (uint64_t i = 20; i < 24; i++) put(b, 0, i, 1);
    assert_true(batcher_take(b, clock_mono_us(), &batch, &expired));
    assert_int_equal(expired->message.predict.request_id, 10);
    assert_null(expired->next);
    assert_int_equal(batch->message.predict.request_id, 4);
    assert_int_equal(batch->next->message.predict.request_id, 11); /* and no third, for its sake */
    free_list(batch);
    free_list(expired);
    expect(b, 4, (const uint64_t[]){20, 21, 22, 23});
    batcher_free(b);
}

static void a_batch_grows_as_far_as_the_first_deadline_in_it_allows(void **state)
{
    (void)state;
    struct batcher *b = batcher_create(100, 1 << 20, 8);
    for (uint64_t i = 0; i < 9; i++) put(b, 0, i, 1);
    expect(b, 8, (const uint64_t[]){0, 1, 2, 3, 4, 5, 6, 7});
    batcher_took(b, versions[0], 8, 800000);
    assert_int_equal(batcher_put(b, a_work_due(0, 10, 1, 780000), NULL), 0);
    for (uint64_t i = 20; i < 24; i++) put(b, 0, i, 1);
    expect(b, 3, (const uint64_t[]){8, 10, 20}); /* 300 ms and as much again; four would be too near for 10 */
    expect(b, 3, (const uint64_t[]){21, 22, 23});
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
    struct work *w = work_create(&m, NULL, NULL);
    memset(bytes, 'x', sizeof bytes);
    assert_memory_equal(w->message.tensors[0].data, "abcd", 4);
    assert_memory_equal(w->message.tensors[1].data, "efgh", 4);
    work_free(w);
}

static void tensors_stay_in_what_is_kept(void **state)
{
    (void)state;
    struct buf record = {0}, back = {0};
    buf_append(&record, "abcdefgh", 8);
    struct message_tensor t[2] = {
        {.dtype = MESSAGE_UINT8, .ndim = 1, .dims = {4}, .data = record.data, .data_len = 4},
        {.dtype = MESSAGE_UINT8, .ndim = 1, .dims = {4}, .data = record.data + 4, .data_len = 4}};
    struct message m = {.type = MESSAGE_PREDICT, .tensors = t, .tensors_len = 2};
    struct work *copied = work_create(&m, NULL, NULL);
    struct bytes *kept = bytes_share(&record);
    struct work *w = work_create(&m, NULL, bytes_hold(kept));
    assert_ptr_not_equal(w->message.tensors, t);
    assert_ptr_equal(w->message.tensors[1].data, t[1].data);
    assert_memory_equal(w->message.tensors[1].data, "efgh", 4);
    assert_int_equal(w->bytes, copied->bytes); /* it counts as much as if it had been copied */
    mem_fail_at(1, false);
    assert_null(work_create(&m, NULL, bytes_hold(kept))); /* which takes its hold along */
    mem_fail_at(0, false);
    work_free(w);
    assert_true(bytes_return(kept, &back));
    buf_dispose(&back);
    work_free(copied);
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
        cmocka_unit_test(a_tenant_with_more_versions_gets_no_more_turns),
        cmocka_unit_test(a_batch_takes_no_longer_than_a_turn_while_others_wait),
        cmocka_unit_test(one_version_cannot_fill_the_queue),
        cmocka_unit_test(bytes_are_bounded_as_well),
        cmocka_unit_test(expired_requests_are_set_apart),
        cmocka_unit_test(what_cannot_be_done_in_time_is_not_begun),
        cmocka_unit_test(one_that_waited_for_most_of_its_time_makes_room),
        cmocka_unit_test(a_batch_grows_as_far_as_the_first_deadline_in_it_allows),
        cmocka_unit_test(tensors_are_copied_out_of_the_record),
        cmocka_unit_test(tensors_stay_in_what_is_kept),
        cmocka_unit_test(a_withdrawn_request_is_gone_and_its_neighbours_stay),
        cmocka_unit_test(a_version_of_which_all_was_withdrawn_leaves_nothing_behind),
        cmocka_unit_test(every_request_is_taken_exactly_once),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
