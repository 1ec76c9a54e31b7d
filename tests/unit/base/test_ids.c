/* Ids sort by creation, never repeat, and are told from what only looks like them. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/clock.h"
#include "base/ids.h"

static void ids_are_well_formed_and_grow(void **state)
{
    (void)state;
    char before[ID_MAX] = "", id[ID_MAX];
    for (int i = 0; i < 20000; i++) {
        id_new(id, "job_");
        assert_int_equal(strlen(id), 30);
        assert_true(id_valid(id, "job_"));
        assert_true(strcmp(before, id) < 0);
        memcpy(before, id, sizeof id);
    }
}

static void the_first_ten_characters_tell_the_time(void **state)
{
    (void)state;
    static const char alphabet[] = "0123456789abcdefghjkmnpqrstvwxyz";
    int64_t from = clock_wall_us() / 1000;
    char id[ID_MAX];
    id_new(id, "ten_");
    int64_t ms = 0;
    for (int i = 4; i < 14; i++) ms = ms * 32 + (strchr(alphabet, id[i]) - alphabet);
    assert_true(ms >= from && ms - from < 10000);
}

enum { THREADS = 4, PER_THREAD = 5000 };

static void *make_many(void *arg)
{
    char(*ids)[ID_MAX] = arg;
    for (int i = 0; i < PER_THREAD; i++) id_new(ids[i], "evt_");
    return NULL;
}

static int compare(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void threads_never_get_the_same_id(void **state)
{
    (void)state;
    char(*ids)[ID_MAX] = calloc(THREADS * PER_THREAD, ID_MAX);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, make_many, ids + i * PER_THREAD), 0);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    qsort(ids, THREADS * PER_THREAD, ID_MAX, compare);
    for (int i = 1; i < THREADS * PER_THREAD; i++) assert_string_not_equal(ids[i - 1], ids[i]);
    free(ids);
}

static void refuses_what_only_looks_like_an_id(void **state)
{
    (void)state;
    assert_true(id_valid("job_01jd8x00000000000000000000", "job_"));
    static const char *const bad[] = {
        "",
        "job_",
        "job_01jd8x0000000000000000000",
        "job_01jd8x000000000000000000000",
        "job_01JD8X00000000000000000000",
        "job_01jd8x0000000000000000000i",
        "job_01jd8x0000000000000000000l",
        "job_01jd8x0000000000000000000o",
        "job_01jd8x0000000000000000000u",
        "job_81jd8x00000000000000000000",
        "job_01jd8x000000000000000000 0",
        "ds_01jd8x00000000000000000000",
        "01jd8x00000000000000000000",
        "job_01jd8x0000000000000000\xC3\xA9"
        "00",
        " job_01jd8x00000000000000000000",
        "job_01jd8x00000000000000000000\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (id_valid(bad[i], "job_")) fail_msg("'%s' was accepted", bad[i]);
    assert_false(id_valid(NULL, "job_"));
}

static void names_are_short_lower_case_and_safe_in_paths(void **state)
{
    (void)state;
    static const char *const good[] = {"a", "0", "fashion-mnist", "v1.2_final", "a..b"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) assert_true(id_name_valid(good[i]));
    static const char *const bad[] = {"",    ".",   "..",  "-a",       "_a",   "A",
                                      "a b", "a/b", "a\n", "\xC3\xA9", "a%2f", "a:b"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (id_name_valid(bad[i])) fail_msg("'%s' was accepted", bad[i]);
    char name[66];
    memset(name, 'a', sizeof name);
    name[64] = '\0';
    assert_true(id_name_valid(name));
    name[64] = 'a';
    name[65] = '\0';
    assert_false(id_name_valid(name));
    assert_false(id_name_valid(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_well_formed_and_grow),
        cmocka_unit_test(the_first_ten_characters_tell_the_time),
        cmocka_unit_test(threads_never_get_the_same_id),
        cmocka_unit_test(refuses_what_only_looks_like_an_id),
        cmocka_unit_test(names_are_short_lower_case_and_safe_in_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
