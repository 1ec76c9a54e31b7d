/* The HTTP/1.x request parser: bytes in, events out. No I/O, no clock; how the input is cut into pieces
 * changes nothing.
 *
 *   parser_next ─▶ MORE … MORE ─▶ HEAD ─▶ BODY … BODY ─▶ END ─▶ (the next request of the connection)
 *                        └──────────┴────────────┴─▶ FAIL: status and reason; nothing is parsed after it
 *
 * Strict where servers have been fooled: CRLF only, one Host, one Content-Length of digits or one
 * `Transfer-Encoding: chunked` but never both, no folding, no blank before a colon, no chunk extensions, no
 * trailers, origin-form targets only, HTTP/1.0 and 1.1 only, no body with GET or HEAD. One thread at a time.
 */
#ifndef GATEWAY_HTTP_PARSER_H
#define GATEWAY_HTTP_PARSER_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "base/buf.h"
#include "gateway/http/request.h"

struct parser_limits {
    size_t request_line_bytes; /* without its line end; over it: 414 */
    size_t headers_bytes;      /* all header lines with their line ends; over it: 431 */
    size_t headers_count;      /* over it: 431 */
};

enum parser_event { PARSER_MORE, PARSER_HEAD, PARSER_BODY, PARSER_END, PARSER_FAIL };

enum parser_state {
    PARSER_START, /* before the first byte of a request */
    PARSER_LINE,
    PARSER_LINE_LF,
    PARSER_FIXED, /* a body of known length */
    PARSER_CHUNK_SIZE,
    PARSER_CHUNK_SIZE_LF,
    PARSER_CHUNK_DATA,
    PARSER_CHUNK_CR,
    PARSER_CHUNK_LF,
    PARSER_LAST_CR, /* behind the chunk of size zero: no trailers */
    PARSER_LAST_LF,
    PARSER_COMPLETE, /* the next call reports END */
    PARSER_FAILED,
};

/* Offsets into head.data, where both texts end with NUL. */
struct parser_field {
    uint32_t name;
    uint32_t value;
};

struct parser {
    struct parser_limits limits;
    enum parser_state state;

    /* Valid from HEAD until the END of the same request. */
    struct buf head;             /* owned: the lines, each NUL-terminated; header names in lower case */
    struct parser_field *fields; /* owned */
    size_t fields_len, fields_cap;
    enum http_method method;
    size_t target; /* offset into head.data */
    bool http10;
    bool close;           /* the client asked for Connection: close */
    bool expect_continue; /* Expect: 100-continue */
    bool chunked;
    int64_t content_length; /* -1 until a Content-Length was read */

    size_t line;        /* where the current line starts in head */
    size_t lines;       /* complete lines so far */
    size_t header_size; /* of header lines so far, line ends included */
    uint32_t seen;      /* bit per header that may appear only once */
    int64_t left;       /* bytes still to come of a body or chunk */
    int digits;         /* of the chunk size so far */

    int status; /* after FAIL: what to answer, and why (a literal, fit for the client) */
    const char *reason;
};

struct parser_step {
    size_t used;      /* bytes of the input consumed by this call */
    const char *body; /* with BODY: a piece of the body, inside the input */
    size_t body_len;
};

void parser_init(struct parser *p, const struct parser_limits *limits);
void parser_dispose(struct parser *p);

/* Consumes input up to the next event. With MORE everything was consumed; else call again with the rest,
 * which may be empty (END needs no byte). After END the parser stands before the next request. */
enum parser_event parser_next(struct parser *p, const char *in, size_t len, struct parser_step *step);

/* Frees the memory of the last head, for a connection that now idles. Only in state PARSER_START. */
void parser_shrink(struct parser *p);

bool parser_has_body(
    const struct parser *p); /* from HEAD on: a body of at least a byte, or a chunked one, was announced */

/* ---- the lines of a head: parser_head.c. Each returns false after setting status and reason.
 * --------------------- */
bool parser__fail(struct parser *p, int status, const char *reason);
bool parser__request_line(struct parser *p, char *line, size_t len);
bool parser__header_line(struct parser *p, char *line, size_t len);
bool parser__end_of_head(struct parser *p);

#endif
