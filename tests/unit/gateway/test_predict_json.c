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
#include "base/json.h"
#include "gateway/predict/infer.h"
#include "gateway/predict/json_reader.h"
#include "signature_fixture.h"

static const char image_json[] =
    "{\"inputs\":[{\"name\":\"input\",\"datatype\":\"FP32\",\"shape\":[-1,2,3]}],"
    "\"outputs\":[{\"name\":\"probabilities\",\"datatype\":\"FP32\",\"shape\":[-1,2]},"
    "{\"name\":\"label\",\"datatype\":\"BYTES\",\"shape\":[-1]}]}";

static const char wide_json[] =
    "{\"inputs\":[{\"name\":\"input\",\"datatype\":\"FP32\",\"shape\":[-1,40]}],"
    "\"outputs\":[{\"name\":\"prediction\",\"datatype\":\"FP32\",\"shape\":[-1]}]}";

static struct signature *image, *table, *wide;

static int set_up(void **state)
{
    (void)state;
    crypto_init();
    image = signature_fixture(image_json);
    wide = signature_fixture(wide_json);
    table = signature_fixture(signature_fixture_table);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    signature_free(image);
    signature_free(wide);
    signature_free(table);
    return 0;
}

/* Decodes from memory of exactly that size, so that a sanitizer sees a read beyond it. */
static int decode(struct infer *r, const struct infer_protocol *p, const struct signature *s,
                  const char *body, size_t len, size_t json_len, struct err *e, char **copy)
{
    *copy = malloc(len ? len : 1);
    memcpy(*copy, body, len);
    assert_true(infer_init(r, s));
    return p->decode(r, *copy, len, json_len, e);
}

static void accept(const struct infer_protocol *p, const struct signature *s, const char *body,
                   struct infer *r)
{
    struct err e = {0};
    char *copy;
    if (decode(r, p, s, body, strlen(body), SIZE_MAX, &e, &copy)) fail_msg("%s: %s", body, e.message);
    free(copy); /* nothing points into JSON */
}

static void refuse(const struct infer_protocol *p, const struct signature *s, const char *body,
                   const char *field, const char *words)
{
    struct infer r;
    struct err e = {0};
    char *copy;
    if (decode(&r, p, s, body, strlen(body), SIZE_MAX, &e, &copy) != ERR_INVALID)
        fail_msg("accepted: %s", body);
    if (strcmp(e.field, field) != 0)
        fail_msg("%s\n  field \"%s\" where \"%s\" was expected: %s", body, e.field, field, e.message);
    if (!strstr(e.message, words)) fail_msg("%s\n  \"%s\" does not say \"%s\"", body, e.message, words);
    infer_dispose(&r);
    free(copy);
}

static const float *floats(const struct infer *r, size_t input, size_t n)
{
    assert_int_equal(r->inputs[input].owned.len, n * sizeof(float));
    return (const float *)(const void *)r->inputs[input].owned.data;
}

#define OIP_IMAGE(rows, data)                                                                                \
    "{\"inputs\":[{\"name\":\"input\",\"shape\":[" rows ",2,3],\"datatype\":\"FP32\",\"data\":" data "}]}"

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
        accept(&oip_protocol, image, bodies[i], &r);
        const float *v = floats(&r, 0, 12);
        assert_int_equal(r.rows, 2);
        assert_true(v[0] == 1 && v[5] == 6 && v[6] == -1.5F && v[11] == 12);
        infer_dispose(&r);
    }
}

static void oip_reads_columns_parameters_and_wanted_outputs(void **state)
{
    (void)state;
    struct infer r;
    accept(&oip_protocol, table,
           "{\"id\":\"a\\u00e9\",\"parameters\":{\"timeout\":250000,\"priority\":{\"x\":[1]}},\"inputs\":["
           "{\"name\":\"colour\",\"shape\":[2],\"datatype\":\"BYTES\",\"data\":[\"red\",null]},"
           "{\"name\":\"size\",\"shape\":[2],\"datatype\":\"INT8\",\"data\":[-128,null]}],\"outputs\":[{"
           "\"name\":\"prediction\"}]}",
           &r);
    assert_int_equal(r.timeout_us, 250000);
    assert_memory_equal(r.id.data, "a\xc3\xa9", 3);
    assert_true(floats(&r, 0, 2)[0] == -128 && isnan(floats(&r, 0, 2)[1]));
    assert_int_equal(r.inputs[1].owned.len, 11);
    assert_memory_equal(r.inputs[1].owned.data, "\3\0\0\0red\0\0\0\0", 11);
    infer_dispose(&r);
}

