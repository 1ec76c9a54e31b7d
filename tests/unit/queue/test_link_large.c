/* Large records over links: sent from where they lie, kept where they were read, and let go however the link
 * ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/mem.h"
#include "tests/unit/queue/link_scene.h"

enum { KIB = 1024, MIB = 1 << 20, SMALL_SEND = 16 * KIB };

/* ---- what is expected, and what was kept ---- */

/* What must come to a side, and is struck off as it comes. */
struct expected {
    struct buf bytes; /* records behind their lengths */
    size_t at;
};

static struct expected for_near, for_far;

static struct kept {
    struct bytes *bytes;
    const char *data;
    char *copy; /* of what it must say */
    size_t len;
} kept[64];
static size_t kept_len;
static int keep_one_in; /* 0: none */

static void kept_check_and_drop(struct kept *k)
{
    assert_memory_equal(k->data, k->copy, k->len);
    bytes_drop(k->bytes);
    mem_free(k->copy);
}

static void drop_kept(void)
{
    while (kept_len > 0) kept_check_and_drop(&kept[--kept_len]);
}

/* Whether the receiver got hold of it. */
static bool keep(struct side *s, const char *data, size_t len)
{
    struct bytes *b = link_keep(s->link, len);
    if (!b) return false;
    if (kept_len == sizeof kept / sizeof *kept) { /* one of them goes, not the last */
        struct kept *k = &kept[(size_t)random() % kept_len];
        kept_check_and_drop(k);
        *k = kept[--kept_len];
    }
    kept[kept_len] = (struct kept){b, data, mem_alloc(len, 1), len};
    memcpy(kept[kept_len++].copy, data, len);
    return true;
}

static void expect_next(struct side *s, const char *data, size_t len)
{
    struct expected *e = s == &near ? &for_near : &for_far;
    uint32_t head;
    assert_true(e->at + sizeof head <= e->bytes.len);
    memcpy(&head, e->bytes.data + e->at, sizeof head);
    assert_int_equal(len, head);
    assert_memory_equal(data, e->bytes.data + e->at + sizeof head, len);
    e->at += sizeof head + len;
    if (keep_one_in && random() % keep_one_in == 0) keep(s, data, len);
    if (e->at < 16 * MIB) return;
    buf_consume(&e->bytes, e->at);
    e->at = 0;
}

static int set_up(void **state)
{
    int rc = scene_set_up(state);
    srandom(7);
    pool_make();
    keep_one_in = 0;
    for_near = for_far = (struct expected){0};
    near.take = far.take = expect_next;
    return rc;
}

static int tear_down(void **state)
{
    int rc = scene_tear_down(state);
    drop_kept();
    buf_dispose(&for_near.bytes);
    buf_dispose(&for_far.bytes);
    pool_free();
    return rc;
}

static void send_random(struct side *to, size_t piece_max)
{
    struct record r = {0};
    pool_record(&r, 2000, piece_max, to == &near ? &for_near.bytes : &for_far.bytes);
    assert_int_equal(link_send(to == &near ? far.link : near.link, &r), 0);
    record_dispose(&r);
}

/* One piece of exactly that length, as a record. */
static void send_sized(size_t len)
{
    struct record r = {0};
    struct buf b = {0};
    uint32_t head = (uint32_t)len;
    char *room = buf_reserve(&b, len);
    for (size_t i = 0; i < len; i++) room[i] = (char)(i * 7 + len + (i >> 9));
    b.len = len;
    buf_append(&for_far.bytes, &head, sizeof head);
    buf_append(&for_far.bytes, room, len);
    r.pieces[0] = (struct record_piece){0, room, len, bytes_share(&b)};
    r.pieces_len = 1;
    assert_int_equal(link_send(near.link, &r), 0);
    record_dispose(&r);
}

/* ---- the tests ---- */

