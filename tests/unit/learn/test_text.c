/* A column of texts from the spec to the prediction: what is asked for, what is learnt, what a version keeps
 * of it and takes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "learn/model.h"
#include "learn/spec/spec.h"
#include "tests/unit/learn/aid.h"

#define NETWORK                                                                                              \
    "\"architecture\":[{\"layer\":\"Embedding\",\"output_dim\":8,\"mask_zero\":true},"                       \
    "{\"layer\":\"GlobalAveragePooling1D\"},{\"layer\":\"Dense\",\"units\":2}]"
#define TRAINING                                                                                             \
    "\"training\":{\"epochs\":12,\"batch_size\":16,\"seed\":3,\"validation_split\":0.25,"                    \
    "\"optimizer\":{\"name\":\"adam\",\"learning_rate\":0.02}}"
#define STEP "\"preprocess\":[{\"op\":\"tokenise\",\"vocabulary\":60,\"length\":12}]"

static const char *const usual_spec =
    "{\"target\":\"label\",\"features\":[\"text\"]," STEP "," NETWORK "," TRAINING "}";

/* Notes of two kinds, told apart by some of their words; "text" is quoted, over two lines, and now and then
 * empty. */
static void notes(struct buf *out, size_t rows, uint64_t seed)
{
    static const char *const good[] = {"meeting", "agenda", "patch", "review", "lunch", "minutes"};
    static const char *const bad[] = {"prize", "winner", "cash", "offer", "click", "free"};
    static const char *const any[] = {"the", "a", "of", "It's", "\xC3\xA9t\xC3\xA9", "today", "we"};
    struct aid_random r = {seed};
    buf_str(out, "label,text\n");
    for (size_t i = 0; i < rows; i++) {
        bool spam = aid_uniform(&r) < 0.5;
        buf_str(out, spam ? "spam,\"" : "ham,\"");
        for (int k = 0; k < 6; k++) {
            const char *const *own = spam ? bad : good;
            buf_str(out, k % 2 ? any[(int)(aid_uniform(&r) * 7)] : own[(int)(aid_uniform(&r) * 6)]);
            buf_str(out, k == 2 ? ",\n" : " ");
        }
        buf_printf(out, "%zu\"\n", i);
    }
}

static void train_notes(struct aid_result *r, const char *spec)
{
    struct buf csv = {0};
    struct err e = {0};
    notes(&csv, 400, 5);
    if (aid_train(r, &(struct aid_run){.spec = spec, .csv = csv.data}, &e))
        fail_msg("%s: %s", e.field, e.message);
    buf_dispose(&csv);
}

static struct model *load(const struct aid_result *r)
{
    struct model *m = NULL;
    struct err e = {0};
    if (model_load(&m, r->artifact.data, r->artifact.len, 0, &e)) fail_msg("%s", e.message);
    return m;
}

static void put_text(struct buf *b, const char *text, size_t len)
{
    for (int i = 0; i < 4; i++) buf_char(b, (char)(len >> (8 * i)));
    buf_append(b, text, len);
}

static struct model_input texts(struct buf *b, const char *const *list, size_t n)
{
    buf_clear(b);
    for (size_t i = 0; i < n; i++) put_text(b, list[i], strlen(list[i]));
    return (struct model_input){DATATYPE_BYTES, b->data, b->len};
}

static void notes_are_told_apart_by_their_words(void **state)
{
    static const char *const list[] = {"Review the agenda, please", "FREE cash! Click the offer",
                                       "unknown words of no kind but lunch", "", "Winner... winner? PRIZE"};
    struct aid_result r;
    struct buf b = {0};
    struct err e = {0};
    struct model_output out[2];
    struct model_session *s = NULL;
    (void)state;
    train_notes(&r, usual_spec);
    assert_true(aid_metric(&r, "validation.accuracy") > 0.97);
    struct model *m = load(&r);
    const struct signature *sig = model_signature(m);
    assert_int_equal(sig->n_inputs, 1);
    assert_string_equal(sig->inputs[0].name, "text");
    assert_int_equal(sig->inputs[0].datatype, DATATYPE_BYTES);
    assert_int_equal(sig->inputs[0].rank, 1);
    assert_int_equal(model_session_create(&s, m, 8, &e), 0);
    struct model_input in = texts(&b, list, 5);
    assert_int_equal(model_predict(s, &in, 5, out, &e), 0);
    const float *p = out[0].data;
    assert_true(p[0] > 0.9F && p[3] > 0.9F && p[4] > 0.5F && p[9] > 0.9F);
    assert_true(fabs((double)(p[6] + p[7]) - 1) < 1e-5); /* the empty text has an answer too */
    model_session_free(s);
    model_free(m);
    aid_result_dispose(&r);
    buf_dispose(&b);
}

