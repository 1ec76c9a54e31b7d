/* An open-addressing hash set of short texts with a shared budget of bytes. */
#include "learn/data/texts.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "learn/data/schema.h"

enum { FIRST_CAP = 16, PER_TEXT = 96 }; /* PER_TEXT: what a text costs beside its bytes, slots included */

/* A tenant who collides it on purpose slows down only the upload that does so, by at most the cap of texts.
 */
static uint32_t hash_of(const char *s, size_t len)
{
    return (uint32_t)hash_fold(hash_bytes(HASH_START, s, len));
}

static size_t find_slot(const struct texts *t, const char *s, size_t len, uint32_t h)
{
    size_t i = h & (t->cap - 1);
    while (t->slot[i]) {
        if (t->hash[i] == h && strncmp(t->slot[i], s, len) == 0 && t->slot[i][len] == '\0') break;
        i = (i + 1) & (t->cap - 1);
    }
    return i;
}

static bool set_room(struct texts *t, size_t cap)
{
    struct texts bigger = *t;
    bigger.cap = cap;
    bigger.slot = mem_try_alloc(cap, sizeof *bigger.slot);
    bigger.hash = mem_try_alloc(cap, sizeof *bigger.hash);
    bigger.code = mem_try_alloc(cap, sizeof *bigger.code);
    if (!bigger.slot || !bigger.hash || !bigger.code) {
        mem_free(bigger.slot);
        mem_free(bigger.hash);
        mem_free(bigger.code);
        return false;
    }
    for (size_t i = 0; i < t->cap; i++) {
        if (!t->slot[i]) continue;
        size_t at = t->hash[i] & (cap - 1);
        while (bigger.slot[at]) at = (at + 1) & (cap - 1);
        bigger.slot[at] = t->slot[i];
        bigger.hash[at] = t->hash[i];
        bigger.code[at] = t->code[i];
    }
    mem_free(t->slot);
    mem_free(t->hash);
    mem_free(t->code);
    *t = bigger;
    return true;
}

static void give_up(struct texts *t)
{
    bool starved = t->starved;
    texts_dispose(t);
    t->full = true;
    t->starved = starved;
}

static bool charge(struct texts *t, size_t bytes)
{
    if (t->budget_bytes) {
        if (*t->budget_bytes < bytes) return false;
        *t->budget_bytes -= bytes;
    }
    t->used_bytes += bytes;
    return true;
}

/* Whether the text is in the set now. */
static bool insert(struct texts *t, const char *text, size_t len, size_t max, int32_t code)
{
    if (len > SCHEMA_MAX_CATEGORY) return false;
    if ((t->n + 1) * 2 > t->cap && !set_room(t, t->cap ? t->cap * 2 : FIRST_CAP)) {
        t->starved = true;
        return false;
    }
    uint32_t h = hash_of(text, len);
    size_t i = find_slot(t, text, len, h);
    if (t->slot[i]) return true;
    if (t->n == max || !charge(t, len + PER_TEXT)) return false;
    char *copy = mem_try_alloc(len + 1, 1);
    if (!copy) {
        t->starved = true;
        return false;
    }
    memcpy(copy, text, len);
    t->slot[i] = copy;
    t->hash[i] = h;
    t->code[i] = code;
    t->n++;
    return true;
}

void texts_add(struct texts *t, const char *text, size_t len, size_t max)
{
    if (!t->full && !insert(t, text, len, max, 0)) give_up(t);
}

bool texts_load(struct texts *t, char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!insert(t, list[i], strlen(list[i]), SIZE_MAX, (int32_t)i)) return false;
    return true;
}

int32_t texts_code(const struct texts *t, const char *text, size_t len)
{
    if (!t->cap) return -1;
    size_t i = find_slot(t, text, len, hash_of(text, len));
    return t->slot[i] ? t->code[i] : -1;
}

static int text_order(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

char **texts_take_sorted(struct texts *t)
{
    char **list = mem_try_alloc(t->n ? t->n : 1, sizeof *list);
    if (!list) return NULL;
    size_t n = 0;
    for (size_t i = 0; i < t->cap; i++) {
        if (t->slot[i]) list[n++] = t->slot[i];
        t->slot[i] = NULL;
    }
    qsort(list, n, sizeof *list, text_order);
    t->n = 0;
    return list;
}

void texts_dispose(struct texts *t)
{
    for (size_t i = 0; i < t->cap; i++) mem_free(t->slot[i]);
    mem_free(t->slot);
    mem_free(t->hash);
    mem_free(t->code);
    if (t->budget_bytes) *t->budget_bytes += t->used_bytes;
    *t = (struct texts){.budget_bytes = t->budget_bytes};
}
