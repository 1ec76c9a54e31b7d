/* The parser alone: the corpus in every split, limits at their edge, and what a request is decoded to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "base/buf.h"
#include "base/mem.h"
#include "gateway/http/parser.h"
#include "gateway/http/request_build.h"
#include "tests/unit/gateway/http_corpus.h"

static const struct parser_limits LIMITS = {8 * 1024, 32 * 1024, 100};
static struct http_corpus corpus;

/* Feeds [at, at+len) and writes what happens to the trace; pieces of one body are joined. False after a
 * failure. */
static bool feed(struct parser *p, struct buf *trace, const char *at, size_t len)
{
    struct parser_step step;
    for (;;) {
        enum parser_event event = parser_next(p, at, len, &step);
        at += step.used;
        len -= step.used;
        struct arena arena;
        struct request r = {0};
        struct err e = {0};
        switch (event) {
        case PARSER_MORE:
            return true;
        case PARSER_HEAD:
            arena_init(&arena, 1 << 20);
            int rc = request__build(&r, &arena, p, &e);
            buf_printf(trace, "HEAD %d %s %d %zu %zu\n", rc, r.target, (int)r.content_length, r.headers_len,
                       r.query_len);
            arena_dispose(&arena);
            if (rc) {
                buf_printf(trace, "FAIL 400\n");
                return false;
            }
            break;
        case PARSER_BODY:
            buf_append(trace, step.body, step.body_len);
            break;
        case PARSER_END:
            buf_printf(trace, "\nEND\n");
            break;
        case PARSER_FAIL:
            buf_printf(trace, "FAIL %d %s\n", p->status, p->reason);
            return false;
        }
    }
}

/* The events of bytes cut in two places. */
static void trace_of(struct buf *trace, const struct http_case *h, size_t first, size_t second)
{
    struct parser p;
    parser_init(&p, &LIMITS);
    buf_clear(trace);
    (void)(feed(&p, trace, h->bytes, first) && feed(&p, trace, h->bytes + first, second - first) &&
           feed(&p, trace, h->bytes + second, h->len - second));
    if (p.state == PARSER_START) buf_printf(trace, "READY\n");
    parser_dispose(&p);
}

static bool ends_with(const struct buf *trace, const char *text)
{
    size_t len = strlen(text);
    return trace->len >= len && !strcmp(trace->data + trace->len - len, text);
}

static void every_case_of_the_corpus_gets_the_verdict_it_names(void **state)
{
    (void)state;
    struct buf trace = {0};
    assert_true(corpus.len >= 60);
    for (size_t i = 0; i < corpus.len; i++) {
        const struct http_case *h = &corpus.cases[i];
        trace_of(&trace, h, 0, h->len);
        char fail[16];
        snprintf(fail, sizeof fail, "FAIL %d", h->status);
        bool right = h->status == 0 ? ends_with(&trace, "READY\n") && !strstr(trace.data, "FAIL")
                                    : strstr(trace.data, fail) && !strstr(trace.data, "smuggled");
        if (!right) fail_msg("%s: %s", h->name, trace.data);
        if (h->in_body) assert_non_null(strstr(trace.data, "HEAD 0 /echo"));
    }
    buf_dispose(&trace);
}

static void no_split_of_a_request_changes_its_events(void **state)
{
    (void)state;
    struct buf whole = {0}, split = {0};
    for (size_t i = 0; i < corpus.len; i++) {
        const struct http_case *h = &corpus.cases[i];
        trace_of(&whole, h, 0, h->len);
        size_t stride = h->len > 2000 ? h->len / 500 : 1; /* long ones are long by repetition */
        for (size_t at = 0; at <= h->len; at += stride) {
            trace_of(&split, h, at, at + (h->len - at) / 2);
            if (strcmp(whole.data, split.data) != 0)
                fail_msg("%s, cut at %zu: %s instead of %s", h->name, at, split.data, whole.data);
        }
    }
    buf_dispose(&whole);
    buf_dispose(&split);
}

