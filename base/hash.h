/* The hash of tables in memory: FNV-1a of 64 bits. Whoever chooses the keys can make them collide, so a table
 * of keys from outside needs a bound of its own. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define HASH_START 14695981039346656037u

static inline uint64_t hash_byte(uint64_t h, uint8_t byte)
{
    return (h ^ byte) * 1099511628211u;
}

/* h with a text behind it; the NUL does not count. */
static inline uint64_t hash_text(uint64_t h, const char *text)
{
    for (; *text; text++) h = hash_byte(h, (uint8_t)*text);
    return h;
}

static inline uint64_t hash_bytes(uint64_t h, const void *data, size_t len)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < len; i++) h = hash_byte(h, p[i]);
    return h;
}

/* As hash_text, but eight bytes at a time, and so no FNV: for ids, of which each prediction looks several up.
 */
static inline uint64_t hash_id(uint64_t h, const char *id)
{
    size_t left = strlen(id);
    for (uint64_t eight; left >= sizeof eight; id += sizeof eight, left -= sizeof eight) {
        memcpy(&eight, id, sizeof eight);
        h = (h ^ eight) * 0x9e3779b97f4a7c15; /* 2^64 by the golden ratio */
        h ^= h >> 32;
    }
    return hash_bytes(h, id, left);
}

/* For a table that takes the low bits, which are the weakest. */
static inline uint64_t hash_fold(uint64_t h)
{
    return h ^ (h >> 32);
}

#endif