static void a_text_has_the_same_bits_alone_and_in_company(void **state)
{
    static const char *const list[] = {
        "prize", "", "the agenda of the meeting today we patch it's a review and more words", "x y z"};
    struct aid_result r;
    struct buf b = {0};
    struct err e = {0};
    struct model_output all[2], alone[2];
    struct model_session *s = NULL, *one = NULL;
    (void)state;
    train_notes(&r, usual_spec);
    struct model *m = load(&r);
    assert_int_equal(model_session_create(&s, m, 4, &e), 0);
    assert_int_equal(model_session_create(&one, m, 1, &e), 0);
    struct model_input in = texts(&b, list, 4);
    assert_int_equal(model_predict(s, &in, 4, all, &e), 0);
    for (size_t i = 0; i < 4; i++) {
        in = texts(&b, list + i, 1);
        assert_int_equal(model_predict(one, &in, 1, alone, &e), 0);
        assert_memory_equal(alone[0].data, (const float *)all[0].data + 2 * i, 2 * sizeof(float));
    }
    model_session_free(one);
    model_session_free(s);
    model_free(m);
    aid_result_dispose(&r);
    buf_dispose(&b);
}

static void what_is_no_text_is_refused_by_the_inputs_name(void **state)
{
    static const float number = 1;
    static const struct {
        struct model_input in;
        const char *message;
    } bad[] = {
        {{DATATYPE_FP32, &number, 4}, "\"text\" is of datatype FP32; expected BYTES"},
        {{DATATYPE_BYTES, "\2\0\0\0a\xFF", 6}, "\"text\", row 0: the text is not valid UTF-8"},
        {{DATATYPE_BYTES, "\2\0\0\0a\0", 6}, "\"text\", row 0: the text is not valid UTF-8"},
        {{DATATYPE_BYTES, "\5\0\0\0a", 5}, "\"text\": the bytes end in row 0 of 1"},
        {{DATATYPE_BYTES, "\1\0\0\0ab", 6}, "\"text\": 1 bytes are left behind the last of 1 rows"},
    };
    struct aid_result r;
    struct err e = {0};
    struct model_output out[2];
    struct model_session *s = NULL;
    (void)state;
    train_notes(&r, usual_spec);
    struct model *m = load(&r);
    assert_int_equal(model_session_create(&s, m, 1, &e), 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        e = (struct err){0};
        assert_int_equal(model_predict(s, &bad[i].in, 1, out, &e), ERR_INVALID);
        assert_string_equal(e.field, "text");
        assert_string_equal(e.message, bad[i].message);
    }
    model_session_free(s);
    model_free(m);
    aid_result_dispose(&r);
}

static bool artifact_has(const struct aid_result *r, const char *text)
{
    return memmem(r->artifact.data, r->artifact.len, text, strlen(text)) != NULL;
}

static int count_in_artifact(const struct aid_result *r, const char *text)
{
    const char *at = r->artifact.data, *end = at + r->artifact.len;
    int n = 0;
    while ((at = memmem(at, (size_t)(end - at), text, strlen(text))) != NULL) {
        at++;
        n++;
    }
    return n;
}

/* Each row has a word of its own: a quarter of them is in the validation part, and none of the test dataset's
 * words may be there. */
