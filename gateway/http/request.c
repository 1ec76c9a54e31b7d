/* Makes a struct request of a parsed head: copies it into the exchange's arena, decodes path and query, and
 * finds things in it. */
#include "gateway/http/request.h"

#include <string.h>
#include <strings.h>
#include "gateway/http/request_build.h"
#include "gateway/http/utf8.h"

const char *request_header(const struct request *r, const char *lower_name)
{
    for (size_t i = 0; i < r->headers_len; i++) {
        const char *name = r->headers[i].name;
        if (*name == *lower_name && !strcmp(name, lower_name)) return r->headers[i].value;
    }
    return NULL;
}

const char *request_query(const struct request *r, const char *name)
{
    for (size_t i = 0; i < r->query_len; i++) {
        if (!strcmp(r->query[i].name, name)) return r->query[i].value;
    }
    return NULL;
}

bool request_is_type(const struct request *r, const char *media_type)
{
    const char *value = request_header(r, "content-type");
    size_t len = strlen(media_type);
    if (!value || strncasecmp(value, media_type, len) != 0) return false;
    value += len;
    value += strspn(value, " \t");
    return *value == '\0' || *value == ';';
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* Decodes %XX in place (and '+' as a blank in queries). False for a bad escape, a control character or bad
 * UTF-8. */
static bool decode(char *text, bool plus_is_blank)
{
    char *out = text;
    for (const char *in = text; *in; in++) {
        unsigned char c = (unsigned char)*in;
        if (c == '%') {
            int high = hex_digit(in[1]), low = high < 0 ? -1 : hex_digit(in[2]);
            if (low < 0) return false;
            c = (unsigned char)(high * 16 + low);
            in += 2;
        } else if (c == '+' && plus_is_blank) {
            c = ' ';
        }
        if (c < 0x20 || c == 0x7f) return false;
        *out++ = (char)c;
    }
    *out = '\0';
    return utf8_valid(text, (size_t)(out - text));
}

static bool is_dots(const char *segment)
{
    return segment[0] == '.' && (segment[1] == '\0' || (segment[1] == '.' && segment[2] == '\0'));
}

/* The parser lets ASCII without control characters through: only what was escaped can be anything else. */
static int split_path(struct request *r, char *path, struct err *e)
{
    bool escaped = strchr(path, '%') != NULL;
    if (path[1] == '\0') return 0;
    for (char *next = path + 1; next;) {
        char *at = next;
        if (r->segments_len == REQUEST_SEGMENTS_MAX)
            return err_set(e, ERR_INVALID, "path", "the path has more than %d segments",
                           REQUEST_SEGMENTS_MAX);
        next = strchr(at, '/');
        if (next) *next++ = '\0';
        if (escaped && !decode(at, false))
            return err_set(e, ERR_INVALID, "path",
                           "the path has a bad percent-escape, a control character or bad UTF-8");
        if ((escaped && strchr(at, '/')) || is_dots(at))
            return err_set(e, ERR_INVALID, "path", "the path has an encoded slash or a dot segment");
        r->segments[r->segments_len++] = at;
    }
    return 0;
}

static int split_query(struct request *r, struct arena *a, char *query, struct err *e)
{
    size_t count = 1;
    for (const char *c = query; *c; c++) count += *c == '&';
    if (count > REQUEST_QUERY_MAX)
        return err_set(e, ERR_INVALID, "query", "more than %d query parameters", REQUEST_QUERY_MAX);
    struct http_field *fields = arena_try_alloc(a, count, sizeof *fields);
    if (!fields) return err_set(e, ERR_NOMEM, NULL, "no memory for the query");
    char *save = NULL;
    for (char *pair = strtok_r(query, "&", &save); pair; pair = strtok_r(NULL, "&", &save)) {
        char *value = strchr(pair, '=');
        if (value) *value++ = '\0';
        if (!*pair) return err_set(e, ERR_INVALID, "query", "a query parameter without a name");
        if (!decode(pair, true) || (value && !decode(value, true)))
            return err_set(e, ERR_INVALID, "query",
                           "a query parameter has a bad percent-escape, a control character or bad UTF-8");
        fields[r->query_len++] = (struct http_field){pair, value ? value : ""};
    }
    r->query = fields;
    return 0;
}

static int take_target(struct request *r, struct arena *a, char *target, struct err *e)
{
    const char *query = strchrnul(target, '?');
    r->target = target;
    int rc = split_path(r, arena_strndup(a, target, (size_t)(query - target)), e);
    if (rc || !query[0] || !query[1]) return rc;
    return split_query(r, a, arena_strdup(a, query + 1), e);
}

int request__build(struct request *r, struct arena *a, const struct parser *p, struct err *e)
{
    char *head = arena_try_alloc(a, p->head.len, 1);
    struct http_field *headers = arena_try_alloc(a, p->fields_len ? p->fields_len : 1, sizeof *headers);
    if (!head || !headers) return err_set(e, ERR_NOMEM, NULL, "no memory for the request headers");
    memcpy(head, p->head.data, p->head.len);
    for (size_t i = 0; i < p->fields_len; i++)
        headers[i] = (struct http_field){head + p->fields[i].name, head + p->fields[i].value};
    r->method = p->method;
    r->headers = headers;
    r->headers_len = p->fields_len;
    r->has_body = parser_has_body(p);
    r->content_length = p->chunked ? -1 : p->content_length > 0 ? p->content_length : 0;
    return take_target(r, a, head + p->target, e);
}
