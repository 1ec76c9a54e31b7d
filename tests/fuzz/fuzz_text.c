/* Any bytes as a text: tokens that give themselves again, ids within the vocabulary, and a vocabulary that
 * survives JSON. And any bytes as a vocabulary's JSON: an error, or one that writes itself again. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "learn/data/utf8.h"
#include "learn/text/vocabulary.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LENGTH = 7 };

static void check(bool sound)
{
    if (!sound) abort();
}

static void check_token(const struct tokenise *how, const char *token, size_t len)
{
    struct token_reader r;
    check(len > 0 && len <= TEXT_MAX_TOKEN && utf8_valid(token, len));
    token_reader_init(&r, how, token, len);
    check(token_reader_next(&r) && r.len == len && memcmp(r.token, token, len) == 0);
    check(!token_reader_next(&r));
}

static char *json_of(const struct vocabulary *v)
{
    struct buf b = {0};
    struct json_writer w;
    jw_init(&w, &b);
    vocabulary_to_json(v, &w);
    return buf_steal(&b);
}

/* text must be JSON; NULL when it is no vocabulary. */
static struct vocabulary *read_json(const char *text, size_t len)
{
    cJSON *tree = NULL;
    struct vocabulary *v = NULL;
    if (json_parse(&tree, text, len, 100000, NULL) == 0) vocabulary_from_json(&v, tree, "v", NULL);
    cJSON_Delete(tree);
    return v;
}

static void check_json(const struct vocabulary *v)
{
    char *first = json_of(v);
    struct vocabulary *again = read_json(first, strlen(first));
    check(again != NULL);
    char *second = json_of(again);
    check(strcmp(first, second) == 0);
    mem_free(first);
    mem_free(second);
    vocabulary_free(again);
}

static void encode(const struct vocabulary *v, const char *text, size_t len)
{
    int32_t ids[LENGTH];
    struct buf out = {0};
    int64_t used = vocabulary_encode(v, text, len, ids);
    check(used >= 0 && used <= LENGTH);
    for (int64_t i = 0; i < LENGTH; i++)
        check(ids[i] >= 0 && ids[i] < vocabulary_size(v) && (ids[i] != 0) == (i < used));
    vocabulary_decode(v, ids, LENGTH, &out);
    check(utf8_valid(out.len ? out.data : "", out.len));
    buf_dispose(&out);
}

static void as_text(uint8_t flags, const char *text, size_t len)
{
    struct text_options o = text_options_usual(flags & 1 ? TEXT_CHARACTER : TEXT_WORD);
    struct vocabulary_learner *l = NULL;
    struct vocabulary *v = NULL;
    struct token_reader r;
    o.tokenise.lower = flags & 2;
    o.tokenise.punctuation = flags & 4;
    o.truncate = flags & 8 ? TEXT_TRUNCATE_START : TEXT_TRUNCATE_END;
    o.marks = flags & 16;
    o.max_ids = flags & 32 ? 8 : 1000;
    o.length = LENGTH;
    token_reader_init(&r, &o.tokenise, text, len);
    while (token_reader_next(&r)) check_token(&o.tokenise, r.token, r.len);
    check(vocabulary_learner_create(&l, &o, NULL) == 0 && vocabulary_learner_add(l, text, len, NULL) == 0 &&
          vocabulary_learn(&v, l, NULL) == 0);
    encode(v, text, len);
    check_json(v);
    vocabulary_free(v);
    vocabulary_learner_free(l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    if (data[0] != '{') {
        as_text(data[0], (const char *)data + 1, size - 1);
        return 0;
    }
    struct vocabulary *v = read_json((const char *)data, size);
    if (v) check_json(v);
    vocabulary_free(v);
    return 0;
}
