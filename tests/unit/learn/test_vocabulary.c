/* Tokens, vocabularies and ids. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "learn/data/utf8.h"
#include "learn/text/vocabulary.h"
#include "tests/unit/learn/aid.h"

/* ---- tokens ---- */

static const struct tokenise words = {.mode = TEXT_WORD, .lower = true};

/* The tokens of a text between bars: "a|b". */
static const char *tokens(const struct tokenise *how, const char *text, size_t len)
{
    static char out[4096];
    struct token_reader r;
    size_t at = 0;
    token_reader_init(&r, how, text, len);
    while (token_reader_next(&r)) {
        assert_true(r.len > 0 && r.len <= TEXT_MAX_TOKEN);
        assert_true(at + r.len + 2 < sizeof out);
        if (at) out[at++] = '|';
        memcpy(out + at, r.token, r.len);
        at += r.len;
    }
    out[at] = '\0';
    return out;
}

static void expect_tokens(const struct tokenise *how, const char *text, const char *want)
{
    assert_string_equal(tokens(how, text, strlen(text)), want);
}

static void words_are_runs_of_letters_and_digits(void **state)
{
    (void)state;
    expect_tokens(&words, "", "");
    expect_tokens(&words, " \t\r\n .,;", "");
    expect_tokens(&words, "Hello, World!  x2 snake_case\nend", "hello|world|x2|snake_case|end");
    expect_tokens(&words, "a-b/c@d.e", "a|b|c|d|e");
}

static void an_apostrophe_belongs_to_a_word_only_between_letters(void **state)
{
    (void)state;
    expect_tokens(&words, "Don't 'quote' it's' o''clock '", "don't|quote|it's|o|clock");
    expect_tokens(&words, "l\xE2\x80\x99\xC3\xA9t\xC3\xA9", "l'\xC3\xA9t\xC3\xA9");
}

static void letters_of_other_scripts_make_words_and_their_capitals_become_small(void **state)
{
    (void)state;
    expect_tokens(&words,
                  "\xC3\x9C"
                  "BER stra\xC3\x9F"
                  "e",
                  "\xC3\xBC"
                  "ber|stra\xC3\x9F"
                  "e");
    expect_tokens(&words, "\xD0\x9F\xD0\xA0\xD0\x98\xD0\x92\xD0\x95\xD0\xA2, \xD0\x81",
                  "\xD0\xBF\xD1\x80\xD0\xB8\xD0\xB2\xD0\xB5\xD1\x82|\xD1\x91");
    expect_tokens(&words, "\xCE\xA3\xCE\x8E\xCE\x86", "\xCF\x83\xCF\x8D\xCE\xAC");
    expect_tokens(&words, "\xC4\x80\xC5\xBD\xC5\xB8\xC4\xB9\xC4\xB0",
                  "\xC4\x81\xC5\xBE\xC3\xBF\xC4\xBA\xC4\xB0"); /* Ā Ž Ÿ Ĺ become small; İ would grow */
    struct tokenise as_is = {.mode = TEXT_WORD};
    expect_tokens(&as_is, "Hello \xC3\x9C", "Hello|\xC3\x9C");
}

static void ideographs_and_emoji_are_words_by_themselves(void **state)
{
    (void)state;
    expect_tokens(&words, "\xE6\xBC\xA2\xE5\xAD\x97\xE3\x80\x82ok\xF0\x9F\x98\x80",
                  "\xE6\xBC\xA2|\xE5\xAD\x97|ok|\xF0\x9F\x98\x80");
    expect_tokens(&words,
                  "\xE2\x80\x9Cquoted\xE2\x80\x9D\xE2\x80\x94"
                  "and\xC2\xA0"
                  "parted",
                  "quoted|and|parted");
}

static void punctuation_is_a_token_where_asked_for(void **state)
{
    struct tokenise how = {.mode = TEXT_WORD, .lower = true, .punctuation = true};
    (void)state;
    expect_tokens(&how, "Win $1,000! It's \xE2\x82\xAC", "win|$|1|,|000|!|it's|\xE2\x82\xAC");
}

