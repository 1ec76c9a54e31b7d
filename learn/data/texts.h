/* A set of different texts that gives up when it grows too big: how a scanner finds a column's categories in
 * bounded memory. */
#ifndef LEARN_DATA_TEXTS_H
#define LEARN_DATA_TEXTS_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

struct texts {
    size_t n, cap;        /* entries, slots (a power of two) */
    char **slot;          /* owned; NULL where empty */
    uint32_t *hash;       /* owned; of the text in the same slot */
    int32_t *code;        /* owned; the place that texts_load gave the text in the same slot */
    bool full;            /* gave up: more texts than allowed, or no budget; n is 0 then */
    bool starved;         /* gave up because memory was out, not because of the texts */
    size_t used_bytes;    /* of the budget */
    size_t *budget_bytes; /* borrowed, shared by sets: what is left; NULL for no budget */
};

/* Adds a text. Too many (max), too long, or beyond the budget: the set empties itself, gives its memory back
 * and is full. */
void texts_add(struct texts *t, const char *text, size_t len, size_t max);

/* Fills an empty set with n texts whose codes are their places; false when memory is out. */
bool texts_load(struct texts *t, char *const *list, size_t n);

/* The code of a text in a loaded set, or -1. */
int32_t texts_code(const struct texts *t, const char *text, size_t len);

/* All texts sorted by bytes, moved out: list (n pointers) and texts are the caller's (mem_free). NULL when
 * memory is out. */
char **texts_take_sorted(struct texts *t);

void texts_dispose(struct texts *t);

#endif
