/* What the protocols have beside plain predictions: every datatype, TensorFlow Serving's examples, answers
 * that are written later, and what a client would prefer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/crypto.h"
#include "base/json.h"
#include "base/num.h"
#include "gateway/predict/async.h"
#include "gateway/predict/infer.h"
#include "gateway/routes/prefer.h"
#include "signature_fixture.h"

static const char classes_json[] =
    "{\"inputs\":[{\"name\":\"input\",\"datatype\":\"FP32\",\"shape\":[-1,2,2]}],"
    "\"outputs\":[{\"name\":\"probabilities\",\"datatype\":\"FP32\",\"shape\":[-1,3]},"
    "{\"name\":\"label\",\"datatype\":\"INT64\",\"shape\":[-1]}]}";
static const char named_json[] =
    "{\"inputs\":[{\"name\":\"input\",\"datatype\":\"FP32\",\"shape\":[-1,2,2]}],"
    "\"outputs\":[{\"name\":\"probabilities\",\"datatype\":\"FP32\",\"shape\":[-1,3],"
    "\"classes\":[\"-2\",\"1\",\"7\"]},{\"name\":\"label\",\"datatype\":\"INT64\",\"shape\":[-1]}]}";
static struct signature *classes, *named, *values; /* named: classes, with their names */

static int set_up(void **state)
{
    (void)state;
    crypto_init();
    classes = signature_fixture(classes_json);
    named = signature_fixture(named_json);
    values = signature_fixture(signature_fixture_table);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    signature_free(classes);
    signature_free(named);
    signature_free(values);
    return 0;
}

static void accept(struct infer *r, const struct infer_protocol *p, const struct signature *s,
                   const char *body)
{
    struct err e = {0};
    assert_true(infer_init(r, s));
    if (p->decode(r, body, strlen(body), SIZE_MAX, &e)) fail_msg("%s: %s", body, e.message);
}

static void refuse(const struct infer_protocol *p, const struct signature *s, const char *body,
                   const char *words)
{
    struct infer r;
    struct err e = {0};
    assert_true(infer_init(&r, s));
    if (p->decode(&r, body, strlen(body), SIZE_MAX, &e) != ERR_INVALID) fail_msg("accepted: %s", body);
    if (!strstr(e.message, words)) fail_msg("%s\n  \"%s\" does not say \"%s\"", body, e.message, words);
    infer_dispose(&r);
}

static const float *floats(const struct infer *r, size_t input)
{
    return (const float *)(const void *)r->inputs[input].owned.data;
}

/* ---- datatypes ---- */