static void characters_are_tokens_with_their_blanks(void **state)
{
    struct tokenise how = {.mode = TEXT_CHARACTER}, lower = {.mode = TEXT_CHARACTER, .lower = true};
    (void)state;
    expect_tokens(&how, "A b\xC3\xA9", "A| |b|\xC3\xA9");
    expect_tokens(&lower, "A \xC3\x89", "a| |\xC3\xA9");
}

static void long_words_are_cut_behind_a_whole_character(void **state)
{
    char text[200], want[TEXT_MAX_TOKEN + 1];
    (void)state;
    memset(text, 'x', sizeof text);
    memset(want, 'x', sizeof want);
    want[TEXT_MAX_TOKEN] = '\0';
    assert_string_equal(tokens(&words, text, sizeof text), want);
    memcpy(text + TEXT_MAX_TOKEN - 1, "\xC3\xA9", 2); /* would end a byte behind the limit */
    want[TEXT_MAX_TOKEN - 1] = '\0';
    assert_string_equal(tokens(&words, text, sizeof text), want);
    memcpy(text + TEXT_MAX_TOKEN - 1, "'x", 2); /* an apostrophe with nothing behind it is none of a word */
    assert_string_equal(tokens(&words, text, sizeof text), want);
}

static void malformed_bytes_and_nuls_separate_and_are_never_part_of_a_token(void **state)
{
    struct tokenise how = {.mode = TEXT_CHARACTER};
    (void)state;
    assert_string_equal(tokens(&words,
                               "a\xFF"
                               "b\xC3",
                               4),
                        "a|b");
    assert_string_equal(tokens(&words, "a\0b", 3), "a|b");
    assert_string_equal(tokens(&how,
                               "a\0\xE2\x82"
                               "b",
                               5),
                        "a|b");
    uint64_t seed = 1;
    for (int round = 0; round < 2000; round++) {
        char text[24];
        struct token_reader r;
        for (size_t i = 0; i < sizeof text; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            text[i] = (char)(seed >> 56);
        }
        token_reader_init(&r, round & 1 ? &words : &how, text, sizeof text);
        while (token_reader_next(&r)) assert_true(r.len > 0 && utf8_valid(r.token, r.len));
    }
}

/* ---- vocabularies ---- */

static struct vocabulary *learn(const struct text_options *o, const char *const *texts, size_t n)
{
    struct vocabulary_learner *l = NULL;
    struct vocabulary *v = NULL;
    struct err e = {0};
    assert_int_equal(vocabulary_learner_create(&l, o, &e), 0);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(vocabulary_learner_add(l, texts[i], strlen(texts[i]), &e), 0);
    assert_int_equal(vocabulary_learn(&v, l, &e), 0);
    vocabulary_learner_free(l);
    return v;
}

static struct vocabulary *learn_one(const struct text_options *o, const char *text)
{
    return learn(o, &text, 1);
}

static struct text_options options(int64_t max_ids, int64_t length)
{
    struct text_options o = text_options_usual(TEXT_WORD);
    o.max_ids = max_ids;
    o.length = length;
    return o;
}

static void expect_ids(const struct vocabulary *v, const char *text, int64_t used, const int32_t *want)
{
    int32_t out[64];
    int64_t length = vocabulary_options(v)->length;
    assert_true(length <= 64);
    memset(out, 0x5A, sizeof out);
    assert_int_equal(vocabulary_encode(v, text, strlen(text), out), used);
    for (int64_t i = 0; i < length; i++) assert_int_equal(out[i], want[i]);
    if (length < 64) assert_int_equal(out[length], 0x5A5A5A5A);
}

