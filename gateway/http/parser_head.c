/* Understands the lines of a request's head: the request line, each header, and what together they say of the
 * framing. */
#include "gateway/http/parser.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "base/mem.h"

static const char TOKEN_MARKS[] = "!#$%&'*+-.^_`|~";

static bool is_alnum(char c)
{
    char lower = (char)(c | 0x20);
    return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9');
}

static bool is_token(char c)
{
    return is_alnum(c) || c == '-' || (c && strchr(TOKEN_MARKS, c)); /* most headers have a '-' */
}

/* What RFC 3986 allows in a path or query, and the brackets that clients send raw in queries ("created[gt]").
 */
static bool is_target(char c)
{
    return is_alnum(c) || c == '/' || (c && strchr("-._~:/?@!$&'()*+,;=%[]", c));
}

static const char *const METHODS[] = {
    [HTTP_GET] = "GET",     [HTTP_HEAD] = "HEAD",     [HTTP_POST] = "POST",       [HTTP_PUT] = "PUT",
    [HTTP_PATCH] = "PATCH", [HTTP_DELETE] = "DELETE", [HTTP_OPTIONS] = "OPTIONS",
};

const char *http_method_name(enum http_method method)
{
    return METHODS[method];
}

static bool find_method(const char *name, enum http_method *out)
{
    for (size_t i = 0; i < sizeof METHODS / sizeof *METHODS; i++) {
        if (!strcmp(METHODS[i], name)) {
            *out = (enum http_method)i;
            return true;
        }
    }
    return false;
}

static bool check_target(struct parser *p, const char *target)
{
    if (*target != '/') return parser__fail(p, 400, "the request target must be a path that begins with '/'");
    for (const char *c = target; *c; c++) {
        if (!is_target(*c))
            return parser__fail(p, 400, "a character in the request target must be percent-encoded");
    }
    return true;
}