static void a_number_of_every_datatype_is_read_up_to_its_ends(void **state)
{
    (void)state;
    static const struct {
        const char *datatype, *least, *greatest, *beyond;
    } cases[] = {
        {"BOOL", "false", "true", "2"},
        {"UINT8", "0", "255", "256"},
        {"UINT16", "0", "65535", "65536"},
        {"UINT32", "0", "4294967295", "4294967296"},
        {"UINT64", "0", "18446744073709551615", "-1"},
        {"INT8", "-128", "127", "-129"},
        {"INT16", "-32768", "32767", "32768"},
        {"INT32", "-2147483648", "2147483647", "2147483648"},
        {"INT64", "-9223372036854775808", "9223372036854775807", "1.5"},
        {"FP16", "-65504", "65504", "1e39"},
        {"FP32", "-3.4028234e38", "3.4028234e38", "3.5e38"},
        {"FP64", "-3.4028234e38", "3.4028234e38", "1e300"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char body[320];
        struct infer r;
        snprintf(
            body, sizeof body,
            "{\"inputs\":[{\"name\":\"input\",\"shape\":[1,2,2],\"datatype\":\"%s\",\"data\":[%s,%s,0,1]}]}",
            cases[i].datatype, cases[i].least, cases[i].greatest);
        accept(&r, &oip_protocol, classes, body);
        assert_int_equal(r.inputs[0].datatype, DATATYPE_FP32);
        assert_true(floats(&r, 0)[1] >= 1 && floats(&r, 0)[3] == 1);
        infer_dispose(&r);
        snprintf(
            body, sizeof body,
            "{\"inputs\":[{\"name\":\"input\",\"shape\":[1,2,2],\"datatype\":\"%s\",\"data\":[%s,0,0,1]}]}",
            cases[i].datatype, cases[i].beyond);
        refuse(&oip_protocol, classes, body,
               cases[i].datatype[0] == 'F' ? "does not fit" : "is not an integer");
    }
    refuse(&oip_protocol, classes,
           "{\"inputs\":[{\"name\":\"input\",\"shape\":[1,2,2],\"datatype\":\"BYTES\",\"data\":[\"a\"]}]}",
           "takes FP32, not BYTES");
    refuse(&oip_protocol, classes,
           "{\"inputs\":[{\"name\":\"input\",\"shape\":[1,2,2],\"datatype\":\"BF16\",\"data\":[1]}]}",
           "not a datatype of the protocol");
}

static void raw_halves_become_floats(void **state)
{
    (void)state;
    static const uint16_t halves[] = {0x3c00, 0xc000, 0x0001, 0x7bff}; /* 1, -2, 2^-24, 65504 */
    static const char head[] = "{\"inputs\":[{\"name\":\"input\",\"shape\":[1,2,2],\"datatype\":\"FP16\","
                               "\"parameters\":{\"binary_data_size\":8}}]}";
    char body[sizeof head + sizeof halves];
    struct infer r;
    struct err e = {0};
    size_t len = sizeof head - 1;
    memcpy(body, head, len);
    memcpy(body + len, halves, sizeof halves);
    assert_true(infer_init(&r, classes));
    if (oip_protocol.decode(&r, body, len + sizeof halves, len, &e)) fail_msg("%s", e.message);
    assert_int_equal(r.inputs[0].owned.len, 4 * sizeof(float));
    assert_true(floats(&r, 0)[0] == 1 && floats(&r, 0)[1] == -2 && floats(&r, 0)[2] == ldexpf(1, -24));
    assert_true(floats(&r, 0)[3] == 65504);
    infer_dispose(&r);
    assert_true(infer_init(&r, classes));
    assert_int_equal(oip_protocol.decode(&r, body, len + sizeof halves - 2, len, &e), ERR_INVALID);
    infer_dispose(&r);
}

/* Each half is exactly a float, they grow with their bits, and the signs mirror each other. */
static void every_half_is_its_own_float(void **state)
{
    (void)state;
    assert_true(num_from_half(0x3555) == 0.333251953125F && num_from_half(0x03ff) == 1023 * ldexpf(1, -24));
    assert_true(isinf(num_from_half(0x7c00)) && isnan(num_from_half(0x7e00)) &&
                signbit(num_from_half(0x8000)));
    for (uint16_t h = 0; h < 0x7c00; h++) {
        assert_true(num_from_half((uint16_t)(h + 1)) > num_from_half(h));
        assert_true(num_from_half((uint16_t)(h | 0x8000)) == -num_from_half(h));
    }
}

/* ---- examples ---- */

static void examples_name_features_and_share_a_context(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "{\"examples\":[{\"size\":1,\"colour\":\"red\"},{\"size\":[2.5],\"colour\":[\"blue\"]}]}",
        "{\"context\":{\"colour\":\"red\",\"size\":1},\"examples\":[{},{\"colour\":{\"b64\":\"Ymx1ZQ==\"},"
        "\"size\":2.5}]}",
        "{\"signature_name\":\"serving_default\",\"examples\":[{\"size\":1},{\"size\":2.5,\"colour\":"
        "\"blue\"}],"
        "\"context\":{\"colour\":\"red\"}}"};
    for (size_t i = 0; i < 3; i++) {
        struct infer r;
        accept(&r, &tfs_regress_protocol, values, bodies[i]);
        assert_int_equal(r.rows, 2);
        assert_true(floats(&r, 0)[0] == 1 && floats(&r, 0)[1] == 2.5F);
        assert_int_equal(r.inputs[1].owned.len, 15);
        assert_memory_equal(r.inputs[1].owned.data, "\3\0\0\0red\4\0\0\0blue", 15);
        infer_dispose(&r);
    }
}

