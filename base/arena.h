/* A bump allocator for what lives as long as one request or one parse. Freed all at once. One thread at a
 * time. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>
#include <stdarg.h>

struct arena_block;

struct arena {
    struct arena_block *head;
    size_t used_bytes;  /* handed out so far */
    size_t limit_bytes; /* allocations beyond it fail; SIZE_MAX for none */
};

void arena_init(struct arena *a, size_t limit_bytes);
void arena_reset(struct arena *a); /* everything handed out is gone; the first block is kept */
void arena_dispose(struct arena *a);

void *arena_try_alloc(struct arena *a, size_t count,
                      size_t size); /* zeroed, 16-byte aligned; NULL over the limit */
void *arena_alloc(struct arena *a, size_t count, size_t size); /* as above; dies on NULL */
char *arena_strdup(struct arena *a, const char *s);            /* NULL gives NULL */
char *arena_strndup(struct arena *a, const char *s, size_t len);
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
