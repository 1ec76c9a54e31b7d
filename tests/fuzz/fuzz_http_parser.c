/* Fuzz target of the HTTP request parser and the multipart parser: the first byte says how the rest is cut
 * into pieces.
 *
 *   clang -g -O1 -fsanitize=fuzzer,address -std=c17 -D_GNU_SOURCE -I. tests/fuzz/fuzz_http_parser.c \
 *       gateway/http/{parser,parser_head,request,utf8,multipart,multipart_head,header_params}.c
 * base/{buf,arena,mem,err}.c … */
#include <assert.h>
#include <stdint.h>
#include <string.h>
#include "base/arena.h"
#include "base/buf.h"
#include "gateway/http/multipart.h"
#include "gateway/http/parser.h"
#include "gateway/http/request_build.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Small limits, so that short inputs reach them. */
static const struct parser_limits LIMITS = {256, 1024, 8};

static void check_request(struct buf *trace, const struct parser *p)
{
    struct arena arena;
    struct request r = {0};
    struct err e = {0};
    arena_init(&arena, 1 << 20);
    int rc = request__build(&r, &arena, p, &e);
    assert(rc == 0 || e.message[0]);
    for (size_t i = 0; rc == 0 && i < r.segments_len; i++) {
        assert(!strchr(r.segments[i], '/'));
        buf_str(trace, r.segments[i]);
    }
    for (size_t i = 0; i < r.headers_len; i++) assert(request_header(&r, r.headers[i].name));
    arena_dispose(&arena);
}

/* Parses everything in pieces of at most step bytes; what happened goes into trace. */
static void parse(struct buf *trace, const char *data, size_t size, size_t step_len)
{
    struct parser p;
    parser_init(&p, &LIMITS);
    for (size_t at = 0; at < size;) {
        size_t n = size - at < step_len ? size - at : step_len;
        struct parser_step step;
        enum parser_event event = parser_next(&p, data + at, n, &step);
        assert(step.used <= n);
        assert(event != PARSER_MORE || step.used == n);
        at += step.used;
        if (event == PARSER_HEAD) check_request(trace, &p);
        if (event == PARSER_BODY)
            buf_append(trace, step.body, step.body_len);
        else if (event != PARSER_MORE)
            buf_printf(trace, "<%d %d>", (int)event, p.status);
        if (event == PARSER_FAIL) break;
        if (p.state == PARSER_COMPLETE) {
            event = parser_next(&p, NULL, 0, &step);
            assert(event == PARSER_END);
            buf_str(trace, "<end>");
        }
    }
    parser_dispose(&p);
}

struct source {
    const uint8_t *data;
    size_t len, step;
};

static ssize_t pull(void *arg, void *buf, size_t cap, struct err *e)
{
    struct source *s = arg;
    (void)e;
    size_t n = s->len < s->step ? s->len : s->step;
    if (n > cap) n = cap;
    memcpy(buf, s->data, n);
    s->data += n;
    s->len -= n;
    return (ssize_t)n;
}

static void read_multipart(const uint8_t *data, size_t size, size_t step)
{
    struct source s = {data, size, step};
    struct multipart *m;
    struct multipart_part part;
    struct err e = {0};
    char piece[100];
    if (multipart_create(&m, "multipart/form-data; boundary=b", 3, pull, &s, &e) != 0) return;
    int rc;
    while ((rc = multipart_next(m, &part, &e)) == 1) {
        assert(part.name[0] && !strchr(part.filename, '/'));
        while (multipart_read(m, piece, sizeof piece, &e) > 0) {
        }
    }
    assert(rc == 0 || (rc < 0 && e.message[0]));
    multipart_free(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) return 0;
    size_t step = (size_t)data[0] % 64 + 1;
    const char *text = (const char *)data + 1;
    struct buf whole = {0}, pieces = {0};
    parse(&whole, text, size - 1, SIZE_MAX);
    parse(&pieces, text, size - 1, step);
    assert(whole.len == pieces.len && (whole.len == 0 || !memcmp(whole.data, pieces.data, whole.len)));
    read_multipart(data + 1, size - 1, step);
    buf_dispose(&whole);
    buf_dispose(&pieces);
    return 0;
}
