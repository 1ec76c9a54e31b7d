/* A tenant's waiting jobs as a binary heap by (never, order_key, id), each job knowing its place so that any
 * can be taken out. */
#include "scheduler/policy_state.h"

#include <string.h>
#include "base/mem.h"

static bool sooner(const struct policy_job *a, const struct policy_job *b)
{
    if (a->never != b->never) return b->never;
    if (a->order_key != b->order_key) return a->order_key < b->order_key;
    return strcmp(a->id, b->id) < 0;
}

static void place(struct policy_tenant *t, size_t i, struct policy_job *j)
{
    t->heap[i] = j;
    j->heap_index = i;
}

static void sift_up(struct policy_tenant *t, size_t i, struct policy_job *j)
{
    while (i > 0 && sooner(j, t->heap[(i - 1) / 2])) {
        place(t, i, t->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    place(t, i, j);
}

static void sift_down(struct policy_tenant *t, size_t i, struct policy_job *j)
{
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= t->heap_len) break;
        if (child + 1 < t->heap_len && sooner(t->heap[child + 1], t->heap[child])) child++;
        if (!sooner(t->heap[child], j)) break;
        place(t, i, t->heap[child]);
        i = child;
    }
    place(t, i, j);
}

int policy__heap_push(struct policy_tenant *t, struct policy_job *j)
{
    if (t->heap_len == t->heap_cap) {
        size_t cap = t->heap_cap ? t->heap_cap * 2 : 16;
        struct policy_job **heap = mem_try_realloc(t->heap, cap, sizeof *heap);
        if (!heap) return ERR_NOMEM;
        t->heap = heap;
        t->heap_cap = cap;
    }
    sift_up(t, t->heap_len++, j);
    return 0;
}

void policy__heap_remove(struct policy_tenant *t, struct policy_job *j)
{
    size_t i = j->heap_index;
    struct policy_job *last = t->heap[--t->heap_len];
    if (last == j) return;
    if (i > 0 && sooner(last, t->heap[(i - 1) / 2])) {
        sift_up(t, i, last);
    } else {
        sift_down(t, i, last);
    }
}

void policy__heap_revive(struct policy_tenant *t)
{
    for (size_t i = 0; i < t->heap_len; i++) t->heap[i]->never = false;
    for (size_t i = t->heap_len / 2; i-- > 0;) sift_down(t, i, t->heap[i]);
}
