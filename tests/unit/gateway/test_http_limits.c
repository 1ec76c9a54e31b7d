/* What the server does not put up with: slowness, crowds, a lack of descriptors, and its own end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "base/clock.h"
#include "tests/unit/gateway/http_client.h"
#include "tests/unit/gateway/http_fixture.h"

static struct fixture fixture;

static int start_with(const struct server_limits *limits)
{
    fixture_init(&fixture);
    fixture.config.limits = *limits;
    fixture_start(&fixture);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    fixture_stop(&fixture);
    return 0;
}

/* ---- slowness
 * ------------------------------------------------------------------------------------------------ */

static int start_impatient(void **state)
{
    (void)state;
    return start_with(&(struct server_limits){.header_ms = 300,
                                              .idle_ms = 400,
                                              .body_idle_ms = 300,
                                              .body_min_rate = 1 << 20,
                                              .body_grace_ms = 600,
                                              .write_stall_ms = 300,
                                              .linger_ms = 200});
}

/* Sends a byte whenever 20 ms have passed without an answer. Returns how long the server bore it. */
static int64_t drip(struct client *c, const char *bytes)
{
    int64_t began = clock_mono_ms();
    for (size_t i = 0; clock_mono_ms() - began < 15000; i++) {
        struct pollfd p = {.fd = c->fd, .events = POLLIN};
        if (poll(&p, 1, 20) > 0) return clock_mono_ms() - began;
        client_send(c, bytes[i % strlen(bytes)] ? &bytes[i % strlen(bytes)] : "x", 1);
    }
    fail_msg("the server bore a dripping client for 15 s");
    return 0;
}

static void a_head_that_drips_in_is_cut_off_at_the_absolute_deadline(void **state)
{
    (void)state;
    struct client c;
    client_open(&c, fixture.port);
    client_text(&c, "GET / HTTP/1.1\r\nHost: a\r\nX: ");
    int64_t took = drip(&c, "a");
    assert_in_range(took, 200, 5000);
    client_expect(&c, "", 408);
    assert_true(client_is_closed(&c));
    client_close(&c);
}

static void an_idle_connection_is_closed_without_a_word(void **state)
{
    (void)state;
    struct client c;
    client_open(&c, fixture.port);
    assert_true(client_is_closed(&c));
    client_close(&c);
    client_open(&c, fixture.port);
    client_expect(&c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200);
    assert_true(client_is_closed(&c));
    client_close(&c);
}

static void a_body_that_stops_coming_is_answered_with_408(void **state)
{
    (void)state;
    static const char *const paths[] = {"echo", "sum"};
    for (int i = 0; i < 2; i++) {
        struct client c;
        char head[128];
        client_open(&c, fixture.port);
        snprintf(head, sizeof head, "POST /%s HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhello",
                 paths[i]);
        client_expect(&c, head, 408);
        assert_true(client_is_closed(&c));
        client_close(&c);
    }
}

