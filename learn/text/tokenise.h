/* Splits a UTF-8 text into tokens: words, or characters. What counts as a word follows from bytes and fixed
 * ranges of code points alone, never from a locale, so that the same text gives the same tokens everywhere.
 *
 *     word       a run of letters, digits and underscores. Letters are A–Z, a–z and every code point from
 *                U+00AA on that is no punctuation, symbol or blank. An apostrophe between two of them
 *                belongs to the word (’ becomes '); an ideograph or an emoji is a word by itself.
 *     character  every code point, blanks too.
 *
 * Reads borrowed text in one pass; no state outlives a struct token_reader. Any thread. */
#ifndef LEARN_TEXT_TOKENISE_H
#define LEARN_TEXT_TOKENISE_H

#include <stddef.h>
#include <stdbool.h>
#include "learn/spec/text.h"

struct token_reader {
    struct tokenise how;
    const unsigned char *p, *end; /* borrowed */
    size_t len;                   /* of the token at hand */
    char token[TEXT_MAX_TOKEN];   /* not NUL-terminated */
};

/* text: len bytes, borrowed for the reader's life. Bytes that are no UTF-8, and NULs, separate words
 * and give no token: a token is valid UTF-8 whatever the text is. */
void token_reader_init(struct token_reader *r, const struct tokenise *how, const char *text, size_t len);

/* The next token, in token and len; false at the end. */
bool token_reader_next(struct token_reader *r);

#endif