static void an_example_s_list_may_be_flat(void **state)
{
    (void)state;
    struct infer r;
    accept(&r, &tfs_classify_protocol, classes,
           "{\"examples\":[{\"input\":[1,2,3,4]},{\"input\":[[5,6],[7,8]]}]}");
    for (int i = 0; i < 8; i++) assert_true(floats(&r, 0)[i] == (float)(i + 1));
    infer_dispose(&r);
}

static void wrong_examples_are_told_what_was_expected(void **state)
{
    (void)state;
    const struct infer_protocol *c = &tfs_classify_protocol, *g = &tfs_regress_protocol;
    refuse(c, values, "{\"examples\":[{\"size\":1,\"colour\":\"x\"}]}", "does not tell classes apart");
    refuse(g, classes, "{\"examples\":[{\"input\":[1,2,3,4]}]}", "does not predict one number");
    refuse(g, values, "{}", "examples: missing");
    refuse(g, values, "{\"examples\":[]}", "at least one example");
    refuse(g, values, "{\"examples\":{}}", "examples");
    refuse(g, values, "{\"examples\":[{\"size\":1}]}", "examples[0]: the input \"colour\" is missing");
    refuse(g, values, "{\"examples\":[{\"size\":1,\"size\":2,\"colour\":\"x\"}]}",
           "examples[0].size: stands there twice");
    refuse(g, values, "{\"examples\":[{\"size\":1,\"weight\":2}]}", "no input \"weight\"");
    refuse(g, values, "{\"examples\":[{\"size\":[1,2],\"colour\":\"x\"}]}", "2 values where 1 were expected");
    refuse(g, values, "{\"examples\":[{\"size\":\"1\",\"colour\":\"x\"}]}",
           "expected a number, found a string");
    refuse(g, values, "{\"examples\":[{}],\"context\":[1]}", "context");
    refuse(g, values, "{\"examples\":[{\"size\":1,\"colour\":\"x\"}],\"examples\":[]}", "stands there twice");
    refuse(g, values, "{\"instances\":[1]}", "unknown field");
    refuse(g, values, "{\"signature_name\":\"other\",\"examples\":[]}", "serving_default");
    refuse(c, classes, "{\"examples\":[{\"input\":[1,2,3]}]}", "3 values where 4 were expected");
}

/* Whoever sends little may not have much computed or kept. */
static void a_context_that_comes_to_more_than_any_request_is_refused(void **state)
{
    (void)state;
    enum { EXAMPLES = 40, COLOUR = 1024 * 1024 };
    struct buf body = {0};
    struct infer r;
    struct err e = {0};
    buf_str(&body, "{\"examples\":[");
    for (int i = 0; i < EXAMPLES; i++) buf_str(&body, i ? ",{}" : "{}");
    buf_str(&body, "],\"context\":{\"size\":1,\"colour\":\"");
    for (int i = 0; i < COLOUR; i++) buf_char(&body, 'x');
    buf_str(&body, "\"}}");
    assert_false(body.failed);
    assert_true(infer_init(&r, values));
    assert_int_equal(tfs_regress_protocol.decode(&r, body.data, body.len, SIZE_MAX, &e), ERR_TOO_LARGE);
    assert_string_equal(e.field, "context");
    assert_true(r.rows < EXAMPLES);
    infer_dispose(&r);
    buf_dispose(&body);
}

/* ---- answers ---- */

static const float probabilities[] = {0.25F, 0.5F, 0.25F, 0.125F, 0.125F, 0.75F};
static const int64_t labels[] = {1, 7};
static const struct message_tensor class_tensors[] = {
    {.dtype = MESSAGE_FP32,
     .ndim = 2,
     .dims = {2, 3},
     .data = probabilities,
     .data_len = sizeof probabilities},
    {.dtype = MESSAGE_INT64, .ndim = 1, .dims = {2}, .data = labels, .data_len = sizeof labels},
};