static void oip_refuses_and_names_the_place(void **state)
{
    (void)state;
    const struct infer_protocol *p = &oip_protocol;
    refuse(p, image, OIP_IMAGE("1", "[1,2,3,4,5]"), "inputs[0].data", "5 values where 6 were expected");
    refuse(p, image, OIP_IMAGE("1", "[1,2,3,4,5,6,7,8]"), "inputs[0].data", "8 values where 6 were expected");
    refuse(p, image, OIP_IMAGE("1", "[[[1,2,3],[4,5]]]"), "inputs[0].data[0][1]",
           "2 values where 3 were expected");
    refuse(p, image, OIP_IMAGE("2", "[[[1,2,3],[4,5,6]]]"), "inputs[0].data",
           "1 values where 2 were expected");
    refuse(p, image, OIP_IMAGE("1", "[1,2,\"x\",4,5,6]"), "inputs[0].data[2]",
           "expected a number, found a string");
    refuse(p, image, OIP_IMAGE("1", "[1,2,1e39,4,5,6]"), "inputs[0].data[2]", "does not fit");
    refuse(p, image, OIP_IMAGE("0", "[]"), "inputs[0].shape", "rows must be from 1");
    refuse(p, image, OIP_IMAGE("65537", "[]"), "inputs[0].shape", "rows must be from 1");
    refuse(p, image, OIP_IMAGE("1.5", "[]"), "inputs[0].shape", "whole number");
    refuse(p, image, "{\"inputs\":[{\"name\":\"input\",\"shape\":[1,6],\"datatype\":\"FP32\",\"data\":[1]}]}",
           "inputs[0].shape", "has shape [1,6] where [-1,2,3] was expected");
    refuse(p, image,
           "{\"inputs\":[{\"name\":\"inputs\",\"shape\":[1,2,3],\"datatype\":\"FP32\",\"data\":[1]}]}",
           "inputs[0].name", "no input \"inputs\"");
    refuse(p, image,
           "{\"inputs\":[{\"name\":\"input\",\"shape\":[1,2,3],\"datatype\":\"BYTES\",\"data\":[1]}]}",
           "inputs[0].datatype", "takes FP32, not BYTES");
    refuse(p, image,
           "{\"inputs\":[{\"name\":\"input\",\"shape\":[1,2,3],\"datatype\":\"UINT8\",\"data\":[1,2,3,4,5,"
           "256]}]}",
           "inputs[0].data[5]", "UINT8");
    refuse(p, image, "{\"inputs\":[{\"name\":\"input\",\"shape\":[1,2,3],\"datatype\":\"FP32\"}]}",
           "inputs[0].data", "missing");
    refuse(p, image, "{\"inputs\":[{\"shape\":[1,2,3],\"datatype\":\"FP32\",\"data\":[]}]}", "inputs[0].name",
           "missing");
    refuse(p, image, "{\"inputs\":[{\"name\":\"input\",\"shap\":[1,2,3]}]}", "inputs[0].shap",
           "unknown field");
    refuse(p, image, "{\"input\":[]}", "input", "unknown field");
    refuse(p, image, "{\"inputs\":[],\"inputs\":[]}", "inputs", "twice");
    refuse(p, image, "{\"inputs\":[]}", "inputs", "\"input\" is missing");
    refuse(p, image, "{}", "inputs", "missing");
    refuse(p, image, "", "", "the text ends too early");
    refuse(p, image, "[]", "", "must be an object");
    refuse(p, image, OIP_IMAGE("1", "[1,2,3,4,5,6]") "x", "", "something follows");
    refuse(p, table,
           "{\"inputs\":[{\"name\":\"size\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]},"
           "{\"name\":\"colour\",\"shape\":[2],\"datatype\":\"BYTES\",\"data\":[\"a\",\"b\"]}]}",
           "inputs[1].shape", "same number of rows");
    refuse(p, table, "{\"inputs\":[{\"name\":\"size\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]}]}",
           "inputs", "\"colour\" is missing");
    refuse(p, image,
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
    assert_int_equal(decode(&r, &oip_protocol, table, body, json_len + 11, json_len, &e, &copy), 0);
    assert_int_equal(r.inputs[0].datatype, DATATYPE_UINT8);
    assert_memory_equal(r.inputs[0].raw, "\5\6", 2);
    assert_int_equal(r.inputs[1].raw_len, 9);
    infer_dispose(&r);
    free(copy);
    /* One byte short, one byte over, texts that run over, a header longer than the body. */
    assert_int_equal(decode(&r, &oip_protocol, table, body, json_len + 10, json_len, &e, &copy), ERR_INVALID);
    infer_dispose(&r);
    free(copy);
    assert_int_equal(decode(&r, &oip_protocol, table, body, json_len + 12, json_len, &e, &copy), ERR_INVALID);
    infer_dispose(&r);
    free(copy);
    body[json_len] = 9;
    assert_int_equal(decode(&r, &oip_protocol, table, body, json_len + 11, json_len, &e, &copy), ERR_INVALID);
    assert_string_equal(e.field, "inputs[0].parameters.binary_data_size");
    infer_dispose(&r);
    free(copy);
    assert_int_equal(decode(&r, &oip_protocol, table, body, json_len, json_len + 1, &e, &copy), ERR_INVALID);
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
        accept(&tfs_protocol, image, images[i], &r);
        assert_int_equal(r.rows, 2);
        assert_true(floats(&r, 0, 12)[11] == 12);
        assert_int_equal(r.columns, i % 2);
        infer_dispose(&r);
    }
    static const char *const tables[] = {
        "{\"instances\":[{\"size\":1,\"colour\":\"red\"},{\"colour\":{\"b64\":\"Ymx1ZQ==\"},\"size\":2}]}",
        "{\"inputs\":{\"size\":[1,2],\"colour\":[\"red\",\"blue\"]}}"};
    for (size_t i = 0; i < 2; i++) {
        struct infer r;
        accept(&tfs_protocol, table, tables[i], &r);
        assert_int_equal(r.rows, 2);
        assert_true(floats(&r, 0, 2)[1] == 2);
        assert_memory_equal(r.inputs[1].owned.data, "\3\0\0\0red\4\0\0\0blue", 15);
        infer_dispose(&r);
    }
}

