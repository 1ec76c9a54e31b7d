/* The outgoing half of a connection: heads and bodies of responses, refusals, and what follows the last byte.
 */
#include <string.h>
#include <sys/socket.h>
#include "base/num.h"
#include "gateway/http/connection.h"
#include "gateway/http/envelope.h"

enum { DISCARD_BYTES = 64 * 1024 };

static const struct {
    int status;
    const char *reason;
} REASONS[] = {
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {204, "No Content"},
    {206, "Partial Content"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {402, "Payment Required"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {416, "Range Not Satisfiable"},
    {417, "Expectation Failed"},
    {422, "Unprocessable Content"},
    {423, "Locked"},
    {425, "Too Early"},
    {428, "Precondition Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
};

static const char *reason_of(int status)
{
    for (size_t i = 0; i < sizeof REASONS / sizeof *REASONS; i++) {
        if (REASONS[i].status == status) return REASONS[i].reason;
    }
    return "Other";
}

static bool has_no_body(int status)
{
    return status == 204 || status == 304;
}

/* ---- heads
 * --------------------------------------------------------------------------------------------------- */

/* Each response has several: plain copies instead of formats. */
static void put_header(struct buf *out, const char *name, const char *value)
{
    size_t name_len = strlen(name), value_len = strlen(value);
    char *to = buf_reserve(out, name_len + value_len + 4);
    if (!to) return;
    memcpy(to, name, name_len);
    to += name_len;
    memcpy(to, ": ", 2);
    memcpy(to + 2, value, value_len);
    memcpy(to + 2 + value_len, "\r\n", 3); /* with its NUL */
    out->len += name_len + value_len + 4;
}

static void put_length(struct buf *out, int64_t len)
{
    char text[NUM_TEXT_MAX + 1];
    text[num_format_i64(text, len)] = '\0';
    put_header(out, "Content-Length", text);
}

static void put_status(struct buf *out, int status)
{
    const char digits[] = {(char)('0' + status / 100 % 10), (char)('0' + status / 10 % 10),
                           (char)('0' + status % 10), ' '};
    buf_str(out, "HTTP/1.1 ");
    buf_append(out, digits, sizeof digits);
    buf_str(out, reason_of(status));
    buf_append(out, "\r\n", 2);
}

/* Status line and the headers that every response has. len -1: not known. */
static void begin_head(struct conn *c, struct buf *out, int status, const char *id, const char *type,
                       int64_t len)
{
    put_status(out, status);
    put_header(out, "Date", server_loop__date(c->home));
    put_header(out, "X-Request-Id", id);
    if (type && !has_no_body(status)) put_header(out, "Content-Type", type);
    c->chunked_out = false;
    if (len >= 0 && !has_no_body(status)) {
        put_length(out, len);
    } else if (len < 0 && c->http10) {
        c->close = true; /* the end of the connection is the end of the body */
    } else if (len < 0) {
        c->chunked_out = true;
        buf_str(out, "Transfer-Encoding: chunked\r\n");
    }
    if (has_no_body(status)) c->head_only = true;
    if (c->close) buf_str(out, "Connection: close\r\n");
}

static void codec_head(struct exchange *x, int status, const char *content_type, int64_t len)
{
    struct conn *c = x->carrier;
    struct buf *out = stream_out(&c->stream);
    conn_begin(c);
    c->close = c->close || c->home->draining || (!c->body_done && !conn_can_discard(c));
    begin_head(c, out, status, x->request.id, content_type, len);
    for (size_t i = 0; i < x->headers_len; i++) put_header(out, x->headers[i].name, x->headers[i].value);
    buf_append(out, "\r\n", 2);
    c->write_failed = c->write_failed || out->failed;
    conn_end(c);
}

static void codec_data(struct exchange *x, const void *data, size_t len)
{
    struct conn *c = x->carrier;
    if (c->head_only) return;
    struct buf *out = stream_out(&c->stream);
    conn_begin(c);
    if (c->chunked_out) buf_printf(out, "%zx\r\n", len);
    buf_append(out, data, len);
    if (c->chunked_out) buf_append(out, "\r\n", 2);
    c->write_failed = c->write_failed || out->failed;
    conn_end(c);
}

static void put_text(struct conn *c, const char *text)
{
    struct buf *out = stream_out(&c->stream);
    buf_str(out, text);
    c->write_failed = c->write_failed || out->failed;
}

static void codec_end(struct exchange *x, bool complete)
{
    struct conn *c = x->carrier;
    conn_begin(c);
    c->x = NULL;
    if (complete && c->chunked_out && !c->head_only) put_text(c, "0\r\n\r\n");
    if (complete && !c->write_failed) {
        conn_responded(c);
    } else {
        conn_cut(c);
    }
    conn_end(c);
}

/* All of it in one turn, so that it goes out in one piece. */
static void codec_reply(struct exchange *x, int status, const char *content_type, const void *body,
                        size_t len)
{
    struct conn *c = x->carrier;
    conn_begin(c);
    codec_head(x, status, content_type, (int64_t)len);
    if (len > 0) codec_data(x, body, len);
    codec_end(x, true);
    conn_end(c);
}

/* ---- the body's consumer
 * ------------------------------------------------------------------------------------- */

void conn_send_continue(struct conn *c)
{
    if (c->continue_due && stream_input_len(&c->stream) == 0) put_text(c, "HTTP/1.1 100 Continue\r\n\r\n");
    c->continue_due = false;
}

static void codec_read_body(struct exchange *x)
{
    struct conn *c = x->carrier;
    conn_begin(c);
    conn_enter(c, CONN_BODY);
    conn_body_clock_start(c);
    conn_send_continue(c);
    conn_end(c);
}

static void codec_drop_body(struct exchange *x)
{
    struct conn *c = x->carrier;
    conn_begin(c);
    if (c->state == CONN_BODY) conn_enter(c, CONN_WAIT);
    conn_end(c);
}

static void codec_pause(struct exchange *x, bool paused)
{
    struct conn *c = x->carrier;
    if (c->body_paused == paused) return;
    conn_begin(c);
    c->body_paused = paused;
    conn_body_clock_pause(c, paused);
    conn_end(c);
}

static size_t codec_pending(const struct exchange *x)
{
    const struct conn *c = x->carrier;
    return stream_output_len(&c->stream);
}

const struct exchange_codec conn_codec = {
    .read_body = codec_read_body,
    .drop_body = codec_drop_body,
    .pause = codec_pause,
    .head = codec_head,
    .data = codec_data,
    .end = codec_end,
    .reply = codec_reply,
    .pending = codec_pending,
};

/* ---- after the response
 * -------------------------------------------------------------------------------------- */

void conn_refuse(struct conn *c, int status, const char *reason, const char *param)
{
    struct buf *out = stream_out(&c->stream);
    struct buf body = {0};
    char id[ID_MAX];
    id_new(id, "req_");
    c->close = true;
    c->body_done = true; /* nobody will look at what follows */
    envelope_write(&body, status,
                   status == 408  ? "timeout"
                   : status < 500 ? "bad_request"
                                  : "refused",
                   param, reason);
    begin_head(c, out, status, id, "application/json", (int64_t)body.len);
    buf_str(out, "\r\n");
    bool asked_head = c->parser.lines > 0 && c->parser.method == HTTP_HEAD;
    if (!asked_head) buf_append(out, body.data, body.len);
    bool bad = body.failed || out->failed;
    buf_dispose(&body);
    if (bad) {
        conn_cut(c);
        return;
    }
    conn_enter(c, CONN_FLUSH);
    conn_flushed(c);
}

bool conn_can_discard(const struct conn *c)
{
    const struct parser *p = &c->parser;
    bool small = p->state == PARSER_COMPLETE || (p->state == PARSER_FIXED && p->left <= DISCARD_BYTES);
    return small && !c->continue_due;
}

void conn_responded(struct conn *c)
{
    if (!c->body_done && !c->close && conn_can_discard(c)) {
        if (c->state != CONN_BODY) conn_body_clock_start(c);
        conn_body_clock_pause(c, false);
        conn_enter(c, CONN_DISCARD);
        return;
    }
    c->close = c->close || !c->body_done || c->home->draining;
    conn_enter(c, CONN_FLUSH);
    conn_flushed(c);
}

/* Tells the client that nothing more comes, and reads on for a moment so that it sees what was sent. */
static void start_linger(struct conn *c)
{
    if (c->peer_ended) {
        conn_cut(c);
        return;
    }
    stream_shut(&c->stream);
    stream_consume(&c->stream, stream_input_len(&c->stream));
    conn_enter(c, CONN_LINGER);
}

void conn_flushed(struct conn *c)
{
    size_t pending = stream_output_len(&c->stream);
    if (c->close && pending == 0) {
        start_linger(c);
    } else if (!c->close && pending <= EXCHANGE_LOW_BYTES) {
        conn_enter(c, CONN_IDLE);
    }
}