static void expect_answer(const struct infer_protocol *p, const struct signature *s, const char *body,
                          const struct message_tensor *tensors, const char *wanted)
{
    struct infer r;
    struct model_route route = {.model = "m", .version = 3};
    struct infer_answer a = {&route, tensors, s->n_outputs};
    struct buf out = {0};
    size_t json_len;
    accept(&r, p, s, body);
    p->encode(&r, &a, &out, &json_len);
    assert_int_equal(out.len, strlen(wanted));
    assert_memory_equal(out.data, wanted, out.len);
    buf_dispose(&out);
    infer_dispose(&r);
}

static const char two_examples[] = "{\"examples\":[{\"input\":[1,2,3,4]},{\"input\":[1,2,3,4]}]}";

static void every_class_is_answered_with_its_probability(void **state)
{
    (void)state;
    expect_answer(&tfs_classify_protocol, named, two_examples, class_tensors,
                  "{\"result\":[[[\"-2\",0.25],[\"1\",0.5],[\"7\",0.25]],"
                  "[[\"-2\",0.125],[\"1\",0.125],[\"7\",0.75]]]}");
}

static void names_of_classes_are_written_as_json(void **state)
{
    static const char text_labels[] = "\1\0\0\0a\1\0\0\0a";
    struct message_tensor tensors[] = {
        class_tensors[0],
        {.dtype = MESSAGE_BYTES, .ndim = 1, .dims = {2}, .data = text_labels, .data_len = 10}};
    struct signature *s = signature_fixture(
        "{\"inputs\":[{\"name\":\"input\",\"datatype\":\"FP32\",\"shape\":[-1,2,2]}],"
        "\"outputs\":[{\"name\":\"probabilities\",\"datatype\":\"FP32\",\"shape\":[-1,3],"
        "\"classes\":[\"a "
        "\\\"b\\\"\",\"\\u00e9\\n\",\"\"]},{\"name\":\"label\",\"datatype\":\"BYTES\",\"shape\":[-1]}]}");
    (void)state;
    expect_answer(&tfs_classify_protocol, s, two_examples, tensors,
                  "{\"result\":[[[\"a \\\"b\\\"\",0.25],[\"\xC3\xA9\\n\",0.5],[\"\",0.25]],"
                  "[[\"a \\\"b\\\"\",0.125],[\"\xC3\xA9\\n\",0.125],[\"\",0.75]]]}");
    signature_free(s);
}

/* Versions that were made before signatures named classes; and nothing is read beyond an answer of another
 * width than was promised. */
static void without_names_the_class_that_was_chosen_is_answered(void **state)
{
    struct message_tensor narrow[] = {class_tensors[0], class_tensors[1]};
    (void)state;
    expect_answer(&tfs_classify_protocol, classes, two_examples, class_tensors,
                  "{\"result\":[[[\"1\",0.5]],[[\"7\",0.75]]]}");
    narrow[0].dims[1] = 2;
    narrow[0].data_len = 4 * sizeof(float);
    expect_answer(&tfs_classify_protocol, named, two_examples, narrow,
                  "{\"result\":[[[\"1\",0.5]],[[\"7\",0.25]]]}");
}

/* Nor may whoever sends little have much written. */
static void names_that_come_to_more_than_an_answer_may_hold_are_refused(void **state)
{
    enum { NAME = 32 * 1024 - 16, FIT = 32 * 1024 * 1024 / (2 * NAME + 7) }; /* ["…","…"] */
    struct buf json = {0};
    (void)state;
    buf_str(&json,
            "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1]}],\"outputs\":[{\"name\":"
            "\"probabilities\",\"datatype\":\"FP32\",\"shape\":[-1,2],\"classes\":[\"");
    for (int i = 0; i < NAME; i++) buf_char(&json, 'a');
    buf_str(&json, "\",\"");
    for (int i = 0; i < NAME; i++) buf_char(&json, 'b');
    buf_str(&json, "\"]},{\"name\":\"label\",\"datatype\":\"BYTES\",\"shape\":[-1]}]}");
    struct signature *s = signature_fixture(json.data);
    for (int rows = FIT; rows <= FIT + 1; rows++) {
        struct infer r;
        struct err e = {0};
        buf_clear(&json);
        buf_str(&json, "{\"context\":{\"x\":1},\"examples\":[");
        for (int i = 0; i < rows; i++) buf_str(&json, i ? ",{}" : "{}");
        buf_str(&json, "]}");
        assert_true(infer_init(&r, s));
        int rc = tfs_classify_protocol.decode(&r, json.data, json.len, SIZE_MAX, &e);
        assert_int_equal(rc, rows == FIT ? 0 : ERR_TOO_LARGE);
        if (rc) assert_string_equal(e.field, "examples");
        infer_dispose(&r);
    }
    signature_free(s);
    buf_dispose(&json);
}

