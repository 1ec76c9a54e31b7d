/* Bodies of both predict protocols: what is read into tensors, what is refused and with which words, what is
 * written back. */
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
#include "tests/unit/gateway/decode_aid.h"

static struct signature *image, *table;

static int set_up(void **state)
{
    (void)state;
    crypto_init();
    image = signature_fixture(decode_image);
    table = signature_fixture(signature_fixture_table);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    signature_free(image);
    signature_free(table);
    return 0;
}

static void oip_reads_flat_and_nested_data_alike(void **state)
{
    (void)state;
    static const char *const bodies[] = {OIP_IMAGE("2", "[1,2,3,4,5,6,-1.5e0,8,9,10,11,12]"),
                                         OIP_IMAGE("2", "[[[1,2,3],[4,5,6]],[[-1.5,8,9],[10,11,12]]]"),
                                         " {\"inputs\" : [ "
                                         "{\"data\":[1,2,3,4,5,6,-1.5,8,9,10,11,12],\"datatype\":\"FP64\","
                                         "\"shape\":[2,2,3],\"name\":\"input\"} ] } "};
    for (size_t i = 0; i < 3; i++) {
        struct infer r;
        accept_body(&oip_protocol, image, bodies[i], &r);
        const float *v = input_floats(&r, 0, 12);
        assert_int_equal(r.rows, 2);
        assert_true(v[0] == 1 && v[5] == 6 && v[6] == -1.5F && v[11] == 12);
        infer_dispose(&r);
    }
}

static void oip_reads_columns_parameters_and_wanted_outputs(void **state)
{
    (void)state;
    struct infer r;
    accept_body(
        &oip_protocol, table,
        "{\"id\":\"a\\u00e9\",\"parameters\":{\"timeout\":250000,\"priority\":{\"x\":[1]}},\"inputs\":["
        "{\"name\":\"colour\",\"shape\":[2],\"datatype\":\"BYTES\",\"data\":[\"red\",null]},"
        "{\"name\":\"size\",\"shape\":[2],\"datatype\":\"INT8\",\"data\":[-128,null]}],\"outputs\":[{"
        "\"name\":\"prediction\"}]}",
        &r);
    assert_int_equal(r.timeout_us, 250000);
    assert_memory_equal(r.id.data, "a\xc3\xa9", 3);
    assert_true(input_floats(&r, 0, 2)[0] == -128 && isnan(input_floats(&r, 0, 2)[1]));
    assert_int_equal(r.inputs[1].owned.len, 11);
    assert_memory_equal(r.inputs[1].owned.data, "\3\0\0\0red\0\0\0\0", 11);
    infer_dispose(&r);
}

