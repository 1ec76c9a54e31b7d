/* Errors carry a code, a field and a message, cut to fit without breaking a character. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "base/err.h"

static void returns_the_code_and_keeps_the_texts(void **state)
{
    (void)state;
    struct err e = {.retry_after_ms = 7};
    assert_int_equal(err_set(&e, ERR_INVALID, "spec.epochs", "must be %d, not %s", 1, "x"), ERR_INVALID);
    assert_int_equal(e.code, ERR_INVALID);
    assert_string_equal(e.field, "spec.epochs");
    assert_string_equal(e.message, "must be 1, not x");
    assert_int_equal(e.retry_after_ms, 0);
    err_clear(&e);
    assert_true(e.code == 0 && e.field[0] == '\0' && e.message[0] == '\0');
}

static void every_function_accepts_null(void **state)
{
    (void)state;
    assert_int_equal(err_set(NULL, ERR_IO, NULL, "x"), ERR_IO);
    assert_int_equal(err_errno(NULL, ERR_IO, "x"), ERR_IO);
    assert_true(err_prefix(NULL, "x") < 0);
    assert_true(err_under(NULL, "x") < 0);
    err_clear(NULL);
}

static void a_message_may_quote_the_message_before_it(void **state)
{
    (void)state;
    struct err e = {0};
    err_set(&e, ERR_IO, "a", "disk full");
    err_set(&e, ERR_INTERNAL, e.field, "saving failed: %s", e.message);
    assert_string_equal(e.message, "saving failed: disk full");
    assert_string_equal(e.field, "a");
}

static void appends_the_text_of_errno(void **state)
{
    (void)state;
    struct err e = {0};
    errno = ENOENT;
    assert_int_equal(err_errno(&e, ERR_NOT_FOUND, "open %s", "/x"), ERR_NOT_FOUND);
    assert_string_equal(e.message, "open /x: No such file or directory");
    assert_int_equal(errno, ENOENT);
}

static void prefixes_messages_and_fields(void **state)
{
    (void)state;
    struct err e = {0};
    err_set(&e, ERR_INVALID, "units", "must be positive");
    assert_int_equal(err_prefix(&e, "layer %d", 2), ERR_INVALID);
    assert_string_equal(e.message, "layer 2: must be positive");
    assert_int_equal(err_under(&e, "layers[2]"), ERR_INVALID);
    assert_string_equal(e.field, "layers[2].units");
    err_under(&e, "");
    assert_string_equal(e.field, "layers[2].units");
    err_set(&e, ERR_INVALID, "[3]", "x");
    err_under(&e, "layers");
    assert_string_equal(e.field, "layers[3]");
    err_set(&e, ERR_INVALID, NULL, "x");
    err_under(&e, "spec");
    assert_string_equal(e.field, "spec");
}

static void cuts_texts_between_characters(void **state)
{
    (void)state;
    struct err e;
    char text[2 * sizeof e.message];
    for (size_t shift = 0; shift < 3; shift++) {
        memset(text, 'x', shift);
        for (size_t i = shift; i + 3 < sizeof text; i += 3) memcpy(text + i, "\xE2\x82\xAC", 4);
        err_set(&e, ERR_INVALID, text, "%s", text);
        size_t message = strlen(e.message), field = strlen(e.field);
        assert_true(message < sizeof e.message && message > sizeof e.message - 4 &&
                    (message - shift) % 3 == 0);
        assert_true(field < sizeof e.field && field > sizeof e.field - 4 && (field - shift) % 3 == 0);
        err_prefix(&e, "%s", text);
        size_t cut = strcspn(e.message, ":"); /* the prefix filled the message */
        assert_true(cut > sizeof e.message - 5 && (cut - shift) % 3 == 0);
        err_under(&e, text);
        assert_true(strlen(e.field) < sizeof e.field);
    }
    char huge[5000];
    memset(huge, 'y', sizeof huge);
    memcpy(huge + 1021, "\xE2\x82\xAC", 3);
    huge[sizeof huge - 1] = '\0';
    err_set(&e, ERR_INVALID, NULL, "%s", huge);
    assert_int_equal(strlen(e.message), sizeof e.message - 1);
}

static void every_code_has_a_name_that_leads_back(void **state)
{
    (void)state;
    for (int code = ERR_INTERNAL; code <= ERR_OK; code++) {
        assert_int_equal(err_code_of(err_name(code)), code);
        for (int other = ERR_INTERNAL; other < code; other++)
            assert_string_not_equal(err_name(code), err_name(other));
    }
    assert_string_equal(err_name(12345), "internal");
    assert_int_equal(err_code_of("no such name"), ERR_INTERNAL);
    assert_int_equal(err_code_of(NULL), ERR_INTERNAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(returns_the_code_and_keeps_the_texts),
        cmocka_unit_test(every_function_accepts_null),
        cmocka_unit_test(a_message_may_quote_the_message_before_it),
        cmocka_unit_test(appends_the_text_of_errno),
        cmocka_unit_test(prefixes_messages_and_fields),
        cmocka_unit_test(cuts_texts_between_characters),
        cmocka_unit_test(every_code_has_a_name_that_leads_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
