/* Sizes are checked before anything is allocated, and any allocation can be made to fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include <pthread.h>
#include "base/mem.h"

static void gives_zeroed_memory_even_for_nothing(void **state)
{
    (void)state;
    unsigned char *p = mem_try_alloc(100, 3);
    assert_non_null(p);
    for (int i = 0; i < 300; i++) assert_int_equal(p[i], 0);
    mem_free(p);
    void *none = mem_try_alloc(0, 8);
    assert_non_null(none);
    none = mem_try_realloc(none, 0, 8);
    assert_non_null(none);
    mem_free(none);
    mem_free(NULL);
}

static void refuses_sizes_that_overflow(void **state)
{
    (void)state;
    assert_null(mem_try_alloc(SIZE_MAX / 2, 3));
    assert_null(mem_try_alloc(SIZE_MAX, 1));
    assert_null(mem_try_realloc(NULL, SIZE_MAX / 8 + 1, 8));
    assert_null(mem_try_aligned(64, SIZE_MAX - 10));
    size_t out = 5;
    assert_true(mem_mul(3, 4, &out) && out == 12);
    assert_false(mem_mul(SIZE_MAX, 2, &out));
    assert_true(mem_add(3, 4, &out) && out == 7);
    assert_false(mem_add(SIZE_MAX, 1, &out));
}

static void aligns_as_asked(void **state)
{
    (void)state;
    for (size_t align = 16; align <= 4096; align *= 2) {
        unsigned char *p = mem_try_aligned(align, 100);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % align, 0);
        for (int i = 0; i < 100; i++) assert_int_equal(p[i], 0);
        mem_free(p);
    }
}

static void keeps_the_old_block_when_growing_fails(void **state)
{
    (void)state;
    char *p = mem_strdup("kept");
    mem_fail_at(1, false);
    assert_null(mem_try_realloc(p, 100, 1));
    assert_string_equal(p, "kept");
    mem_free(p);
}

static void fails_the_nth_call_once_or_for_good(void **state)
{
    (void)state;
    mem_fail_at(3, false);
    for (int i = 1; i <= 5; i++) {
        void *p = mem_try_alloc(1, 1);
        assert_true((p == NULL) == (i == 3));
        mem_free(p);
    }
    mem_fail_at(2, true);
    for (int i = 1; i <= 4; i++) {
        void *p = mem_try_aligned(16, 1);
        assert_true((p == NULL) == (i >= 2));
        mem_free(p);
    }
    void *sure = mem_alloc(1, 1); /* the dying manner is not under test, so it is not made to fail */
    mem_free(sure);
    mem_fail_at(0, false);
    void *p = mem_try_alloc(1, 1);
    assert_non_null(p);
    mem_free(p);
}

static void copies_strings(void **state)
{
    (void)state;
    assert_null(mem_strdup(NULL));
    assert_null(mem_strndup(NULL, 3));
    char *s = mem_strndup("abcdef", 3);
    assert_string_equal(s, "abc");
    mem_free(s);
}

/* Blocks of this size are kept when they are freed, and given out again. */
static void a_block_that_was_used_before_is_zeroed_again(void **state)
{
    (void)state;
    for (size_t bytes = 900; bytes < 80000; bytes += 777) {
        unsigned char *p = mem_alloc(1, bytes);
        memset(p, 0xA5, bytes);
        mem_free(p);
        p = mem_try_alloc(bytes, 1);
        for (size_t i = 0; i < bytes; i++) assert_int_equal(p[i], 0);
        mem_free(p);
    }
}

static void growing_step_by_step_keeps_what_was_written(void **state)
{
    (void)state;
    unsigned char *p = NULL;
    for (size_t bytes = 1; bytes < 200000; bytes += bytes / 3 + 1) {
        p = mem_try_realloc(p, bytes, 1);
        assert_non_null(p);
        size_t before = bytes == 1 ? 0 : (bytes - 1) * 3 / 4;
        for (size_t i = 0; i < before; i += 97) assert_int_equal(p[i], i % 251);
        for (size_t i = 0; i < bytes; i++) p[i] = (unsigned char)(i % 251);
        mem_free(mem_alloc(1, bytes)); /* what was given up is used by others in between */
    }
    p = mem_try_realloc(p, 2000, 1);
    for (size_t i = 0; i < 2000; i++) assert_int_equal(p[i], i % 251);
    mem_free(p);
}

static void *free_it(void *arg)
{
    mem_free(arg);
    mem_free(mem_alloc(1, 3000));
    return NULL;
}

static void a_block_may_be_freed_by_another_thread(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++) {
        pthread_t thread;
        char *p = mem_alloc(1, 3000);
        p[2999] = 1;
        assert_int_equal(pthread_create(&thread, NULL, free_it, p), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
    }
}

static void running_out_ends_the_process_with_the_status_that_was_asked_for(void **state)
{
    (void)state;
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        close(STDERR_FILENO);
        mem_exit_when_out(71);
        mem_free(mem_alloc(PTRDIFF_MAX / 2, 1));
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 71);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_zeroed_memory_even_for_nothing),
        cmocka_unit_test(refuses_sizes_that_overflow),
        cmocka_unit_test(aligns_as_asked),
        cmocka_unit_test(keeps_the_old_block_when_growing_fails),
        cmocka_unit_test(fails_the_nth_call_once_or_for_good),
        cmocka_unit_test(copies_strings),
        cmocka_unit_test(a_block_that_was_used_before_is_zeroed_again),
        cmocka_unit_test(growing_step_by_step_keeps_what_was_written),
        cmocka_unit_test(a_block_may_be_freed_by_another_thread),
        cmocka_unit_test(running_out_ends_the_process_with_the_status_that_was_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
