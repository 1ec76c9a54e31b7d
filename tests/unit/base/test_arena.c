/* An arena gives zeroed, aligned memory up to its limit, and takes it back all at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "base/arena.h"
#include "base/mem.h"

static void gives_zeroed_aligned_pieces_that_do_not_overlap(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, SIZE_MAX);
    unsigned char *before = NULL;
    for (size_t size = 1; size < 3000; size += 7) {
        unsigned char *p = arena_try_alloc(&a, size, 1);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        for (size_t i = 0; i < size; i++) assert_int_equal(p[i], 0);
        memset(p, 0xAA, size);
        if (before) assert_int_equal(before[0], 0xAA);
        before = p;
    }
    arena_dispose(&a);
}

static void refuses_to_go_beyond_its_limit(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 1024);
    assert_non_null(arena_try_alloc(&a, 1, 1000));
    assert_int_equal(a.used_bytes, 1008);
    assert_null(arena_try_alloc(&a, 1, 17));
    assert_non_null(arena_try_alloc(&a, 1, 16));
    assert_null(arena_try_alloc(&a, 1, 1));
    assert_int_equal(a.used_bytes, 1024);
    arena_reset(&a);
    assert_null(arena_try_alloc(&a, 1025, 1));
    assert_non_null(arena_try_alloc(&a, 1024, 1));
    arena_dispose(&a);
}

static void refuses_sizes_that_overflow(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, SIZE_MAX);
    assert_null(arena_try_alloc(&a, SIZE_MAX / 2, 3));
    assert_null(arena_try_alloc(&a, SIZE_MAX, 1));
    assert_null(arena_try_alloc(&a, SIZE_MAX - 20, 1));
    assert_int_equal(a.used_bytes, 0);
    arena_dispose(&a);
}

static void reset_keeps_the_first_block_and_zeroes_again(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, SIZE_MAX);
    unsigned char *first = arena_alloc(&a, 64, 1);
    memset(first, 0xFF, 64);
    arena_alloc(&a, 1 << 20, 1);
    arena_alloc(&a, 1 << 20, 1);
    arena_reset(&a);
    assert_int_equal(a.used_bytes, 0);
    unsigned char *again = arena_alloc(&a, 64, 1);
    assert_ptr_equal(again, first);
    for (int i = 0; i < 64; i++) assert_int_equal(again[i], 0);
    arena_dispose(&a);
    arena_dispose(&a);
    assert_non_null(arena_try_alloc(&a, 1, 1)); /* usable again after dispose */
    arena_dispose(&a);
}

static void copies_and_prints_strings(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, SIZE_MAX);
    assert_string_equal(arena_strdup(&a, "abc"), "abc");
    assert_null(arena_strdup(&a, NULL));
    assert_string_equal(arena_strndup(&a, "abcdef", 3), "abc");
    assert_string_equal(arena_printf(&a, "%d-%s", 7, "x"), "7-x");
    assert_int_equal(strlen(arena_printf(&a, "%9000d", 1)), 9000);
    arena_dispose(&a);
}

static void a_failed_block_leaves_the_arena_whole(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, SIZE_MAX);
    for (int round = 0; round < 2; round++) {
        mem_fail_at(1, false);
        assert_null(arena_try_alloc(&a, 1 << 16, 1));
        mem_fail_at(0, false);
        assert_int_equal(a.used_bytes, (size_t)round * 16);
        assert_non_null(arena_try_alloc(&a, 1, 16));
    }
    arena_dispose(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_zeroed_aligned_pieces_that_do_not_overlap),
        cmocka_unit_test(refuses_to_go_beyond_its_limit),
        cmocka_unit_test(refuses_sizes_that_overflow),
        cmocka_unit_test(reset_keeps_the_first_block_and_zeroes_again),
        cmocka_unit_test(copies_and_prints_strings),
        cmocka_unit_test(a_failed_block_leaves_the_arena_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