static void values_are_answered_as_a_list(void **state)
{
    (void)state;
    static const float answers[] = {1.5F, -2};
    static const struct message_tensor t = {
        .dtype = MESSAGE_FP32, .ndim = 1, .dims = {2}, .data = answers, .data_len = sizeof answers};
    expect_answer(&tfs_regress_protocol, values,
                  "{\"context\":{\"colour\":\"x\"},\"examples\":[{\"size\":1},{\"size\":2}]}", &t,
                  "{\"result\":[1.5,-2]}");
}

static void encode_reply(struct buf *out, const struct message_tensor *tensors, size_t n)
{
    struct message_tensor copy[2];
    memcpy(copy, tensors, n * sizeof *copy);
    struct message m = {.type = MESSAGE_PREDICT_REPLY, .tensors = copy, .tensors_len = n};
    message_encode(out, &m);
}

/* What is kept of the request and of the answer gives the answer that the request would have got. */
static void an_answer_written_later_is_the_one_of_now(void **state)
{
    (void)state;
    static const struct {
        const struct infer_protocol *p;
        const char *body;
    } cases[] = {
        {&oip_protocol, "{\"id\":\"\\u00e9 "
                        "\\\"x\\\"\",\"inputs\":[{\"name\":\"input\",\"shape\":[2,2,2],\"datatype\":\"FP32\","
                        "\"data\":[1,2,3,4,5,6,7,8]}]}"},
        {&oip_protocol,
         "{\"parameters\":{\"binary_data_output\":true},\"inputs\":[{\"name\":\"input\",\"shape\":[2,2,2],"
         "\"datatype\":\"INT8\",\"data\":[1,2,3,4,5,6,7,8]}],\"outputs\":[{\"name\":\"label\"},"
         "{\"name\":\"probabilities\",\"parameters\":{\"binary_data\":false}}]}"},
        {&tfs_protocol, "{\"instances\":[[[1,2],[3,4]],[[5,6],[7,8]]]}"},
        {&tfs_protocol, "{\"inputs\":[[[1,2],[3,4]],[[5,6],[7,8]]]}"},
        {&tfs_classify_protocol, two_examples},
    };
    struct model_route route = {.model = "m", .version = 3, .signature = named};
    struct infer_answer a = {&route, class_tensors, 2};
    struct buf reply = {0};
    encode_reply(&reply, class_tensors, 2);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct infer r;
        struct err e = {0};
        struct buf now = {0}, later = {0}, note = {0};
        size_t now_json, later_json;
        accept(&r, cases[i].p, named, cases[i].body);
        cases[i].p->encode(&r, &a, &now, &now_json);
        async_note(&note, cases[i].p, &r);
        if (async_encode(&later, &later_json, note.data, &route, reply.data, reply.len, &e))
            fail_msg("%s: %s", note.data, e.message);
        assert_int_equal(later.len, now.len);
        assert_memory_equal(later.data, now.data, now.len);
        assert_int_equal(later_json, now_json);
        buf_dispose(&now);
        buf_dispose(&later);
        buf_dispose(&note);
        infer_dispose(&r);
    }
    buf_dispose(&reply);
}

