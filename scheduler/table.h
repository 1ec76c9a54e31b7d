/* A hash table from ids to objects that carry their own id: keys are borrowed from the values. One thread at
 * a time. */
#ifndef SCHEDULER_TABLE_H
#define SCHEDULER_TABLE_H

#include <stddef.h>
#include <stdint.h>

struct table_slot {
    const char *key; /* borrowed from value; NULL: empty */
    void *value;     /* borrowed */
    uint64_t hash;
};

struct table {
    struct table_slot *slots; /* owned */
    size_t cap;               /* 0 or a power of two, at least 4/3 of len */
    size_t len;
};

void table_dispose(struct table *t); /* a zeroed struct table is an empty one; values stay the caller's */

/* The key must be absent, and must live as long as it is in the table. ERR_NOMEM. */
int table_put(struct table *t, const char *key, void *value);
void *table_find(const struct table *t, const char *key); /* NULL when absent */
void table_remove(struct table *t, const char *key);      /* absent: no effect */

/* Walks the values: start with *cursor = 0; NULL at the end. The order depends on the keys and on what was
 * put and removed before, never on addresses. No put and no remove while walking. */
void *table_next(const struct table *t, size_t *cursor);

/* 64 well-mixed bits of text under a seed; the same on every machine. */
uint64_t table_hash(uint64_t seed, const char *text);

#endif
