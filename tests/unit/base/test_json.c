/* JSON that is not strict is refused with its place; what is taken out of a tree is checked with its path. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"

enum { TOKENS = 1000 };

static int parse_bytes(const char *text, size_t len, struct err *e)
{
    char *exact = malloc(len ? len : 1); /* the address sanitizer watches the byte behind it */
    memcpy(exact, text, len);
    cJSON *root = NULL;
    int rc = json_parse(&root, exact, len, TOKENS, e);
    assert_true((rc == 0) == (root != NULL));
    cJSON_Delete(root);
    free(exact);
    return rc;
}

static void assert_accepts(const char *text)
{
    struct err e = {0};
    if (parse_bytes(text, strlen(text), &e) != 0) fail_msg("%s: %s", text, e.message);
}

static void assert_refuses(const char *text, const char *part_of_message)
{
    struct err e = {0};
    int rc = parse_bytes(text, strlen(text), &e);
    if (rc != ERR_INVALID) fail_msg("'%s' gave %d", text, rc);
    if (!strstr(e.message, part_of_message)) fail_msg("'%s' gave: %s", text, e.message);
}

static cJSON *tree(const char *text)
{
    cJSON *root = NULL;
    struct err e = {0};
    if (json_parse(&root, text, strlen(text), TOKENS, &e) != 0) fail_msg("%s: %s", text, e.message);
    return root;
}

static void accepts_what_rfc_8259_allows(void **state)
{
    (void)state;
    static const char *const good[] = {"0",
                                       "-0",
                                       "1.5e-3",
                                       "\"\"",
                                       "true",
                                       "false",
                                       "null",
                                       "[]",
                                       "{}",
                                       " \t\r\n[ ]\n",
                                       "[1,2,[3,{\"a\":{}}]]",
                                       "{\"a\":1,\"A\":2}",
                                       "{\"\":1}",
                                       "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\"",
                                       "\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\"",
                                       "\"\\ud83d\\ude00\"",
                                       "[1e308,-1e308,1e-400]",
                                       "\"\x7F\"",
                                       "{\"a\\u0062\":1,\"a\":2}",
                                       "[\"\xEF\xBF\xBF\"]"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) assert_accepts(good[i]);
}

static void refuses_broken_grammar_and_says_where(void **state)
{
    (void)state;
    assert_refuses("", "line 1, column 1: the text ends where a value was expected");
    assert_refuses("   ", "column 4");
    assert_refuses("{\"a\":1,\n \"b\" 2}", "line 2, column 6: expected ':', found '2'");
    assert_refuses("[1,]", "column 4: expected a value, found ']'");
    assert_refuses("[1 2]", "expected ',' or ']', found '2'");
    assert_refuses("{\"a\":1,}", "expected a name in double quotes, found '}'");
    assert_refuses("{a:1}", "a name in double quotes, found 'a'");
    assert_refuses("{'a':1}", "a name in double quotes");
    assert_refuses("[1}", "expected ',' or ']', found '}'");
    assert_refuses("{\"a\":1]", "expected ',' or '}', found ']'");
    assert_refuses("[1", "the text ends where ',' or ']' was expected");
    assert_refuses("1 2", "expected the end of the text, found '2'");
    assert_refuses("[] x", "expected the end of the text");
    assert_refuses("// c\n1", "expected a value, found '/'");
    assert_refuses("tru", "expected a value");
    assert_refuses("True", "expected a value, found 'T'");
    assert_refuses("nul", "expected a value");
    assert_refuses("truex", "expected the end of the text, found 'x'");
    assert_refuses("\xEF\xBB\xBF[]", "expected a value, found byte 0xef");
}

