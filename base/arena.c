/* Hands out pieces of growing blocks by moving one offset. */
#include "base/arena.h"
#include "base/mem.h"

#include <assert.h>
#include <stdalign.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 16, FIRST_BLOCK = 4096, LARGEST_BLOCK = 256 * 1024 };

struct arena_block {
    struct arena_block *older; /* the first block is the end of the chain */
    size_t used;
    size_t cap;
    alignas(ALIGN) unsigned char bytes[];
};

void arena_init(struct arena *a, size_t limit_bytes)
{
    *a = (struct arena){.limit_bytes = limit_bytes};
}

/* Frees all but the first block, and returns that one (or NULL). */
static struct arena_block *drop_newer(struct arena *a)
{
    struct arena_block *b = a->head;
    while (b && b->older) {
        struct arena_block *older = b->older;
        mem_free(b);
        b = older;
    }
    return b;
}

void arena_reset(struct arena *a)
{
    a->head = drop_newer(a);
    if (a->head) a->head->used = 0;
    a->used_bytes = 0;
}

void arena_dispose(struct arena *a)
{
    mem_free(drop_newer(a));
    *a = (struct arena){.limit_bytes = a->limit_bytes};
}

static struct arena_block *push_block(struct arena *a, size_t need)
{
    size_t cap = FIRST_BLOCK;
    if (a->head) cap = a->head->cap < LARGEST_BLOCK / 2 ? a->head->cap * 2 : LARGEST_BLOCK;
    if (cap < need) cap = need;
    size_t bytes;
    if (!mem_add(cap, sizeof(struct arena_block), &bytes)) return NULL;
    struct arena_block *b = mem_try_realloc(NULL, bytes, 1); /* zeroed piece by piece, as it is handed out */
    if (!b) return NULL;
    b->older = a->head;
    b->used = 0;
    b->cap = cap;
    a->head = b;
    return b;
}

void *arena_try_alloc(struct arena *a, size_t count, size_t size)
{
    size_t bytes;
    if (!mem_mul(count, size, &bytes) || !mem_add(bytes ? bytes : 1, ALIGN - 1, &bytes)) return NULL;
    bytes &= ~(size_t)(ALIGN - 1);
    if (bytes > a->limit_bytes || a->used_bytes > a->limit_bytes - bytes) return NULL;
    struct arena_block *b = a->head;
    if (!b || b->cap - b->used < bytes) b = push_block(a, bytes);
    if (!b) return NULL;
    void *p = b->bytes + b->used;
    b->used += bytes;
    a->used_bytes += bytes;
    memset(p, 0, bytes);
    return p;
}

void *arena_alloc(struct arena *a, size_t count, size_t size)
{
    void *p = arena_try_alloc(a, count, size);
    if (!p) {
        fprintf(stderr, "out of memory: arena of %zu of %zu bytes cannot give %zu x %zu\n", a->used_bytes,
                a->limit_bytes, count, size);
        abort();
    }
    return p;
}

char *arena_strndup(struct arena *a, const char *s, size_t len)
{
    if (!s) return NULL;
    size_t bytes;
    char *copy = arena_alloc(a, mem_add(len, 1, &bytes) ? bytes : SIZE_MAX, 1);
    memcpy(copy, s, len);
    return copy;
}

char *arena_strdup(struct arena *a, const char *s)
{
    return s ? arena_strndup(a, s, strlen(s)) : NULL;
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    assert(n >= 0);
    char *text = arena_alloc(a, (size_t)n + 1, 1);
    vsnprintf(text, (size_t)n + 1, fmt, again);
    va_end(again);
    return text;
}
