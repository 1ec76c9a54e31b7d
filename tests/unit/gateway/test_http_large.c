/* Large bodies that are collected: read to where they belong, whatever pieces they come in, what stands
 * before and behind them, and however they end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "base/crypto.h"
#include "base/fs.h"
#include "base/mem.h"
#include "gateway/http/server_impl.h"
#include "gateway/http/tls.h"
#include "tests/unit/gateway/http_client.h"
#include "tests/unit/gateway/http_fixture.h"

enum { KIB = 1024, MIB = 1 << 20, COLLECTED_MAX = 8 * MIB, BODY_IDLE_MS = 3000 };

static struct fixture fixture;
static SSL_CTX *client_ctx;
static char folder[64], cert_file[96], key_file[96];
static char noise[2 * MIB];

/* Around what the server reads at once, aims at, reserves, and allows. */
static const size_t sizes[] = {
    1,      100,       4 * KIB,       32 * KIB - 1, 32 * KIB, 40 * KIB, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1,
    100000, 256 * KIB, 256 * KIB + 1, 300000,       700000,   MIB - 1,  MIB};
enum { SIZES = sizeof sizes / sizeof *sizes };

static const char *body_of(size_t number)
{
    return noise + number * 7919 % MIB;
}

static void open_client(struct client *c, bool tls)
{
    int on = 1;
    client_open(c, server_port(fixture.server, tls));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (tls) client_start_tls(c, client_ctx);
}

/* In pieces of random lengths, with a pause behind some for the server to find no more. */
static void send_slowly(struct client *c, const char *bytes, size_t len)
{
    for (size_t n; len > 0; bytes += n, len -= n) {
        n = 1 + (size_t)random() % (random() % 3 ? 100000 : 5000);
        if (n > len) n = len;
        client_send(c, bytes, n);
        if (random() % 4 == 0) poll(NULL, 0, 1);
    }
}

/* body: NULL for the head alone. */
static struct buf request_of(const char *path, const char *version, const char *more, const char *body,
                             size_t len)
{
    struct buf b = {0};
    buf_printf(&b, "POST %s HTTP/%s\r\nHost: a\r\n%sContent-Length: %zu\r\n\r\n", path, version, more, len);
    if (body) buf_append(&b, body, len);
    return b;
}

static void expect_echo(struct client *c, const char *body, size_t len)
{
    struct reply r;
    client_reply(c, &r, false);
    assert_int_equal(r.status, 200);
    assert_int_equal(r.body.len, len);
    assert_memory_equal(r.body.data, body, len);
    reply_dispose(&r);
}

static void echo(struct client *c, size_t number, size_t len)
{
    struct buf b = request_of("/echo", "1.1", "", body_of(number), len);
    send_slowly(c, b.data, b.len);
    expect_echo(c, body_of(number), len);
    buf_dispose(&b);
}

static void expect_sum(struct client *c, const char *body, size_t len)
{
    struct reply r;
    char text[64];
    struct buf b = request_of("/sum", "1.1", "", body, len);
    send_slowly(c, b.data, b.len);
    client_reply(c, &r, false);
    snprintf(text, sizeof text, "%zu %08x", len, crypto_crc32(0, body, len));
    assert_string_equal(r.body.data, text);
    reply_dispose(&r);
    buf_dispose(&b);
}

static bool nothing_is_open(void *arg)
{
    (void)arg;
    struct server_stats s = fixture_stats(&fixture);
    return s.open_connections == 0 && s.open_exchanges == 0;
}

static long long collected(void)
{
    return atomic_load(&fixture.server->collected_bytes);
}

/* ---- whole bodies ---- */

static void bodies_of_every_size_come_whole(void **state)
{
    (void)state;
    for (int tls = 0; tls < 2; tls++) {
        struct client c;
        open_client(&c, tls);
        for (size_t i = 0; i < SIZES; i++) echo(&c, i, sizes[i]);
        for (size_t i = 0; i < 60; i++) /* from small to large and back, on one connection */
            echo(&c, i, sizes[(size_t)random() % SIZES] - (size_t)random() % 2);
        client_close(&c);
    }
}

