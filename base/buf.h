/* A growable run of bytes. Appending never fails loudly: when memory or the limit is out, `failed` is set,
 * later appends do nothing, and the writer checks once at the end. data is always NUL-terminated once
 * non-NULL. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stddef.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

struct buf {
    char *data; /* owned */
    size_t len;
    size_t cap;
    size_t limit; /* most bytes it may hold; 0 for no limit; set before the first byte */
    bool failed;
};

void buf_init(struct buf *b); /* a zeroed struct buf is initialised too */
void buf_dispose(struct buf *b);
void buf_clear(struct buf *b); /* len = 0, memory kept, failed reset */
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *b, const char *fmt, va_list args) __attribute__((format(printf, 2, 0)));
void buf_consume(struct buf *b, size_t len); /* drops the first len bytes */
char *buf_steal(struct buf *b); /* the bytes, now the caller's (mem_free); the buf is empty. NULL if failed */

char *buf__grow(struct buf *b, size_t len); /* buf_reserve where the memory at hand does not do */

/* Room for len more bytes behind data+len, or NULL (failed is set). */
static inline char *buf_reserve(struct buf *b, size_t len)
{
    bool fits =
        len < b->cap - b->len && !b->failed; /* cap is above len, or both are 0, and never above limit + 1 */
    return fits ? b->data + b->len : buf__grow(b, len);
}

static inline void buf_append(struct buf *b, const void *data, size_t len)
{
    char *to = buf_reserve(b, len);
    if (!to) return;
    if (len) memcpy(to, data, len);
    b->len += len;
    b->data[b->len] = '\0';
}

static inline void buf_str(struct buf *b, const char *s)
{
    buf_append(b, s, strlen(s));
}

static inline void buf_char(struct buf *b, char c)
{
    buf_append(b, &c, 1);
}

#endif
