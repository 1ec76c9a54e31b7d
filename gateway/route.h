/* The route table's row, and matching a request against a table of them.
 *
 * One table (gateway/route_table.c) makes dispatch, 404 and 405 answers, scopes, allowed query parameters,
 * body limits, /openapi.json and the table in docs/api.md. Immutable after start-up: any thread may read it.
 *
 * A pattern is "/" and segments: text, "{name}" for one non-empty segment, or "{name}:text" for a segment
 * that ends in
 * ":text" (TensorFlow Serving's ":predict"). Text wins over "{name}:text", which wins over "{name}". */
#ifndef GATEWAY_ROUTE_H
#define GATEWAY_ROUTE_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "gateway/http/request.h"

struct exchange;
struct api_call;
struct route_index;
struct err;
struct principal;

enum { ROUTE_PARAMS_MAX = 3 };

enum route_kind {
    ROUTE_LOOP, /* answered on the event loop; never blocks */
    ROUTE_POOL, /* plain code on a control-pool thread with a database connection; the body is collected first
                 */
    ROUTE_BULK, /* as POOL on the bulk pool, with the body as a stream */
};

/* Whose shape the errors of a route have. */
enum route_dialect {
    DIALECT_TENOR, /* {"error":{"message","type","param","code"}} */
    DIALECT_PLAIN, /* {"error":"…"}: Open Inference Protocol and TensorFlow Serving */
};

enum route_face {
    FACE_API, /* the public listeners */
    FACE_OPS, /* the operator's listener: health and metrics, no keys */
    ROUTE_FACES,
};

struct route_match;

/* Loop handlers own the exchange from here on (gateway/http/exchange.h). who is NULL on routes without
 * scopes. */
typedef void (*route_loop_fn)(struct exchange *x, const struct route_match *m, const struct principal *who);

/* Pool handlers return 0 with the response filled (gateway/api_call.h), or a negative ERR_* with e filled. */
typedef int (*route_pool_fn)(struct api_call *c, struct err *e);

struct route {
    enum http_method method;
    const char *pattern;
    uint32_t scopes; /* any one of these bits is enough (SCOPE_*); 0: no key is asked for */
    enum route_kind kind;
    enum route_dialect dialect;
    int64_t
        body_limit; /* bytes; 0: a request body is refused. For ROUTE_BULK the tenant's quota rules besides */
    route_loop_fn on_loop;
    route_pool_fn on_pool;
    int success;          /* status of a good answer, for the docs */
    const char *query;    /* the query parameters that are known: "after,before,limit", or "" */
    const char *summary;  /* one line for people */
    const char *request;  /* shape (gateway/shape.h) of the body, or NULL */
    const char *response; /* shape (gateway/shape.h) of a good answer, or NULL for none */
    enum route_face face;
    bool idempotent_key; /* takes an Idempotency-Key */
};

struct route_match {
    const struct route *route;
    const char *params[ROUTE_PARAMS_MAX]; /* in pattern order; borrowed from the request or from its arena */
    size_t params_len;
};

enum route_result { ROUTE_FOUND, ROUTE_NO_PATH, ROUTE_NO_METHOD };

enum { ROUTE_ALLOW_MAX = 64 };

struct arena;

/* A table as route_find reads it; immutable, so any thread may. The table is borrowed and lives longer. No
 * pattern has more than REQUEST_SEGMENTS_MAX segments. Dies when memory is out. */
struct route_index *route_index_create(const struct route *table, size_t n);
void route_index_free(struct route_index *in); /* NULL is fine */

/* Finds the row for r among those of that face. HEAD is served by GET rows. With ROUTE_NO_METHOD, allow gets
 * the methods that the path has ("GET, HEAD, DELETE"). Parameters with a suffix are copied into a. */
enum route_result route_find(struct route_match *m, char allow[ROUTE_ALLOW_MAX], const struct route_index *in,
                             enum route_face face, const struct request *r, struct arena *a);

/* The first query parameter of r that is not among route->query, or that is there twice; NULL when all are
 * known. */
const char *route_unknown_query(const struct route *route, const struct request *r, bool *twice);

/* Names of the scopes of a bit set, "a or b", into out. Any thread. */
const char *route_scopes_text(uint32_t scopes, char *out, size_t cap);

/* The table itself (gateway/route_table.c). */
extern const struct route route_table[];
extern const size_t route_table_len;

#endif
