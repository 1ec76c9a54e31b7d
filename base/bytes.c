/* Counts the holders of a buffer. */
#include "base/bytes.h"

#include <assert.h>
#include "base/mem.h"

struct bytes {
    struct buf memory; /* owned */
    size_t holders;
};

struct bytes *bytes_share(struct buf *b)
{
    struct bytes *s = b->failed || !b->data ? NULL : mem_try_alloc(1, sizeof *s);
    if (!s) return NULL;
    *s = (struct bytes){.memory = *b, .holders = 1};
    *b = (struct buf){.limit = b->limit};
    return s;
}

struct bytes *bytes_hold(struct bytes *s)
{
    if (s) s->holders++;
    return s;
}

void bytes_drop(struct bytes *s)
{
    if (!s || --s->holders > 0) return;
    buf_dispose(&s->memory);
    mem_free(s);
}

bool bytes_return(struct bytes *s, struct buf *b)
{
    assert(!b->data);
    if (s->holders > 1) return false;
    *b = s->memory;
    mem_free(s);
    return true;
}