static void oip_refuses_and_names_the_place(void **state)
{
    (void)state;
    const struct infer_protocol *p = &oip_protocol;
    refuse_body(p, image, OIP_IMAGE("1", "[1,2,3,4,5]"), "inputs[0].data", "5 values where 6 were expected");
    refuse_body(p, image, OIP_IMAGE("1", "[1,2,3,4,5,6,7,8]"), "inputs[0].data",
                "8 values where 6 were expected");
    refuse_body(p, image, OIP_IMAGE("1", "[[[1,2,3],[4,5]]]"), "inputs[0].data[0][1]",
                "2 values where 3 were expected");
    refuse_body(p, image, OIP_IMAGE("2", "[[[1,2,3],[4,5,6]]]"), "inputs[0].data",
                "1 values where 2 were expected");
    refuse_body(p, image, OIP_IMAGE("1", "[1,2,\"x\",4,5,6]"), "inputs[0].data[2]",
                "expected a number, found a string");
    refuse_body(p, image, OIP_IMAGE("1", "[1,2,1e39,4,5,6]"), "inputs[0].data[2]", "does not fit");
    refuse_body(p, image, OIP_IMAGE("0", "[]"), "inputs[0].shape", "rows must be from 1");
    refuse_body(p, image, OIP_IMAGE("65537", "[]"), "inputs[0].shape", "rows must be from 1");
    refuse_body(p, image, OIP_IMAGE("1.5", "[]"), "inputs[0].shape", "whole number");
    refuse_body(p, image,
                "{\"inputs\":[{\"name\":\"input\",\"shape\":[1,6],\"datatype\":\"FP32\",\"data\":[1]}]}",
                "inputs[0].shape", "has shape [1,6] where [-1,2,3] was expected");
    refuse_body(p, image,
                "{\"inputs\":[{\"name\":\"inputs\",\"shape\":[1,2,3],\"datatype\":\"FP32\",\"data\":[1]}]}",
                "inputs[0].name", "no input \"inputs\"");
    refuse_body(p, image,
                "{\"inputs\":[{\"name\":\"input\",\"shape\":[1,2,3],\"datatype\":\"BYTES\",\"data\":[1]}]}",
                "inputs[0].datatype", "takes FP32, not BYTES");
    refuse_body(
        p, image,
        "{\"inputs\":[{\"name\":\"input\",\"shape\":[1,2,3],\"datatype\":\"UINT8\",\"data\":[1,2,3,4,5,"
        "256]}]}",
        "inputs[0].data[5]", "UINT8");
    refuse_body(p, image, "{\"inputs\":[{\"name\":\"input\",\"shape\":[1,2,3],\"datatype\":\"FP32\"}]}",
                "inputs[0].data", "missing");
    refuse_body(p, image, "{\"inputs\":[{\"shape\":[1,2,3],\"datatype\":\"FP32\",\"data\":[]}]}",
                "inputs[0].name", "missing");
    refuse_body(p, image, "{\"inputs\":[{\"name\":\"input\",\"shap\":[1,2,3]}]}", "inputs[0].shap",
                "unknown field");
    refuse_body(p, image, "{\"input\":[]}", "input", "unknown field");
    refuse_body(p, image, "{\"inputs\":[],\"inputs\":[]}", "inputs", "twice");
    refuse_body(p, image, "{\"inputs\":[]}", "inputs", "\"input\" is missing");
    refuse_body(p, image, "{}", "inputs", "missing");
    refuse_body(p, image, "", "", "the text ends too early");
    refuse_body(p, image, "[]", "", "must be an object");
    refuse_body(p, image, OIP_IMAGE("1", "[1,2,3,4,5,6]") "x", "", "something follows");
    refuse_body(p, table,
                "{\"inputs\":[{\"name\":\"size\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]},"
                "{\"name\":\"colour\",\"shape\":[2],\"datatype\":\"BYTES\",\"data\":[\"a\",\"b\"]}]}",
                "inputs[1].shape", "same number of rows");
    refuse_body(p, table,
                "{\"inputs\":[{\"name\":\"size\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]}]}",
                "inputs", "\"colour\" is missing");
    refuse_body(
        p, image,
        "{\"inputs\":[{\"name\":\"input\",\"shape\":[1,2,3],\"datatype\":\"FP32\",\"data\":[1,2,3,4,5,6]}]"
        ",\"outputs\":[{\"name\":\"x\"}]}",
        "outputs[0].name", "no output \"x\"");
}

static void oip_takes_raw_tensors_behind_the_json(void **state)
{
    (void)state;
    static const char json[] =
        "{\"inputs\":[{\"name\":\"colour\",\"shape\":[2],\"datatype\":\"BYTES\",\"parameters\":{\"binary_"
        "data_size\":9}},"
        "{\"name\":\"size\",\"shape\":[2],\"datatype\":\"UINT8\",\"parameters\":{\"binary_data_size\":2}}]}";
    char body[sizeof json + 16], *copy;
    struct infer r;
    struct err e;
    size_t json_len = sizeof json - 1;
    memcpy(body, json, json_len);
    memcpy(body + json_len, "\1\0\0\0a\0\0\0\0\5\6", 11);
    assert_int_equal(decode_body(&r, &oip_protocol, table, body, json_len + 11, json_len, &e, &copy), 0);
    assert_int_equal(r.inputs[0].datatype, DATATYPE_UINT8);
    assert_memory_equal(r.inputs[0].raw, "\5\6", 2);
    assert_int_equal(r.inputs[1].raw_len, 9);
    infer_dispose(&r);
    free(copy);
    /* One byte short, one byte over, texts that run over, a header longer than the body. */
    assert_int_equal(decode_body(&r, &oip_protocol, table, body, json_len + 10, json_len, &e, &copy),
                     ERR_INVALID);
    infer_dispose(&r);
    free(copy);
    assert_int_equal(decode_body(&r, &oip_protocol, table, body, json_len + 12, json_len, &e, &copy),
                     ERR_INVALID);
    infer_dispose(&r);
    free(copy);
    body[json_len] = 9;
    assert_int_equal(decode_body(&r, &oip_protocol, table, body, json_len + 11, json_len, &e, &copy),
                     ERR_INVALID);
    assert_string_equal(e.field, "inputs[0].parameters.binary_data_size");
    infer_dispose(&r);
    free(copy);
    assert_int_equal(decode_body(&r, &oip_protocol, table, body, json_len, json_len + 1, &e, &copy),
                     ERR_INVALID);
    infer_dispose(&r);
    free(copy);
}

