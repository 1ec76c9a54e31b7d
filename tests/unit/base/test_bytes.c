/* A run of bytes lives as long as somebody holds it, and no longer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "base/bytes.h"
#include "base/mem.h"

static struct buf a_buf(const char *text)
{
    struct buf b = {0};
    buf_str(&b, text);
    return b;
}

static void the_memory_is_taken_over_where_it_lies(void **state)
{
    (void)state;
    struct buf b = a_buf("what is shared"), back = {0};
    const char *data = b.data;
    struct bytes *s = bytes_share(&b);
    assert_non_null(s);
    assert_null(b.data);
    assert_int_equal(b.len + b.cap, 0);
    assert_string_equal(data, "what is shared");
    assert_true(bytes_return(s, &back));
    assert_ptr_equal(back.data, data);
    assert_int_equal(back.len, 14);
    buf_str(&back, ", and more"); /* it is a buffer as before */
    assert_string_equal(back.data, "what is shared, and more");
    buf_dispose(&back);
}

static void the_last_holder_frees_it(void **state)
{
    (void)state;
    struct buf b = a_buf("held by three");
    const char *data = b.data;
    struct bytes *s = bytes_share(&b);
    assert_ptr_equal(bytes_hold(s), s);
    assert_ptr_equal(bytes_hold(s), s);
    bytes_drop(s);
    bytes_drop(s);
    assert_string_equal(data, "held by three");
    bytes_drop(s); /* that it is freed now, and not before, the address sanitizer sees */
}

static void it_is_returned_to_none_but_the_only_holder(void **state)
{
    (void)state;
    struct buf b = a_buf("held by two"), back = {0};
    const char *data = b.data;
    struct bytes *s = bytes_share(&b);
    bytes_hold(s);
    assert_false(bytes_return(s, &back));
    assert_null(back.data);
    assert_string_equal(data, "held by two");
    bytes_drop(s); /* who was refused goes on holding */
    assert_true(bytes_return(s, &back));
    assert_ptr_equal(back.data, data);
    buf_dispose(&back);
}

static void what_cannot_be_shared_stays_where_it_was(void **state)
{
    (void)state;
    struct buf none = {0}, failed = {.limit = 3}, good = a_buf("good");
    assert_null(bytes_share(&none));
    buf_str(&failed, "abc");
    buf_str(&failed, "d");
    assert_null(bytes_share(&failed));
    assert_string_equal(failed.data, "abc");
    buf_dispose(&failed);
    mem_fail_at(1, false);
    assert_null(bytes_share(&good));
    mem_fail_at(0, false);
    assert_string_equal(good.data, "good");
    buf_dispose(&good);
}

static void nobody_holds_nothing(void **state)
{
    (void)state;
    assert_null(bytes_hold(NULL));
    bytes_drop(NULL);
}

static void a_limit_survives_being_shared(void **state)
{
    (void)state;
    struct buf b = {.limit = 8}, back = {0};
    buf_str(&b, "12345678");
    struct bytes *s = bytes_share(&b);
    assert_int_equal(b.limit, 8);
    assert_true(bytes_return(s, &back));
    buf_str(&back, "9");
    assert_true(back.failed);
    buf_dispose(&back);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_memory_is_taken_over_where_it_lies),
        cmocka_unit_test(the_last_holder_frees_it),
        cmocka_unit_test(it_is_returned_to_none_but_the_only_holder),
        cmocka_unit_test(what_cannot_be_shared_stays_where_it_was),
        cmocka_unit_test(nobody_holds_nothing),
        cmocka_unit_test(a_limit_survives_being_shared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
