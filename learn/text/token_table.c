/* Open addressing over entries that never move within their array. */
#include "learn/text/token_table.h"

#include <assert.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "learn/spec/text.h"

enum { FIRST_ENTRIES = 256, FIRST_BYTES = 4096 };

_Static_assert((uint64_t)TEXT_MAX_DISTINCT *TEXT_MAX_TOKEN * 2 < UINT32_MAX, "places fit into 32 bits");

uint32_t token_hash(const char *token, size_t len)
{
    return (uint32_t)hash_fold(hash_bytes(HASH_START, token, len));
}

int64_t token_table_find(const struct token_table *t, const char *token, size_t len, uint32_t hash)
{
    if (!t->slots) return -1;
    for (uint32_t i = hash & (t->slots - 1); t->slot[i]; i = (i + 1) & (t->slots - 1)) {
        const struct token_entry *x = &t->entry[t->slot[i] - 1];
        if (x->hash == hash && x->len == len && memcmp(t->bytes + x->at, token, len) == 0)
            return (int64_t)t->slot[i] - 1;
    }
    return -1;
}

static void take_slot(struct token_table *t, uint32_t index)
{
    uint32_t i = t->entry[index].hash & (t->slots - 1);
    while (t->slot[i]) i = (i + 1) & (t->slots - 1);
    t->slot[i] = index + 1;
}

static bool more_entries(struct token_table *t)
{
    uint32_t cap = t->cap ? t->cap * 2 : FIRST_ENTRIES;
    uint32_t *slot = mem_try_alloc((size_t)cap * 2, sizeof *slot);
    struct token_entry *entry = slot ? mem_try_realloc(t->entry, cap, sizeof *entry) : NULL;
    if (!entry) {
        mem_free(slot);
        return false;
    }
    mem_free(t->slot);
    t->entry = entry;
    t->cap = cap;
    t->slot = slot;
    t->slots = cap * 2;
    for (uint32_t i = 0; i < t->n; i++) take_slot(t, i);
    return true;
}

static bool more_bytes(struct token_table *t)
{
    uint32_t cap = t->bytes_cap ? t->bytes_cap * 2 : FIRST_BYTES;
    char *bytes = mem_try_realloc(t->bytes, cap, 1);
    if (!bytes) return false;
    t->bytes = bytes;
    t->bytes_cap = cap;
    return true;
}

bool token_table_add(struct token_table *t, const char *token, size_t len, uint32_t hash)
{
    assert(len > 0 && len <= TEXT_MAX_TOKEN && t->n < TEXT_MAX_DISTINCT);
    if (t->n == t->cap && !more_entries(t)) return false;
    if (t->bytes_cap - t->bytes_len < len && !more_bytes(t)) return false;
    memcpy(t->bytes + t->bytes_len, token, len);
    t->entry[t->n] = (struct token_entry){.hash = hash, .at = t->bytes_len, .len = (uint8_t)len};
    t->bytes_len += (uint32_t)len;
    take_slot(t, t->n++);
    return true;
}

size_t token_table_bytes(const struct token_table *t)
{
    return t->cap * sizeof *t->entry + t->slots * sizeof *t->slot + t->bytes_cap;
}

void token_table_dispose(struct token_table *t)
{
    mem_free(t->entry);
    mem_free(t->slot);
    mem_free(t->bytes);
    *t = (struct token_table){0};
}