static void tfs_reads_rows_and_columns_alike(void **state)
{
    (void)state;
    static const char *const images[] = {
        "{\"instances\":[[[1,2,3],[4,5,6]],[[7,8,9],[10,11,12]]]}",
        "{\"signature_name\":\"serving_default\",\"inputs\":[[[1,2,3],[4,5,6]],[[7,8,9],[10,11,12]]]}",
        "{\"instances\":[{\"input\":[[1,2,3],[4,5,6]]},{\"input\":[[7,8,9],[10,11,12]]}]}",
        "{\"inputs\":{\"input\":[[[1,2,3],[4,5,6]],[[7,8,9],[10,11,12]]]}}"};
    for (size_t i = 0; i < 4; i++) {
        struct infer r;
        accept_body(&tfs_protocol, image, images[i], &r);
        assert_int_equal(r.rows, 2);
        assert_true(input_floats(&r, 0, 12)[11] == 12);
        assert_int_equal(r.columns, i % 2);
        infer_dispose(&r);
    }
    static const char *const tables[] = {
        "{\"instances\":[{\"size\":1,\"colour\":\"red\"},{\"colour\":{\"b64\":\"Ymx1ZQ==\"},\"size\":2}]}",
        "{\"inputs\":{\"size\":[1,2],\"colour\":[\"red\",\"blue\"]}}"};
    for (size_t i = 0; i < 2; i++) {
        struct infer r;
        accept_body(&tfs_protocol, table, tables[i], &r);
        assert_int_equal(r.rows, 2);
        assert_true(input_floats(&r, 0, 2)[1] == 2);
        assert_memory_equal(r.inputs[1].owned.data, "\3\0\0\0red\4\0\0\0blue", 15);
        infer_dispose(&r);
    }
}

static void tfs_refuses_and_names_the_place(void **state)
{
    (void)state;
    const struct infer_protocol *p = &tfs_protocol;
    refuse_body(p, image, "{\"instances\":[[[1,2,3],[4,5,6]],[[7,8,9],[10,11]]]}", "instances[1][1]",
                "2 values where 3 were expected");
    refuse_body(p, image, "{\"instances\":[1,2]}", "instances[0]",
                "expected an array of 2 values, found a number");
    refuse_body(p, image, "{\"instances\":[]}", "instances", "at least one row");
    refuse_body(p, image, "{\"instances\":[[[1,2,3],[4,5,6]]],\"inputs\":[]}", "inputs", "only one of");
    refuse_body(p, image, "{}", "instances", "missing");
    refuse_body(p, image, "{\"rows\":[]}", "rows", "unknown field");
    refuse_body(p, image, "{\"signature_name\":\"other\",\"instances\":[]}", "signature_name",
                "serving_default");
    refuse_body(p, table, "{\"instances\":[{\"size\":1}]}", "instances[0]", "\"colour\" is missing");
    refuse_body(p, table, "{\"instances\":[{\"size\":1,\"colour\":\"a\",\"size\":2}]}", "instances[0].size",
                "twice");
    refuse_body(p, table, "{\"instances\":[{\"size\":1,\"colour\":\"a\",\"weight\":2}]}", "instances[0]",
                "no input \"weight\"");
    refuse_body(p, table, "{\"instances\":[3]}", "instances[0]", "must be an object");
    refuse_body(p, table, "{\"inputs\":{\"size\":[1,2],\"colour\":[\"red\"]}}", "inputs.colour",
                "1 rows where the inputs before it have 2");
    refuse_body(p, table, "{\"inputs\":{\"size\":[1,2]}}", "inputs", "\"colour\" is missing");
    refuse_body(p, table, "{\"inputs\":{\"size\":[true],\"colour\":[\"red\"]}}", "inputs.size[0]",
                "found a boolean");
    refuse_body(p, table, "{\"instances\":[{\"size\":1,\"colour\":{\"b64\":\"!\"}}]}", "instances[0].colour",
                "not base64");
    refuse_body(p, table, "{\"instances\":[{\"size\":1,\"colour\":7}]}", "instances[0].colour",
                "\"colour\" takes BYTES: expected a string, found a number");
    refuse_body(p, table, "{\"instances\":[{\"size\":1,\"colour\":\"\xFF\"}]}", "instances[0].colour",
                "\"colour\": malformed JSON: a string is not valid UTF-8");
}

