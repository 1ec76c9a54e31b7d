/* multipart/form-data (RFC 7578), strict and streaming: a part is never held whole, the source is pulled on
 * demand.
 *
 *   while ((rc = multipart_next(m, &part, e)) == 1)        1: a part begins   0: the closing boundary was
 * read while ((n = multipart_read(m, buf, cap, e)) > 0)   n bytes of it; 0 at its end; unread rest is skipped
 * by next
 *
 * Strict: nothing before the first boundary, CRLF line ends, boundary ≤ 70 characters of RFC 2046's set,
 * every part with one Content-Disposition: form-data and a name, no transfer encoding, at most 16 headers and
 * 8 KiB of them a part, nothing but blanks after the closing boundary. One thread at a time. */
#ifndef GATEWAY_HTTP_MULTIPART_H
#define GATEWAY_HTTP_MULTIPART_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <sys/types.h>
#include "base/err.h"

/* Where bytes come from: as body_read (1 … cap, 0 at the end, negative ERR_*). */
typedef ssize_t (*multipart_pull)(void *source, void *buf, size_t cap, struct err *e);

enum {
    MULTIPART_BOUNDARY_MAX = 70,
    MULTIPART_NAME_MAX = 256,
    MULTIPART_FILENAME_MAX = 512,
    MULTIPART_TYPE_MAX = 128
};

struct multipart_part {
    char name[MULTIPART_NAME_MAX];         /* UTF-8, never empty */
    char filename[MULTIPART_FILENAME_MAX]; /* last path component only; "" when there is none */
    bool has_filename;
    char content_type[MULTIPART_TYPE_MAX]; /* as sent; "" when there is none */
};

struct multipart;

/* content_type is the request's header. ERR_UNSUPPORTED when it is not multipart/form-data, ERR_INVALID for a
 * bad boundary. *out is the caller's (multipart_free). source is borrowed. At most parts_max parts. */
int multipart_create(struct multipart **out, const char *content_type, size_t parts_max, multipart_pull pull,
                     void *source, struct err *e);
void multipart_free(struct multipart *m);

int multipart_next(struct multipart *m, struct multipart_part *part, struct err *e); /* 1, 0, or ERR_* */
ssize_t multipart_read(struct multipart *m, void *buf, size_t cap, struct err *e);   /* > 0, 0, or ERR_* */

/* Reads what is left of the current part into buf and NUL-terminates it: for short form values. ERR_TOO_LARGE
 * when it does not fit into cap − 1 bytes. Returns the length. */
ssize_t multipart_read_all(struct multipart *m, char *buf, size_t cap, struct err *e);

/* A pull function over a struct body_reader. */
ssize_t multipart_pull_body(void *body_reader, void *buf, size_t cap, struct err *e);

#endif
