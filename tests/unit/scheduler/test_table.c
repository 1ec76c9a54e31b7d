/* The scheduler's hash table against a plain array. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include "base/err.h"
#include "base/mem.h"
#include "scheduler/table.h"

enum { KEYS = 500, STEPS = 20000 };

struct item {
    char key[16];
    bool in;
};

static void it_agrees_with_an_array_through_random_puts_and_removes(void **state)
{
    (void)state;
    static struct item items[KEYS];
    struct table t = {0};
    uint64_t random = 7;
    size_t len = 0;
    for (int i = 0; i < KEYS; i++) snprintf(items[i].key, sizeof items[i].key, "job_%d", i);
    for (int i = 0; i < STEPS; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        struct item *it = &items[(random >> 33) % KEYS];
        if (it->in) {
            table_remove(&t, it->key);
            len--;
        } else {
            assert_int_equal(table_put(&t, it->key, it), 0);
            len++;
        }
        it->in = !it->in;
        assert_int_equal(t.len, len);
        const struct item *probe = &items[(random >> 20) % KEYS];
        assert_ptr_equal(table_find(&t, probe->key), probe->in ? probe : NULL);
    }
    for (int i = 0; i < KEYS; i++)
        assert_ptr_equal(table_find(&t, items[i].key), items[i].in ? &items[i] : NULL);
    table_dispose(&t);
}

static void a_walk_meets_each_value_once(void **state)
{
    (void)state;
    static struct item items[100];
    struct table t = {0};
    for (int i = 0; i < 100; i++) {
        snprintf(items[i].key, sizeof items[i].key, "k%d", i);
        assert_int_equal(table_put(&t, items[i].key, &items[i]), 0);
    }
    size_t cursor = 0, met = 0;
    struct item *it;
    while ((it = table_next(&t, &cursor)) != NULL) {
        assert_false(it->in);
        it->in = true;
        met++;
    }
    assert_int_equal(met, 100);
    table_dispose(&t);
}

static void without_memory_it_keeps_what_it_has(void **state)
{
    (void)state;
    struct table t = {0};
    static struct item items[64];
    mem_fail_at(1, false);
    assert_int_equal(table_put(&t, "first", &items[0]), ERR_NOMEM);
    int failed = 0;
    for (int i = 0; i < 64; i++) {
        snprintf(items[i].key, sizeof items[i].key, "k%d", i);
        mem_fail_at(i > 40 ? 1 : 0, true);
        if (table_put(&t, items[i].key, &items[i]) != 0) failed++;
    }
    mem_fail_at(0, false);
    assert_true(failed > 0);
    assert_ptr_equal(table_find(&t, "k40"), &items[40]);
    assert_int_equal(t.len, 64 - (size_t)failed);
    table_dispose(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_agrees_with_an_array_through_random_puts_and_removes),
        cmocka_unit_test(a_walk_meets_each_value_once),
        cmocka_unit_test(without_memory_it_keeps_what_it_has),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
