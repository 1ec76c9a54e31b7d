/* Links over real sockets: records whole and in order, strangers kept out, and every kind of breaking off. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/crypto.h"
#include "base/mem.h"
#include "queue/link_address.h"
#include "tests/unit/queue/link_scene.h"

static void records_come_whole_and_in_order_both_ways(void **state)
{
    (void)state;
    enum { MANY = 2000 };
    static char bytes[70000];
    struct buf sent = {0};
    connect_sides();
    srandom(3);
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (char)random();
    for (int i = 0; i < MANY; i++) {
        uint32_t len = (uint32_t)(i % 100 ? random() % 300 : random() % (long)sizeof bytes);
        buf_append(&sent, &len, sizeof len);
        buf_append(&sent, bytes, len);
        assert_int_equal(send_bytes(near.link, bytes, len), 0);
        assert_int_equal(send_bytes(far.link, bytes, len), 0);
        if (i % 50 == 0) turn();
    }
    run_until(&far.records, MANY);
    run_until(&near.records, MANY);
    assert_int_equal(far.got.len, sent.len);
    assert_memory_equal(far.got.data, sent.data, sent.len);
    assert_int_equal(near.got.len, sent.len);
    assert_memory_equal(near.got.data, sent.data, sent.len);
    assert_int_equal(link_waiting(near.link), 0);
    buf_dispose(&sent);
}

static void a_large_record_passes_a_full_socket(void **state)
{
    (void)state;
    size_t len = (size_t)40 << 20;
    char *bytes = mem_alloc(len, 1);
    for (size_t i = 0; i < len; i++) bytes[i] = (char)(i * 31 >> 3);
    connect_sides();
    assert_int_equal(send_bytes(near.link, bytes, len), 0);
    assert_int_equal(send_bytes(near.link, "behind", 6), 0);
    run_until(&far.records, 2);
    assert_memory_equal(far.got.data + 4, bytes, len);
    assert_memory_equal(far.got.data + 4 + len + 4, "behind", 6);
    mem_free(bytes);
}

static void an_acceptor_with_another_key_is_not_trusted(void **state)
{
    (void)state;
    uint8_t wrong[LINK_KEY_LEN];
    memcpy(wrong, key, sizeof wrong);
    wrong[31] ^= 1;
    open_links(wrong);
    run_until(&near.down, 1);
    assert_non_null(strstr(near.why, "key"));
    assert_int_equal(near.up + far.up, 0);
    assert_int_equal(send_bytes(near.link, "x", 1), ERR_UNAVAILABLE);
}

/* A dialler that sends back what it was sent, and one that says something else. */
static void a_dialler_without_the_key_is_not_heard(void **state)
{
    (void)state;
    struct link_address a;
    char bytes[64], hello[36] = "TNL1";
    for (int round = 0; round < 2; round++) {
        struct link_events f = events_of(&far);
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        assert_int_equal(link_address_parse(&a, address, NULL), 0);
        assert_int_equal(connect(fd, &a.sockaddr.any, a.len), 0);
        assert_int_equal(link_accept(&far.link, loop, accept_one(), key, &f, NULL), 0);
        memset(hello + 4, 7, 32);
        if (round) hello[0] = 'X';
        assert_int_equal(send(fd, hello, sizeof hello, 0), sizeof hello);
        if (round == 0) {
            for (int i = 0; i < 20; i++) turn();
            assert_int_equal(recv(fd, bytes, sizeof bytes, MSG_WAITALL), sizeof bytes);
            assert_int_equal(send(fd, bytes + 32, 32, 0), 32); /* the acceptor's own proof, reflected */
        }
        run_until(&far.down, 1 + round);
        assert_int_equal(far.up, 0);
        link_free(far.link);
        far.link = NULL;
        close(fd);
    }
}

/* A dialler made by hand, that knows the key. */
static int prove_by_hand(void)
{
    struct link_events f = events_of(&far);
    struct link_address a;
    char hello[36] = "TNL1", answer[64];
    uint8_t text[16 + 64] = "dialler", proof[SHA256_LEN];
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    memset(hello + 4, 7, 32);
    assert_int_equal(link_address_parse(&a, address, NULL), 0);
    assert_int_equal(connect(fd, &a.sockaddr.any, a.len), 0);
    assert_int_equal(link_accept(&far.link, loop, accept_one(), key, &f, NULL), 0);
    assert_int_equal(send(fd, hello, sizeof hello, 0), sizeof hello);
    for (int i = 0; i < 20; i++) turn();
    assert_int_equal(recv(fd, answer, sizeof answer, MSG_WAITALL), sizeof answer);
    memcpy(text + 16, hello + 4, 32);
    memcpy(text + 48, answer, 32);
    crypto_hmac_sha256(proof, key, sizeof key, text, sizeof text);
    assert_int_equal(send(fd, proof, sizeof proof, 0), sizeof proof);
    run_until(&far.up, 1);
    return fd;
}

