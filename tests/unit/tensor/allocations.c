/* Definitions that take the place of the C library's allocation for the whole program, and count. */
#include "allocations.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>

static _Thread_local size_t allocations;
static atomic_size_t everybodys;
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

size_t allocations_so_far(void)
{
    return allocations;
}

size_t allocations_of_all_threads(void)
{
    return atomic_load(&everybodys);
}

#if !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__
bool allocations_are_counted(void)
{
    return true;
}
static void count(void)
{
    allocations++;
    atomic_fetch_add(&everybodys, 1);
}
void *malloc(size_t n)
{
    count();
    return __libc_malloc(n);
}
void *calloc(size_t n, size_t size)
{
    count();
    return __libc_calloc(n, size);
}
void *realloc(void *p, size_t n)
{
    count();
    return __libc_realloc(p, n);
}
void *aligned_alloc(size_t align, size_t n)
{
    count();
    return __libc_memalign(align, n);
}
int posix_memalign(void **p, size_t align, size_t n)
{
    count();
    return (*p = __libc_memalign(align, n)) ? 0 : 12;
}
#else
bool allocations_are_counted(void)
{
    return false;
}
#endif