static void a_request_fed_byte_by_byte_is_the_same_request(void **state)
{
    (void)state;
    struct buf whole = {0}, bytes = {0};
    for (size_t i = 0; i < corpus.len; i++) {
        const struct http_case *h = &corpus.cases[i];
        struct parser p;
        parser_init(&p, &LIMITS);
        trace_of(&whole, h, 0, h->len);
        buf_clear(&bytes);
        size_t at = 0;
        while (at < h->len && feed(&p, &bytes, h->bytes + at, 1)) at++;
        if (p.state == PARSER_START) buf_printf(&bytes, "READY\n");
        assert_string_equal(bytes.data, whole.data);
        parser_dispose(&p);
    }
    buf_dispose(&whole);
    buf_dispose(&bytes);
}

/* Builds a request of one head; the caller disposes of the arena. */
static struct request build(struct arena *a, const char *head)
{
    struct parser p;
    struct parser_step step;
    struct request r = {0};
    struct err e = {0};
    arena_init(a, 1 << 20);
    parser_init(&p, &LIMITS);
    assert_int_equal(parser_next(&p, head, strlen(head), &step), PARSER_HEAD);
    assert_int_equal(request__build(&r, a, &p, &e), 0);
    parser_dispose(&p);
    return r;
}

static void path_query_and_headers_are_decoded(void **state)
{
    (void)state;
    struct arena a;
    struct request r =
        build(&a, "GET /v1/m%C3%A9/a%20b:predict?limit=2&after=x+y%26z&flag&after=2 HTTP/1.1\r\nHost: h\r\n"
                  "X-Thing:  some value \r\nContent-Type: Application/JSON; charset=utf-8\r\n\r\n");
    assert_int_equal(r.segments_len, 3);
    assert_string_equal(r.segments[0], "v1");
    assert_string_equal(r.segments[1], "m\xc3\xa9");
    assert_string_equal(r.segments[2], "a b:predict");
    assert_int_equal(r.query_len, 4);
    assert_string_equal(request_query(&r, "limit"), "2");
    assert_string_equal(request_query(&r, "after"), "x y&z");
    assert_string_equal(request_query(&r, "flag"), "");
    assert_null(request_query(&r, "nothing"));
    assert_string_equal(request_header(&r, "x-thing"), "some value");
    assert_null(request_header(&r, "x-other"));
    assert_true(request_is_type(&r, "application/json"));
    assert_false(request_is_type(&r, "application/jso"));
    assert_false(request_is_type(&r, "text/csv"));
    arena_dispose(&a);
}

