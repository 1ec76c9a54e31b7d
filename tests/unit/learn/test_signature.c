/* The names of classes in a signature: written and read again, what is refused, what is left out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "learn/spec/signature.h"
#include "tests/unit/learn/aid.h"

#define INPUT "{\"name\":\"input\",\"datatype\":\"FP32\",\"shape\":[-1,4]"
#define BEGIN                                                                                                \
    "{\"inputs\":[" INPUT "}],\"outputs\":[{\"name\":\"probabilities\",\"datatype\":\"FP32\",\"shape\":"
#define END "},{\"name\":\"label\",\"datatype\":\"BYTES\",\"shape\":[-1]}]}"

static int from_text(struct signature **out, const char *text, struct err *e)
{
    cJSON *node = aid_json(text);
    int rc = signature_from_json(out, node, "", e);
    cJSON_Delete(node);
    return rc;
}

static void expect_class(const struct signature *s, size_t i, const char *json)
{
    size_t len;
    const char *name = signature_class(&s->outputs[0].classes, i, &len);
    assert_int_equal(len, strlen(json));
    assert_memory_equal(name, json, len);
}

static void names_are_read_as_they_were_written(void **state)
{
    static const char text[] =
        BEGIN "[-1,5],\"classes\":[\"a\\\"b\\\\\",\"\xC3\xA9, \xE2\x82\xAC\",\"\",\"-7\",\"\\n\\u0001\"]" END;
    struct signature *s = NULL;
    struct err e = {0};
    struct buf b = {0};
    struct json_writer w;
    (void)state;
    if (from_text(&s, text, &e)) fail_msg("%s: %s", e.field, e.message);
    assert_int_equal(s->outputs[0].classes.n, 5);
    expect_class(s, 0, "\"a\\\"b\\\\\"");
    expect_class(s, 1, "\"\xC3\xA9, \xE2\x82\xAC\"");
    expect_class(s, 2, "\"\"");
    expect_class(s, 3, "\"-7\"");
    expect_class(s, 4, "\"\\n\\u0001\"");
    assert_int_equal(s->outputs[1].classes.n, 0);
    jw_init(&w, &b);
    signature_to_json(s, &w);
    assert_string_equal(b.data, text);
    buf_clear(&b);
    jw_init(&w, &b);
    signature_tensors_to_json(s->outputs, s->n_outputs, &w);
    assert_string_equal(b.data, "[{\"name\":\"probabilities\",\"datatype\":\"FP32\",\"shape\":[-1,5]},"
                                "{\"name\":\"label\",\"datatype\":\"BYTES\",\"shape\":[-1]}]");
    buf_dispose(&b);
    signature_free(s);
}

static void a_signature_from_before_there_were_names_is_read(void **state)
{
    static const char text[] = BEGIN "[-1,3]" END;
    struct signature *s = NULL;
    struct err e = {0};
    struct buf b = {0};
    struct json_writer w;
    (void)state;
    assert_int_equal(from_text(&s, text, &e), 0);
    assert_int_equal(s->outputs[0].classes.n, 0);
    jw_init(&w, &b);
    signature_to_json(s, &w);
    assert_string_equal(b.data, text);
    buf_dispose(&b);
    signature_free(s);
}

static void names_that_cannot_be_are_refused_by_path(void **state)
{
    static const char *const corpus[][3] = {
        {BEGIN "[-1,3],\"classes\":[\"a\",\"b\"]" END, "outputs[0].classes",
         "classes are as many as the shape's last dimension has, besides the rows; not 2"},
        {BEGIN "[-1],\"classes\":[\"a\"]" END, "outputs[0].classes",
         "classes are as many as the shape's last dimension has, besides the rows; not 1"},
        {BEGIN "[-1,2],\"classes\":[\"a\",2]" END, "outputs[0].classes", "the name of a class is a text"},
        {BEGIN "[-1,2],\"classes\":[\"a\",null]" END, "outputs[0].classes", "the name of a class is a text"},
        {BEGIN "[-1,2],\"classes\":[]" END, "outputs[0].classes",
         "'outputs[0].classes' must be an array of 1 to 1000 elements, not 0 elements"},
        {BEGIN "[-1,2],\"classes\":\"ab\"" END, "outputs[0].classes",
         "'outputs[0].classes' must be an array of 1 to 1000 elements, not the text \"ab\""},
        {BEGIN "[-1,2],\"Classes\":[\"a\",\"b\"]" END, "outputs[0].Classes",
         "there is no field 'outputs[0].Classes'; check its spelling or leave it out"},
        {"{\"inputs\":[" INPUT ",\"classes\":[\"a\",\"b\",\"c\",\"d\"]}],\"outputs\":[" INPUT "}]}",
         "inputs[0].classes", "there is no field 'inputs[0].classes'; check its spelling or leave it out"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof corpus / sizeof *corpus; i++) {
        struct signature *s = NULL;
        struct err e = {0};
        if (from_text(&s, corpus[i][0], &e) != ERR_INVALID) fail_msg("accepted: %s", corpus[i][0]);
        assert_null(s);
        assert_string_equal(e.field, corpus[i][1]);
        assert_string_equal(e.message, corpus[i][2]);
    }
}

static void integers_are_named_by_their_decimals(void **state)
{
    static const int64_t integers[] = {INT64_MIN, -1, 0, INT64_MAX};
    struct signature_tensor t = {.rank = 2, .shape = {-1, 4}};
    struct err e = {0};
    (void)state;
    assert_int_equal(signature_name_classes(&t, 4, NULL, integers, &e), 0);
    assert_string_equal(t.classes.json, "[\"-9223372036854775808\",\"-1\",\"0\",\"9223372036854775807\"]");
    assert_int_equal(t.classes.json_len, strlen(t.classes.json));
    signature_classes_dispose(&t.classes);
}

/* A signature of n classes, of which the last has len bytes, and the others one. */
static void long_text(struct buf *out, int n, size_t len)
{
    buf_printf(out, BEGIN "[-1,%d],\"classes\":[", n);
    for (int i = 1; i < n; i++) buf_str(out, "\"a\",");
    buf_char(out, '"');
    for (size_t i = 0; i < len; i++) buf_char(out, 'z');
    buf_str(out, "\"]" END);
}