static bool check_version(struct parser *p, const char *version)
{
    if (!strcmp(version, "HTTP/1.1")) return true;
    if (!strcmp(version, "HTTP/1.0")) {
        p->http10 = true;
        p->close = true;
        return true;
    }
    bool shaped = strlen(version) == 8 && !strncmp(version, "HTTP/", 5) && version[5] >= '0' &&
                  version[5] <= '9' && version[6] == '.' && version[7] >= '0' && version[7] <= '9';
    if (shaped) return parser__fail(p, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
    return parser__fail(p, 400, "a malformed request line: expected METHOD SP target SP HTTP/1.1");
}

/* Exactly two single blanks: METHOD SP target SP version. */
bool parser__request_line(struct parser *p, char *line, size_t len)
{
    char *target = memchr(line, ' ', len);
    char *version = target ? strchr(target + 1, ' ') : NULL;
    if (!version || strlen(line) != len)
        return parser__fail(p, 400, "a malformed request line: expected METHOD SP target SP HTTP/1.1");
    *target++ = '\0';
    *version++ = '\0';
    if (!*line)
        return parser__fail(p, 400, "a malformed request line: expected METHOD SP target SP HTTP/1.1");
    for (const char *c = line; *c; c++) {
        if (!is_token(*c)) return parser__fail(p, 400, "a malformed method");
    }
    if (!check_version(p, version) || !check_target(p, target)) return false;
    p->target = (size_t)(target - p->head.data);
    if (!find_method(line, &p->method)) return parser__fail(p, 501, "the method is not implemented");
    return true;
}

/* ---- headers that the codec acts on
 * -------------------------------------------------------------------------- */

static bool on_host(struct parser *p, const char *value)
{
    if (!*value) return parser__fail(p, 400, "the Host header is empty");
    for (const char *c = value; *c; c++) {
        if (!is_alnum(*c) && !strchr("-._~:[]!$&'()*+,;=%", *c))
            return parser__fail(p, 400, "a malformed Host header");
    }
    return true;
}

static bool on_content_length(struct parser *p, const char *value)
{
    size_t len = strlen(value);
    if (len == 0 || strspn(value, "0123456789") != len)
        return parser__fail(p, 400, "Content-Length must be one decimal number");
    if (len > 18) return parser__fail(p, 413, "Content-Length is absurdly large");
    p->content_length = strtoll(value, NULL, 10);
    return true;
}

static bool on_transfer_encoding(struct parser *p, const char *value)
{
    if (strcasecmp(value, "chunked") != 0)
        return parser__fail(p, 400, "the only Transfer-Encoding supported is exactly 'chunked'");
    p->chunked = true;
    return true;
}

static bool on_connection(struct parser *p, const char *value)
{
    while (*value) {
        value += strspn(value, " \t,");
        size_t len = strcspn(value, " \t,");
        if (len == 5 && !strncasecmp(value, "close", 5)) p->close = true;
        value += len;
    }
    return true;
}

static bool on_expect(struct parser *p, const char *value)
{
    if (strcasecmp(value, "100-continue") != 0)
        return parser__fail(p, 417, "the only expectation supported is 100-continue");
    p->expect_continue = true;
    return true;
}

static bool on_content_encoding(struct parser *p, const char *value)
{
    if (strcasecmp(value, "identity") != 0)
        return parser__fail(p, 415,
                            "request bodies with a Content-Encoding are not accepted: send the plain bytes");
    return true;
}

static bool on_plain(struct parser *p, const char *value)
{
    (void)p;
    (void)value;
    return true;
}

/* `once`: a second one is refused, because two readers of the same request may pick different ones. */
static const struct {
    const char *name;
    bool (*on)(struct parser *p, const char *value);
    bool once;
} KNOWN[] = {
    {"host", on_host, true},
    {"content-length", on_content_length, true},
    {"transfer-encoding", on_transfer_encoding, true},
    {"connection", on_connection, false},
    {"expect", on_expect, true},
    {"content-encoding", on_content_encoding, true},
    {"content-type", on_plain, true},
    {"authorization", on_plain, true},
    {"idempotency-key", on_plain, true},
    {"inference-header-content-length", on_plain, true},
};
enum { SEEN_HOST = 1u << 0 };

static bool understand(struct parser *p, const char *name, const char *value)
{
    for (size_t i = 0; i < sizeof KNOWN / sizeof *KNOWN; i++) {
        if (KNOWN[i].name[0] != name[0] || strcmp(KNOWN[i].name, name) != 0) continue;
        if (KNOWN[i].once && p->seen & (1u << i))
            return parser__fail(p, 400, "a header that may appear only once is repeated");
        p->seen |= 1u << i;
        return KNOWN[i].on(p, value);
    }
    return true;
}

static bool keep_field(struct parser *p, const char *name, const char *value)
{
    if (p->fields_len == p->limits.headers_count) return parser__fail(p, 431, "too many request headers");
    if (p->fields_len == p->fields_cap) {
        size_t cap = p->fields_cap ? p->fields_cap * 2 : 16;
        struct parser_field *grown = mem_try_realloc(p->fields, cap, sizeof *grown);
        if (!grown) return parser__fail(p, 503, "no memory for the request headers");
        p->fields = grown;
        p->fields_cap = cap;
    }
    p->fields[p->fields_len++] =
        (struct parser_field){(uint32_t)(name - p->head.data), (uint32_t)(value - p->head.data)};
    return true;
}

/* "Name: value", both cut out in place: the name in lower case, the value without the blanks around it. */
bool parser__header_line(struct parser *p, char *line, size_t len)
{
    if (*line == ' ' || *line == '\t') return parser__fail(p, 400, "folded header lines are not accepted");
    char *colon = memchr(line, ':', len);
    if (!colon || colon == line) return parser__fail(p, 400, "a header line without a name and a colon");
    for (char *c = line; c < colon; c++) {
        if (!is_token(*c)) return parser__fail(p, 400, "a malformed header name");
        if (*c >= 'A' && *c <= 'Z') *c = (char)(*c + ('a' - 'A'));
    }
    *colon = '\0';
    char *value = colon + 1 + strspn(colon + 1, " \t");
    char *end = line + len;
    while (end > value && (end[-1] == ' ' || end[-1] == '\t')) *--end = '\0';
    return keep_field(p, line, value) && understand(p, line, value);
}

bool parser__end_of_head(struct parser *p)
{
    if (!p->http10 && !(p->seen & SEEN_HOST)) return parser__fail(p, 400, "the Host header is missing");
    if (p->chunked && p->content_length >= 0)
        return parser__fail(p, 400, "both Transfer-Encoding and Content-Length are given");
    if (p->chunked && p->http10) return parser__fail(p, 400, "Transfer-Encoding is not part of HTTP/1.0");
    bool bodiless = p->method == HTTP_GET || p->method == HTTP_HEAD;
    if (bodiless && parser_has_body(p))
        return parser__fail(p, 400, "GET and HEAD requests must not carry a body");
    if (p->http10) p->expect_continue = false;
    return true;
}
