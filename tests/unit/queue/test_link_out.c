/* What a link sends: text of its own and pieces of others', through a socket that is full most of the time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/mem.h"
#include "queue/link_out.h"
#include "tests/unit/queue/link_scene.h"

static int ends[2];
static struct link_out out;
static struct buf sent; /* what must arrive; of these `arrived` have */
static size_t arrived;

static int set_up(void **state)
{
    (void)state;
    int small = 16 * 1024;
    pool_make();
    srandom(5);
    out = (struct link_out){0};
    sent = (struct buf){0};
    arrived = 0;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    return setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
}

static int tear_down(void **state)
{
    (void)state;
    link_out_dispose(&out);
    pool_free();
    buf_dispose(&sent);
    close(ends[0]);
    close(ends[1]);
    return 0;
}

static void put_record(size_t text_max, size_t piece_max)
{
    struct record r = {0};
    pool_record(&r, text_max, piece_max, &sent);
    assert_true(link_out_record(&out, &r));
    record_dispose(&r);
}

static void put_text(size_t len)
{
    char text[64];
    memset(text, (int)('a' + random() % 26), sizeof text);
    assert_true(link_out_append(&out, text, len));
    buf_append(&sent, text, len);
}

/* The other side reads at most so many, and finds what was sent. */
static void read_some(size_t most)
{
    static char got[256 * 1024];
    ssize_t n = recv(ends[1], got, most < sizeof got ? most : sizeof got, 0);
    if (n < 0) return;
    assert_true(arrived + (size_t)n <= sent.len);
    assert_memory_equal(got, sent.data + arrived, (size_t)n);
    arrived += (size_t)n;
    if (arrived < 4 << 20) return;
    buf_consume(&sent, arrived);
    arrived = 0;
}

static void write_some(void)
{
    int rc = link_out_write(&out, ends[0]);
    assert_true(rc == 0 || rc == EAGAIN);
    assert_int_equal(rc == 0, out.waiting == 0);
}

static void expect_all_to_arrive(void)
{
    while (out.waiting > 0 || arrived < sent.len) {
        write_some();
        read_some(SIZE_MAX);
    }
    assert_int_equal(out.waiting, 0);
    assert_true(pool_is_unheld());
}

static void random_runs_arrive_in_order(void **state)
{
    (void)state;
    for (int i = 0; i < 20000; i++) {
        if (random() % 3)
            put_record(200, random() % 8 ? 300 : 60000);
        else
            put_text((size_t)random() % 64);
        if (random() % 3 == 0) write_some();
        while (out.waiting > 3 << 20 || random() % 4 == 0) {
            read_some((size_t)random() % 70000);
            write_some();
        }
    }
    expect_all_to_arrive();
}

/* More of them than one sendmsg takes, with and without text between. */
static void hundreds_of_small_pieces_go_out_in_order(void **state)
{
    (void)state;
    for (int round = 0; round < 200; round++) {
        for (int i = 0; i < 100; i++) put_record(round % 2 ? 3 : 0, 5);
        expect_all_to_arrive();
    }
}

/* A socket that is never quite empty: what has gone must not count for ever. */
static void a_queue_that_never_empties_stays_small(void **state)
{
    (void)state;
    size_t text_most = 0, pieces_most = 0;
    for (int i = 0; i < 30000; i++) {
        put_record(300, 2000);
        while (out.waiting > 100000) {
            write_some();
            read_some(8192);
        }
        assert_true(out.waiting > 0);
        if (out.text.cap > text_most) text_most = out.text.cap;
        if (out.pieces_cap > pieces_most) pieces_most = out.pieces_cap;
    }
    assert_in_range(text_most, 1, 512 * 1024);
    assert_in_range(pieces_most, 1, 4096);
    expect_all_to_arrive();
}

static void a_long_queue_that_has_gone_keeps_no_memory(void **state)
{
    (void)state;
    for (int i = 0; i < 20000; i++) put_record(300, 1);
    assert_true(out.pieces_cap > 4096);
    expect_all_to_arrive();
    assert_in_range(out.text.cap, 0, 1 << 20);
    assert_in_range(out.pieces_cap, 0, 1024);
    put_record(10, 10);
    expect_all_to_arrive();
}

/* Each allocation in turn: what was queued is as it was, and what comes later follows it. */
static void without_memory_nothing_is_queued_by_half(void **state)
{
    (void)state;
    for (int i = 0; i < 400; i++) {
        struct record r = {0};
        size_t sent_before = sent.len, waiting = out.waiting;
        pool_record(&r, 3000, 3000, &sent);
        mem_fail_at(1 + (size_t)i % 3, i % 2);
        bool good = link_out_record(&out, &r);
        mem_fail_at(0, false);
        if (!good) {
            sent.len = sent_before;
            assert_int_equal(out.waiting, waiting);
        }
        record_dispose(&r);
        if (i % 100 == 50) write_some();
    }
    bool good = true;
    while (good && out.text.len < 8 << 20) {
        mem_fail_at(1, true);
        good = link_out_append(&out, "0123456789", 10);
        mem_fail_at(0, false);
        if (good) buf_append(&sent, "0123456789", 10);
    }
    assert_false(good);
    expect_all_to_arrive();
}

static void what_was_not_sent_is_let_go(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++) put_record(300, 30000);
    write_some(); /* the first is half out */
    assert_true(out.waiting > 0);
    assert_false(pool_is_unheld());
    link_out_dispose(&out);
    assert_true(pool_is_unheld());
}

static void a_peer_that_has_gone_is_an_error(void **state)
{
    (void)state;
    put_record(300, 30000);
    shutdown(ends[0], SHUT_WR);
    assert_int_equal(link_out_write(&out, ends[0]), EPIPE);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(random_runs_arrive_in_order),
        CASE(hundreds_of_small_pieces_go_out_in_order),
        CASE(a_queue_that_never_empties_stays_small),
        CASE(a_long_queue_that_has_gone_keeps_no_memory),
        CASE(without_memory_nothing_is_queued_by_half),
        CASE(what_was_not_sent_is_let_go),
        CASE(a_peer_that_has_gone_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