static void tfs_refuses_and_names_the_place(void **state)
{
    (void)state;
    const struct infer_protocol *p = &tfs_protocol;
    refuse(p, image, "{\"instances\":[[[1,2,3],[4,5,6]],[[7,8,9],[10,11]]]}", "instances[1][1]",
           "2 values where 3 were expected");
    refuse(p, image, "{\"instances\":[1,2]}", "instances[0]",
           "expected an array of 2 values, found a number");
    refuse(p, image, "{\"instances\":[]}", "instances", "at least one row");
    refuse(p, image, "{\"instances\":[[[1,2,3],[4,5,6]]],\"inputs\":[]}", "inputs", "only one of");
    refuse(p, image, "{}", "instances", "missing");
    refuse(p, image, "{\"rows\":[]}", "rows", "unknown field");
    refuse(p, image, "{\"signature_name\":\"other\",\"instances\":[]}", "signature_name", "serving_default");
    refuse(p, table, "{\"instances\":[{\"size\":1}]}", "instances[0]", "\"colour\" is missing");
    refuse(p, table, "{\"instances\":[{\"size\":1,\"colour\":\"a\",\"size\":2}]}", "instances[0].size",
           "twice");
    refuse(p, table, "{\"instances\":[{\"size\":1,\"colour\":\"a\",\"weight\":2}]}", "instances[0]",
           "no input \"weight\"");
    refuse(p, table, "{\"instances\":[3]}", "instances[0]", "must be an object");
    refuse(p, table, "{\"inputs\":{\"size\":[1,2],\"colour\":[\"red\"]}}", "inputs.colour",
           "1 rows where the inputs before it have 2");
    refuse(p, table, "{\"inputs\":{\"size\":[1,2]}}", "inputs", "\"colour\" is missing");
    refuse(p, table, "{\"inputs\":{\"size\":[true],\"colour\":[\"red\"]}}", "inputs.size[0]",
           "found a boolean");
    refuse(p, table, "{\"instances\":[{\"size\":1,\"colour\":{\"b64\":\"!\"}}]}", "instances[0].colour",
           "not base64");
    refuse(p, table, "{\"instances\":[{\"size\":1,\"colour\":7}]}", "instances[0].colour",
           "\"colour\" takes BYTES: expected a string, found a number");
    refuse(p, table, "{\"instances\":[{\"size\":1,\"colour\":\"\xFF\"}]}", "instances[0].colour",
           "\"colour\": malformed JSON: a string is not valid UTF-8");
}

