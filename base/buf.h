/* A growable run of bytes. Appending never fails loudly: when memory or the limit is out, `failed` is set,
 * later appends do nothing, and the writer checks once at the end. data is always NUL-terminated once
 * non-NULL. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stddef.h>
#include <stdbool.h>

struct buf {
    char *data; /* owned */
    size_t len;
    size_t cap;
    size_t limit; /* most bytes it may hold; 0 for no limit */
    bool failed;
};

void buf_init(struct buf *b); /* a zeroed struct buf is initialised too */
void buf_dispose(struct buf *b);
void buf_clear(struct buf *b); /* len = 0, memory kept, failed reset */
void buf_append(struct buf *b, const void *data, size_t len);
void buf_str(struct buf *b, const char *s);
void buf_char(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
char *buf_reserve(struct buf *b,
                  size_t len); /* room for len more bytes behind data+len, or NULL (failed is set) */
void buf_consume(struct buf *b, size_t len); /* drops the first len bytes */
char *buf_steal(struct buf *b); /* the bytes, now the caller's (mem_free); the buf is empty. NULL if failed */

#endif
