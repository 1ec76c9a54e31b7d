/* A set of tokens in one block of bytes, found by hash: what a vocabulary and its learner are made of. Inside
 * learn/text. One thread writes; then any thread may read. */
#ifndef LEARN_TEXT_TOKEN_TABLE_H
#define LEARN_TEXT_TOKEN_TABLE_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

struct token_entry {
    uint32_t hash, at; /* at: first byte, in the block */
    uint32_t count;    /* the owner's; stops at its top */
    uint8_t len;
};

struct token_table {
    uint32_t n, cap;           /* entries */
    struct token_entry *entry; /* owned, in the order of adding */
    uint32_t *slot;            /* owned: entry + 1, 0 where empty */
    uint32_t slots;            /* a power of two, at least twice n */
    char *bytes;               /* owned */
    uint32_t bytes_len, bytes_cap;
};

uint32_t token_hash(const char *token, size_t len);

/* The entry of a token, or -1. */
int64_t token_table_find(const struct token_table *t, const char *token, size_t len, uint32_t hash);

/* Appends a token of 1 … TEXT_MAX_TOKEN bytes that is not there, with a count of 0; at most TEXT_MAX_DISTINCT
 * fit. False when memory is out; the table is as it was then. */
bool token_table_add(struct token_table *t, const char *token, size_t len, uint32_t hash);

size_t token_table_bytes(const struct token_table *t);
void token_table_dispose(struct token_table *t);

#endif