/* What stands in a JSON text as one of six numbers is the float that strtod and one rounding more make of it.
 */
static void expect_number(const char *text)
{
    char body[512];
    struct infer r;
    for (int place = 0; place < 6; place++) {
        const char *at[6] = {"1", "2", "3", "4", "5", "6"};
        at[place] = text;
        snprintf(body, sizeof body, OIP_IMAGE("1", "[%s, %s,%s,%s,%s,%s]"), at[0], at[1], at[2], at[3], at[4],
                 at[5]);
        accept(&oip_protocol, image, body, &r);
        const float *v = floats(&r, 0, 6);
        float wanted = (float)strtod(text, NULL);
        if (memcmp(&v[place], &wanted, sizeof wanted) != 0)
            fail_msg("%s was read as %.9g", text, (double)v[place]);
        assert_true(v[place == 5 ? 0 : 5] == (place == 5 ? 1 : 6));
        infer_dispose(&r);
    }
}

static void numbers_are_read_as_strtod_reads_them_in_whatever_form(void **state)
{
    (void)state;
    static const char *const given[] = {"0",
                                        "-0",
                                        "0.0",
                                        "-0.0",
                                        "7",
                                        "-7.25",
                                        "0.1",
                                        "0.5333",
                                        "16777217",
                                        "999999999999999",
                                        "9999999999999999",
                                        "123456789012345.6",
                                        "0.000000000000001",
                                        "0.0000000000000001",
                                        "0.53333333333333333",
                                        "1e0",
                                        "1E+2",
                                        "-1.5e-3",
                                        "3.4028235e38",
                                        "3.4028235677973362e38",
                                        "1.17549435e-38",
                                        "1e-45",
                                        "1e-60",
                                        "123456789012345678901234567890",
                                        "0.30000001192092896",
                                        "5 ",
                                        "5.5\t"};
    char text[64];
    for (size_t i = 0; i < sizeof given / sizeof *given; i++) expect_number(given[i]);
    srandom(3);
    for (int i = 0; i < 3000; i++) {
        double v = (double)(random() - random()) / (double)(1 + random() % 100000);
        snprintf(text, sizeof text, i % 3 == 0 ? "%.17g" : i % 3 == 1 ? "%.4f" : "%.9e", v);
        expect_number(text);
    }
}

