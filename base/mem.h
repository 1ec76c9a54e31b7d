/* Heap allocation in two manners: mem_* dies when memory is out (small, our own sizes), mem_try_* returns
 * NULL (any size that a tenant can influence). Sizes are count × size with the overflow checked. All memory
 * is zeroed. Tests make the Nth allocation fail through mem_fail_at. */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stddef.h>
#include <stdbool.h>

void *mem_alloc(size_t count, size_t size);
void *mem_try_alloc(size_t count, size_t size);
void *mem_try_realloc(void *old, size_t count,
                      size_t size);                /* new bytes are not zeroed; old stays valid on NULL */
void *mem_try_aligned(size_t align, size_t bytes); /* zeroed; release with mem_free */
char *mem_strdup(const char *s);                   /* dies; NULL gives NULL */
char *mem_strndup(const char *s, size_t len);      /* dies */
void mem_free(void *p);

/* From now on running out of memory ends the process with this exit status instead of abort(), so that
 * whoever waits for it can tell. Before threads start. */
void mem_exit_when_out(int status);

/* *out = a × b; false on overflow. */
bool mem_mul(size_t a, size_t b, size_t *out);
bool mem_add(size_t a, size_t b, size_t *out);

/* Test hook: the nth mem_try_* call from now returns NULL (once, or from then on). 0 turns it off.
 * Thread-local. */
void mem_fail_at(size_t nth, bool forever);

#endif
