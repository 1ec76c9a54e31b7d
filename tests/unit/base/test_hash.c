/* The hash of tables, against its published vectors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "base/hash.h"
#include "base/ids.h"

static void texts_and_bytes_hash_as_published(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t hash;
    } vector[] = {{"", 0xcbf29ce484222325u}, {"a", 0xaf63dc4c8601ec8cu}, {"foobar", 0x85944171f73967e8u}};
    for (size_t i = 0; i < sizeof vector / sizeof *vector; i++) {
        assert_int_equal(hash_text(HASH_START, vector[i].text), vector[i].hash);
        assert_int_equal(hash_bytes(HASH_START, vector[i].text, strlen(vector[i].text)), vector[i].hash);
    }
    assert_int_equal(hash_text(hash_text(HASH_START, "foo"), "bar"), vector[2].hash);
}

static void a_byte_above_127_is_the_same_in_a_text(void **state)
{
    (void)state;
    assert_int_equal(hash_text(HASH_START, "\xc3\xa9"), hash_bytes(HASH_START, "\xc3\xa9", 2));
}

static void hashes_spread_ids_that_differ_little(void **state)
{
    (void)state;
    enum { IDS = 4096, BUCKETS = 512 };
    static int held[BUCKETS];
    char id[ID_MAX];
    for (int i = 0; i < IDS; i++) {
        id_new(id, "ten_"); /* within a millisecond they count up */
        held[hash_fold(hash_id(HASH_START, id)) % BUCKETS]++;
    }
    for (int i = 0; i < BUCKETS; i++) assert_in_range(held[i], 0, 4 * IDS / BUCKETS);
    assert_true(hash_id(HASH_START, "abcdefgh") != hash_id(HASH_START, "abcdefgi"));
    assert_true(hash_id(HASH_START, "a") != hash_id(HASH_START, "b"));
    assert_true(hash_id(hash_id(HASH_START, "a"), "b") != hash_id(hash_id(HASH_START, "b"), "a"));
    memcpy(id, "same text", 10);
    assert_true(hash_id(7, id) == hash_id(7, "same text"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_and_bytes_hash_as_published),
        cmocka_unit_test(a_byte_above_127_is_the_same_in_a_text),
        cmocka_unit_test(hashes_spread_ids_that_differ_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
