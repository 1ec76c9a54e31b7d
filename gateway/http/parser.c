/* Cuts a connection's bytes into lines, bodies and chunks; the meaning of the lines is parser_head.c's. */
#include "gateway/http/parser.h"

#include <string.h>
#include "base/mem.h"

enum { CHUNK_DIGITS_MAX = 15 };

void parser_init(struct parser *p, const struct parser_limits *limits)
{
    memset(p, 0, sizeof *p);
    p->limits = *limits;
    p->content_length = -1;
}

void parser_dispose(struct parser *p)
{
    buf_dispose(&p->head);
    mem_free(p->fields);
    p->fields = NULL;
}

void parser_shrink(struct parser *p)
{
    parser_dispose(p);
    p->fields_len = p->fields_cap = 0;
}

static void next_request(struct parser *p)
{
    buf_clear(&p->head);
    p->state = PARSER_START;
    p->fields_len = 0;
    p->http10 = p->close = p->expect_continue = p->chunked = false;
    p->content_length = -1;
    p->line = p->lines = p->header_size = 0;
    p->seen = 0;
    p->left = 0;
    p->digits = 0;
}

bool parser__fail(struct parser *p, int status, const char *reason)
{
    p->state = PARSER_FAILED;
    p->status = status;
    p->reason = reason;
    return false;
}

bool parser_has_body(const struct parser *p)
{
    return p->chunked || p->content_length > 0;
}

/* What a line may hold: everything but control characters; a tab is legal in header values. */
static bool stands_in_line(char c)
{
    return ((unsigned char)c >= 0x20 && c != 0x7f) || c == '\t';
}

/* The high bits of those among eight bytes that may be control characters: each that is one and, by a borrow
 * or a carry, some behind such a one or behind 0xff. */
static uint64_t flag_controls(uint64_t eight)
{
    const uint64_t ones = 0x0101010101010101, high = 0x80 * ones;
    return ((eight - 0x20 * ones) | (eight + ones)) & ~eight & high;
}

/* How many bytes of in stand in a line. */
static size_t line_run(const char *in, size_t len)
{
    size_t n = 0;
    for (uint64_t eight; len - n >= sizeof eight;) {
        memcpy(&eight, in + n, sizeof eight);
        uint64_t flags = flag_controls(eight);
        n += flags ? (size_t)__builtin_ctzll(flags) / 8 : sizeof eight;
        if (!flags) continue;
        if (!stands_in_line(in[n])) return n;
        n++;
    }
    while (n < len && stands_in_line(in[n])) n++;
    return n;
}

static bool line_over_limit(struct parser *p)
{
    size_t len = p->head.len - p->line;
    if (p->lines == 0) {
        if (len <= p->limits.request_line_bytes) return false;
        parser__fail(p, 414, "the request line is too long");
        return true;
    }
    if (p->header_size + len + 2 <= p->limits.headers_bytes) return false;
    parser__fail(p, 431, "the request headers are too long");
    return true;
}

/* Takes bytes of a line up to its CR. One byte over the limit is enough to know, so no more than that is
 * kept. */
static size_t take_line(struct parser *p, const char *in, size_t len)
{
    size_t limit = p->lines == 0 ? p->limits.request_line_bytes : p->limits.headers_bytes;
    size_t room = limit + 1 - (p->head.len - p->line);
    size_t run = line_run(in, len < room ? len : room);
    buf_append(&p->head, in, run);
    if (p->head.failed) {
        parser__fail(p, 503, "no memory for the request headers");
        return run;
    }
    if (line_over_limit(p) || run == len) return run;
    if (in[run] == '\r') {
        p->state = PARSER_LINE_LF;
    } else if (in[run] == '\n') {
        parser__fail(p, 400, "a line ends without a carriage return");
    } else {
        parser__fail(p, 400, "a control character in the request head");
    }
    return run + 1;
}

/* A whole line is in head: NUL-terminate and understand it. True when it was the empty line that ends a good
 * head. */
static bool end_line(struct parser *p)
{
    size_t len = p->head.len - p->line;
    buf_char(&p->head, '\0');
    if (p->head.failed) return parser__fail(p, 503, "no memory for the request headers");
    char *line = p->head.data + p->line;
    p->state = PARSER_LINE;
    if (len == 0) {
        if (p->lines == 0) return parser__fail(p, 400, "an empty line where a request line was expected");
        return parser__end_of_head(p);
    }
    bool good = p->lines == 0 ? parser__request_line(p, line, len) : parser__header_line(p, line, len);
    if (!good) return false;
    if (p->lines > 0) p->header_size += len + 2;
    p->lines++;
    p->line = p->head.len;
    return false;
}

