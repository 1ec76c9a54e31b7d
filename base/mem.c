/* Heap allocation with checked sizes, over calloc and realloc, and the hook that makes one of them fail. */
#include "base/mem.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int exit_status; /* 0: abort() */
static _Thread_local size_t fail_countdown;
static _Thread_local bool fail_forever;

void mem_fail_at(size_t nth, bool forever)
{
    fail_countdown = nth;
    fail_forever = forever;
}

static bool must_fail(void)
{
    if (fail_countdown == 0) return false;
    if (fail_countdown > 1) {
        fail_countdown--;
        return false;
    }
    if (!fail_forever) fail_countdown = 0;
    return true;
}

bool mem_mul(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

bool mem_add(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

static _Noreturn void die(size_t count, size_t size)
{
    char text[128]; /* not the log: it must work when nothing can be allocated */
    int n = snprintf(text, sizeof text, "out of memory: %zu x %zu bytes\n", count, size);
    if (n > 0 && write(STDERR_FILENO, text, (size_t)n) < 0) _exit(exit_status ? exit_status : 70);
    if (exit_status) _exit(exit_status);
    abort();
}

void mem_exit_when_out(int status)
{
    exit_status = status;
}

/* calloc may return NULL for 0 bytes, which callers would take for failure. */
static void *zeroed(size_t count, size_t size)
{
    size_t bytes;
    if (!mem_mul(count, size, &bytes) || bytes > PTRDIFF_MAX) return NULL;
    return calloc(1, bytes ? bytes : 1);
}

void *mem_alloc(size_t count, size_t size)
{
    void *p = zeroed(count, size);
    if (!p) die(count, size);
    return p;
}

void *mem_try_alloc(size_t count, size_t size)
{
    return must_fail() ? NULL : zeroed(count, size);
}

void *mem_try_realloc(void *old, size_t count, size_t size)
{
    size_t bytes;
    if (must_fail() || !mem_mul(count, size, &bytes) || bytes > PTRDIFF_MAX) return NULL;
    return realloc(old, bytes ? bytes : 1);
}

void *mem_try_aligned(size_t align, size_t bytes)
{
    assert(align > 0 && (align & (align - 1)) == 0);
    size_t padded;
    if (must_fail() || !mem_add(bytes ? bytes : 1, align - 1, &padded) || padded > PTRDIFF_MAX) return NULL;
    padded &= ~(align - 1);
    void *p = aligned_alloc(align, padded);
    if (p) memset(p, 0, padded);
    return p;
}

char *mem_strndup(const char *s, size_t len)
{
    if (!s) return NULL;
    size_t bytes;
    if (!mem_add(len, 1, &bytes)) die(len, 1);
    char *copy = mem_alloc(bytes, 1);
    memcpy(copy, s, len);
    return copy;
}

char *mem_strdup(const char *s)
{
    return s ? mem_strndup(s, strlen(s)) : NULL;
}

void mem_free(void *p)
{
    free(p);
}
