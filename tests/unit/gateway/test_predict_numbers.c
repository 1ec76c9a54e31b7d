/* Numbers in predict bodies: one by one and in long arrays, what they are read as and where they are refused.
 */
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

static const char wide_json[] =
    "{\"inputs\":[{\"name\":\"input\",\"datatype\":\"FP32\",\"shape\":[-1,40]}],"
    "\"outputs\":[{\"name\":\"prediction\",\"datatype\":\"FP32\",\"shape\":[-1]}]}";

static struct signature *image, *wide;

static int set_up(void **state)
{
    (void)state;
    crypto_init();
    image = signature_fixture(decode_image);
    wide = signature_fixture(wide_json);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    signature_free(image);
    signature_free(wide);
    return 0;
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
        accept_body(&oip_protocol, image, body, &r);
        const float *v = input_floats(&r, 0, 6);
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
        if (decode_body(&r, &oip_protocol, image, body, strlen(body), SIZE_MAX, &e, &copy) != ERR_INVALID)
            fail_msg("accepted: %s", body);
        infer_dispose(&r);
        free(copy);
    }
    for (size_t i = 0; i < sizeof too_large / sizeof *too_large; i++) {
        snprintf(body, sizeof body, OIP_IMAGE("1", "[1,2,%s,4,5,6]"), too_large[i]);
        refuse_body(&oip_protocol, image, body, "inputs[0].data[2]", "does not fit into FP32");
    }
    refuse_body(&oip_protocol, image, OIP_IMAGE("1", "[1,2,3,4,5,6,7]"), "inputs[0].data",
                "7 values where 6 were expected");
    refuse_body(&oip_protocol, image, OIP_IMAGE("1", "[1,2,3,4,5]"), "inputs[0].data",
                "5 values where 6 were expected");
    refuse_body(&oip_protocol, image, OIP_IMAGE("1", "[1,2,3,4,5,\"x\"]"), "inputs[0].data[5]",
                "found a string");
    refuse_body(&oip_protocol, image, OIP_IMAGE("1", "[[[1,2,3],[4,5,6,7]]]"), "inputs[0].data[0][1]",
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
        accept_body(&oip_protocol, wide,
                    wide_body(datatype, i / 125, separators[i / 25 % 5], at, elements[element].text), &r);
        const float *v = input_floats(&r, 0, WIDE * WIDE_ROWS);
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
            refuse_body(&oip_protocol, wide, wide_body(wrong[i].datatype, false, ",", at, wrong[i].element),
                        field, wrong[i].words);
            snprintf(field, sizeof field, "inputs[0].data[%d][%d]", at / WIDE, at % WIDE);
            refuse_body(&oip_protocol, wide, wide_body(wrong[i].datatype, true, ", ", at, wrong[i].element),
                        field, wrong[i].words);
        }
    refuse_body(&oip_protocol, wide, wide_body("FP32", true, ",", 137, "1,2"), "inputs[0].data[3]",
                "41 values where 40 were expected");
    refuse_body(&oip_protocol, wide, wide_body("FP32", false, ",", 319, "1,2"), "inputs[0].data",
                "321 values where 320 were expected");
    refuse_body(&oip_protocol, wide, wide_body("FP32", true, ",", 137, "1],[2"), "inputs[0].data[3]",
                "18 values where 40 were expected");
    refuse_body(&oip_protocol, wide, wide_body("FP32", true, ",", 137, "01"), "",
                "a comma or a closing bracket is missing at byte");
    refuse_body(&oip_protocol, wide, wide_body("FP32", true, ",", 137, ""), "inputs[0].data[3][17]",
                "expected a number");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_read_as_strtod_reads_them_in_whatever_form),
        cmocka_unit_test(what_is_no_number_is_refused_at_its_place),
        cmocka_unit_test(long_arrays_are_read_alike_in_every_layout),
        cmocka_unit_test(what_is_wrong_in_a_long_array_is_named_by_its_place),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
