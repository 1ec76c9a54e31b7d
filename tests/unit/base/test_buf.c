/* A buffer grows until its limit or memory is out, and says so once, at the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "base/buf.h"
#include "base/mem.h"

static void appends_and_stays_terminated(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b);
    buf_str(&b, "ab");
    buf_char(&b, 'c');
    buf_append(&b, "d\0e", 3);
    buf_printf(&b, "%d", 42);
    assert_int_equal(b.len, 8);
    assert_memory_equal(b.data, "abcd\0e42", 9);
    for (int i = 0; i < 5000; i++) buf_char(&b, 'x');
    assert_int_equal(b.len, 5008);
    assert_int_equal(strlen(b.data + 8), 5000);
    buf_dispose(&b);
    assert_null(b.data);
}

static void prints_texts_longer_than_its_scratch(void **state)
{
    (void)state;
    struct buf b = {0};
    for (int width = 250; width < 260; width++) {
        buf_clear(&b);
        buf_printf(&b, "%*d", width, 7);
        assert_int_equal(b.len, width);
        assert_int_equal(strlen(b.data), width);
        assert_int_equal(b.data[width - 1], '7');
    }
    buf_dispose(&b);
}

static void holds_exactly_its_limit_and_then_fails_for_good(void **state)
{
    (void)state;
    struct buf b = {.limit = 10};
    buf_append(&b, "0123456789", 10);
    assert_false(b.failed);
    buf_char(&b, 'x');
    assert_true(b.failed);
    buf_append(&b, "", 0);
    assert_int_equal(b.len, 10);
    assert_string_equal(b.data, "0123456789");
    assert_null(buf_reserve(&b, 0));
    buf_clear(&b);
    buf_char(&b, 'y');
    assert_false(b.failed);
    assert_string_equal(b.data, "y");
    buf_dispose(&b);
    assert_int_equal(b.limit, 10);
}

static void fails_on_sizes_that_overflow(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_char(&b, 'a');
    assert_null(buf_reserve(&b, SIZE_MAX));
    assert_true(b.failed);
    assert_string_equal(b.data, "a");
    buf_dispose(&b);
}

static void drops_what_was_consumed(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_consume(&b, 0);
    buf_str(&b, "hello world");
    buf_consume(&b, 6);
    assert_string_equal(b.data, "world");
    buf_consume(&b, 5);
    assert_int_equal(b.len, 0);
    assert_string_equal(b.data, "");
    buf_dispose(&b);
}

static void gives_its_bytes_away(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_str(&b, "mine");
    char *s = buf_steal(&b);
    assert_string_equal(s, "mine");
    mem_free(s);
    assert_true(b.data == NULL && b.len == 0 && b.cap == 0);
    s = buf_steal(&b);
    assert_string_equal(s, "");
    mem_free(s);
    b.limit = 2;
    buf_str(&b, "too long");
    assert_null(buf_steal(&b));
    assert_null(b.data);
}

static void survives_each_failed_allocation(void **state)
{
    (void)state;
    for (size_t nth = 1;; nth++) {
        struct buf b = {0};
        mem_fail_at(nth, false);
        for (int i = 0; i < 100; i++) buf_printf(&b, "%099d\n", i);
        bool failed = b.failed;
        mem_fail_at(0, false);
        assert_int_equal(b.len % 100, 0);
        if (!failed) assert_int_equal(b.len, 10000);
        buf_dispose(&b);
        if (!failed) {
            assert_true(nth > 5);
            return;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_and_stays_terminated),
        cmocka_unit_test(prints_texts_longer_than_its_scratch),
        cmocka_unit_test(holds_exactly_its_limit_and_then_fails_for_good),
        cmocka_unit_test(fails_on_sizes_that_overflow),
        cmocka_unit_test(drops_what_was_consumed),
        cmocka_unit_test(gives_its_bytes_away),
        cmocka_unit_test(survives_each_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
