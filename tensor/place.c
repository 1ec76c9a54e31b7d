/* Greedy placement by size (as in Pisarchyk & Lee 2020, "Efficient memory management for deep neural net
 * inference"). */
#include "tensor/place.h"

#include <stdint.h>
#include <stdlib.h>
#include "base/mem.h"

static int by_size(const void *a, const void *b)
{
    const struct place_block *x = *(struct place_block *const *)a, *y = *(struct place_block *const *)b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x < y ? -1 : x > y; /* by number: the same graph always gets the same plan */
}

static size_t aligned(size_t bytes)
{
    return (bytes + PLACE_ALIGN - 1) & ~(size_t)(PLACE_ALIGN - 1);
}

/* The lowest gap among `placed` (n of them, by offset) that fits b while it lives. */
static size_t find_gap(struct place_block *const *placed, int n, const struct place_block *b)
{
    size_t at = 0;
    for (int i = 0; i < n; i++) {
        const struct place_block *p = placed[i];
        if (p->last < b->first || p->first > b->last) continue;
        if (p->offset >= at && p->offset - at >= aligned(b->bytes)) return at;
        if (p->offset + aligned(p->bytes) > at) at = p->offset + aligned(p->bytes);
    }
    return at;
}

static void insert(struct place_block **placed, int n, struct place_block *b)
{
    int i = n;
    for (; i > 0 && placed[i - 1]->offset > b->offset; i--) placed[i] = placed[i - 1];
    placed[i] = b;
}

static void place_in_order(struct place_block **order, struct place_block **placed, int n, bool apart,
                           size_t *arena_bytes)
{
    size_t end = 0;
    qsort(order, (size_t)n, sizeof(void *), by_size);
    for (int i = 0; i < n; i++) {
        struct place_block *b = order[i];
        b->offset = apart ? end : find_gap(placed, i, b);
        insert(placed, i, b);
        if (b->offset + aligned(b->bytes) > end) end = b->offset + aligned(b->bytes);
    }
    *arena_bytes = end;
}

int place_blocks(struct place_block *blocks, int n, bool apart, size_t *arena_bytes, struct err *e)
{
    size_t sum = 0;
    for (int i = 0; i < n; i++)
        if (blocks[i].bytes > SIZE_MAX / 2 || !mem_add(sum, aligned(blocks[i].bytes), &sum))
            return err_set(e, ERR_TOO_LARGE, NULL, "the intermediates are larger than any memory");
    struct place_block **list =
        mem_try_alloc(2 * (size_t)n + 1, sizeof(void *)); /* by size, then by offset */
    if (!list) return err_set(e, ERR_NOMEM, NULL, "no memory to plan the run");
    for (int i = 0; i < n; i++) list[i] = &blocks[i];
    place_in_order(list, list + n, n, apart, arena_bytes);
    mem_free(list);
    return 0;
}