static void a_body_that_drips_in_is_cut_off_by_the_least_rate(void **state)
{
    (void)state;
    struct client c;
    client_open(&c, fixture.port);
    client_text(&c, "POST /sum HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    assert_in_range(drip(&c, "b"), 500, 5000);
    client_expect(&c, "", 408);
    client_close(&c);
}

static bool handler_waits(void *arg)
{
    (void)arg;
    return atomic_load(&fixture.running) == 1;
}

static void a_client_is_not_blamed_while_its_reader_pauses(void **state)
{
    (void)state;
    enum { FIRST = 400 * 1000, REST = 3000 * 1000 };
    struct client c;
    struct reply r;
    static char body[REST];
    char head[128];
    client_open(&c, fixture.port);
    struct pollfd answer = {.fd = c.fd, .events = POLLIN};
    snprintf(head, sizeof head, "POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", FIRST + REST);
    client_text(&c, head);
    wait_until(handler_waits, NULL, "the handler starts");
    client_send(&c, body, FIRST);                /* more than the queue: the server pauses */
    assert_int_equal(poll(&answer, 1, 1000), 0); /* for longer than body_idle_ms and the grace */
    fixture_open_gate(&fixture);
    assert_int_equal(poll(&answer, 1, 150), 0); /* and this is the client's own, shorter pause */
    client_send(&c, body, REST);
    client_reply(&c, &r, false);
    assert_int_equal(r.status, 200);
    reply_dispose(&r);
    client_close(&c);
}

static bool all_closed(void *arg)
{
    (void)arg;
    struct server_stats s = fixture_stats(&fixture);
    return s.open_connections == 0 && s.open_exchanges == 0;
}

static bool one_is_served(void *arg)
{
    (void)arg;
    return fixture_stats(&fixture).requests == 1;
}

static void a_client_that_does_not_read_is_cut_off(void **state)
{
    (void)state;
    struct client c;
    int before = atomic_load(&fixture.cancelled);
    client_open(&c, fixture.port);
    client_text(&c, "GET /flood?n=2000000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until(one_is_served, NULL, "the response begins");
    wait_until(all_closed, NULL, "the connection is cut");
    assert_int_equal(atomic_load(&fixture.cancelled), before + 1);
    client_close(&c);
}

static void a_client_that_never_closes_after_a_refusal_is_closed(void **state)
{
    (void)state;
    struct client c;
    client_open(&c, fixture.port);
    client_expect(&c, "nonsense\r\n\r\n", 400);
    wait_until(all_closed, NULL, "lingering ends");
    client_close(&c);
}

/* ---- crowds
 * -------------------------------------------------------------------------------------------------- */

static int start_small(void **state)
{
    (void)state;
    return start_with(&(struct server_limits){
        .connections_max = 6, .connections_per_peer = 4, .requests_per_connection = 3});
}

static bool four_are_open(void *arg)
{
    (void)arg;
    return fixture_stats(&fixture).open_connections == 4;
}

static void an_address_gets_no_more_connections_than_its_cap(void **state)
{
    (void)state;
    struct client c[5];
    for (int i = 0; i < 4; i++) client_open(&c[i], fixture.port);
    wait_until(four_are_open, NULL, "four connections are open");
    client_open(&c[4], fixture.port);
    assert_true(client_is_closed(&c[4]));
    client_close(&c[4]);
    client_expect(&c[0], "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200);
    for (int i = 0; i < 4; i++) client_close(&c[i]);
    wait_until(all_closed, NULL, "all are closed");
    client_open(&c[0], fixture.port);
    client_expect(&c[0], "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200);
    client_close(&c[0]);
    assert_int_equal(fixture_stats(&fixture).refused_cap, 1);
}

static void a_connection_serves_its_number_of_requests_and_closes(void **state)
{
    (void)state;
    struct client c;
    struct reply r;
    client_open(&c, fixture.port);
    for (int i = 0; i < 3; i++) {
        client_text(&c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client_reply(&c, &r, false);
        assert_int_equal(r.close, i == 2);
        reply_dispose(&r);
    }
    assert_true(client_is_closed(&c));
    client_close(&c);
}

/* ---- busy pool
 * ----------------------------------------------------------------------------------------------- */

static int start_tiny_pool(void **state)
{
    (void)state;
    fixture_init(&fixture);
    fixture.pool_threads = 1;
    fixture.pool_queue = 1;
    fixture_start(&fixture);
    return 0;
}

static bool one_waits(void *arg)
{
    (void)arg;
    return pool_waiting(fixture.pool) == 1;
}

static void a_full_pool_is_answered_with_503_and_when_to_retry(void **state)
{
    (void)state;
    struct client busy, queued, c;
    struct reply r;
    client_open(&busy, fixture.port);
    client_open(&queued, fixture.port);
    client_open(&c, fixture.port);
    client_text(&busy, "POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
    wait_until(handler_waits, NULL, "the pool's thread is taken");
    client_text(&queued, "GET /pool HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until(one_waits, NULL, "the pool's queue is taken");
    client_text(&c, "GET /pool HTTP/1.1\r\nHost: a\r\n\r\n");
    client_reply(&c, &r, false);
    assert_int_equal(r.status, 503);
    assert_string_equal(reply_header(&r, "Retry-After"), "1");
    reply_dispose(&r);
    client_expect(&c, "POST /sum HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", 503);
    fixture_open_gate(&fixture);
    client_expect(&queued, "", 201);
    client_expect(&busy, "", 200);
    client_close(&busy);
    client_close(&queued);
    client_close(&c);
}

/* ---- asking without reading
 * ---------------------------------------------------------------------------------- */

static int start_plain(void **state)
{
    (void)state;
    return start_with(&(struct server_limits){0});
}

static int start_forgetful(void **state)
{
    (void)state;
    return start_with(&(struct server_limits){.collected_bytes = 1000});
}

static const char five_hundred[] = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n";

/* The status of a whole upload of 500 bytes. */
static int upload(void)
{
    struct client c;
    struct reply r;
    char body[501];
    snprintf(body, sizeof body, "%0500d", 0);
    client_open(&c, fixture.port);
    client_text(&c, five_hundred);
    client_text(&c, body);
    client_reply(&c, &r, false);
    int status = r.status;
    if (status == 503) assert_string_equal(reply_header(&r, "retry-after"), "1");
    reply_dispose(&r);
    client_close(&c);
    return status;
}

static bool is_full(void *arg)
{
    (void)arg;
    return upload() == 503;
}

static bool has_room(void *arg)
{
    (void)arg;
    return upload() == 200;
}

static void bodies_in_memory_are_bounded_over_all_connections(void **state)
{
    (void)state;
    struct client c;
    char most[800];
    memset(most, 'x', sizeof most);
    assert_int_equal(upload(), 200);
    client_open(&c, fixture.port);
    client_text(&c, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\n");
    client_send(&c, most, sizeof most);
    wait_until(is_full, NULL, "a body too many was taken");
    client_close(&c);
    wait_until(has_room, NULL, "a body that went still takes up room");
}

static void a_client_that_asks_without_reading_is_not_read_either(void **state)
{
    (void)state;
    enum { MOST = 32 << 20 };
    struct buf requests = {0};
    struct client c;
    size_t sent = 0;
    for (int i = 0; i < 1000; i++) buf_str(&requests, "GET /flood?n=1000 HTTP/1.1\r\nHost: a\r\n\r\n");
    client_open(&c, fixture.port);
    fcntl(c.fd, F_SETFL, O_NONBLOCK);
    struct pollfd p = {.fd = c.fd, .events = POLLOUT};
    while (sent < MOST && poll(&p, 1, 500) > 0) {
        size_t at = sent % requests.len;
        ssize_t n = send(c.fd, requests.data + at, requests.len - at, MSG_NOSIGNAL);
        if (n > 0) sent += (size_t)n;
    }
    assert_true(sent < MOST / 2); /* the kernel's buffers */
    client_close(&c);
    buf_dispose(&requests);
}

/* ---- descriptors
 * --------------------------------------------------------------------------------------------- */

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void running_out_of_descriptors_neither_spins_nor_lasts(void **state)
{
    (void)state;
    enum { CROWD = 20 };
    struct rlimit before, now;
    struct client late;
    int crowd[CROWD];
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)fixture.port)};
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int i = 0; i < CROWD; i++) crowd[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    now = before;
    now.rlim_cur = (rlim_t)crowd[CROWD - 1] + 3; /* two descriptors are left for the server's ends */
    setrlimit(RLIMIT_NOFILE, &now);
    for (int i = 0; i < CROWD; i++) (void)connect(crowd[i], (struct sockaddr *)&in, sizeof in);
    double cpu = cpu_seconds();
    poll(NULL, 0, 500); /* the time over which its use of the CPU is measured */
    cpu = cpu_seconds() - cpu;
    setrlimit(RLIMIT_NOFILE, &before);
    assert_true(fixture_stats(&fixture).accepted < CROWD);
    assert_true(cpu < 0.05);
    for (int i = 0; i < CROWD; i++) close(crowd[i]);
    client_open(&late, fixture.port);
    client_expect(&late, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200);
    client_close(&late);
}

/* ---- the end
 * ------------------------------------------------------------------------------------------------- */

static void *drain(void *cut)
{
    *(size_t *)cut = server_drain(fixture.server, 15000);
    return NULL;
}

static bool one_is_open(void *arg)
{
    (void)arg;
    return fixture_stats(&fixture).open_connections == 1;
}

static void draining_lets_requests_finish_and_takes_no_new_ones(void **state)
{
    (void)state;
    struct client idle, busy;
    struct reply r;
    pthread_t thread;
    size_t cut = 99;
    client_open(&idle, fixture.port);
    client_expect(&idle, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200);
    client_open(&busy, fixture.port);
    client_text(&busy, "POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe");
    wait_until(handler_waits, NULL, "the handler starts");
    pthread_create(&thread, NULL, drain, &cut);
    assert_true(client_is_closed(&idle));
    wait_until(one_is_open, NULL, "only the busy connection is left");
    fixture_open_gate(&fixture);
    client_text(&busy, "llo");
    client_reply(&busy, &r, false);
    assert_int_equal(r.status, 200);
    assert_true(r.close);
    reply_dispose(&r);
    client_close(&busy);
    pthread_join(thread, NULL);
    assert_int_equal(cut, 0);
    client_close(&idle);
}

static void draining_cuts_what_does_not_finish_in_time(void **state)
{
    (void)state;
    struct client c;
    client_open(&c, fixture.port);
    client_text(&c, "GET /hang HTTP/1.1\r\nHost: a\r\n\r\nx");
    wait_until(one_is_open, NULL, "the connection is open");
    while (fixture_stats(&fixture).open_exchanges != 1) poll(NULL, 0, 1);
    assert_int_equal(server_drain(fixture.server, 50), 1);
    assert_true(client_is_closed(&c));
    wait_until(all_closed, NULL, "its route finished it");
    assert_int_equal(atomic_load(&fixture.cancelled), 1);
    client_close(&c);
}

/* ---- addresses
 * ----------------------------------------------------------------------------------------------- */

static void a_port_that_is_taken_is_named(void **state)
{
    (void)state;
    struct server *second = NULL;
    struct err e = {0};
    struct server_config config = fixture.config;
    config.listeners[0].address = server_address(fixture.server, 0);
    assert_int_equal(server_create(&second, &config, &e), ERR_CONFLICT);
    assert_non_null(strstr(e.message, config.listeners[0].address));
    assert_non_null(strstr(e.message, "taken"));
    assert_string_equal(e.field, "listen");
}

static void addresses_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",       "8080",  ":8080",          "localhost:80", "127.0.0.1",    "127.0.0.1:",  "127.0.0.1:65536",
        "::1:80", "[::1]", "[127.0.0.1]:80", "unix:",        "127.0.0.1:-1", "300.0.0.1:80"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct server *s = NULL;
        struct err e = {0};
        struct server_config config = fixture.config;
        config.listeners[0].address = bad[i];
        if (server_create(&s, &config, &e) != ERR_INVALID) fail_msg("%s was accepted", bad[i]);
        assert_string_equal(e.field, "listen");
    }
}

static void ipv6_and_unix_sockets_serve_too(void **state)
{
    (void)state;
    char folder[] = "/tmp/tenor-http-XXXXXX", path[64], address[80];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/s", folder);
    snprintf(address, sizeof address, "unix:%s", path);
    struct fixture f;
    for (int round = 0; round < 2; round++) { /* the second finds the first one's socket file gone */
        struct client c;
        struct reply r;
        fixture_init(&f);
        f.config.listeners[0].address = "[::1]:0";
        f.config.listeners[1] = (struct server_listener){.address = address, .tag = 7};
        f.config.listeners_len = 2;
        fixture_start(&f);
        client_open_v6(&c, f.port);
        client_text(&c, "GET /peer HTTP/1.1\r\nHost: a\r\n\r\n");
        client_reply(&c, &r, false);
        assert_string_equal(r.body.data, "::1");
        reply_dispose(&r);
        client_close(&c);
        client_open_unix(&c, path);
        client_text(&c, "GET /peer HTTP/1.1\r\nHost: a\r\n\r\n");
        client_reply(&c, &r, false);
        assert_string_equal(r.body.data, "unix");
        reply_dispose(&r);
        client_close(&c);
        fixture_stop(&f);
        assert_int_equal(access(path, F_OK), -1);
    }
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_head_that_drips_in_is_cut_off_at_the_absolute_deadline,
                                        start_impatient, stop),
        cmocka_unit_test_setup_teardown(an_idle_connection_is_closed_without_a_word, start_impatient, stop),
        cmocka_unit_test_setup_teardown(a_body_that_stops_coming_is_answered_with_408, start_impatient, stop),
        cmocka_unit_test_setup_teardown(a_body_that_drips_in_is_cut_off_by_the_least_rate, start_impatient,
                                        stop),
        cmocka_unit_test_setup_teardown(a_client_is_not_blamed_while_its_reader_pauses, start_impatient,
                                        stop),
        cmocka_unit_test_setup_teardown(a_client_that_does_not_read_is_cut_off, start_impatient, stop),
        cmocka_unit_test_setup_teardown(a_client_that_never_closes_after_a_refusal_is_closed, start_impatient,
                                        stop),
        cmocka_unit_test_setup_teardown(an_address_gets_no_more_connections_than_its_cap, start_small, stop),
        cmocka_unit_test_setup_teardown(a_connection_serves_its_number_of_requests_and_closes, start_small,
                                        stop),
        cmocka_unit_test_setup_teardown(a_full_pool_is_answered_with_503_and_when_to_retry, start_tiny_pool,
                                        stop),
        cmocka_unit_test_setup_teardown(bodies_in_memory_are_bounded_over_all_connections, start_forgetful,
                                        stop),
        cmocka_unit_test_setup_teardown(a_client_that_asks_without_reading_is_not_read_either, start_plain,
                                        stop),
        cmocka_unit_test_setup_teardown(running_out_of_descriptors_neither_spins_nor_lasts, start_plain,
                                        stop),
        cmocka_unit_test_setup_teardown(draining_lets_requests_finish_and_takes_no_new_ones, start_plain,
                                        stop),
        cmocka_unit_test_setup_teardown(draining_cuts_what_does_not_finish_in_time, start_plain, stop),
        cmocka_unit_test_setup_teardown(a_port_that_is_taken_is_named, start_plain, stop),
        cmocka_unit_test_setup_teardown(addresses_that_make_no_sense_are_refused, start_plain, stop),
        cmocka_unit_test_setup_teardown(ipv6_and_unix_sockets_serve_too, start_plain, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