static void chunked_bodies_between_large_ones_come_whole(void **state)
{
    (void)state;
    struct client c;
    char head[64];
    open_client(&c, false);
    for (size_t i = 0; i < 20; i++) {
        size_t len = sizes[(size_t)random() % SIZES], at = 0;
        echo(&c, i, 200000);
        client_text(&c, "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        for (size_t n; at < len; at += n) {
            n = 1 + (size_t)random() % 90000;
            if (n > len - at) n = len - at;
            snprintf(head, sizeof head, "%zx\r\n", n);
            client_text(&c, head);
            send_slowly(&c, body_of(i) + at, n);
            client_text(&c, "\r\n");
        }
        client_text(&c, "0\r\n\r\n");
        expect_echo(&c, body_of(i), len);
        expect_sum(&c, body_of(i), len); /* and ones that are read in pieces, not collected */
    }
    client_close(&c);
}

static void a_client_that_waits_for_100_and_an_old_one_are_served(void **state)
{
    (void)state;
    struct client c;
    open_client(&c, false);
    for (size_t i = 0; i < SIZES; i++) {
        struct buf head = request_of("/echo", "1.1", "Expect: 100-continue\r\n", NULL, sizes[i]);
        char told[64];
        client_send(&c, head.data, head.len);
        static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
        for (size_t got = 0; got < sizeof go_on - 1;) {
            ssize_t n = recv(c.fd, told + got, sizeof go_on - 1 - got, 0);
            assert_true(n > 0);
            got += (size_t)n;
        }
        assert_memory_equal(told, go_on, sizeof go_on - 1);
        send_slowly(&c, body_of(i), sizes[i]);
        expect_echo(&c, body_of(i), sizes[i]);
        buf_dispose(&head);
    }
    client_close(&c);
    for (size_t i = 0; i < SIZES; i++) {
        struct buf b = request_of("/echo", "1.0", "", body_of(i), sizes[i]);
        open_client(&c, false);
        send_slowly(&c, b.data, b.len);
        expect_echo(&c, body_of(i), sizes[i]);
        client_close(&c);
        buf_dispose(&b);
    }
}

/* ---- pipelined ---- */

enum { PIPELINED = 150 };

struct line {
    struct client *c;
    struct buf bytes;
    size_t lens[PIPELINED];
};

static void *send_line(void *arg)
{
    struct line *l = arg;
    unsigned seed = 3;
    for (size_t at = 0, n; at < l->bytes.len; at += n) {
        n = 1 + (size_t)rand_r(&seed) % 150000;
        if (n > l->bytes.len - at) n = l->bytes.len - at;
        client_send(l->c, l->bytes.data + at, n);
    }
    return NULL;
}

static void one_behind_the_other_they_are_told_apart(void **state)
{
    (void)state;
    for (int round = 0; round < 3; round++) {
        struct client c;
        struct line l = {.c = &c};
        pthread_t sender;
        open_client(&c, false);
        for (size_t i = 0; i < PIPELINED; i++) {
            l.lens[i] = random() % 3 ? (size_t)random() % 500 + 1 : sizes[(size_t)random() % SIZES];
            struct buf b = request_of("/echo", "1.1", "", body_of(i), l.lens[i]);
            buf_append(&l.bytes, b.data, b.len);
            buf_dispose(&b);
        }
        pthread_create(&sender, NULL, send_line, &l);
        for (size_t i = 0; i < PIPELINED; i++) expect_echo(&c, body_of(i), l.lens[i]);
        pthread_join(sender, NULL);
        buf_dispose(&l.bytes);
        client_close(&c);
    }
}

/* ---- bodies that end early ---- */

static void a_client_that_leaves_in_the_middle_leaves_nothing(void **state)
{
    (void)state;
    for (int i = 0; i < 60; i++) {
        struct client c;
        struct reply r;
        size_t len = sizes[7 + (size_t)random() % (SIZES - 7)], sent = (size_t)random() % len;
        struct buf b = request_of("/echo", "1.1", "", body_of(1), len);
        open_client(&c, false);
        if (i % 2) echo(&c, 3, 50000);
        send_slowly(&c, b.data, b.len - len + sent);
        struct linger reset = {.l_onoff = 1};
        if (i % 3 == 0) setsockopt(c.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        if (i % 3 == 1) { /* half closed: it is told */
            shutdown(c.fd, SHUT_WR);
            client_reply(&c, &r, false);
            assert_int_equal(r.status, 400);
            reply_dispose(&r);
        }
        client_close(&c);
        buf_dispose(&b);
    }
    wait_until(nothing_is_open, NULL, "all connections to be gone");
    assert_int_equal(collected(), 0);
}

static void a_body_that_comes_no_further_is_given_up(void **state)
{
    (void)state;
    struct client c;
    struct reply r;
    struct buf b = request_of("/echo", "1.1", "", body_of(1), 500000);
    open_client(&c, false);
    send_slowly(&c, b.data, 200000);
    client_reply(&c, &r, false);
    assert_int_equal(r.status, 408);
    assert_true(r.close);
    reply_dispose(&r);
    client_close(&c);
    buf_dispose(&b);
}

static void an_answer_in_the_middle_of_the_body_ends_it(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct client c;
        struct reply r;
        size_t len = 500000, first = 100000 + (size_t)random() % 300000;
        struct buf b = request_of("/hasty", "1.1", "", body_of(1), len);
        if (i % 2) first = b.len - 30000; /* so little is left that the connection goes on */
        open_client(&c, false);
        client_send(&c, b.data, first);
        client_reply(&c, &r, false);
        assert_int_equal(r.status, 504);
        assert_int_equal(r.close, i % 2 == 0);
        reply_dispose(&r);
        send_slowly(&c, b.data + first, b.len - first);
        if (i % 2) echo(&c, 2, 300000);
        client_close(&c);
        buf_dispose(&b);
    }
    wait_until(nothing_is_open, NULL, "all connections to be gone");
}

