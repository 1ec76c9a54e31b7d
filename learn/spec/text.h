/* How texts become rows of whole numbers, as a spec's "tokenise" step says; the code that does it is
 * learn/text. No tensor core here: the gateway works out shapes and memory from this alone. Plain data; any
 * thread. */
#ifndef LEARN_SPEC_TEXT_H
#define LEARN_SPEC_TEXT_H

#include <stdint.h>
#include <stdbool.h>

struct json_writer;

/* Ids below TEXT_ID_FIRST are no tokens of any text. */
enum { TEXT_ID_PADDING, TEXT_ID_UNKNOWN, TEXT_ID_START, TEXT_ID_END, TEXT_ID_FIRST };

enum {
    TEXT_MAX_IDS = 1 << 17, /* reserved ids and tokens together */
    TEXT_MIN_LENGTH = 3,
    TEXT_MAX_LENGTH = 1 << 16, /* ids a row */
    TEXT_MAX_TOKEN = 48, /* bytes of one token: a longer word is cut behind its last whole character within */
    TEXT_MAX_DISTINCT = 1 << 18 /* different tokens that are counted at a time */
};

enum text_mode { TEXT_WORD, TEXT_CHARACTER };
enum text_truncate { TEXT_TRUNCATE_END, TEXT_TRUNCATE_START };

struct tokenise {
    enum text_mode mode;
    bool lower; /* A–Z, and the capitals of Latin-1, Latin Extended-A, Greek and Cyrillic, become small */
    bool punctuation; /* TEXT_WORD: a character that separates, blanks aside, is a token by itself */
};

struct text_options {
    struct tokenise tokenise;
    int64_t max_ids;   /* most ids, the reserved ones among them: TEXT_ID_FIRST + 1 … TEXT_MAX_IDS */
    int64_t min_count; /* ≥ 1: rarer tokens are unknown */
    int64_t length;    /* ids a row: TEXT_MIN_LENGTH … TEXT_MAX_LENGTH */
    enum text_truncate truncate; /* which part of a longer text is left out */
    bool marks;                  /* rows begin with TEXT_ID_START and end with TEXT_ID_END */
};

/* Words: small letters, 8,000 ids, rows of 256. Characters: as they are, 512 ids, rows of 256. No marks. */
struct text_options text_options_usual(enum text_mode mode);

/* As members of the object that is being written. */
void text_options_to_json(const struct text_options *o, struct json_writer *w);

/* No learner of a vocabulary (learn/text/vocabulary.h) holds more for texts of so many bytes in all. */
uint64_t text_learner_bytes(uint64_t text_bytes);

/* No vocabulary of max_ids takes more. */
uint64_t text_vocabulary_bytes(int64_t max_ids);

#endif
