/* Grows one run of bytes by doubling, and remembers the first failure instead of reporting each. */
#include "base/buf.h"
#include "base/mem.h"

#include <assert.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { FIRST_CAP = 256 };

void buf_init(struct buf *b)
{
    *b = (struct buf){0};
}

void buf_dispose(struct buf *b)
{
    mem_free(b->data);
    *b = (struct buf){.limit = b->limit};
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    b->failed = false;
    if (b->data) b->data[0] = '\0';
}

char *buf__grow(struct buf *b, size_t len)
{
    size_t total, bytes;
    if (b->failed || !mem_add(b->len, len, &total) || !mem_add(total, 1, &bytes) ||
        (b->limit && total > b->limit)) {
        b->failed = true;
        return NULL;
    }
    if (bytes > b->cap) {
        size_t cap = b->cap ? b->cap : FIRST_CAP;
        while (cap < bytes) cap = cap > SIZE_MAX / 2 ? bytes : cap * 2;
        if (b->limit && cap > b->limit + 1) cap = b->limit + 1;
        char *grown = mem_try_realloc(b->data, cap, 1);
        if (!grown) {
            b->failed = true;
            return NULL;
        }
        b->data = grown;
        b->cap = cap;
        b->data[b->len] = '\0';
    }
    return b->data + b->len;
}

void buf_vprintf(struct buf *b, const char *fmt, va_list args)
{
    va_list again;
    va_copy(again, args);
    char small[256];
    int n = vsnprintf(small, sizeof small, fmt, args);
    if (n < 0) {
        b->failed = true;
    } else if ((size_t)n < sizeof small) {
        buf_append(b, small, (size_t)n);
    } else {
        char *to = buf_reserve(b, (size_t)n);
        if (to) {
            vsnprintf(to, (size_t)n + 1, fmt, again);
            b->len += (size_t)n;
        }
    }
    va_end(again);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    buf_vprintf(b, fmt, args);
    va_end(args);
}

void buf_consume(struct buf *b, size_t len)
{
    assert(len <= b->len);
    if (len == 0) return;
    memmove(b->data, b->data + len, b->len - len);
    b->len -= len;
    b->data[b->len] = '\0';
}

char *buf_steal(struct buf *b)
{
    if (b->failed || !buf_reserve(b, 0)) { /* an empty buf gives "", not NULL: NULL means failure alone */
        buf_dispose(b);
        return NULL;
    }
    char *data = b->data;
    *b = (struct buf){.limit = b->limit};
    return data;
}
