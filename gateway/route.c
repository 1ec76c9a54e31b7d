/* Matching a request's segments against the patterns that have as many: the most specific pattern is the
 * path, its rows are the methods. */
#include "gateway/route.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include "base/arena.h"
#include "base/mem.h"
#include "store/key.h"

/* Rows stand in groups of the same face and number of segments, within a group in the table's order. */
struct route_index {
    const struct route **rows; /* owned, the rows borrowed */
    struct route_group {
        size_t start, len; /* in rows */
    } groups[ROUTE_FACES][REQUEST_SEGMENTS_MAX + 1];
};

/* ---- the index ---- */

static size_t pattern_segments(const char *pattern)
{
    size_t n = 0;
    for (const char *p = pattern; *p == '/' && p[1] != '\0'; n++) p = strchrnul(p + 1, '/');
    return n;
}

/* The rows of that face and length, appended to the index. */
static struct route_group gather(struct route_index *in, size_t start, const struct route *table, size_t n,
                                 enum route_face face, size_t segments)
{
    struct route_group g = {.start = start};
    for (size_t i = 0; i < n; i++)
        if (table[i].face == face && pattern_segments(table[i].pattern) == segments)
            in->rows[start + g.len++] = &table[i];
    return g;
}

struct route_index *route_index_create(const struct route *table, size_t n)
{
    struct route_index *in = mem_alloc(1, sizeof(*in));
    in->rows = mem_alloc(n, sizeof(*in->rows));
    size_t used = 0;
    for (int face = 0; face < ROUTE_FACES; face++)
        for (size_t segments = 0; segments <= REQUEST_SEGMENTS_MAX; segments++) {
            in->groups[face][segments] = gather(in, used, table, n, (enum route_face)face, segments);
            used += in->groups[face][segments].len;
        }
    assert(used == n); /* no pattern is longer than a request may be */
    return in;
}

void route_index_free(struct route_index *in)
{
    if (in == NULL) return;
    mem_free(in->rows);
    mem_free(in);
}

/* ---- matching ---- */

/* How well one segment fits one pattern segment; summed up as base-4 digits, so that earlier segments weigh
 * more. */
enum fit { FIT_NONE = 0, FIT_PARAM = 1, FIT_SUFFIX = 2, FIT_TEXT = 3 };

/* The pattern segment at *pattern, up to a slash or its end, against the decoded segment s. One that fits is
 * stepped over. Most differ at once. */
static enum fit text_fit(const char **pattern, const char *s)
{
    const char *p = *pattern;
    while (*p != '\0' && *p != '/' && *s == *p) p++, s++;
    *pattern = p;
    return (*p == '\0' || *p == '/') && *s == '\0' ? FIT_TEXT : FIT_NONE;
}

/* The same for one with a parameter. */
static enum fit param_fit(const char **pattern, const char *s)
{
    const char *close = *pattern;
    while (*close != '}') close++;
    const char *end = close + 1;
    while (*end != '\0' && *end != '/') end++;
    *pattern = end;
    size_t suffix_len = (size_t)(end - close - 1);
    if (suffix_len == 0) return *s != '\0' ? FIT_PARAM : FIT_NONE;
    size_t s_len = strlen(s);
    if (s_len <= suffix_len || memcmp(s + s_len - suffix_len, close + 1, suffix_len) != 0) return FIT_NONE;
    return FIT_SUFFIX;
}

/* The pattern has as many segments as r. 0 when it does not fit; else larger is more specific. */
static uint64_t pattern_fit(const char *pattern, const struct request *r)
{
    const char *p = pattern;
    uint64_t score = 1;
    for (size_t i = 0; i < r->segments_len; i++) {
        p++; /* its slash */
        enum fit fit = *p == '{' ? param_fit(&p, r->segments[i]) : text_fit(&p, r->segments[i]);
        if (fit == FIT_NONE) return 0;
        score = score * 4 + (uint64_t)fit;
    }
    return score;
}

static bool method_served(enum http_method row, enum http_method asked)
{
    return row == asked || (asked == HTTP_HEAD && row == HTTP_GET);
}

/* The methods of these rows, as the header Allow lists them. */
static void write_allow(char allow[ROUTE_ALLOW_MAX], unsigned methods)
{
    size_t len = 0;
    for (int m = 0; methods >> m && len < ROUTE_ALLOW_MAX; m++) {
        if ((methods >> m & 1) == 0) continue;
        len += (size_t)snprintf(allow + len, ROUTE_ALLOW_MAX - len, "%s%s%s", len ? ", " : "",
                                http_method_name((enum http_method)m), m == HTTP_GET ? ", HEAD" : "");
    }
}

static void params_take(struct route_match *m, const struct request *r, struct arena *a)
{
    size_t i = 0;
    m->params_len = 0;
    for (const char *p = m->route->pattern; *p == '/' && p[1] != '\0'; i++) {
        const char *start = p + 1, *end = strchrnul(start, '/');
        p = end;
        if (*start != '{') continue;
        const char *close = memchr(start, '}', (size_t)(end - start));
        size_t suffix_len = (size_t)(end - close - 1);
        const char *s = r->segments[i];
        m->params[m->params_len++] = suffix_len ? arena_strndup(a, s, strlen(s) - suffix_len) : s;
    }
}

enum route_result route_find(struct route_match *m, char allow[ROUTE_ALLOW_MAX], const struct route_index *in,
                             enum route_face face, const struct request *r, struct arena *a)
{
    const struct route_group *g = &in->groups[face][r->segments_len];
    uint64_t best = 0;
    unsigned methods = 0;
    const struct route *found = NULL;
    allow[0] = '\0';
    for (size_t i = 0; i < g->len; i++) {
        const struct route *row = in->rows[g->start + i];
        uint64_t score = pattern_fit(row->pattern, r);
        if (score == 0 || score < best) continue;
        if (score > best) {
            best = score;
            found = NULL;
            methods = 0;
        }
        methods |= 1u << row->method;
        if (method_served(row->method, r->method)) found = row;
    }
    if (best == 0) return ROUTE_NO_PATH;
    if (found == NULL) {
        write_allow(allow, methods);
        return ROUTE_NO_METHOD;
    }
    *m = (struct route_match){.route = found};
    params_take(m, r, a);
    return ROUTE_FOUND;
}

static bool list_has(const char *list, const char *name)
{
    size_t len = strlen(name);
    for (const char *p = list; *p != '\0';) {
        const char *end = strchrnul(p, ',');
        if ((size_t)(end - p) == len && memcmp(p, name, len) == 0) return true;
        p = *end ? end + 1 : end;
    }
    return false;
}

const char *route_unknown_query(const struct route *route, const struct request *r, bool *twice)
{
    *twice = false;
    for (size_t i = 0; i < r->query_len; i++) {
        if (!list_has(route->query, r->query[i].name)) return r->query[i].name;
        for (size_t k = 0; k < i; k++) {
            if (strcmp(r->query[k].name, r->query[i].name) != 0) continue;
            *twice = true;
            return r->query[i].name;
        }
    }
    return NULL;
}

const char *route_scopes_text(uint32_t scopes, char *out, size_t cap)
{
    size_t len = 0;
    out[0] = '\0';
    for (int i = 0; i < SCOPE_COUNT && len < cap; i++) {
        if ((scopes & (1u << i)) == 0) continue;
        len += (size_t)snprintf(out + len, cap - len, "%s%s", len ? " or " : "", key_scope_name(i));
    }
    return out;
}