static void tokens_get_ids_by_count_and_then_by_bytes(void **state)
{
    const char *texts[] = {"b a c", "c B c", "d"}, *other[] = {"d", "c B c", "b a c"};
    struct text_options o = options(100, 8);
    struct vocabulary *v = learn(&o, texts, 3), *w = learn(&o, other, 3);
    size_t len;
    (void)state;
    assert_int_equal(vocabulary_size(v), 8);
    const char *order[] = {"c", "b", "a", "d"};
    for (int32_t i = 0; i < 4; i++) {
        assert_memory_equal(vocabulary_token(v, TEXT_ID_FIRST + i, &len), order[i], 1);
        assert_int_equal(len, 1);
        assert_int_equal(vocabulary_id(w, order[i], 1), TEXT_ID_FIRST + i);
    }
    assert_null(vocabulary_token(v, TEXT_ID_END, &len));
    assert_null(vocabulary_token(v, 8, &len));
    assert_int_equal(vocabulary_id(v, "e", 1), TEXT_ID_UNKNOWN);
    vocabulary_free(v);
    vocabulary_free(w);
}

static void the_vocabulary_keeps_the_most_frequent_and_drops_the_rare(void **state)
{
    struct text_options o = options(TEXT_ID_FIRST + 2, 8);
    struct vocabulary *v = learn_one(&o, "x x x y y z w w w w");
    (void)state;
    expect_ids(v, "w x y z", 4, (const int32_t[]){4, 5, 1, 1, 0, 0, 0, 0});
    vocabulary_free(v);
    o.max_ids = 100;
    o.min_count = 3;
    v = learn_one(&o, "x x x y y z w w w w");
    assert_int_equal(vocabulary_size(v), 6);
    vocabulary_free(v);
}

static void rows_are_padded_at_their_end_and_cut_where_asked(void **state)
{
    struct text_options o = options(100, 4);
    struct vocabulary *v = learn_one(&o, "a a a a a b b b b c c c d d e");
    (void)state;
    expect_ids(v, "", 0, (const int32_t[]){0, 0, 0, 0});
    expect_ids(v, "e nix", 2, (const int32_t[]){8, 1, 0, 0});
    expect_ids(v, "a b c d", 4, (const int32_t[]){4, 5, 6, 7});
    expect_ids(v, "a b c d e a b", 4, (const int32_t[]){4, 5, 6, 7});
    vocabulary_free(v);
    o.truncate = TEXT_TRUNCATE_START;
    v = learn_one(&o, "a a a a a b b b b c c c d d e");
    expect_ids(v, "a b", 2, (const int32_t[]){4, 5, 0, 0});
    expect_ids(v, "a b c d", 4, (const int32_t[]){4, 5, 6, 7});
    expect_ids(v, "a b c d e", 4, (const int32_t[]){5, 6, 7, 8});
    expect_ids(v, "e d c b a b c", 4, (const int32_t[]){5, 4, 5, 6});
    expect_ids(v, "a a a a b c d e", 4, (const int32_t[]){5, 6, 7, 8});
    vocabulary_free(v);
}

static void marks_enclose_a_row(void **state)
{
    struct text_options o = text_options_usual(TEXT_CHARACTER);
    struct buf text = {0};
    o.length = 6;
    o.marks = true;
    struct vocabulary *v = learn_one(&o, "aaabbc");
    (void)state;
    expect_ids(v, "abc", 5, (const int32_t[]){2, 4, 5, 6, 3, 0});
    expect_ids(v, "", 2, (const int32_t[]){2, 3, 0, 0, 0, 0});
    expect_ids(v, "cbacba", 6, (const int32_t[]){2, 6, 5, 4, 6, 3});
    vocabulary_decode(v, (const int32_t[]){2, 6, 1, 4, 3, 4}, 6, &text);
    assert_string_equal(text.data, "c\xEF\xBF\xBD"
                                   "a");
    vocabulary_free(v);
    buf_clear(&text);
    o = options(100, 6);
    v = learn_one(&o, "one two two");
    vocabulary_decode(v, (const int32_t[]){5, 4, 99999, -7, 0, 4}, 6, &text);
    assert_string_equal(text.data, "one two \xEF\xBF\xBD \xEF\xBF\xBD");
    vocabulary_free(v);
    buf_dispose(&text);
}