static void what_is_no_number_is_refused_at_its_place(void **state)
{
    (void)state;
    static const char *const given[] = {"01",  "-",   "1.", ".5",  "+1",       "1..2", "1.2.3",
                                        "0x1", "--1", "1e", "NaN", "Infinity", "1 2",  ""};
    static const char *const too_large[] = {"3.4028235677973366e38", "-1e39", "1e999"};
    char body[512];
    for (size_t i = 0; i < sizeof given / sizeof *given; i++) {
        struct infer r;
        struct err e = {0};
        char *copy;
        snprintf(body, sizeof body, OIP_IMAGE("1", "[1,2,%s,4,5,6]"), given[i]);
        if (decode(&r, &oip_protocol, image, body, strlen(body), SIZE_MAX, &e, &copy) != ERR_INVALID)
            fail_msg("accepted: %s", body);
        infer_dispose(&r);
        free(copy);
    }
    for (size_t i = 0; i < sizeof too_large / sizeof *too_large; i++) {
        snprintf(body, sizeof body, OIP_IMAGE("1", "[1,2,%s,4,5,6]"), too_large[i]);
        refuse(&oip_protocol, image, body, "inputs[0].data[2]", "does not fit into FP32");
    }
    refuse(&oip_protocol, image, OIP_IMAGE("1", "[1,2,3,4,5,6,7]"), "inputs[0].data",
           "7 values where 6 were expected");
    refuse(&oip_protocol, image, OIP_IMAGE("1", "[1,2,3,4,5]"), "inputs[0].data",
           "5 values where 6 were expected");
    refuse(&oip_protocol, image, OIP_IMAGE("1", "[1,2,3,4,5,\"x\"]"), "inputs[0].data[5]", "found a string");
    refuse(&oip_protocol, image, OIP_IMAGE("1", "[[[1,2,3],[4,5,6,7]]]"), "inputs[0].data[0][1]",
           "4 values where 3 were expected");
}

/* ---- rows of 40: long enough to be read many numbers at a time */

enum { WIDE = 40, WIDE_ROWS = 8 };

/* A body of 8 rows, nested or flat, whose numbers are i / 8 (whole ones when the datatype has no others),
 * with `element` in place of one of them (at < 0: none). */
static const char *wide_body(const char *datatype, bool nested, const char *separator, int at,
                             const char *element)
{
    static char body[32768];
    char *p =
        body + sprintf(body,
                       "{\"inputs\":[{\"name\":\"input\",\"shape\":[8,40],\"datatype\":\"%s\",\"data\":[",
                       datatype);
    bool whole = datatype[0] != 'F';
    for (int i = 0; i < WIDE * WIDE_ROWS; i++) {
        if (i) p += sprintf(p, "%s", i % WIDE ? separator : nested ? "]," : ",");
        if (nested && i % WIDE == 0) *p++ = '[';
        if (i == at)
            p += sprintf(p, "%s", element);
        else
            p += whole ? sprintf(p, "%d", i % 100) : sprintf(p, "%.*f", i % 4, i * 0.125);
    }
    sprintf(p, "%s]}]}", nested ? "]" : "");
    return body;
}

static void long_arrays_are_read_alike_in_every_layout(void **state)
{
    (void)state;
    static const char *const datatypes[] = {"FP32", "FP64", "UINT8", "INT8", "INT64"};
    static const char *const separators[] = {",", ", ", " ,", ",\n        ", "\t,\r\n"};
    static const struct {
        const char *text;
        float value;
    } elements[] = {
        {"null", NAN}, {"7", 7}, {"7e0", 7}, {"7.000000000000000000000", 7}, {"70000000000000000000e-19", 7}};
    for (size_t i = 0; i < 5 * 5 * 5 * 2; i++) {
        const char *datatype = datatypes[i % 5];
        size_t element = i / 5 % 5;
        int at = (int)(i * 37 % (WIDE * WIDE_ROWS));
        struct infer r;
        if (element == 0 && datatype[0] != 'F' && i % 2) continue;
        accept(&oip_protocol, wide,
               wide_body(datatype, i / 125, separators[i / 25 % 5], at, elements[element].text), &r);
        const float *v = floats(&r, 0, WIDE * WIDE_ROWS);
        for (int k = 0; k < WIDE * WIDE_ROWS; k++) {
            char text[32];
            snprintf(text, sizeof text, "%.*f", k % 4, k * 0.125);
            float want = k == at              ? elements[element].value
                         : datatype[0] != 'F' ? (float)(k % 100)
                                              : strtof(text, NULL);
            if (!(v[k] == want || (isnan(v[k]) && isnan(want))))
                fail_msg("[%d] is %.9g, not %.9g", k, (double)v[k], (double)want);
        }
        infer_dispose(&r);
    }
}