static void refuses_loose_numbers(void **state)
{
    (void)state;
    static const char *const bad[] = {"+1",   ".5",  "1.",       "01",        "-",   "1e",
                                      "0x1F", "NaN", "Infinity", "-Infinity", "1_0", "1,5"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_refuses(bad[i], "expected");
    assert_refuses("[1e309]", "column 2: 1e309 is beyond the range of a double");
    assert_refuses("-1e999999999999", "beyond the range");
    char longest[128];
    memset(longest, '1', sizeof longest);
    longest[63] = '\0';
    assert_accepts(longest);
    longest[63] = '1';
    longest[64] = '\0';
    assert_refuses(longest, "63 characters at most");
}

static void refuses_strings_that_are_not_clean(void **state)
{
    (void)state;
    assert_refuses("\"abc", "line 1, column 1: the string that begins here has no closing quote");
    assert_refuses("\"a\nb\"", "control character 0x0a");
    assert_refuses("\"\\x41\"", "no such escape");
    assert_refuses("\"\\", "the text ends where an escaped character was expected");
    assert_refuses("\"\\u12G4\"", "four hexadecimal digits");
    assert_refuses("\"\\u12", "four hexadecimal digits");
    assert_refuses("\"a\\u0000b\"", "\\u0000 is not allowed");
    assert_refuses("{\"a\\u0000\":1}", "\\u0000 is not allowed");
    assert_refuses("\"\\udc00\"", "low surrogate");
    assert_refuses("\"\\ud800\"", "high surrogate");
    assert_refuses("\"\\ud800\\ud800\"", "high surrogate");
    assert_refuses("\"\\ud800\\u0041\"", "high surrogate");
    static const char *const not_utf8[] = {"\"\x80\"",
                                           "\"\xC0\x80\"",
                                           "\"\xC1\xBF\"",
                                           "\"\xE0\x80\x80\"",
                                           "\"\xED\xA0\x80\"",
                                           "\"\xF0\x80\x80\x80\"",
                                           "\"\xF4\x90\x80\x80\"",
                                           "\"\xF5\x80\x80\x80\"",
                                           "\"\xC3\"",
                                           "\"\xE2\x82\"",
                                           "\"\xFF\"",
                                           "\"\xE2\x28\xA1\""};
    for (size_t i = 0; i < sizeof not_utf8 / sizeof *not_utf8; i++)
        assert_refuses(not_utf8[i], "is not UTF-8");
}

static void refuses_a_nul_byte_anywhere(void **state)
{
    (void)state;
    struct err e = {0};
    assert_int_equal(parse_bytes("[1\0]", 4, &e), ERR_INVALID);
    assert_non_null(strstr(e.message, "found byte 0x00"));
    assert_int_equal(parse_bytes("\"a\0b\"", 5, &e), ERR_INVALID);
    assert_int_equal(parse_bytes("{}\0", 3, &e), ERR_INVALID);
    assert_int_equal(parse_bytes("\"\\\0\"", 4, &e), ERR_INVALID);
}

static void refuses_nesting_beyond_32(void **state)
{
    (void)state;
    char text[80];
    memset(text, '[', 32);
    memset(text + 32, ']', 32);
    text[64] = '\0';
    assert_accepts(text);
    memset(text, '[', 33);
    memset(text + 33, ']', 33);
    text[66] = '\0';
    assert_refuses(text, "line 1, column 33: nested more than 32 deep");
}

static void refuses_more_tokens_than_the_limit(void **state)
{
    (void)state;
    cJSON *root = NULL;
    struct err e = {0};
    static const char text[] = "{\"a\":[1,2],\"b\":null}"; /* the object, 2 names, 4 values */
    assert_int_equal(json_parse(&root, text, strlen(text), 7, &e), 0);
    cJSON_Delete(root);
    assert_int_equal(json_parse(&root, text, strlen(text), 6, &e), ERR_TOO_LARGE);
    assert_null(root);
    assert_non_null(strstr(e.message, "column 16"));
}

static void refuses_names_that_are_there_twice_however_they_are_spelt(void **state)
{
    (void)state;
    assert_refuses("{\"a\":1,\"b\":2,\"a\":3}", "column 14: the name \"a\" is there a second time");
    assert_refuses("{\"a\":1,\"\\u0061\":2}", "a second time");
    assert_refuses("{\"\\ud83d\\ude00\":1,\"\xF0\x9F\x98\x80\":2}", "a second time");
    assert_refuses("{\"\\n\":1,\"\\u000a\":2}", "a second time");
    assert_refuses("[{\"x\":{\"y\":1,\"y\":2}}]", "a second time");
    assert_refuses("{\"x\":{\"y\":1},\"x\":2}", "\"x\" is there a second time");
    assert_accepts("[{\"x\":1},{\"x\":2},{\"x\":{\"x\":{\"x\":3}}}]");
}

static void survives_every_truncation_and_every_flipped_byte(void **state)
{
    (void)state;
    static const char text[] =
        "{\"n\\u00e9\\ud83d\\ude00\":[1.5e-3,true,null,{\"b\":\"\xE2\x82\xAC\"}],\"z\":-0}";
    for (size_t len = 0; len < sizeof text - 1; len++)
        assert_int_equal(parse_bytes(text, len, NULL), ERR_INVALID);
    char hurt[sizeof text];
    for (size_t i = 0; i < sizeof text - 1; i++)
        for (int byte = 0; byte < 256; byte++) {
            memcpy(hurt, text, sizeof text);
            hurt[i] = (char)byte;
            parse_bytes(hurt, sizeof text - 1, NULL);
        }
}

static void a_megabyte_of_zeros_costs_no_tree(void **state)
{
    (void)state;
    size_t len = 1 << 20;
    char *text = malloc(len);
    for (size_t i = 1; i < len; i += 2) memcpy(text + i, "0,", i + 1 < len ? 2 : 1);
    text[0] = '[';
    cJSON *root;
    struct err e = {0};
    assert_int_equal(json_parse(&root, text, len, 10000, &e), ERR_TOO_LARGE);
    free(text);
}

static void reports_each_failed_allocation(void **state)
{
    (void)state;
    static const char text[] = "{\"a\":[1,\"two\",{\"b\":null}],\"c\":\"d\"}";
    int failures = 0;
    for (size_t nth = 1;; nth++) {
        cJSON *root = NULL;
        struct err e = {0};
        mem_fail_at(nth, false);
        int rc = json_parse(&root, text, strlen(text), TOKENS, &e);
        mem_fail_at(0, false);
        cJSON_Delete(root);
        if (rc == 0) break;
        assert_int_equal(rc, ERR_NOMEM);
        assert_null(root);
        failures++;
    }
    assert_true(failures > 8); /* the scanner's names, seven nodes, their strings */
}

/* ---- accessors ---- */

static void takes_values_of_each_kind(void **state)
{
    (void)state;
    cJSON *root = tree("{\"s\":\"text\",\"i\":-7,\"d\":0.25,\"b\":true,\"a\":[1,2],\"o\":{\"x\":null}}");
    struct json_obj o;
    struct err e = {0};
    const char *s;
    int64_t i;
    double d;
    bool b;
    const cJSON *a, *inner;
    assert_int_equal(json_obj_open(&o, root, "", &e), 0);
    assert_int_equal(json_take_str(&o, "s", 1, 4, &s, &e), 0);
    assert_int_equal(json_take_int(&o, "i", -7, -7, &i, &e), 0);
    assert_int_equal(json_take_num(&o, "d", 0.25, 0.25, &d, &e), 0);
    assert_int_equal(json_take_bool(&o, "b", &b, &e), 0);
    assert_int_equal(json_take_array(&o, "a", 2, 2, &a, &e), 0);
    assert_int_equal(json_take_object(&o, "o", &inner, &e), 0);
    assert_int_equal(json_obj_close(&o, &e), 0);
    assert_string_equal(s, "text");
    assert_true(i == -7 && d == 0.25 && b);
    assert_int_equal(cJSON_GetArraySize(a), 2);
    assert_true(cJSON_IsNull(inner->child));
    cJSON_Delete(root);
}

static void names_the_path_and_what_was_expected(void **state)
{
    (void)state;
    cJSON *root = tree("{\"epochs\":0,\"rate\":\"fast\",\"name\":\"\",\"layers\":[],\"big\":9007199254740994,"
                       "\"half\":1.5,\"n\":null}");
    struct json_obj o;
    struct err e = {0};
    int64_t i = 42;
    double d = 42;
    const char *s = "kept";
    const cJSON *a = NULL;
    bool b = false;
    assert_int_equal(json_obj_open(&o, root, "spec", &e), 0);
    assert_int_equal(json_take_int(&o, "epochs", 1, 10000, &i, &e), ERR_INVALID);
    assert_string_equal(e.field, "spec.epochs");
    assert_string_equal(e.message, "'spec.epochs' must be a whole number from 1 to 10000, not 0");
    assert_int_equal(json_take_num(&o, "rate", 0, INFINITY, &d, &e), ERR_INVALID);
    assert_string_equal(e.message, "'spec.rate' must be a number, at least 0, not the text \"fast\"");
    assert_int_equal(json_opt_str(&o, "name", 1, 64, &s, &e), ERR_INVALID);
    assert_string_equal(e.message, "'spec.name' must be text of 1 to 64 bytes, not 0 bytes");
    assert_int_equal(json_take_array(&o, "layers", 1, SIZE_MAX, &a, &e), ERR_INVALID);
    assert_string_equal(e.message, "'spec.layers' must be an array of at least 1 elements, not 0 elements");
    assert_int_equal(json_take_int(&o, "big", INT64_MIN, INT64_MAX, &i, &e), ERR_INVALID);
    assert_int_equal(json_take_int(&o, "half", 0, 2, &i, &e), ERR_INVALID);
    assert_string_equal(e.message, "'spec.half' must be a whole number from 0 to 2, not 1.5");
    assert_int_equal(json_take_bool(&o, "n", &b, &e), ERR_INVALID);
    assert_string_equal(e.message, "'spec.n' must be true or false, not null");
    assert_int_equal(json_take_bool(&o, "gone", &b, &e), ERR_INVALID);
    assert_string_equal(e.message, "'spec.gone' is missing; it must be true or false");
    assert_string_equal(e.field, "spec.gone");
    assert_true(i == 42 && d == 42 && a == NULL && strcmp(s, "kept") == 0);
    cJSON_Delete(root);
}

static void leaves_absent_and_null_options_as_they_were(void **state)
{
    (void)state;
    cJSON *root = tree("{\"n\":null}");
    struct json_obj o;
    int64_t i = 5;
    double d = 0.5;
    bool b = true;
    const char *s = "default";
    const cJSON *a = root;
    assert_int_equal(json_obj_open(&o, root, "", NULL), 0);
    assert_int_equal(json_opt_int(&o, "n", 0, 1, &i, NULL), 0);
    assert_int_equal(json_opt_num(&o, "absent", 0, 0, &d, NULL), 0);
    assert_int_equal(json_opt_bool(&o, "n", &b, NULL), 0);
    assert_int_equal(json_opt_str(&o, "n", 0, 1, &s, NULL), 0);
    assert_int_equal(json_opt_array(&o, "n", 0, 1, &a, NULL), 0);
    assert_int_equal(json_opt_object(&o, "n", &a, NULL), 0);
    assert_int_equal(json_obj_close(&o, NULL), 0);
    assert_true(i == 5 && d == 0.5 && b && a == root && strcmp(s, "default") == 0);
    cJSON_Delete(root);
}

static void refuses_unknown_names_and_tells_case_apart(void **state)
{
    (void)state;
    cJSON *root = tree("{\"a\":1,\"A\":2}");
    struct json_obj o;
    struct err e = {0};
    int64_t i;
    assert_int_equal(json_obj_open(&o, root, "body", &e), 0);
    assert_int_equal(json_take_int(&o, "A", 2, 2, &i, &e), 0);
    assert_int_equal(json_obj_close(&o, &e), ERR_INVALID);
    assert_string_equal(e.field, "body.a");
    assert_non_null(json_obj_find(&o, "a"));
    assert_int_equal(json_obj_close(&o, &e), 0);
    cJSON_Delete(root);
}

static void opens_objects_of_up_to_64_fields_only(void **state)
{
    (void)state;
    char text[2048];
    for (int fields = 64; fields <= 65; fields++) {
        size_t n = (size_t)snprintf(text, sizeof text, "{");
        for (int i = 0; i < fields; i++)
            n += (size_t)snprintf(text + n, sizeof text - n, "%s\"f%d\":%d", i ? "," : "", i, i);
        snprintf(text + n, sizeof text - n, "}");
        cJSON *root = tree(text);
        struct json_obj o;
        struct err e = {0};
        assert_int_equal(json_obj_open(&o, root, "", &e), fields == 64 ? 0 : ERR_INVALID);
        if (fields == 64) {
            assert_non_null(json_obj_find(&o, "f63"));
            assert_true(o.seen == 1ull << 63);
        }
        cJSON_Delete(root);
    }
    cJSON *list = tree("[]");
    struct json_obj o;
    struct err e = {0};
    assert_int_equal(json_obj_open(&o, list, "layers[2]", &e), ERR_INVALID);
    assert_string_equal(e.message, "layers[2] must be an object, not an array");
    assert_int_equal(json_obj_open(&o, NULL, "x", &e), ERR_INVALID);
    cJSON_Delete(list);
}

static void builds_paths_and_cuts_long_ones(void **state)
{
    (void)state;
    char path[JSON_PATH_MAX];
    json_path_name(path, "", "layers");
    json_path_index(path, path, 2);
    json_path_name(path, path, "units");
    assert_string_equal(path, "layers[2].units");
    char name[300];
    memset(name, 'a', sizeof name);
    memcpy(name + 94, "\xC3\xA9", 2); /* would be cut in half */
    name[299] = '\0';
    json_path_name(path, "", name);
    assert_int_equal(strlen(path), 94);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_what_rfc_8259_allows),
        cmocka_unit_test(refuses_broken_grammar_and_says_where),
        cmocka_unit_test(refuses_loose_numbers),
        cmocka_unit_test(refuses_strings_that_are_not_clean),
        cmocka_unit_test(refuses_a_nul_byte_anywhere),
        cmocka_unit_test(refuses_nesting_beyond_32),
        cmocka_unit_test(refuses_more_tokens_than_the_limit),
        cmocka_unit_test(refuses_names_that_are_there_twice_however_they_are_spelt),
        cmocka_unit_test(survives_every_truncation_and_every_flipped_byte),
        cmocka_unit_test(a_megabyte_of_zeros_costs_no_tree),
        cmocka_unit_test(reports_each_failed_allocation),
        cmocka_unit_test(takes_values_of_each_kind),
        cmocka_unit_test(names_the_path_and_what_was_expected),
        cmocka_unit_test(leaves_absent_and_null_options_as_they_were),
        cmocka_unit_test(refuses_unknown_names_and_tells_case_apart),
        cmocka_unit_test(opens_objects_of_up_to_64_fields_only),
        cmocka_unit_test(builds_paths_and_cuts_long_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
