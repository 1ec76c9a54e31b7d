/* The server from outside, over real sockets: framing, order, bodies, responses, and clients that leave. */
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
#include "tests/unit/gateway/http_client.h"
#include "tests/unit/gateway/http_corpus.h"
#include "tests/unit/gateway/http_fixture.h"

static struct fixture fixture;
static struct http_corpus corpus;

static int count(const char *text, const char *part)
{
    int n = 0;
    for (const char *at = text; (at = strstr(at, part)); at++) n++;
    return n;
}

static void a_doubtful_request_gets_one_refusal_and_the_connection_is_closed(void **state)
{
    (void)state;
    for (size_t i = 0; i < corpus.len; i++) {
        const struct http_case *h = &corpus.cases[i];
        if (h->status == 0) continue;
        struct client c;
        client_open(&c, fixture.port);
        client_send(&c, h->bytes, h->len);
        client_read_to_end(&c);
        const char *got = c.in.data;
        int status = !strncmp(got, "HTTP/1.1 ", 9) ? atoi(got + 9) : 0;
        if (count(got, "\r\nDate: ") != 1 || status != h->status || strstr(got, "SMUGGLED"))
            fail_msg("%s: expected one %d, got %s", h->name, h->status, got);
        if (!strstr(got, "Connection: close\r\n") || !strstr(got, "X-Request-Id: req_"))
            fail_msg("%s: %s", h->name, got);
        if (strncmp(h->bytes, "HEAD", 4) != 0 && !strstr(got, "{\"error\":{"))
            fail_msg("%s: no envelope: %s", h->name, got);
        client_close(&c);
    }
}

static void a_sound_request_is_answered_and_the_connection_kept(void **state)
{
    (void)state;
    for (size_t i = 0; i < corpus.len; i++) {
        const struct http_case *h = &corpus.cases[i];
        if (h->status != 0 || strstr(h->bytes, "HTTP/1.0")) continue;
        struct client c;
        client_open(&c, fixture.port);
        client_send(&c, h->bytes, h->len);
        int requests = strstr(h->name, "three") ? 3 : 1;
        for (int k = 0; k < requests; k++) {
            struct reply r;
            client_reply(&c, &r, false);
            if (r.status != 200 || r.close) fail_msg("%s: %s", h->name, r.head);
            reply_dispose(&r);
        }
        client_expect(&c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200);
        client_close(&c);
    }
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    (void)state;
    struct client c;
    struct reply r;
    client_open(&c, fixture.port);
    client_text(
        &c,
        "GET /pool HTTP/1.1\r\nHost: a\r\n\r\nPOST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\ntwo"
        "GET / HTTP/1.1\r\nHost: a\r\n\r\nPOST /sum HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        "4\r\nfour\r\n0\r\n\r\nGET /empty HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
    static const struct {
        int status;
        const char *body;
    } expected[] = {{201, "from the pool"}, {200, "two"}, {200, "hello"}, {200, "4 b8dce1e9"}, {204, ""}};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        client_reply(&c, &r, false);
        assert_int_equal(r.status, expected[i].status);
        if (i != 3)
            assert_string_equal(r.body.data, expected[i].body);
        else
            assert_int_equal(strncmp(r.body.data, "4 ", 2), 0);
        assert_int_equal(r.close, i == 4);
        reply_dispose(&r);
    }
    assert_true(client_is_closed(&c)); /* and what followed Connection: close was not served */
    client_close(&c);
}

static void many_pipelined_requests_are_all_answered(void **state)
{
    (void)state;
    enum { REQUESTS = 5000 };
    struct buf all = {0};
    for (int i = 0; i < REQUESTS; i++)
        buf_printf(&all, "GET /%s HTTP/1.1\r\nHost: a\r\n\r\n", i % 100 ? "" : "pool");
    struct client c;
    client_open(&c, fixture.port);
    int served = 0;
    /* In portions, so that neither side's socket buffers fill while the other waits. */
    size_t portion = all.len / 50;
    for (size_t at = 0; at < all.len; at += portion) {
        client_send(&c, all.data + at, all.len - at < portion ? all.len - at : portion);
        int whole = (int)((double)(at + portion) / (double)all.len * REQUESTS) - 10;
        for (; served < whole && served < REQUESTS; served++) {
            struct reply r;
            client_reply(&c, &r, false);
            assert_int_equal(r.status, served % 100 ? 200 : 201);
            reply_dispose(&r);
        }
    }
    for (; served < REQUESTS; served++) {
        struct reply r;
        client_reply(&c, &r, false);
        reply_dispose(&r);
    }
    client_close(&c);
    buf_dispose(&all);
}

