/* What learning and reading a vocabulary share. Inside learn/text. */
#ifndef LEARN_TEXT_VOCABULARY_IMPL_H
#define LEARN_TEXT_VOCABULARY_IMPL_H

#include "learn/text/token_table.h"
#include "learn/text/vocabulary.h"

struct vocabulary {
    struct text_options options;
    struct token_table tokens; /* entry i has the id TEXT_ID_FIRST + i */
};

/* Without tokens. ERR_NOMEM. */
int vocabulary__create(struct vocabulary **out, const struct text_options *o, struct err *e);

#endif