static void what_is_wrong_in_a_long_array_is_named_by_its_place(void **state)
{
    (void)state;
    static const struct {
        const char *datatype, *element, *words;
    } wrong[] = {{"FP32", "\"x\"", "expected a number, found a string"},
                 {"FP32", "-3.5e38", "does not fit into FP32"},
                 {"FP64", "1e999", "does not fit into FP32"},
                 {"FP32", "true", "found a boolean"},
                 {"FP32", "{}", "found an object"},
                 {"UINT8", "256", "256 is not an integer from 0 to 255"},
                 {"UINT8", "-1", "-1 is not an integer"},
                 {"UINT8", "0.5", "0.5 is not an integer"},
                 {"INT32", "2147483648", "2147483648 is not an integer"},
                 {"INT64", "10000000000000000000", "is not an integer"},
                 {"BOOL", "2", "2 is not an integer from 0 to 1"}};
    static const int places[] = {0, 1, 17, 39, 137, 319};
    char field[64];
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        for (size_t k = 0; k < 6; k++) {
            int at = places[k];
            bool first_wrong = strcmp(wrong[i].datatype, "BOOL") == 0; /* the other numbers are none of its */
            if (first_wrong && at > 1) continue;
            snprintf(field, sizeof field, "inputs[0].data[%d]", at);
            refuse(&oip_protocol, wide, wide_body(wrong[i].datatype, false, ",", at, wrong[i].element), field,
                   wrong[i].words);
            snprintf(field, sizeof field, "inputs[0].data[%d][%d]", at / WIDE, at % WIDE);
            refuse(&oip_protocol, wide, wide_body(wrong[i].datatype, true, ", ", at, wrong[i].element), field,
                   wrong[i].words);
        }
    refuse(&oip_protocol, wide, wide_body("FP32", true, ",", 137, "1,2"), "inputs[0].data[3]",
           "41 values where 40 were expected");
    refuse(&oip_protocol, wide, wide_body("FP32", false, ",", 319, "1,2"), "inputs[0].data",
           "321 values where 320 were expected");
    refuse(&oip_protocol, wide, wide_body("FP32", true, ",", 137, "1],[2"), "inputs[0].data[3]",
           "18 values where 40 were expected");
    refuse(&oip_protocol, wide, wide_body("FP32", true, ",", 137, "01"), "",
           "a comma or a closing bracket is missing at byte");
    refuse(&oip_protocol, wide, wide_body("FP32", true, ",", 137, ""), "inputs[0].data[3][17]",
           "expected a number");
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
    accept(&oip_protocol, image, body, &r);
    infer_dispose(&r);
    for (size_t len = 0; len < sizeof body - 1; len++) {
        assert_int_equal(decode(&r, &oip_protocol, image, body, len, SIZE_MAX, &e, &copy), ERR_INVALID);
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
        if (decode(&r, &oip_protocol, image, bad[i], strlen(bad[i]), SIZE_MAX, &e, &copy) != ERR_INVALID)
            fail_msg("accepted %s", bad[i]);
        infer_dispose(&r);
        free(copy);
    }
    char deep[200] = "{\"parameters\":{\"a\":";
    memset(deep + strlen(deep), '[', 100);
    assert_int_equal(decode(&r, &oip_protocol, image, deep, strlen(deep), SIZE_MAX, &e, &copy), ERR_INVALID);
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
    accept(p, image, request, &r);
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
    accept(&tfs_protocol, table,
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
        cmocka_unit_test(numbers_are_read_as_strtod_reads_them_in_whatever_form),
        cmocka_unit_test(what_is_no_number_is_refused_at_its_place),
        cmocka_unit_test(long_arrays_are_read_alike_in_every_layout),
        cmocka_unit_test(what_is_wrong_in_a_long_array_is_named_by_its_place),
        cmocka_unit_test(broken_json_is_refused_wherever_it_breaks),
        cmocka_unit_test(replies_have_their_protocols_shape),
        cmocka_unit_test(a_lone_output_has_no_name_in_tensorflow_servings_reply),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