static void expect_bounds(int n, size_t len, const char *refusal)
{
    struct buf text = {0};
    struct signature *s = NULL;
    struct err e = {0};
    long_text(&text, n, len);
    int rc = from_text(&s, text.data, &e);
    if (!refusal) {
        assert_int_equal(rc, 0);
        assert_int_equal(s->outputs[0].classes.n, n);
    } else {
        assert_int_equal(rc, ERR_INVALID);
        assert_string_equal(e.message, refusal);
    }
    signature_free(s);
    buf_dispose(&text);
}

static void names_are_read_up_to_their_bounds(void **state)
{
    enum { TWO = SIGNATURE_MAX_CLASSES_BYTES - 8 }; /* ["a",""] */
    (void)state;
    expect_bounds(SIGNATURE_MAX_CLASSES, 1, NULL);
    expect_bounds(SIGNATURE_MAX_CLASSES + 1, 1,
                  "'outputs[0].classes' must be an array of 1 to 1000 elements, not 1001 elements");
    expect_bounds(2, TWO, NULL);
    expect_bounds(2, TWO + 1, "the names of classes may take at most 65536 bytes");
}

static void names_over_the_bounds_are_left_out_when_a_version_is_made(void **state)
{
    enum { MANY = SIGNATURE_MAX_CLASSES + 1, WIDTH = 256, LONG = SIGNATURE_MAX_CLASSES_BYTES / WIDTH };
    static const char *texts[LONG];
    static int64_t integers[MANY];
    static char name[WIDTH + 1];
    struct signature_tensor t = {.rank = 2, .shape = {-1, MANY}};
    struct err e = {0};
    (void)state;
    memset(name, 'x', WIDTH);
    for (int i = 0; i < MANY; i++) integers[i] = i;
    for (int i = 0; i < LONG; i++) texts[i] = name;
    assert_int_equal(signature_name_classes(&t, MANY, NULL, integers, &e), 0);
    assert_int_equal(t.classes.n, 0);
    t.shape[1] = LONG;
    assert_int_equal(signature_name_classes(&t, LONG, texts, NULL, &e), 0);
    assert_int_equal(t.classes.n, 0);
    assert_null(t.classes.json);
    t.shape[1] = MANY - 1;
    assert_int_equal(signature_name_classes(&t, MANY - 1, NULL, integers, &e), 0);
    assert_int_equal(t.classes.n, MANY - 1);
    signature_classes_dispose(&t.classes);
}

static void a_signature_that_memory_does_not_last_for_is_no_signature(void **state)
{
    static const char text[] = BEGIN "[-1,3],\"classes\":[\"a\",\"b\",\"c\"]" END;
    cJSON *node = aid_json(text);
    int failures = 0, rc;
    (void)state;
    do {
        struct signature *s = NULL;
        struct err e = {0};
        mem_fail_at((size_t)failures + 1, false);
        rc = signature_from_json(&s, node, "", &e);
        mem_fail_at(0, false);
        assert_true(rc ? rc == ERR_NOMEM && !s && e.message[0] : s->outputs[0].classes.n == 3);
        signature_free(s);
        failures += rc != 0;
    } while (rc);
    assert_true(failures >= 5); /* two lists, the names twice, and where they end */
    cJSON_Delete(node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_read_as_they_were_written),
        cmocka_unit_test(a_signature_from_before_there_were_names_is_read),
        cmocka_unit_test(names_that_cannot_be_are_refused_by_path),
        cmocka_unit_test(integers_are_named_by_their_decimals),
        cmocka_unit_test(names_are_read_up_to_their_bounds),
        cmocka_unit_test(names_over_the_bounds_are_left_out_when_a_version_is_made),
        cmocka_unit_test(a_signature_that_memory_does_not_last_for_is_no_signature),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
