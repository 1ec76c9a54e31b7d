/* The writer puts commas, quotes and escapes where JSON wants them, and what it writes can be read again. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "base/json.h"

static void assert_written(struct buf *out, const char *want)
{
    assert_false(out->failed);
    assert_string_equal(out->data, want);
    cJSON *root = NULL;
    struct err e = {0};
    if (json_parse(&root, out->data, out->len, 1000, &e) != 0) fail_msg("%s: %s", out->data, e.message);
    cJSON_Delete(root);
    buf_dispose(out);
}

static void separates_values_and_names_on_every_level(void **state)
{
    (void)state;
    struct buf out = {0};
    struct json_writer w;
    jw_init(&w, &out);
    jw_obj(&w);
    jw_kstr(&w, "a", "x");
    jw_name(&w, "b");
    jw_arr(&w);
    jw_int(&w, 1);
    jw_arr(&w);
    jw_arr_end(&w);
    jw_obj(&w);
    jw_obj_end(&w);
    jw_obj(&w);
    jw_kbool(&w, "t", true);
    jw_kint(&w, "i", INT64_MIN);
    jw_obj_end(&w);
    jw_null(&w);
    jw_arr_end(&w);
    jw_name(&w, "c");
    jw_raw(&w, "[1, 2]", 6);
    jw_kint_str(&w, "m", INT64_MAX);
    jw_knum(&w, "n", -0.5);
    jw_kstr(&w, "none", NULL);
    jw_obj_end(&w);
    assert_written(&out,
                   "{\"a\":\"x\",\"b\":[1,[],{},{\"t\":true,\"i\":-9223372036854775808},null],\"c\":[1, 2],"
                   "\"m\":\"9223372036854775807\",\"n\":-0.5,\"none\":null}");
}

static void escapes_what_json_cannot_hold(void **state)
{
    (void)state;
    struct buf out = {0};
    struct json_writer w;
    jw_init(&w, &out);
    jw_arr(&w);
    jw_str(&w, "\"\\\b\f\n\r\t\x01\x1f/\x7f");
    jw_strn(&w, "a\0b", 3);
    jw_str(&w, "\xC3\xA9\xF0\x9F\x98\x80");
    jw_arr_end(&w);
    assert_false(out.failed);
    assert_string_equal(
        out.data,
        "[\"\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u001f/\x7f\",\"a\\u0000b\",\"\xC3\xA9\xF0\x9F\x98\x80\"]");
    buf_dispose(&out);
}

static void replaces_bytes_that_are_no_utf8(void **state)
{
    (void)state;
    struct buf out = {0};
    struct json_writer w;
    jw_init(&w, &out);
    jw_str(&w, "a\xFFz\xE2\x82|\xED\xA0\x80");
    assert_written(&out, "\"a\xEF\xBF\xBDz\xEF\xBF\xBD\xEF\xBF\xBD|\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"");
}

static void writes_numbers_shortest_and_no_nan(void **state)
{
    (void)state;
    struct buf out = {0};
    struct json_writer w;
    jw_init(&w, &out);
    jw_arr(&w);
    jw_num(&w, 0.1);
    jw_f32(&w, 0.1f);
    jw_num(&w, (double)0.1f);
    jw_num(&w, NAN);
    jw_f32(&w, INFINITY);
    jw_num(&w, -INFINITY);
    jw_num(&w, 1e300);
    jw_arr_end(&w);
    assert_written(&out, "[0.1,0.1,0.10000000149011612,null,null,null,1e300]");
}

static void writes_a_parsed_tree_as_it_was(void **state)
{
    (void)state;
    static const char text[] = "{\"a\":[1,2.5,\"\\n\",true,false,null,{}],\"b\":{\"c\":[[]]}}";
    cJSON *root = NULL;
    assert_int_equal(json_parse(&root, text, strlen(text), 100, NULL), 0);
    struct buf out = {0};
    struct json_writer w;
    jw_init(&w, &out);
    jw_node(&w, root);
    cJSON_Delete(root);
    assert_written(&out, text);
    jw_init(&w, &out);
    jw_node(&w, NULL);
    assert_written(&out, "null");
}

static void writes_thirty_two_levels(void **state)
{
    (void)state;
    struct buf out = {0};
    struct json_writer w;
    jw_init(&w, &out);
    for (int i = 0; i < 32; i++) jw_arr(&w);
    jw_int(&w, 1);
    jw_int(&w, 2);
    for (int i = 0; i < 32; i++) jw_arr_end(&w);
    assert_false(out.failed);
    assert_int_equal(out.len, 67);
    assert_non_null(strstr(out.data, "[1,2]"));
    buf_dispose(&out);
}

static void a_full_buffer_is_seen_at_the_end(void **state)
{
    (void)state;
    struct buf out = {.limit = 16};
    struct json_writer w;
    jw_init(&w, &out);
    jw_arr(&w);
    for (int i = 0; i < 100; i++) jw_int(&w, i);
    jw_arr_end(&w);
    assert_true(out.failed);
    assert_true(out.len <= 16);
    buf_dispose(&out);
}

/* Against a look at each byte: every byte at every place of texts of every length up to three words. */
static void a_plain_run_ends_at_the_first_byte_that_is_not_plain(void **state)
{
    (void)state;
    char text[25];
    for (size_t len = 0; len < sizeof text; len++)
        for (size_t at = 0; at <= len; at++)
            for (int c = 0; c < 256; c++) {
                bool plain = c >= ' ' && c <= '~' && c != '"' && c != '\\';
                memset(text, 'x', sizeof text);
                if (at < len) text[at] = (char)c;
                if (at + 1 < len) text[at + 1] = '~'; /* a carry or borrow would hit it */
                if (at + 2 < len) text[at + 2] = '"';
                size_t want = at < len && !plain ? at : at + 2 < len ? at + 2 : len;
                if (json_plain_run(text, len) != want) fail_msg("byte %d at %zu of %zu", c, at, len);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(separates_values_and_names_on_every_level),
        cmocka_unit_test(escapes_what_json_cannot_hold),
        cmocka_unit_test(replaces_bytes_that_are_no_utf8),
        cmocka_unit_test(writes_numbers_shortest_and_no_nan),
        cmocka_unit_test(writes_a_parsed_tree_as_it_was),
        cmocka_unit_test(writes_thirty_two_levels),
        cmocka_unit_test(a_full_buffer_is_seen_at_the_end),
        cmocka_unit_test(a_plain_run_ends_at_the_first_byte_that_is_not_plain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