static void the_vocabulary_comes_from_the_training_part_alone(void **state)
{
    struct buf csv = {0}, test = {0};
    struct aid_result r;
    struct err e = {0};
    (void)state;
    buf_str(&csv, "label,text\n");
    buf_str(&test, "label,text\n");
    for (int i = 0; i < 40; i++) buf_printf(&csv, "%s,horse own%d\n", i % 2 ? "a" : "b", i);
    for (int i = 0; i < 40; i++) buf_printf(&test, "%s,zebra\n", i % 2 ? "a" : "b");
    struct aid_run run = {.spec = "{\"target\":\"label\"," STEP "," NETWORK
                                  ",\"training\":{\"epochs\":1,\"validation_split\":0.25}}",
                          .csv = csv.data,
                          .test_csv = test.data};
    if (aid_train(&r, &run, &e)) fail_msg("%s: %s", e.field, e.message);
    assert_int_equal(count_in_artifact(&r, "\\\"horse\\\""), 1);
    assert_int_equal(count_in_artifact(&r, "\\\"own"), 30);
    assert_int_equal(count_in_artifact(&r, "\\\"zebra\\\""), 0);
    aid_result_dispose(&r);
    buf_dispose(&csv);
    buf_dispose(&test);
}

static void the_same_run_gives_the_same_version(void **state)
{
    struct aid_result a, b;
    (void)state;
    train_notes(&a, usual_spec);
    train_notes(&b, usual_spec);
    assert_int_equal(a.artifact.len, b.artifact.len);
    assert_memory_equal(a.artifact.data, b.artifact.data, a.artifact.len);
    aid_result_dispose(&a);
    aid_result_dispose(&b);
}

static void characters_and_the_end_of_a_text_can_be_learnt_from(void **state)
{
    struct aid_result r;
    (void)state;
    train_notes(&r,
                "{\"target\":\"label\",\"features\":[\"text\"],\"preprocess\":[{\"op\":\"tokenise\",\"mode\":"
                "\"character\",\"length\":16,\"truncate\":\"start\",\"columns\":[\"text\"]}]," NETWORK
                "," TRAINING "}");
    assert_true(artifact_has(&r, "\\\"character\\\""));
    assert_true(aid_metric(&r, "validation.accuracy") > 0.5);
    aid_result_dispose(&r);
}

static void a_text_without_an_architecture_gets_one_that_learns(void **state)
{
    struct aid_result r;
    (void)state;
    train_notes(&r, "{\"target\":\"label\",\"features\":[\"text\"]," STEP "," TRAINING "}");
    assert_true(artifact_has(&r, "\"words/embeddings\""));
    assert_true(aid_metric(&r, "validation.accuracy") > 0.97);
    aid_result_dispose(&r);
}

static void a_number_can_be_learnt_from_texts(void **state)
{
    static const char *const words[] = {"dreadful", "poor", "fine", "great"};
    struct buf csv = {0};
    struct aid_random random = {4};
    struct aid_result r;
    struct err e = {0};
    (void)state;
    buf_str(&csv, "stars,text\n");
    for (int i = 0; i < 300; i++) {
        int k = (int)(aid_uniform(&random) * 4);
        buf_printf(&csv, "%.2f,it was %s indeed\n", k + 1 + 0.1 * aid_uniform(&random), words[k]);
    }
    struct aid_run run = {.csv = csv.data,
                          .spec =
                              "{\"target\":\"stars\",\"preprocess\":[{\"op\":\"tokenise\"}]," TRAINING "}"};
    if (aid_train(&r, &run, &e)) fail_msg("%s: %s", e.field, e.message);
    assert_true(aid_metric(&r, "validation.r2") > 0.9);
    aid_result_dispose(&r);
    buf_dispose(&csv);
}

/* ---- specs ---- */

static void expect_refusal(const char *csv, const char *spec, const char *field, const char *message)
{
    struct aid_result r;
    struct err e = {0};
    assert_int_equal(aid_train(&r, &(struct aid_run){.spec = spec, .csv = csv}, &e), ERR_INVALID);
    assert_string_equal(e.field, field);
    if (!strstr(e.message, message)) fail_msg("%s", e.message);
}