static void thousands_of_records_pass_full_sockets_both_ways(void **state)
{
    (void)state;
    enum { MANY = 4000 };
    far_send_bytes = SMALL_SEND;
    connect_sides();
    keep_one_in = 3;
    for (int i = 0; i < MANY; i++) {
        size_t piece_max = i % 10 ? 3000 : i % 100 ? 100 * KIB : POOL_RUN_BYTES;
        send_random(&near, piece_max);
        send_random(&far, piece_max);
        while (random() % 20 == 0 || link_waiting(near.link) + link_waiting(far.link) > 32 * MIB) turn();
    }
    run_until(&far.records, MANY);
    run_until(&near.records, MANY);
    assert_int_equal(for_near.at, for_near.bytes.len);
    assert_int_equal(for_far.at, for_far.bytes.len);
    assert_int_equal(link_waiting(near.link) + link_waiting(far.link), 0);
    assert_true(pool_is_unheld());
    assert_int_equal(kept_len, sizeof kept / sizeof *kept);
    drop_kept();
}

/* The second of a length is read into memory of its own size, and so it is kept, not copied. */
static void what_was_kept_stays_when_others_come_and_the_link_goes(void **state)
{
    (void)state;
    static const size_t lens[] = {16 * KIB, 64 * KIB, 128 * KIB, MIB};
    enum { LENS = sizeof lens / sizeof *lens };
    int sent = 0;
    connect_sides();
    keep_one_in = 1;
    for (size_t i = 0; i < LENS; i++) {
        for (size_t around = 0; around < 3; around++) {
            size_t len = lens[i] - 1 + around, before;
            for (int n = 0; n < 3; n++) {
                before = kept_len;
                send_sized(len);
                run_until(&far.records, ++sent);
            }
            if (len >= RECORD_LARGE && around > 0) assert_int_equal(kept_len, before + 1);
            for (int n = 0; n < 4; n++) send_sized(10 + (size_t)random() % 5000);
            run_until(&far.records, sent += 4);
        }
    }
    assert_true(kept_len > 20);
    for (size_t i = 0; i < 100; i++) send_sized(lens[i % LENS] - 100 + i);
    run_until(&far.records, sent + 100);
    for (size_t i = 0; i < kept_len; i++) assert_memory_equal(kept[i].data, kept[i].copy, kept[i].len);
    link_free(far.link);
    far.link = NULL;
    drop_kept();
}

/* A large record and what follows it in the same read: the rest goes on from memory of its own. */
static void what_comes_behind_a_kept_record_is_not_lost(void **state)
{
    (void)state;
    connect_sides();
    keep_one_in = 1;
    for (int i = 0; i < 300; i++) {
        send_sized(RECORD_LARGE + (size_t)random() % (40 * KIB));
        for (int n = (int)(random() % 4); n > 0; n--) send_sized(1 + (size_t)random() % 20000);
        if (random() % 3 == 0) turn();
    }
    int64_t waited = 0;
    while (for_far.at < for_far.bytes.len && waited++ < 2000) turn();
    assert_int_equal(for_far.at, for_far.bytes.len);
    assert_true(kept_len > 30);
}

static void keep_and_free(struct side *s, const char *data, size_t len)
{
    keep(s, data, len);
    link_free(s->link);
    s->link = NULL;
}

static void keep_and_refuse(struct side *s, const char *data, size_t len)
{
    keep(s, data, len);
    link_refuse(s->link, "not so");
}

static void a_link_that_ends_inside_its_callback_leaves_what_was_kept(void **state)
{
    (void)state;
    connect_sides();
    far.take = keep_and_free;
    for (int i = 0; i < 3; i++) send_sized(60 * KIB); /* the others are never heard of */
    run_until(&near.down, 1);
    assert_int_equal(far.records, 1);
    drop_kept();
    link_free(near.link);
    memset(&near, 0, sizeof near);
    memset(&far, 0, sizeof far);
    connect_sides();
    far.take = keep_and_refuse;
    for (int i = 0; i < 3; i++) send_sized(60 * KIB);
    run_until(&far.down, 1);
    assert_int_equal(far.records, 1);
    assert_string_equal(far.why, "not so");
    link_free(far.link);
    far.link = NULL;
    drop_kept();
}

static void pieces_that_wait_are_let_go_with_their_link(void **state)
{
    (void)state;
    connect_sides();
    for (int i = 0; i < 50; i++) send_random(&far, 100 * KIB);
    turn(); /* some of it has gone */
    assert_true(link_waiting(near.link) > 0);
    assert_false(pool_is_unheld());
    link_free(near.link);
    near.link = NULL;
    assert_true(pool_is_unheld());
}