static void start_body(struct parser *p)
{
    if (p->chunked) {
        p->state = PARSER_CHUNK_SIZE;
    } else if (p->content_length > 0) {
        p->left = p->content_length;
        p->state = PARSER_FIXED;
    } else {
        p->state = PARSER_COMPLETE;
    }
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static void chunk_size_byte(struct parser *p, char c)
{
    int digit = hex_digit(c);
    if (digit >= 0 && p->digits < CHUNK_DIGITS_MAX) {
        p->left = p->left * 16 + digit;
        p->digits++;
    } else if (digit >= 0) {
        parser__fail(p, 400, "a chunk size has too many digits");
    } else if (c == '\r' && p->digits > 0) {
        p->state = PARSER_CHUNK_SIZE_LF;
    } else if (c == ';') {
        parser__fail(p, 400, "chunk extensions are not supported");
    } else {
        parser__fail(p, 400, "a malformed chunk size");
    }
}

static void after_chunk_size(struct parser *p)
{
    p->digits = 0;
    p->state = p->left > 0 ? PARSER_CHUNK_DATA : PARSER_LAST_CR;
}

static void expect_byte(struct parser *p, char got, char want, enum parser_state next, const char *reason)
{
    if (got == want) {
        p->state = next;
    } else {
        parser__fail(p, 400, reason);
    }
}

/* One byte of a chunked body's framing. */
static void framing_byte(struct parser *p, char c)
{
    switch (p->state) {
    case PARSER_CHUNK_SIZE:
        chunk_size_byte(p, c);
        break;
    case PARSER_CHUNK_SIZE_LF:
        expect_byte(p, c, '\n', PARSER_CHUNK_DATA, "a chunk size ends without a line feed");
        if (p->state == PARSER_CHUNK_DATA) after_chunk_size(p);
        break;
    case PARSER_CHUNK_CR:
        expect_byte(p, c, '\r', PARSER_CHUNK_LF, "a chunk is longer than its size says");
        break;
    case PARSER_CHUNK_LF:
        expect_byte(p, c, '\n', PARSER_CHUNK_SIZE, "a chunk ends without a line feed");
        break;
    case PARSER_LAST_CR:
        expect_byte(p, c, '\r', PARSER_LAST_LF, "trailers are not supported");
        break;
    case PARSER_LAST_LF:
        expect_byte(p, c, '\n', PARSER_COMPLETE, "the last chunk ends without a line feed");
        break;
    default:
        break;
    }
}

static enum parser_event take_body(struct parser *p, const char *in, size_t len, struct parser_step *step)
{
    size_t n = (uint64_t)p->left < len ? (size_t)p->left : len;
    step->body = in;
    step->body_len = n;
    step->used += n;
    p->left -= (int64_t)n;
    if (p->left == 0) p->state = p->state == PARSER_FIXED ? PARSER_COMPLETE : PARSER_CHUNK_CR;
    return PARSER_BODY;
}

static enum parser_event take_lf(struct parser *p, char c)
{
    if (c != '\n') {
        parser__fail(p, 400, "a carriage return inside a line");
        return PARSER_FAIL;
    }
    if (!end_line(p)) return PARSER_MORE;
    start_body(p);
    return PARSER_HEAD;
}

enum parser_event parser_next(struct parser *p, const char *in, size_t len, struct parser_step *step)
{
    *step = (struct parser_step){0};
    for (;;) {
        if (p->state == PARSER_FAILED) return PARSER_FAIL;
        if (p->state == PARSER_COMPLETE) {
            next_request(p);
            return PARSER_END;
        }
        if (step->used == len) return PARSER_MORE;
        const char *at = in + step->used;
        switch (p->state) {
        case PARSER_START:
            p->state = PARSER_LINE;
            break;
        case PARSER_LINE:
            step->used += take_line(p, at, len - step->used);
            break;
        case PARSER_LINE_LF:
            step->used++;
            if (take_lf(p, *at) == PARSER_HEAD) return PARSER_HEAD;
            break;
        case PARSER_FIXED:
        case PARSER_CHUNK_DATA:
            return take_body(p, at, len - step->used, step);
        default:
            step->used++;
            framing_byte(p, *at);
        }
    }
}
