/* The words of a spec: each enum's names in one table, and reading a field that holds one of them. Inside
 * learn/spec. */
#ifndef LEARN_SPEC_NAMES_H
#define LEARN_SPEC_NAMES_H

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"

/* A closed set of words; the place of a word is its value. */
struct words {
    const char *what; /* "activation": for messages */
    int n;
    const char *const *word;
};

extern const struct words words_task, words_family, words_loss, words_precision, words_activation, words_step,
    words_impute, words_init, words_padding, words_text_mode, words_text_truncate;

int words_find(const struct words *w, const char *text); /* or -1 */

/* Reads an optional (absent or null: *out stays) or required text that must be one of the words. ERR_INVALID
 * lists them. */
int words_opt(const struct words *w, struct json_obj *o, const char *name, int *out, struct err *e);
int words_take(const struct words *w, struct json_obj *o, const char *name, int *out, struct err *e);

/* Memory of a spec: ERR_NOMEM into e and NULL when it is out. */
void *spec__alloc(struct arena *a, size_t count, size_t size, struct err *e);
char *spec__text(struct arena *a, const char *s, struct err *e);

/* "a, b or c" into out. */
char *words_list(const struct words *w, char *out, size_t cap);

#endif