static void broken_json_is_refused_wherever_it_breaks(void **state)
{
    (void)state;
    static const char body[] = "{\"id\":\"\\ud83d\\ude00\",\"parameters\":{\"a\":[{},{\"b\":[1,-2.5e3,null,"
                               "true,false,\"x\"]}]},\"inputs\":[{\"name\":\"input\","
                               "\"shape\":[1,2,3],\"datatype\":\"FP32\",\"data\":[[[1,2,3],[4,5,6]]]}]}";
    struct infer r;
    struct err e;
    char *copy;
    accept_body(&oip_protocol, image, body, &r);
    infer_dispose(&r);
    for (size_t len = 0; len < sizeof body - 1; len++) {
        assert_int_equal(decode_body(&r, &oip_protocol, image, body, len, SIZE_MAX, &e, &copy), ERR_INVALID);
        infer_dispose(&r);
        free(copy);
    }
    static const char *const bad[] = {"{\"id\":\"\\ud83d\"}",
                                      "{\"id\":\"\\udc00\"}",
                                      "{\"id\":\"\\q\"}",
                                      "{\"id\":\"\xff\"}",
                                      "{\"id\":\"a\nb\"}",
                                      "{\"parameters\":{\"a\":01}}",
                                      "{\"parameters\":{\"a\":+1}}",
                                      "{\"parameters\":{\"a\":[1,]}}",
                                      "{\"parameters\":{\"a\":{\"b\"}}}",
                                      "{\"parameters\":{,}}",
                                      "{\"parameters\":{\"a\":nul}}",
                                      "{'id':1}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (decode_body(&r, &oip_protocol, image, bad[i], strlen(bad[i]), SIZE_MAX, &e, &copy) != ERR_INVALID)
            fail_msg("accepted %s", bad[i]);
        infer_dispose(&r);
        free(copy);
    }
    char deep[200] = "{\"parameters\":{\"a\":";
    memset(deep + strlen(deep), '[', 100);
    assert_int_equal(decode_body(&r, &oip_protocol, image, deep, strlen(deep), SIZE_MAX, &e, &copy),
                     ERR_INVALID);
    assert_non_null(strstr(e.message, "deeper than 32"));
    infer_dispose(&r);
    free(copy);
}

/* ---- replies
 * ------------------------------------------------------------------------------------------------------ */

static const float probabilities[4] = {0.1F, 0.9F, 1, 1e-8F};
static const struct message_tensor image_outputs[2] = {
    {.dtype = MESSAGE_FP32, .ndim = 2, .dims = {2, 2}, .data = probabilities, .data_len = 16},
    {.dtype = MESSAGE_BYTES,
     .ndim = 1,
     .dims = {2},
     .data = "\3\0\0\0c\"t\3\0\0\0d\303\266",
     .data_len = 14}};

static void expect_reply(const struct infer_protocol *p, const char *request, const char *wanted,
                         size_t binary)
{
    struct model_route route = {.model = "m", .version = 7};
    struct infer_answer a = {&route, image_outputs, 2};
    struct infer r;
    struct buf out = {0};
    size_t json_len;
    accept_body(p, image, request, &r);
    p->encode(&r, &a, &out, &json_len);
    assert_int_equal(out.len - binary, strlen(wanted));
    assert_memory_equal(out.data, wanted, strlen(wanted));
    assert_int_equal(json_len, binary ? strlen(wanted) : 0);
    if (binary) assert_memory_equal(out.data + json_len, image_outputs[0].data, 16);
    buf_dispose(&out);
    infer_dispose(&r);
}