static void a_record_longer_than_any_breaks_the_link(void **state)
{
    (void)state;
    uint32_t head = LINK_RECORD_MAX + 1;
    int fd = prove_by_hand();
    struct record claimed = {.pieces = {{.data = "", .len = LINK_RECORD_MAX + (size_t)1}}, .pieces_len = 1};
    assert_int_equal(link_send(far.link, &claimed), ERR_TOO_LARGE);
    assert_int_equal(send(fd, &head, sizeof head, 0), sizeof head);
    run_until(&far.down, 1);
    assert_int_equal(far.records, 0);
    close(fd);
}

/* Byte by byte, and the last record never finished. */
static void a_record_is_not_told_of_before_it_is_whole(void **state)
{
    (void)state;
    static const char bytes[] = "\3\0\0\0abc\0\0\0\0\5\0\0\0ab";
    int fd = prove_by_hand();
    for (size_t i = 0; i < sizeof bytes - 1; i++) {
        assert_int_equal(send(fd, bytes + i, 1, 0), 1);
        turn();
    }
    run_until(&far.records, 2);
    close(fd);
    run_until(&far.down, 1);
    assert_int_equal(far.records, 2);
    assert_memory_equal(far.got.data, bytes, 11);
}

static void a_side_that_goes_is_told_to_the_other(void **state)
{
    (void)state;
    connect_sides();
    link_free(near.link);
    near.link = NULL;
    run_until(&far.down, 1);
    assert_int_equal(near.down, 0); /* who frees is not told */
    assert_int_equal(send_bytes(far.link, "x", 1), ERR_UNAVAILABLE);
}

static void nobody_to_connect_to_is_a_link_that_goes_down(void **state)
{
    (void)state;
    struct link_events n = events_of(&near);
    struct err e;
    assert_int_equal(link_dial(&near.link, loop, "127.0.0.1:1", key, &n, &e), 0);
    run_until(&near.down, 1);
    assert_int_equal(link_dial(&far.link, loop, "unix:/tmp/there-is-no-such-socket", key, &n, &e),
                     ERR_UNAVAILABLE);
    assert_int_equal(link_dial(&far.link, loop, "somewhere", key, &n, &e), ERR_INVALID);
    assert_int_equal(link_dial(&far.link, loop, "unix:relative", key, &n, &e), ERR_INVALID);
}

static void a_link_may_be_freed_or_refused_inside_its_callbacks(void **state)
{
    (void)state;
    connect_sides();
    far.free_on_record = true;
    near.free_on_down = true;
    assert_int_equal(send_bytes(near.link, "one", 3), 0);
    assert_int_equal(send_bytes(near.link, "two", 3), 0);
    run_until(&near.down, 1);
    assert_int_equal(far.records, 1); /* the second was not delivered to the dead */
    assert_null(near.link);
    memset(&near, 0, sizeof near);
    buf_dispose(&far.got);
    memset(&far, 0, sizeof far);
    connect_sides();
    far.refuse_on_record = true;
    assert_int_equal(send_bytes(near.link, "one", 3), 0);
    assert_int_equal(send_bytes(near.link, "two", 3), 0);
    run_until(&far.down, 1);
    assert_string_equal(far.why, "not so");
    assert_int_equal(far.records, 1);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, scene_set_up, scene_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(records_come_whole_and_in_order_both_ways),
        CASE(a_large_record_passes_a_full_socket),
        CASE(an_acceptor_with_another_key_is_not_trusted),
        CASE(a_dialler_without_the_key_is_not_heard),
        CASE(a_record_longer_than_any_breaks_the_link),
        CASE(a_record_is_not_told_of_before_it_is_whole),
        CASE(a_side_that_goes_is_told_to_the_other),
        CASE(nobody_to_connect_to_is_a_link_that_goes_down),
        CASE(a_link_may_be_freed_or_refused_inside_its_callbacks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
