/* A request as a route sees it, whichever codec carried it: parsed, decoded and checked.
 *
 * Immutable once its headers are complete, so any thread may read it while its exchange lives. All pointers
 * are borrowed from the exchange's arena and die with the exchange. Text is valid UTF-8 without control
 * characters where it was decoded (segments, query); header values are the bytes as received, trimmed of
 * blanks. */
#ifndef GATEWAY_HTTP_REQUEST_H
#define GATEWAY_HTTP_REQUEST_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/ids.h"

enum http_method { HTTP_GET, HTTP_HEAD, HTTP_POST, HTTP_PUT, HTTP_PATCH, HTTP_DELETE, HTTP_OPTIONS };

enum {
    REQUEST_SEGMENTS_MAX = 16,
    REQUEST_QUERY_MAX = 32,
    REQUEST_PEER_MAX = 64,
};

struct http_field {
    const char *name; /* headers: lower case; query: decoded, as written */
    const char *value;
};

struct request {
    enum http_method method;
    const char *target; /* as received: "/v1/jobs/job_01?limit=2"; logs tell the route's pattern instead */

    const char *segments[REQUEST_SEGMENTS_MAX]; /* decoded; "/" has none, "/a/" has "a" and "" */
    size_t segments_len;

    const struct http_field *query; /* decoded, in order; a name without '=' has the value "" */
    size_t query_len;

    const struct http_field *headers; /* in order, names in lower case */
    size_t headers_len;

    bool has_body;               /* Content-Length > 0 or chunked */
    int64_t content_length;      /* bytes; 0 without a body; -1 when chunked */
    bool tls;                    /* arrived encrypted */
    char peer[REQUEST_PEER_MAX]; /* "192.0.2.7", "::1", or "unix" */
    char id[ID_MAX];             /* "req_…": made here, sent back as x-request-id */
    int64_t arrived_us;          /* clock_mono_us() when the first byte of the request was read */
};

/* "GET". Never NULL. */
const char *http_method_name(enum http_method method);

/* The value of the only or first header of that (lower-case) name, or NULL. */
const char *request_header(const struct request *r, const char *lower_name);

/* The value of the first query parameter of that name, or NULL. */
const char *request_query(const struct request *r, const char *name);

/* Whether the request's Content-Type is that media type ("application/json"), parameters aside, case aside.
 */
bool request_is_type(const struct request *r, const char *media_type);

#endif