static void an_answer_that_is_not_the_request_s_is_refused(void **state)
{
    (void)state;
    static const char *const notes[] = {
        "{\"protocol\":\"oip\",\"rows\":3}",
        "{\"protocol\":\"soap\",\"rows\":2}",
        "{\"protocol\":\"oip\"}",
        "{\"protocol\":\"tfs-regress\",\"rows\":2}",
        "{\"protocol\":\"oip\",\"rows\":2,\"outputs\":[{\"name\":\"other\"}]}",
        "{\"protocol\":\"oip\",\"rows\":2,\"outputs\":[{\"name\":\"label\"},{\"name\":\"label\"},{\"name\":"
        "\"label\"}]}",
    };
    struct model_route route = {.model = "m", .version = 3, .signature = classes};
    struct model_route other = {.model = "m", .version = 3, .signature = values};
    struct buf reply = {0}, out = {0};
    struct err e;
    size_t json_len;
    encode_reply(&reply, class_tensors, 2);
    for (size_t i = 0; i < sizeof notes / sizeof *notes; i++)
        assert_int_equal(async_encode(&out, &json_len, notes[i], &route, reply.data, reply.len, &e),
                         ERR_CORRUPT);
    const char *good = "{\"protocol\":\"oip\",\"rows\":2}";
    assert_int_equal(async_encode(&out, &json_len, good, &other, reply.data, reply.len, &e), ERR_CORRUPT);
    assert_int_equal(async_encode(&out, &json_len, good, &route, reply.data, reply.len - 1, &e), ERR_CORRUPT);
    assert_int_equal(out.len, 0);
    assert_int_equal(async_encode(&out, &json_len, good, &route, reply.data, reply.len, &e), 0);
    buf_dispose(&out);
    buf_dispose(&reply);
}

/* ---- preferences ---- */

static void preferences_are_read_and_strange_ones_ignored(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool async;
        int64_t wait_s;
    } cases[] = {
        {"", false, 0},
        {"respond-async", true, 0},
        {"Respond-Async", true, 0},
        {"wait=10", false, 10},
        {"WAIT=\"10\" ", false, 10},
        {"wait=10;x=y, respond-async", true, 10},
        {" return=minimal ,respond-async;a=b ,wait=5, wait=7", true, 5},
        {"respond-async-not", false, 0},
        {"wait", false, 0},
        {"wait=", false, 0},
        {"wait=0", false, 0},
        {"wait=-1", false, 0},
        {"wait=soon, respond-async", true, 0},
        {"wait=99999999999999999999", false, 0},
        {"wait=\"", false, 0},
        {",,,;;;=", false, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct prefer p = {0};
        prefer_add(&p, cases[i].text);
        if (p.respond_async != cases[i].async || p.wait_s != cases[i].wait_s)
            fail_msg("\"%s\": async %d, wait %lld", cases[i].text, p.respond_async, (long long)p.wait_s);
    }
    struct prefer both = {0}; /* of two header lines */
    prefer_add(&both, "wait=3");
    prefer_add(&both, "wait=4, respond-async");
    assert_true(both.respond_async && both.wait_s == 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_number_of_every_datatype_is_read_up_to_its_ends),
        cmocka_unit_test(raw_halves_become_floats),
        cmocka_unit_test(every_half_is_its_own_float),
        cmocka_unit_test(examples_name_features_and_share_a_context),
        cmocka_unit_test(an_example_s_list_may_be_flat),
        cmocka_unit_test(wrong_examples_are_told_what_was_expected),
        cmocka_unit_test(a_context_that_comes_to_more_than_any_request_is_refused),
        cmocka_unit_test(every_class_is_answered_with_its_probability),
        cmocka_unit_test(names_of_classes_are_written_as_json),
        cmocka_unit_test(without_names_the_class_that_was_chosen_is_answered),
        cmocka_unit_test(names_that_come_to_more_than_an_answer_may_hold_are_refused),
        cmocka_unit_test(values_are_answered_as_a_list),
        cmocka_unit_test(an_answer_written_later_is_the_one_of_now),
        cmocka_unit_test(an_answer_that_is_not_the_request_s_is_refused),
        cmocka_unit_test(preferences_are_read_and_strange_ones_ignored),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
