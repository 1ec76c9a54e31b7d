/* Understands the lines of a request's head: the request line, each header, and what together they say of the
 * framing. */
#include "gateway/http/parser.h"

#include <string.h>
#include <strings.h>
#include "base/mem.h"

enum { LENGTH_DIGITS_MAX = 18 }; /* of Content-Length */

/* What a byte may be part of, and whether it is a letter that this bit makes lower case. TARGET is what RFC
 * 3986 allows in a path or query, and the brackets that clients send raw in queries ("created[gt]"). */
enum { TOKEN = 1, TARGET = 2, HOST = 4, ALL = TOKEN | TARGET | HOST, UPPER = 'a' - 'A' };

static const unsigned char FITS[256] = {
    ['0' ... '9'] = ALL,   ['A' ... 'Z'] = ALL | UPPER,
    ['a' ... 'z'] = ALL,   ['!'] = ALL,
    ['#'] = TOKEN,         ['$' ... '\''] = ALL,
    ['('] = TARGET | HOST, [')'] = TARGET | HOST,
    ['*'] = ALL,           ['+'] = ALL,
    [','] = TARGET | HOST, ['-'] = ALL,
    ['.'] = ALL,           ['/'] = TARGET,
    [':'] = TARGET | HOST, [';'] = TARGET | HOST,
    ['='] = TARGET | HOST, ['?'] = TARGET,
    ['@'] = TARGET,        ['['] = TARGET | HOST,
    [']'] = TARGET | HOST, ['^'] = TOKEN,
    ['_'] = ALL,           ['`'] = TOKEN,
    ['|'] = TOKEN,         ['~'] = ALL,
};

static bool fits(char c, int part)
{
    return FITS[(unsigned char)c] & part;
}

/* All of text; the empty text too. */
static bool all_fit(const char *text, int part)
{
    while (fits(*text, part)) text++;
    return *text == '\0';
}

static bool same(const char *a, const char *b)
{
    return *a == *b && strcmp(a, b) == 0; /* most differ at once */
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
        if (same(METHODS[i], name)) {
            *out = (enum http_method)i;
            return true;
        }
    }
    return false;
}

static bool check_target(struct parser *p, const char *target)
{
    if (*target != '/') return parser__fail(p, 400, "the request target must be a path that begins with '/'");
    return all_fit(target, TARGET) ||
           parser__fail(p, 400, "a character in the request target must be percent-encoded");
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
    if (!all_fit(line, TOKEN)) return parser__fail(p, 400, "a malformed method");
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
    return all_fit(value, HOST) || parser__fail(p, 400, "a malformed Host header");
}

static bool on_content_length(struct parser *p, const char *value)
{
    int64_t length = 0;
    const char *c = value;
    for (; *c >= '0' && *c <= '9'; c++)
        if (c - value < LENGTH_DIGITS_MAX) length = length * 10 + (*c - '0');
    if (c == value || *c) return parser__fail(p, 400, "Content-Length must be one decimal number");
    if (c - value > LENGTH_DIGITS_MAX) return parser__fail(p, 413, "Content-Length is absurdly large");
    p->content_length = length;
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
        if (!same(KNOWN[i].name, name)) continue;
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
    char *colon = line, *end = line + len;
    for (; fits(*colon, TOKEN); colon++) *colon = (char)(*colon | (FITS[(unsigned char)*colon] & UPPER));
    if (colon == line || *colon != ':')
        return parser__fail(p, 400,
                            *line != ':' && memchr(colon, ':', (size_t)(end - colon))
                                ? "a malformed header name"
                                : "a header line without a name and a colon");
    *colon = '\0';
    char *value = colon + 1;
    while (*value == ' ' || *value == '\t') value++;
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
