/* Which token is which number: learnt from texts once, kept as JSON in a version, and used by the same code
 * when training and when predicting.
 *
 *     learner: vocabulary_learner_create ▸ …_add a text ▸ …_add ▸ vocabulary_learn ──▶ vocabulary (immutable)
 *     text ──vocabulary_encode──▶ ids [length] ──vocabulary_decode──▶ text
 *
 * Ids: 0 padding, 1 an unknown token, 2 start, 3 end, then the tokens by falling count, equal counts by
 * bytes: the same texts in any order give the same vocabulary (unless a learner had to forget). A vocabulary
 * is immutable, any thread may read it; a learner belongs to one thread. */
#ifndef LEARN_TEXT_VOCABULARY_H
#define LEARN_TEXT_VOCABULARY_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <cjson/cJSON.h>
#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "learn/text/tokenise.h"

struct vocabulary;
struct vocabulary_learner;

/* o is copied. ERR_NOMEM. */
int vocabulary_learner_create(struct vocabulary_learner **out, const struct text_options *o, struct err *e);
void vocabulary_learner_free(struct vocabulary_learner *l); /* NULL is fine */

/* Counts the tokens of one text, all of them, whatever length says. Memory is bounded: when too many
 * different tokens are held, the rarest are forgotten. ERR_NOMEM. */
int vocabulary_learner_add(struct vocabulary_learner *l, const char *text, size_t len, struct err *e);

/* The tokens counted so far as a vocabulary; the learner stays as it is. No token at all is fine: every text
 * is unknown then. ERR_NOMEM. */
int vocabulary_learn(struct vocabulary **out, const struct vocabulary_learner *l, struct err *e);

void vocabulary_free(struct vocabulary *v); /* NULL is fine */

const struct text_options *vocabulary_options(const struct vocabulary *v);
int64_t vocabulary_size(const struct vocabulary *v); /* ids: 0 … size − 1; ≤ options.max_ids */
size_t vocabulary_bytes(const struct vocabulary *v); /* resident */

/* The id of a token as token_reader gives it, or TEXT_ID_UNKNOWN. */
int32_t vocabulary_id(const struct vocabulary *v, const char *token, size_t len);

/* The token of an id ≥ TEXT_ID_FIRST and below size: not NUL-terminated, borrowed. Else NULL. */
const char *vocabulary_token(const struct vocabulary *v, int32_t id, size_t *len);

/* A text as ids: out [options.length], padded at its end with TEXT_ID_PADDING. Never fails, allocates
 * nothing. Returns how many ids stand before the padding. */
int64_t vocabulary_encode(const struct vocabulary *v, const char *text, size_t len, int32_t *out);

/* Appends the text of n ids to out: words with blanks between them, characters without; stops at padding or
 * end, leaves out start, and writes U+FFFD for an unknown token or an id out of range. */
void vocabulary_decode(const struct vocabulary *v, const int32_t *ids, int64_t n, struct buf *out);

/* One JSON object through w, and back: {"mode":"word","lower":true,…,"tokens":["the",…]}. The reader trusts
 * nothing: sizes, duplicates, and tokens that the tokeniser would not give are refused with ERR_INVALID and
 * the path. */
void vocabulary_to_json(const struct vocabulary *v, struct json_writer *w);
int vocabulary_from_json(struct vocabulary **out, const cJSON *node, const char *path, struct err *e);

#endif