static void texts_without_a_token_give_a_vocabulary_of_none(void **state)
{
    struct text_options o = options(100, 3);
    struct vocabulary *v = learn_one(&o, " ... ");
    (void)state;
    assert_int_equal(vocabulary_size(v), TEXT_ID_FIRST);
    expect_ids(v, "any", 1, (const int32_t[]){1, 0, 0});
    vocabulary_free(v);
}

/* More different words than a learner holds: the frequent ones survive, whatever comes between. */
static void a_learner_forgets_the_rare_and_keeps_the_frequent(void **state)
{
    struct text_options o = options(TEXT_MAX_IDS, 4);
    struct vocabulary_learner *l = NULL;
    struct vocabulary *v = NULL;
    struct err e = {0};
    char text[64];
    (void)state;
    assert_int_equal(vocabulary_learner_create(&l, &o, &e), 0);
    for (int i = 0; i < TEXT_MAX_DISTINCT + TEXT_MAX_DISTINCT / 4; i++) {
        int n = snprintf(text, sizeof text, "w%d the common", i);
        assert_int_equal(vocabulary_learner_add(l, text, (size_t)n, &e), 0);
    }
    assert_int_equal(vocabulary_learn(&v, l, &e), 0);
    assert_int_equal(vocabulary_id(v, "common", 6), TEXT_ID_FIRST);
    assert_int_equal(vocabulary_id(v, "the", 3), TEXT_ID_FIRST + 1);
    assert_true(vocabulary_size(v) <= TEXT_MAX_IDS && vocabulary_size(v) > 1000);
    assert_true(vocabulary_bytes(v) <= text_vocabulary_bytes(TEXT_MAX_IDS));
    vocabulary_free(v);
    vocabulary_learner_free(l);
}

/* ---- JSON ---- */

static char *json_of(const struct vocabulary *v)
{
    struct buf b = {0};
    struct json_writer w;
    jw_init(&w, &b);
    vocabulary_to_json(v, &w);
    return buf_steal(&b);
}

static int read_json(struct vocabulary **v, const char *text, struct err *e)
{
    cJSON *tree = aid_json(text);
    int rc = vocabulary_from_json(v, tree, "vocabulary", e);
    cJSON_Delete(tree);
    return rc;
}

static void a_vocabulary_survives_json(void **state)
{
    struct text_options o = options(50, 5);
    o.tokenise.punctuation = true;
    o.truncate = TEXT_TRUNCATE_START;
    o.min_count = 2;
    struct vocabulary
        *v = learn_one(
            &o, "don't don't \xC3\xA9t\xC3\xA9 \xC3\xA9t\xC3\xA9 \xE2\x82\xAC \xE2\x82\xAC \" \" \\ \\"),
        *w = NULL;
    struct err e = {0};
    char *text = json_of(v);
    (void)state;
    assert_int_equal(read_json(&w, text, &e), 0);
    char *again = json_of(w);
    assert_string_equal(text, again);
    expect_ids(w, "\" don't x \\ \xC3\xA9t\xC3\xA9 \xE2\x82\xAC", 5,
               (const int32_t[]){vocabulary_id(v, "don't", 5), 1, vocabulary_id(v, "\\", 1),
                                 vocabulary_id(v, "\xC3\xA9t\xC3\xA9", 5),
                                 vocabulary_id(v, "\xE2\x82\xAC", 3)});
    mem_free(text);
    mem_free(again);
    vocabulary_free(v);
    vocabulary_free(w);
}

#define HEAD                                                                                                 \
    "{\"mode\":\"word\",\"lower\":true,\"punctuation\":false,\"vocabulary\":7,\"min_count\":1,\"length\":4," \
    "\"truncate\":\"end\",\"marks\":false,\"tokens\":"