static void what_cannot_be_done_with_texts_is_said(void **state)
{
    static const char *const csv = "label,text,n\na,one two,1\nb,three,2\na,four,3\nb,five,4\n";
    (void)state;
    expect_refusal(csv, "{\"target\":\"label\"," STEP "," NETWORK "}", "spec.features",
                   "list the tokenised column alone");
    expect_refusal(csv,
                   "{\"target\":\"label\",\"features\":[\"n\"],\"preprocess\":[{\"op\":\"tokenise\","
                   "\"columns\":[\"n\"]}]}",
                   "spec.preprocess[0].columns[0]", "it holds no texts");
    expect_refusal(csv,
                   "{\"target\":\"label\",\"features\":[\"text\"],\"preprocess\":[{\"op\":\"one_hot\"},{"
                   "\"op\":\"tokenise\","
                   "\"columns\":[\"text\"]}]}",
                   "spec.preprocess[1].columns[0]", "it is one-hot already");
    expect_refusal(
        csv, "{\"target\":\"label\",\"features\":[\"text\"],\"family\":\"logistic_regression\"," STEP "}",
        "spec.family", "use the family mlp");
    expect_refusal(csv,
                   "{\"target\":\"label\",\"features\":[\"text\"]," STEP
                   ",\"architecture\":[{\"layer\":\"Dense\",\"units\":2}]}",
                   "spec.architecture[0]", "the first layer for texts is an Embedding");
    expect_refusal(
        csv,
        "{\"target\":\"label\",\"features\":[\"text\"]," STEP
        ",\"architecture\":[{\"layer\":\"Embedding\",\"input_dim\":59,\"output_dim\":2},{\"layer\":"
        "\"Flatten\"},{\"layer\":\"Dense\",\"units\":2}]}",
        "spec.architecture[0].input_dim", "60");
    expect_refusal(
        csv,
        "{\"target\":\"label\",\"features\":[\"text\"],\"preprocess\":[{\"op\":\"tokenise\",\"length\":2}]}",
        "spec.preprocess[0].length", "");
    expect_refusal(csv,
                   "{\"target\":\"label\",\"features\":[\"text\"],\"preprocess\":[{\"op\":\"tokenise\","
                   "\"mode\":\"line\"}]}",
                   "spec.preprocess[0].mode", "word or character");
}

static void a_dataset_whose_texts_were_never_counted_is_refused(void **state)
{
    struct schema *s = aid_csv("label,text\na,one two\nb,three\na,four\nb,five\n");
    cJSON *spec_json = aid_json(usual_spec);
    struct spec *spec = NULL;
    struct resolved *r = NULL;
    struct err e = {0};
    (void)state;
    assert_int_equal(s->columns[1].text_bytes, 20);
    assert_int_equal(spec_parse(&spec, spec_json, "spec", &e), 0);
    assert_int_equal(spec_resolve(&r, spec, s, NULL, &e), 0);
    assert_int_equal(r->layers[0].input_dim, 60);
    assert_int_equal(r->ids_below, 60);
    resolved_free(r);
    char *json = aid_schema_json(s), *counted = strstr(json, "\"text_bytes\":20,");
    assert_non_null(counted);
    memset(counted, ' ', strlen("\"text_bytes\":20,")); /* as it was written before there was such a number */
    cJSON *node = aid_json(json);
    schema_free(s);
    assert_int_equal(schema_from_json(&s, node, "", &e), 0);
    assert_int_equal(s->columns[1].text_bytes, -1);
    cJSON_Delete(node);
    mem_free(json);
    assert_int_equal(spec_resolve(&r, spec, s, NULL, &e), ERR_INVALID);
    assert_string_equal(e.field, "dataset");
    spec_free(spec);
    cJSON_Delete(spec_json);
    schema_free(s);
}

static void texts_count_in_the_memory_that_a_run_needs(void **state)
{
    struct schema *s = aid_csv("label,text\na,one two\nb,three\na,four\nb,five\n");
    cJSON *spec_json = aid_json(usual_spec);
    struct spec *spec = NULL;
    struct resolved *small = NULL, *large = NULL;
    struct err e = {0};
    (void)state;
    assert_int_equal(spec_parse(&spec, spec_json, "spec", &e), 0);
    assert_int_equal(spec_resolve(&small, spec, s, NULL, &e), 0);
    s->columns[1].text_bytes += 100000000;
    assert_int_equal(spec_resolve(&large, spec, s, NULL, &e), 0);
    assert_true(large->estimate.memory_bytes >= small->estimate.memory_bytes + 100000000);
    resolved_free(small);
    resolved_free(large);
    spec_free(spec);
    cJSON_Delete(spec_json);
    schema_free(s);
}

