/* A record of text and pieces is what message_encode would have made in one piece, and holds what it lies in
 * for exactly as long as it lives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "base/crypto.h"
#include "base/mem.h"
#include "queue/record.h"

enum { TENSORS = 8, ROUNDS = 300, LONGEST = 3 * RECORD_LARGE };

/* A message whose tensors lie in memory that is shared, two and two in the same. */
struct scene {
    struct message m;
    struct message_tensor tensors[TENSORS];
    struct bytes *of[TENSORS], *shared[TENSORS / 2];
};

static int set_up(void **state)
{
    (void)state;
    crypto_init();
    srandom(11);
    return 0;
}

/* Around the length from which on a tensor is not copied, too. */
static size_t some_len(void)
{
    static const size_t edges[] = {0, 1, RECORD_LARGE - 1, RECORD_LARGE, RECORD_LARGE + 1, LONGEST};
    return random() % 2 ? edges[(size_t)random() % (sizeof edges / sizeof *edges)]
                        : (size_t)random() % LONGEST;
}

static void share_two(struct scene *s, size_t pair)
{
    size_t lens[2] = {some_len(), some_len()};
    struct buf b = {0};
    char *room = buf_reserve(&b, lens[0] + lens[1] + 1);
    b.len = lens[0] + lens[1];
    for (size_t i = 0; i < b.len; i++) room[i] = (char)random();
    for (size_t i = 0; i < 2; i++)
        s->tensors[2 * pair + i] = (struct message_tensor){.dtype = MESSAGE_UINT8,
                                                           .ndim = 1,
                                                           .dims = {(int64_t)lens[i]},
                                                           .data = room + i * lens[0],
                                                           .data_len = lens[i]};
    s->shared[pair] = bytes_share(&b);
    s->of[2 * pair] = s->of[2 * pair + 1] = s->shared[pair];
    assert_non_null(s->shared[pair]);
}

static void scene_make(struct scene *s, size_t tensors)
{
    *s = (struct scene){.m = {.type = random() % 2 ? MESSAGE_PREDICT : MESSAGE_PREDICT_REPLY}};
    for (size_t pair = 0; pair < TENSORS / 2; pair++) share_two(s, pair);
    s->m.tensors = s->tensors;
    s->m.tensors_len = tensors;
    if (s->m.type == MESSAGE_PREDICT_REPLY) return;
    s->m.predict.request_id = (uint64_t)random();
    s->m.predict.deadline_us = random();
    s->m.predict.rows = 7;
    id_new(s->m.predict.tenant_id, "ten");
    id_new(s->m.predict.version_id, "ver");
}

/* Whether nobody else holds what the scene's tensors lie in. */
static void expect_unheld(struct scene *s)
{
    for (size_t i = 0; i < TENSORS / 2; i++) {
        struct buf back = {0};
        assert_true(bytes_return(s->shared[i], &back));
        buf_dispose(&back);
    }
}

/* As a link sends it: pieces between the text. */
static struct buf whole(const struct record *r)
{
    struct buf b = {0};
    size_t at = 0;
    for (size_t i = 0; i < r->pieces_len; i++) {
        buf_append(&b, r->text.data + at, r->pieces[i].at - at);
        buf_append(&b, r->pieces[i].data, r->pieces[i].len);
        at = r->pieces[i].at;
    }
    buf_append(&b, r->text.data + at, r->text.len - at);
    return b;
}

static void expect_message(const struct record *r, const struct message *m)
{
    struct buf expected = {0}, got = whole(r);
    message_encode(&expected, m);
    assert_int_equal(got.len, expected.len);
    assert_int_equal(record_len(r), expected.len);
    assert_memory_equal(got.data, expected.data, expected.len);
    buf_dispose(&expected);
    buf_dispose(&got);
}

static size_t larges(const struct scene *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->m.tensors_len; i++) n += s->tensors[i].data_len >= RECORD_LARGE;
    return n < RECORD_PIECES_MAX ? n : RECORD_PIECES_MAX;
}

static void text_and_pieces_are_the_message(void **state)
{
    (void)state;
    size_t pieces = 0;
    for (int i = 0; i < ROUNDS; i++) {
        struct scene s;
        struct record r = {0}, copied = {0};
        scene_make(&s, (size_t)random() % (TENSORS + 1));
        record_encode(&r, &s.m, s.of);
        assert_int_equal(r.pieces_len, larges(&s));
        for (size_t p = 0; p < r.pieces_len; p++) assert_true(r.pieces[p].len >= RECORD_LARGE);
        expect_message(&r, &s.m);
        record_encode(&copied, &s.m, NULL);
        assert_int_equal(copied.pieces_len, 0);
        expect_message(&copied, &s.m);
        pieces += r.pieces_len;
        record_dispose(&r);
        record_dispose(&copied);
        expect_unheld(&s);
    }
    assert_true(pieces > ROUNDS); /* it was about something */
}

static void a_piece_is_held_beyond_whoever_made_it(void **state)
{
    (void)state;
    struct scene s;
    struct record r = {0};
    do {
        scene_make(&s, TENSORS);
        if (larges(&s) < 2) expect_unheld(&s);
    } while (larges(&s) < 2);
    struct buf expected = {0};
    message_encode(&expected, &s.m);
    record_encode(&r, &s.m, s.of);
    for (size_t i = 0; i < TENSORS / 2; i++) bytes_drop(s.shared[i]);
    struct buf got = whole(&r);
    assert_int_equal(got.len, expected.len);
    assert_memory_equal(got.data, expected.data, expected.len);
    buf_dispose(&got);
    buf_dispose(&expected);
    record_dispose(&r);
}

static void a_readdressed_copy_is_the_other_message(void **state)
{
    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        struct scene s;
        struct record r = {0}, copy = {0};
        do {
            scene_make(&s, (size_t)random() % (TENSORS + 1));
            if (s.m.type != MESSAGE_PREDICT) expect_unheld(&s);
        } while (s.m.type != MESSAGE_PREDICT);
        struct message other = s.m;
        other.predict.request_id = UINT64_MAX - (uint64_t)i;
        id_new(other.predict.version_id, "ver");
        record_encode(&r, &s.m, s.of);
        record_copy(&copy, &r);
        message_readdress(&copy.text, other.predict.request_id, other.predict.version_id);
        expect_message(&copy, &other);
        expect_message(&r, &s.m); /* which is as it was */
        record_dispose(&r);
        expect_message(&copy, &other); /* and lives no longer than its copy */
        record_dispose(&copy);
        expect_unheld(&s);
    }
}

/* Each allocation in turn. */
static void without_memory_the_text_says_so_and_nothing_stays_held(void **state)
{
    (void)state;
    for (int forever = 0; forever < 2; forever++) {
        bool failed = true;
        for (size_t nth = 1; failed; nth++) {
            struct scene s;
            struct record r = {0}, copy = {0};
            scene_make(&s, TENSORS);
            mem_fail_at(nth, forever);
            record_encode(&r, &s.m, s.of);
            record_copy(&copy, &r);
            mem_fail_at(0, false);
            failed = r.text.failed || copy.text.failed;
            if (!failed) expect_message(&copy, &s.m);
            record_dispose(&copy);
            record_dispose(&r);
            expect_unheld(&s);
            assert_true(nth < 100);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_and_pieces_are_the_message),
        cmocka_unit_test(a_piece_is_held_beyond_whoever_made_it),
        cmocka_unit_test(a_readdressed_copy_is_the_other_message),
        cmocka_unit_test(without_memory_the_text_says_so_and_nothing_stays_held),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