static void replies_have_their_protocols_shape(void **state)
{
    (void)state;
#define INPUTS                                                                                               \
    "\"inputs\":[{\"name\":\"input\",\"shape\":[2,2,3],\"datatype\":\"FP32\",\"data\":[1,2,3,4,5,6,7,8,9,"   \
    "10,11,12]}]"
    expect_reply(
        &oip_protocol, "{\"id\":\"x\"," INPUTS "}",
        "{\"model_name\":\"m\",\"model_version\":\"7\",\"id\":\"x\",\"outputs\":["
        "{\"name\":\"probabilities\",\"datatype\":\"FP32\",\"shape\":[2,2],\"data\":[0.1,0.9,1,1e-8]},"
        "{\"name\":\"label\",\"datatype\":\"BYTES\",\"shape\":[2],\"data\":[\"c\\\"t\",\"d\303\266\"]}]}",
        0);
    expect_reply(
        &oip_protocol, "{" INPUTS ",\"outputs\":[{\"name\":\"label\"}]}",
        "{\"model_name\":\"m\",\"model_version\":\"7\",\"outputs\":["
        "{\"name\":\"label\",\"datatype\":\"BYTES\",\"shape\":[2],\"data\":[\"c\\\"t\",\"d\303\266\"]}]}",
        0);
    expect_reply(&oip_protocol,
                 "{" INPUTS
                 ",\"outputs\":[{\"name\":\"probabilities\",\"parameters\":{\"binary_data\":true}}]}",
                 "{\"model_name\":\"m\",\"model_version\":\"7\",\"outputs\":["
                 "{\"name\":\"probabilities\",\"datatype\":\"FP32\",\"shape\":[2,2],\"parameters\":{\"binary_"
                 "data_size\":16}}]}",
                 16);
    expect_reply(&oip_protocol, "{\"parameters\":{\"binary_data_output\":true}," INPUTS "}",
                 "{\"model_name\":\"m\",\"model_version\":\"7\",\"outputs\":["
                 "{\"name\":\"probabilities\",\"datatype\":\"FP32\",\"shape\":[2,2],\"parameters\":{\"binary_"
                 "data_size\":16}},"
                 "{\"name\":\"label\",\"datatype\":\"BYTES\",\"shape\":[2],\"parameters\":{\"binary_data_"
                 "size\":14}}]}",
                 30);
    expect_reply(&tfs_protocol, "{\"instances\":[[[1,2,3],[4,5,6]],[[7,8,9],[10,11,12]]]}",
                 "{\"predictions\":[{\"probabilities\":[0.1,0.9],\"label\":\"c\\\"t\"},{\"probabilities\":[1,"
                 "1e-8],\"label\":\"d\303\266\"}]}",
                 0);
    expect_reply(
        &tfs_protocol, "{\"inputs\":[[[1,2,3],[4,5,6]],[[7,8,9],[10,11,12]]]}",
        "{\"outputs\":{\"probabilities\":[[0.1,0.9],[1,1e-8]],\"label\":[\"c\\\"t\",\"d\303\266\"]}}", 0);
}

static void a_lone_output_has_no_name_in_tensorflow_servings_reply(void **state)
{
    (void)state;
    static const float values[2] = {1.5F, -2};
    const struct message_tensor out = {
        .dtype = MESSAGE_FP32, .ndim = 1, .dims = {2}, .data = values, .data_len = 8};
    struct infer_answer a = {NULL, &out, 1};
    struct infer r;
    struct buf text = {0};
    size_t json_len;
    accept_body(&tfs_protocol, table,
                "{\"instances\":[{\"size\":1,\"colour\":\"a\"},{\"size\":1,\"colour\":\"a\"}]}", &r);
    tfs_protocol.encode(&r, &a, &text, &json_len);
    assert_string_equal(text.data, "{\"predictions\":[1.5,-2]}");
    buf_dispose(&text);
    infer_dispose(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(oip_reads_flat_and_nested_data_alike),
        cmocka_unit_test(oip_reads_columns_parameters_and_wanted_outputs),
        cmocka_unit_test(oip_refuses_and_names_the_place),
        cmocka_unit_test(oip_takes_raw_tensors_behind_the_json),
        cmocka_unit_test(tfs_reads_rows_and_columns_alike),
        cmocka_unit_test(tfs_refuses_and_names_the_place),
        cmocka_unit_test(broken_json_is_refused_wherever_it_breaks),
        cmocka_unit_test(replies_have_their_protocols_shape),
        cmocka_unit_test(a_lone_output_has_no_name_in_tensorflow_servings_reply),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