/* Free text as the only feature needs no step: it gets the usual one. The settled spec gives itself again. */
static void the_usual_step_is_written_out_in_the_settled_spec(void **state)
{
    struct buf csv = {0}, first = {0}, second = {0};
    struct json_writer w;
    struct err e = {0};
    (void)state;
    notes(&csv, 1200, 9);
    struct schema *s = aid_csv(csv.data);
    assert_int_equal(s->columns[1].type, COLUMN_TEXT);
    cJSON *json = aid_json("{\"target\":\"label\"," NETWORK "," TRAINING "}");
    for (int round = 0; round < 2; round++) {
        struct spec *spec = NULL;
        struct resolved *r = NULL;
        if (spec_parse(&spec, json, "spec", &e) || spec_resolve(&r, spec, s, NULL, &e))
            fail_msg("%s: %s", e.field, e.message);
        assert_int_equal(r->layers[0].input_dim, 8000);
        assert_int_equal(r->input.dim[0], 256);
        jw_init(&w, round ? &second : &first);
        resolved_to_json(r, s, &w);
        resolved_free(r);
        spec_free(spec);
        cJSON_Delete(json);
        json = aid_json(first.data);
    }
    assert_string_equal(first.data, second.data);
    assert_non_null(strstr(first.data, "\"op\":\"tokenise\",\"mode\":\"word\",\"lower\":true"));
    cJSON_Delete(json);
    schema_free(s);
    buf_dispose(&csv);
    buf_dispose(&first);
    buf_dispose(&second);
}

/* ---- artifacts ---- */

static void versions_that_were_tampered_with_are_refused(void **state)
{
    static const struct {
        const char *from, *to;
    } edits[] = {
        {"\\\"prize\\\"", "\\\"click\\\""},         /* a token twice */
        {"\\\"prize\\\"", "\\\"Prize\\\""},         /* none that the tokeniser gives */
        {"\\\"length\\\":12", "\\\"length\\\":13"}, /* rows that the network does not take */
        {"\\\"vocabulary\\\":60", "\\\"vocabulary\\\":10"},
        {"\\\"ids_below\\\":60", "\\\"ids_below\\\":10"},
        {"\\\"kind\\\":\\\"text\\\"", "\\\"kind\\\":\\\"test\\\""},
        {"\\\"datatype\\\":\\\"BYTES\\\"", "\\\"datatype\\\":\\\"INT32\\\""},
    };
    struct aid_result r;
    (void)state;
    train_notes(&r, usual_spec);
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        struct err e = {0};
        struct buf copy = {0};
        struct model *m = NULL;
        buf_append(&copy, r.artifact.data, r.artifact.len);
        char *from = memmem(copy.data, copy.len, "\"tenor.preprocess\"", 18);
        if (i == 6) from = memmem(copy.data, copy.len, "\"tenor.signature\"", 17);
        char *at = memmem(from, copy.len - (size_t)(from - copy.data), edits[i].from, strlen(edits[i].from));
        if (!at) fail_msg("no %s in the artifact", edits[i].from);
        assert_int_equal(strlen(edits[i].from), strlen(edits[i].to));
        memcpy(at, edits[i].to, strlen(edits[i].to));
        if (model_load(&m, copy.data, copy.len, 0, &e) != ERR_CORRUPT) fail_msg("%s was taken", edits[i].to);
        model_free(m);
        buf_dispose(&copy);
    }
    aid_result_dispose(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(notes_are_told_apart_by_their_words),
        cmocka_unit_test(a_text_has_the_same_bits_alone_and_in_company),
        cmocka_unit_test(what_is_no_text_is_refused_by_the_inputs_name),
        cmocka_unit_test(the_vocabulary_comes_from_the_training_part_alone),
        cmocka_unit_test(the_same_run_gives_the_same_version),
        cmocka_unit_test(characters_and_the_end_of_a_text_can_be_learnt_from),
        cmocka_unit_test(a_text_without_an_architecture_gets_one_that_learns),
        cmocka_unit_test(a_number_can_be_learnt_from_texts),
        cmocka_unit_test(what_cannot_be_done_with_texts_is_said),
        cmocka_unit_test(a_dataset_whose_texts_were_never_counted_is_refused),
        cmocka_unit_test(texts_count_in_the_memory_that_a_run_needs),
        cmocka_unit_test(the_usual_step_is_written_out_in_the_settled_spec),
        cmocka_unit_test(versions_that_were_tampered_with_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