static void pieces_for_a_side_that_goes_are_let_go(void **state)
{
    (void)state;
    connect_sides();
    near.free_on_down = true;
    for (int i = 0; i < 50; i++) send_random(&far, 100 * KIB);
    far.free_on_record = true; /* with most of it on its way */
    run_until(&near.down, 1);
    assert_null(near.link);
    assert_true(pool_is_unheld());
}

static void what_is_too_much_is_refused_and_not_held(void **state)
{
    (void)state;
    struct record r = {0};
    int rc = 0;
    connect_sides();
    r.pieces_len = RECORD_PIECES_MAX;
    for (size_t i = 0; i < RECORD_PIECES_MAX; i++) {
        struct buf b = {0};
        buf_reserve(&b, 8 * MIB);
        b.len = 8 * MIB;
        r.pieces[i] = (struct record_piece){0, b.data, b.len, NULL};
        r.pieces[i].of = bytes_share(&b);
    }
    for (int i = 0; i < 9 && rc == 0; i++) rc = link_send(near.link, &r);
    assert_int_equal(rc, ERR_OVERLOAD);
    assert_int_equal(link_waiting(near.link), 7 * (4 + record_len(&r)));
    link_free(near.link);
    near.link = NULL;
    for (size_t i = 0; i < RECORD_PIECES_MAX; i++) {
        struct buf b = {0};
        assert_true(bytes_return(r.pieces[i].of, &b));
        buf_dispose(&b);
    }
}

/* Each allocation of a turn in turn: the link goes on or goes down, and nothing stays held. */
static void without_memory_a_link_goes_on_or_goes_down(void **state)
{
    (void)state;
    int downs = 0;
    for (size_t nth = 1; nth < 12; nth++) {
        for (int forever = 0; forever < 2; forever++) {
            connect_sides();
            keep_one_in = 1;
            for (int i = 0; i < 6; i++) send_sized(RECORD_LARGE + 5000 * (size_t)i);
            mem_fail_at(nth, forever);
            for (int i = 0; i < 30 && !far.down; i++) turn();
            mem_fail_at(0, false);
            downs += far.down;
            if (far.down) assert_string_equal(far.why, "no memory to read");
            link_free(near.link);
            link_free(far.link);
            drop_kept();
            near = far = (struct side){.take = expect_next};
            buf_dispose(&for_far.bytes);
            for_far.at = 0;
        }
    }
    assert_true(downs > 3);
}

static bool is_down(const struct side *s)
{
    return s->down > 0;
}

/* Each allocation of the proof in turn: a link that is up has proven itself. */
static void without_memory_for_the_proof_no_link_is_half_up(void **state)
{
    (void)state;
    int downs = 0;
    for (size_t nth = 1; nth < 8; nth++) {
        open_links(key);
        mem_fail_at(nth, false);
        for (int i = 0; i < 400 && !(near.up && far.up) && !is_down(&near) && !is_down(&far); i++) turn();
        mem_fail_at(0, false);
        downs += is_down(&near) || is_down(&far);
        if (!is_down(&near) && !is_down(&far)) {
            send_random(&far, 1000);
            send_random(&near, 1000);
            run_until(&near.records, 1);
            run_until(&far.records, 1);
        }
        link_free(near.link);
        link_free(far.link);
        near = far = (struct side){.take = expect_next};
    }
    assert_in_range(downs, 2, 6);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(thousands_of_records_pass_full_sockets_both_ways),
        CASE(what_was_kept_stays_when_others_come_and_the_link_goes),
        CASE(what_comes_behind_a_kept_record_is_not_lost),
        CASE(a_link_that_ends_inside_its_callback_leaves_what_was_kept),
        CASE(pieces_that_wait_are_let_go_with_their_link),
        CASE(pieces_for_a_side_that_goes_are_let_go),
        CASE(what_is_too_much_is_refused_and_not_held),
        CASE(without_memory_a_link_goes_on_or_goes_down),
        CASE(without_memory_for_the_proof_no_link_is_half_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