static void hostile_vocabularies_are_refused(void **state)
{
    static const struct {
        const char *text, *field;
    } bad[] = {
        {HEAD "[\"a\",\"a\"]}", "vocabulary.tokens[1]"},
        {HEAD "[\"a\",\"b\",\"c\",\"d\"]}", "vocabulary.tokens"},
        {HEAD "[\"\"]}", "vocabulary.tokens[0]"},
        {HEAD "[\"A\"]}", "vocabulary.tokens[0]"},
        {HEAD "[\"two words\"]}", "vocabulary.tokens[0]"},
        {HEAD "[\"a\",7]}", "vocabulary.tokens[1]"},
        {HEAD "[\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"]}", "vocabulary.tokens[0]"},
        {HEAD "[],\"more\":1}", "vocabulary.more"},
        {"{\"mode\":\"word\"}", "vocabulary.lower"},
        {"{\"mode\":\"syllable\"}", "vocabulary.mode"},
        {"[]", "vocabulary"},
    };
    struct vocabulary *v;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct err e = {0};
        assert_int_equal(read_json(&v, bad[i].text, &e), ERR_INVALID);
        assert_string_equal(e.field, bad[i].field);
        assert_null(v);
    }
}

static void sizes_out_of_range_are_refused(void **state)
{
    static const char *const field[] = {"\"length\":4", "\"length\":4", "\"vocabulary\":7",
                                        "\"vocabulary\":7", "\"min_count\":1"};
    static const char *const value[] = {"\"length\":2", "\"length\":1e9", "\"vocabulary\":4",
                                        "\"vocabulary\":1e9", "\"min_count\":0"};
    struct vocabulary *v;
    (void)state;
    for (size_t i = 0; i < 5; i++) {
        struct buf text = {0};
        struct err e = {0};
        const char *all = HEAD "[]}", *at = strstr(all, field[i]);
        buf_append(&text, all, (size_t)(at - all));
        buf_str(&text, value[i]);
        buf_str(&text, at + strlen(field[i]));
        assert_int_equal(read_json(&v, text.data, &e), ERR_INVALID);
        buf_dispose(&text);
    }
}

static void every_allocation_may_fail(void **state)
{
    struct text_options o = options(1000, 4);
    char text[4096];
    size_t len = 0, nth = 1;
    (void)state;
    for (int i = 0; i < 400; i++) len += (size_t)snprintf(text + len, sizeof text - len, "w%d ", i);
    for (bool failed = true; failed; nth++) {
        struct vocabulary_learner *l = NULL;
        struct vocabulary *v = NULL;
        struct err e = {0};
        mem_fail_at(nth, false);
        int rc = vocabulary_learner_create(&l, &o, &e);
        if (!rc) rc = vocabulary_learner_add(l, text, len, &e);
        if (!rc) rc = vocabulary_learn(&v, l, &e);
        mem_fail_at(0, false);
        failed = rc != 0;
        if (failed) assert_int_equal(rc, ERR_NOMEM);
        if (!failed) assert_int_equal(vocabulary_size(v), 404);
        vocabulary_free(v);
        vocabulary_learner_free(l);
    }
    assert_true(nth > 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_runs_of_letters_and_digits),
        cmocka_unit_test(an_apostrophe_belongs_to_a_word_only_between_letters),
        cmocka_unit_test(letters_of_other_scripts_make_words_and_their_capitals_become_small),
        cmocka_unit_test(ideographs_and_emoji_are_words_by_themselves),
        cmocka_unit_test(punctuation_is_a_token_where_asked_for),
        cmocka_unit_test(characters_are_tokens_with_their_blanks),
        cmocka_unit_test(long_words_are_cut_behind_a_whole_character),
        cmocka_unit_test(malformed_bytes_and_nuls_separate_and_are_never_part_of_a_token),
        cmocka_unit_test(tokens_get_ids_by_count_and_then_by_bytes),
        cmocka_unit_test(the_vocabulary_keeps_the_most_frequent_and_drops_the_rare),
        cmocka_unit_test(rows_are_padded_at_their_end_and_cut_where_asked),
        cmocka_unit_test(marks_enclose_a_row),
        cmocka_unit_test(texts_without_a_token_give_a_vocabulary_of_none),
        cmocka_unit_test(a_learner_forgets_the_rare_and_keeps_the_frequent),
        cmocka_unit_test(a_vocabulary_survives_json),
        cmocka_unit_test(hostile_vocabularies_are_refused),
        cmocka_unit_test(sizes_out_of_range_are_refused),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
