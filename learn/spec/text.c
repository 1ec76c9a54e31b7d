/* Defaults and bounds of what turns texts into ids. */
#include "learn/spec/text.h"

#include "base/json.h"
#include "learn/spec/names.h"

enum {
    USUAL_WORDS = 8000,
    USUAL_CHARACTERS = 512,
    USUAL_LENGTH = 256,
    COUNTED_BYTES = 96, /* of each different token that is counted, while its tables grow */
    KEPT_BYTES = 40,    /* of each token of a vocabulary, beside its text */
    FIXED_BYTES = 65536
};

struct text_options text_options_usual(enum text_mode mode)
{
    bool words = mode == TEXT_WORD;
    return (struct text_options){.tokenise = {.mode = mode, .lower = words},
                                 .max_ids = words ? USUAL_WORDS : USUAL_CHARACTERS,
                                 .min_count = 1,
                                 .length = USUAL_LENGTH};
}

void text_options_to_json(const struct text_options *o, struct json_writer *w)
{
    jw_kstr(w, "mode", words_text_mode.word[o->tokenise.mode]);
    jw_kbool(w, "lower", o->tokenise.lower);
    jw_kbool(w, "punctuation", o->tokenise.punctuation);
    jw_kint(w, "vocabulary", o->max_ids);
    jw_kint(w, "min_count", o->min_count);
    jw_kint(w, "length", o->length);
    jw_kstr(w, "truncate", words_text_truncate.word[o->truncate]);
    jw_kbool(w, "marks", o->marks);
}

uint64_t text_learner_bytes(uint64_t text_bytes)
{
    uint64_t distinct = text_bytes < TEXT_MAX_DISTINCT ? text_bytes : TEXT_MAX_DISTINCT;
    uint64_t most = (uint64_t)TEXT_MAX_DISTINCT * TEXT_MAX_TOKEN;
    return FIXED_BYTES + distinct * COUNTED_BYTES + 3 * (text_bytes < most ? text_bytes : most);
}

uint64_t text_vocabulary_bytes(int64_t max_ids)
{
    return FIXED_BYTES + (uint64_t)max_ids * (KEPT_BYTES + TEXT_MAX_TOKEN);
}