static void the_root_has_no_segments_and_a_trailing_slash_has_an_empty_one(void **state)
{
    (void)state;
    struct arena a;
    struct request r = build(&a, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_int_equal(r.segments_len, 0);
    arena_dispose(&a);
    r = build(&a, "GET /a/ HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_int_equal(r.segments_len, 2);
    assert_string_equal(r.segments[1], "");
    arena_dispose(&a);
    r = build(&a, "GET //a?x HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_int_equal(r.segments_len, 2);
    assert_string_equal(r.segments[0], "");
    arena_dispose(&a);
}

static void connection_close_is_noticed_in_a_list(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        bool close;
    } cases[] = {
        {"close", true}, {"Keep-Alive", false}, {"upgrade, Close", true}, {"closed", false}, {"", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char head[128];
        struct parser p;
        struct parser_step step;
        snprintf(head, sizeof head, "GET / HTTP/1.1\r\nHost: h\r\nConnection: %s\r\n\r\n", cases[i].value);
        parser_init(&p, &LIMITS);
        assert_int_equal(parser_next(&p, head, strlen(head), &step), PARSER_HEAD);
        assert_int_equal(p.close, cases[i].close);
        parser_dispose(&p);
    }
}

static void an_endless_line_is_refused_without_being_kept(void **state)
{
    (void)state;
    struct parser p;
    struct parser_step step;
    char piece[4096];
    enum parser_event event = PARSER_MORE;
    memset(piece, 'a', sizeof piece);
    parser_init(&p, &LIMITS);
    for (int i = 0; i < 100 && event == PARSER_MORE; i++) event = parser_next(&p, piece, sizeof piece, &step);
    assert_int_equal(event, PARSER_FAIL);
    assert_int_equal(p.status, 414);
    assert_true(p.head.cap <= 2 * LIMITS.request_line_bytes + 2);
    parser_dispose(&p);
}

/* Each byte at each place of three words, behind 0xff and before '~', which its neighbours must not change.
 */
static void a_header_value_may_hold_all_but_control_characters(void **state)
{
    (void)state;
    char head[] = "GET / HTTP/1.1\r\nHost: h\r\nX: ........................\r\n\r\n";
    char *value = strstr(head, "...");
    for (size_t at = 1; at < 23; at++)
        for (int c = 0; c < 256; c++) {
            struct parser p;
            struct parser_step step;
            memset(value, '.', 24);
            value[at - 1] = '\xff';
            value[at] = (char)c;
            value[at + 1] = '~';
            parser_init(&p, &LIMITS);
            enum parser_event got = parser_next(&p, head, sizeof head - 1, &step);
            bool legal = (c >= 0x20 && c != 0x7f) || c == '\t';
            if (got != (legal ? PARSER_HEAD : PARSER_FAIL)) fail_msg("byte %d at %zu: %d", c, at, (int)got);
            parser_dispose(&p);
        }
}

/* Each byte in a header's name, the target and the Host header: RFC 9110's tchar, RFC 3986's characters. */
static void names_targets_and_hosts_hold_only_what_they_may(void **state)
{
    (void)state;
    static const char alnum[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    static const struct {
        const char *before, *after, *also;
    } places[] = {{"GET / HTTP/1.1\r\nHost: h\r\nX", "Y: v\r\n\r\n", "!#$%&'*+-.^_`|~:"},
                  {"GET /a", "b HTTP/1.1\r\nHost: h\r\n\r\n", "-._~:/?@!$&'()*+,;=%[]"},
                  {"GET / HTTP/1.1\r\nHost: a", "b\r\n\r\n", "-._~:[]!$&'()*+,;=%"}};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        for (int c = 1; c < 256; c++) {
            struct parser p;
            struct parser_step step;
            char head[96];
            int len = snprintf(head, sizeof head, "%s%c%s", places[i].before, c, places[i].after);
            parser_init(&p, &LIMITS);
            bool taken = parser_next(&p, head, (size_t)len, &step) == PARSER_HEAD;
            if (taken != (strchr(alnum, c) || strchr(places[i].also, c)))
                fail_msg("byte %d, place %zu", c, i);
            parser_dispose(&p);
        }
}

static void nothing_is_parsed_after_a_failure(void **state)
{
    (void)state;
    static const char bad[] = "GET / HTTP/1.1\nHost: a\r\n\r\n", good[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    struct parser p;
    struct parser_step step;
    parser_init(&p, &LIMITS);
    assert_int_equal(parser_next(&p, bad, strlen(bad), &step), PARSER_FAIL);
    assert_int_equal(parser_next(&p, good, strlen(good), &step), PARSER_FAIL);
    assert_int_equal(step.used, 0);
    parser_dispose(&p);
}

static void memory_that_is_refused_ends_in_a_refusal(void **state)
{
    (void)state;
    static const char head[] = "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";
    int refused = 0;
    for (size_t nth = 1; nth <= 3; nth++) {
        struct parser p;
        struct parser_step step;
        parser_init(&p, &LIMITS);
        mem_fail_at(nth, true);
        enum parser_event event = parser_next(&p, head, strlen(head), &step);
        mem_fail_at(0, false);
        if (event == PARSER_FAIL) {
            assert_int_equal(p.status, 503);
            refused++;
        } else {
            assert_int_equal(event, PARSER_HEAD);
        }
        parser_dispose(&p);
    }
    assert_int_equal(refused,
                     2); /* the line's memory, then the table of headers; the third is never asked for */
}

static int load(void **state)
{
    (void)state;
    http_corpus_load(&corpus);
    return 0;
}

static int unload(void **state)
{
    (void)state;
    http_corpus_dispose(&corpus);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_of_the_corpus_gets_the_verdict_it_names),
        cmocka_unit_test(no_split_of_a_request_changes_its_events),
        cmocka_unit_test(a_request_fed_byte_by_byte_is_the_same_request),
        cmocka_unit_test(path_query_and_headers_are_decoded),
        cmocka_unit_test(the_root_has_no_segments_and_a_trailing_slash_has_an_empty_one),
        cmocka_unit_test(connection_close_is_noticed_in_a_list),
        cmocka_unit_test(an_endless_line_is_refused_without_being_kept),
        cmocka_unit_test(a_header_value_may_hold_all_but_control_characters),
        cmocka_unit_test(names_targets_and_hosts_hold_only_what_they_may),
        cmocka_unit_test(nothing_is_parsed_after_a_failure),
        cmocka_unit_test(memory_that_is_refused_ends_in_a_refusal),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