static bool much_is_collected(void *arg)
{
    return collected() >= *(long long *)arg;
}

/* Clients hold most of what the server may, and one body more is too much in its middle. */
static void a_server_that_holds_enough_refuses_a_body_in_its_middle(void **state)
{
    (void)state;
    enum { HOLDERS = 8, EACH = 1000000 };
    static struct client holders[HOLDERS];
    struct client c;
    struct reply r;
    struct buf b = request_of("/echo", "1.1", "", body_of(1), MIB);
    long long wanted = (long long)HOLDERS * EACH;
    for (int i = 0; i < HOLDERS; i++) {
        open_client(&holders[i], false);
        client_send(&holders[i], b.data, b.len - MIB + EACH);
    }
    wait_until(much_is_collected, &wanted, "the bodies to be held");
    open_client(&c, false);
    send_slowly(&c, b.data, b.len);
    client_reply(&c, &r, false);
    assert_int_equal(r.status, 503);
    assert_non_null(reply_header(&r, "Retry-After"));
    reply_dispose(&r);
    client_close(&c);
    for (int i = 0; i < HOLDERS; i++) client_close(&holders[i]);
    wait_until(nothing_is_open, NULL, "all connections to be gone");
    assert_int_equal(collected(), 0);
    open_client(&c, false);
    echo(&c, 2, MIB);
    client_close(&c);
    buf_dispose(&b);
}

/* ---- life ---- */

static int start(void **state)
{
    (void)state;
    uint64_t n = 88172645463325252u;
    struct err e = {0};
    for (size_t i = 0; i < sizeof noise; i++) {
        n ^= n << 13;
        n ^= n >> 7;
        n ^= n << 17;
        noise[i] = (char)n;
    }
    crypto_init();
    srandom(9);
    snprintf(folder, sizeof folder, "/tmp/tenor-large-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    snprintf(cert_file, sizeof cert_file, "%s/tls.crt", folder);
    snprintf(key_file, sizeof key_file, "%s/tls.key", folder);
    if (tls_self_signed(cert_file, key_file, 30, &e) != 0) fail_msg("%s", e.message);
    fixture_init(&fixture);
    fixture.config.listeners[1] = (struct server_listener){.address = "127.0.0.1:0", .tls = true};
    fixture.config.listeners_len = 2;
    fixture.config.tls_cert_file = cert_file;
    fixture.config.tls_key_file = key_file;
    fixture.config.limits.collected_bytes = COLLECTED_MAX;
    fixture.config.limits.body_idle_ms = BODY_IDLE_MS;
    fixture_start(&fixture);
    client_ctx = SSL_CTX_new(TLS_client_method());
    return 0;
}

static int stop(void **state)
{
    (void)state;
    fixture_stop(&fixture);
    SSL_CTX_free(client_ctx);
    return fs_remove_tree(folder, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies_of_every_size_come_whole),
        cmocka_unit_test(chunked_bodies_between_large_ones_come_whole),
        cmocka_unit_test(a_client_that_waits_for_100_and_an_old_one_are_served),
        cmocka_unit_test(one_behind_the_other_they_are_told_apart),
        cmocka_unit_test(a_client_that_leaves_in_the_middle_leaves_nothing),
        cmocka_unit_test(a_body_that_comes_no_further_is_given_up),
        cmocka_unit_test(an_answer_in_the_middle_of_the_body_ends_it),
        cmocka_unit_test(a_server_that_holds_enough_refuses_a_body_in_its_middle),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
