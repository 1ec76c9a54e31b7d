/* Linear probing with backward-shift deletion: no tombstones, so tables that live for weeks stay short to
 * probe. */
#include "scheduler/table.h"

#include <string.h>
#include "base/err.h"
#include "base/mem.h"

enum { FIRST_CAP = 64 };

uint64_t table_hash(uint64_t seed, const char *text)
{
    uint64_t h = seed ^ 0x9e3779b97f4a7c15u;
    for (const char *p = text; *p; p++) {
        h ^= (unsigned char)*p;
        h *= 0x100000001b3u;
        h ^= h >> 29;
    }
    h *= 0xbf58476d1ce4e5b9u;
    h ^= h >> 32;
    return h;
}

static size_t slot_of(const struct table *t, const char *key, uint64_t hash)
{
    size_t i = (size_t)hash & (t->cap - 1);
    while (t->slots[i].key && (t->slots[i].hash != hash || strcmp(t->slots[i].key, key) != 0)) {
        i = (i + 1) & (t->cap - 1);
    }
    return i;
}

static int grow(struct table *t)
{
    struct table bigger = {.cap = t->cap ? t->cap * 2 : FIRST_CAP, .len = t->len};
    bigger.slots = mem_try_alloc(bigger.cap, sizeof *bigger.slots);
    if (!bigger.slots) return ERR_NOMEM;
    for (size_t i = 0; i < t->cap; i++) {
        const struct table_slot *s = &t->slots[i];
        if (s->key) bigger.slots[slot_of(&bigger, s->key, s->hash)] = *s;
    }
    mem_free(t->slots);
    *t = bigger;
    return 0;
}

void table_dispose(struct table *t)
{
    mem_free(t->slots);
    memset(t, 0, sizeof *t);
}

int table_put(struct table *t, const char *key, void *value)
{
    if ((t->len + 1) * 4 > t->cap * 3 && grow(t) != 0) return ERR_NOMEM;
    uint64_t hash = table_hash(0, key);
    t->slots[slot_of(t, key, hash)] = (struct table_slot){.key = key, .value = value, .hash = hash};
    t->len++;
    return 0;
}

void *table_find(const struct table *t, const char *key)
{
    if (!t->cap) return NULL;
    return t->slots[slot_of(t, key, table_hash(0, key))].value;
}

void table_remove(struct table *t, const char *key)
{
    if (!t->cap) return;
    size_t mask = t->cap - 1, hole = slot_of(t, key, table_hash(0, key));
    if (!t->slots[hole].key) return;
    /* Whatever sits behind the hole and could not be found across it moves into it. */
    for (size_t i = (hole + 1) & mask; t->slots[i].key; i = (i + 1) & mask) {
        size_t home = (size_t)t->slots[i].hash & mask;
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            t->slots[hole] = t->slots[i];
            hole = i;
        }
    }
    memset(&t->slots[hole], 0, sizeof t->slots[hole]);
    t->len--;
}

void *table_next(const struct table *t, size_t *cursor)
{
    while (*cursor < t->cap) {
        const struct table_slot *s = &t->slots[(*cursor)++];
        if (s->key) return s->value;
    }
    return NULL;
}