static void a_head_request_gets_the_length_without_the_body(void **state)
{
    (void)state;
    struct client c;
    struct reply r;
    client_open(&c, fixture.port);
    client_text(&c, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\nHEAD /flood?n=100000 HTTP/1.1\r\nHost: a\r\n\r\n");
    client_reply(&c, &r, true);
    assert_int_equal(r.status, 200);
    assert_string_equal(reply_header(&r, "Content-Length"), "5");
    reply_dispose(&r);
    client_reply(&c, &r, true);
    assert_int_equal(r.status, 200);
    reply_dispose(&r);
    client_expect(&c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200);
    assert_int_equal(c.in.len, 0);
    client_close(&c);
}

static void a_body_over_the_routes_limit_is_refused_whether_announced_or_not(void **state)
{
    (void)state;
    struct client c;
    struct reply r;
    client_open(&c, fixture.port);
    client_expect(&c, "POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: 16\r\n\r\n0123456789abcdef", 200);
    client_expect(&c, "POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: 17\r\n\r\n0123456789abcdefg", 413);
    client_expect(&c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200); /* so little rest is passed over */
    client_text(&c, "POST /small HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
                    "chunked\r\n\r\n11\r\n0123456789abcdefg\r\n0\r\n\r\n");
    client_reply(&c, &r, false);
    assert_int_equal(r.status, 413);
    assert_non_null(strstr(r.body.data, "\"code\":\"too_large\""));
    reply_dispose(&r);
    client_close(&c);
}

static void a_client_that_sends_much_too_much_still_sees_the_refusal(void **state)
{
    (void)state;
    struct client c;
    struct reply r;
    static char piece[1 << 20];
    client_open(&c, fixture.port);
    client_text(&c, "POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 33554432\r\n\r\n");
    for (size_t sent = 0;
         sent < 32 * sizeof piece;) { /* all of it is taken: a reset could swallow the refusal */
        ssize_t n = send(c.fd, piece, sizeof piece, MSG_NOSIGNAL);
        assert_true(n > 0);
        sent += (size_t)n;
    }
    client_reply(&c, &r, false);
    assert_int_equal(r.status, 403);
    assert_true(r.close);
    assert_non_null(strstr(r.body.data, "permission_error"));
    reply_dispose(&r);
    client_close(&c);
}

static void a_client_that_waits_for_100_continue_gets_it_only_when_its_body_is_wanted(void **state)
{
    (void)state;
    struct client c;
    struct reply r;
    client_open(&c, fixture.port);
    client_text(&c, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    while (!c.in.data || !strstr(c.in.data, "\r\n\r\n")) {
        char piece[256];
        ssize_t n = recv(c.fd, piece, sizeof piece, 0);
        assert_true(n > 0);
        buf_append(&c.in, piece, (size_t)n);
    }
    assert_string_equal(c.in.data, "HTTP/1.1 100 Continue\r\n\r\n");
    client_expect(&c, "hello", 200);
    client_text(&c, "POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: 17\r\nExpect: 100-continue\r\n\r\n");
    client_read_to_end(&c);
    assert_int_equal(strncmp(c.in.data, "HTTP/1.1 413 ", 13), 0);
    client_reply(&c, &r, false);
    assert_true(r.close); /* whether the body follows or not cannot be known */
    reply_dispose(&r);
    client_close(&c);
}

static void a_truncated_upload_is_told_what_is_missing(void **state)
{
    (void)state;
    static const char *const requests[] = {
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello",
        "POST /sum HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello",
        "POST /sum HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "POST /poolbody HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    };
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        struct client c;
        struct reply r;
        client_open(&c, fixture.port);
        client_text(&c, requests[i]);
        shutdown(c.fd, SHUT_WR);
        client_reply(&c, &r, false);
        assert_int_equal(r.status, 400);
        assert_non_null(strstr(r.body.data, "5 bytes arrived, the rest of the body is missing"));
        reply_dispose(&r);
        assert_true(client_is_closed(&c));
        client_close(&c);
    }
}

static bool hang_was_cancelled(void *arg)
{
    return atomic_load(&fixture.cancelled) >= *(int *)arg;
}

static bool one_request_waits(void *arg)
{
    (void)arg;
    return fixture_stats(&fixture).open_exchanges == 1;
}

static bool nothing_is_open(void *arg)
{
    (void)arg;
    struct server_stats s = fixture_stats(&fixture);
    return s.open_connections == 0 && s.open_exchanges == 0;
}

static void a_client_that_leaves_cancels_its_request(void **state)
{
    (void)state;
    int before = atomic_load(&fixture.cancelled), want = before + 1;
    struct client c;
    wait_until(nothing_is_open, NULL, "earlier tests' connections close");
    client_open(&c, fixture.port);
    client_text(&c, "GET /hang HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until(one_request_waits, NULL, "the request reaches its route");
    assert_int_equal(atomic_load(&fixture.cancelled), before);
    client_close(&c);
    wait_until(hang_was_cancelled, &want, "on_cancel is called");
    wait_until(nothing_is_open, NULL, "the connection closes");
}

static void a_client_that_leaves_behind_pipelined_bytes_is_noticed_too(void **state)
{
    (void)state;
    int want = atomic_load(&fixture.cancelled) + 1;
    static char more[64 * 1024];
    memset(more, 'x', sizeof more);
    struct client c;
    client_open(&c, fixture.port);
    client_text(&c, "GET /hang HTTP/1.1\r\nHost: a\r\n\r\n");
    client_send(&c, more, sizeof more);
    wait_until(one_request_waits, NULL, "the request reaches its route");
    client_close(&c);
    wait_until(hang_was_cancelled, &want, "on_cancel is called");
    wait_until(nothing_is_open, NULL, "the connection closes");
}

static bool pool_handler_runs(void *arg)
{
    (void)arg;
    return atomic_load(&fixture.running) == 1;
}

static void a_pool_handler_outlives_its_client_and_can_tell(void **state)
{
    (void)state;
    struct client c;
    client_open(&c, fixture.port);
    client_text(&c, "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until(pool_handler_runs, NULL, "the handler starts");
    client_close(&c);
    wait_until(nothing_is_open, NULL, "the exchange is finished");
    assert_int_equal(atomic_load(&fixture.pool_cancelled), 1);
}

static void a_half_closed_client_still_gets_its_answer(void **state)
{
    (void)state;
    struct client c;
    client_open(&c, fixture.port);
    client_text(&c, "GET /pool HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    shutdown(c.fd, SHUT_WR);
    client_expect(&c, "", 201);
    client_expect(&c, "", 200);
    assert_true(client_is_closed(&c));
    client_close(&c);
}

static void a_streamed_response_waits_for_its_reader(void **state)
{
    (void)state;
    struct client c;
    struct reply r;
    client_open(&c, fixture.port);
    client_text(&c, "GET /flood?n=30000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    client_reply(&c, &r, false);
    assert_int_equal(r.body.len, 30000000);
    assert_string_equal(reply_header(&r, "Transfer-Encoding"), "chunked");
    reply_dispose(&r);
    assert_true(atomic_load(&fixture.flood_peak) < 300 * 1024);
    client_expect(&c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200);
    client_close(&c);
}

static void a_streamed_response_that_is_aborted_never_looks_complete(void **state)
{
    (void)state;
    struct client c;
    client_open(&c, fixture.port);
    client_text(&c, "GET /abort HTTP/1.1\r\nHost: a\r\n\r\n");
    client_read_to_end(&c);
    assert_null(strstr(c.in.data, "0\r\n\r\n"));
    client_close(&c);
}

static void an_old_client_gets_a_response_without_chunks(void **state)
{
    (void)state;
    struct client c;
    client_open(&c, fixture.port);
    client_text(&c, "GET /flood?n=25000 HTTP/1.0\r\n\r\n");
    client_read_to_end(&c);
    assert_null(strstr(c.in.data, "Transfer-Encoding"));
    char *body = strstr(c.in.data, "\r\n\r\n") + 4;
    assert_int_equal(c.in.len - (size_t)(body - c.in.data), 25000);
    client_close(&c);
}

static void a_failure_is_answered_in_the_envelope_with_its_headers(void **state)
{
    (void)state;
    struct client c;
    struct reply r;
    client_open(&c, fixture.port);
    client_text(&c, "GET /fail HTTP/1.1\r\nHost: a\r\n\r\n");
    client_reply(&c, &r, false);
    assert_int_equal(r.status, 429);
    assert_string_equal(reply_header(&r, "Retry-After"), "2");
    assert_string_equal(
        r.body.data, "{\"error\":{\"message\":\"too fast\",\"type\":\"rate_limit_error\",\"param\":\"rate\","
                     "\"code\":\"limit\"}}");
    reply_dispose(&r);
    client_text(&c, "POST /poolbody HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    client_reply(&c, &r, false);
    assert_string_equal(r.body.data, "5:hello");
    reply_dispose(&r);
    client_close(&c);
}

static int start(void **state)
{
    (void)state;
    http_corpus_load(&corpus);
    fixture_init(&fixture);
    fixture_start(&fixture);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    fixture_stop(&fixture);
    http_corpus_dispose(&corpus);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_doubtful_request_gets_one_refusal_and_the_connection_is_closed),
        cmocka_unit_test(a_sound_request_is_answered_and_the_connection_kept),
        cmocka_unit_test(pipelined_requests_are_answered_in_order),
        cmocka_unit_test(many_pipelined_requests_are_all_answered),
        cmocka_unit_test(a_head_request_gets_the_length_without_the_body),
        cmocka_unit_test(a_body_over_the_routes_limit_is_refused_whether_announced_or_not),
        cmocka_unit_test(a_client_that_sends_much_too_much_still_sees_the_refusal),
        cmocka_unit_test(a_client_that_waits_for_100_continue_gets_it_only_when_its_body_is_wanted),
        cmocka_unit_test(a_truncated_upload_is_told_what_is_missing),
        cmocka_unit_test(a_client_that_leaves_cancels_its_request),
        cmocka_unit_test(a_client_that_leaves_behind_pipelined_bytes_is_noticed_too),
        cmocka_unit_test(a_pool_handler_outlives_its_client_and_can_tell),
        cmocka_unit_test(a_half_closed_client_still_gets_its_answer),
        cmocka_unit_test(a_streamed_response_waits_for_its_reader),
        cmocka_unit_test(a_streamed_response_that_is_aborted_never_looks_complete),
        cmocka_unit_test(an_old_client_gets_a_response_without_chunks),
        cmocka_unit_test(a_failure_is_answered_in_the_envelope_with_its_headers),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
