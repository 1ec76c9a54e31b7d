/* Heap allocation with checked sizes, over malloc and its kin, a shelf of freed blocks per thread, and the
 * hook that makes an allocation fail. */
#include "base/mem.h"

#include <assert.h>
#include <malloc.h>
#include <pthread.h>
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

/* ---- the shelf
 *
 * glibc keeps freed blocks per thread up to 1 KiB only, and what a request needs (its body, its record, its
 * arena) is larger: so each thread keeps a few of each size up to 256 KiB itself. Four sizes to each
 * doubling: a block is at most a quarter larger than asked for. Not under a sanitizer, which is to see each
 * block's end. */

enum { SHELF_LEAST = 1024, SHELF_MOST = 256 * 1024, SHELF_CLASSES = 33, SHELF_SMALL = 8 * 1024 };
enum { SHELF_KEEP_SMALL = 16, SHELF_KEEP = 4 };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool shelf_used = false;
#else
static const bool shelf_used = true;
#endif

struct block {
    struct block *next;
};

static _Thread_local struct shelf {
    struct block *first[SHELF_CLASSES];
    int count[SHELF_CLASSES];
    bool known; /* its destructor is set */
} shelf;
static pthread_once_t shelf_once = PTHREAD_ONCE_INIT;
static pthread_key_t shelf_key;

static size_t class_size(int c)
{
    return (size_t)(4 + c % 4) << (8 + c / 4);
}

/* The largest class of at most that size. */
static int class_below(size_t bytes)
{
    int doubling = 63 - __builtin_clzll(bytes);
    return (doubling - 10) * 4 + (int)(bytes >> (doubling - 2) & 3);
}

static int class_above(size_t bytes)
{
    int c = class_below(bytes);
    return class_size(c) < bytes ? c + 1 : c;
}

static bool on_shelf(size_t bytes)
{
    return shelf_used && bytes >= SHELF_LEAST && bytes <= SHELF_MOST;
}

static void shelf_empty(void *arg)
{
    struct shelf *s = arg;
    for (int c = 0; c < SHELF_CLASSES; c++)
        for (struct block *b = s->first[c], *next; b; b = next) {
            next = b->next;
            free(b);
        }
    *s = (struct shelf){0};
}

static void shelf_make_key(void)
{
    if (pthread_key_create(&shelf_key, shelf_empty) != 0) abort();
}

/* NULL: none there. */
static void *shelf_take(int c)
{
    struct block *b = shelf.first[c];
    if (!b) return NULL;
    shelf.first[c] = b->next;
    shelf.count[c]--;
    return b;
}

static bool shelf_put(void *p, size_t usable)
{
    if (!on_shelf(usable)) return false;
    int c = class_below(usable);
    if (shelf.count[c] >= (class_size(c) <= SHELF_SMALL ? SHELF_KEEP_SMALL : SHELF_KEEP)) return false;
    if (!shelf.known) {
        pthread_once(&shelf_once, shelf_make_key);
        shelf.known = pthread_setspecific(shelf_key, &shelf) == 0;
        if (!shelf.known) return false;
    }
    struct block *b = p;
    b->next = shelf.first[c];
    shelf.first[c] = b;
    shelf.count[c]++;
    return true;
}

static void *raw(size_t bytes)
{
    if (!on_shelf(bytes)) return malloc(bytes ? bytes : 1);
    int c = class_above(bytes);
    void *p = shelf_take(c);
    return p ? p : malloc(class_size(c));
}

/* ---- allocation ---- */

/* calloc may return NULL for 0 bytes, which callers would take for failure. */
static void *zeroed(size_t count, size_t size)
{
    size_t bytes;
    if (!mem_mul(count, size, &bytes) || bytes > PTRDIFF_MAX) return NULL;
    if (!on_shelf(bytes)) return calloc(1, bytes ? bytes : 1);
    void *p = raw(bytes);
    if (p) memset(p, 0, bytes);
    return p;
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
    if (!old) return raw(bytes);
    size_t usable = malloc_usable_size(old);
    if (!on_shelf(bytes) || usable > SHELF_MOST) return realloc(old, bytes ? bytes : 1);
    if (usable >= bytes) return old;
    void *p = raw(bytes);
    if (!p) return NULL;
    memcpy(p, old, usable);
    mem_free(old);
    return p;
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
    if (p && !shelf_put(p, shelf_used ? malloc_usable_size(p) : 0)) free(p);
}
