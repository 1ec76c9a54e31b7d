/* Keys on their way in: the header's form, the cache of verified and refused keys, and what drops them. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "base/crypto.h"
#include "gateway/auth.h"
#include "gateway/key_cache.h"
#include "gateway/principal.h"

static int64_t fake_ms;

static int64_t fake_now(void)
{
    return fake_ms;
}

struct fixture {
    struct key_cache *cache;
    struct principal *who;
    uint8_t mac[SHA256_LEN];
};

static struct principal *principal_of(const char *key_id, const char *tenant_id, const char *const *models,
                                      int n)
{
    struct key_auth auth = {.key = {.scopes = SCOPE_PREDICT, .models = models, .n_models = n}};
    snprintf(auth.key.id, sizeof(auth.key.id), "%s", key_id);
    snprintf(auth.tenant.id, sizeof(auth.tenant.id), "%s", tenant_id);
    return principal_create(&auth);
}

static int setup(void **state)
{
    static struct fixture f;
    fake_ms = 1000;
    f.cache = key_cache_create(fake_now);
    f.who = principal_of("key_a", "ten_a", NULL, 0);
    key_cache_mac(f.cache, f.mac, "secret of a", 11);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    key_cache_free(f->cache);
    assert_int_equal(atomic_load(&f->who->refs), 1); /* the cache gave back what it held */
    principal_release(f->who);
    return 0;
}

static enum key_cache_result look(struct fixture *f, const char *key_id)
{
    struct principal *found;
    enum key_cache_result result = key_cache_find(f->cache, key_id, f->mac, &found);
    assert_true((found != NULL) == (result == KEY_CACHE_HIT));
    principal_release(found);
    return result;
}

static void bearer_is_read_whatever_its_case_and_blanks(void **state)
{
    (void)state;
    assert_string_equal(auth_bearer("Bearer abc"), "abc");
    assert_string_equal(auth_bearer("bEARER   abc"), "abc");
    assert_null(auth_bearer("Bearer "));
    assert_null(auth_bearer("Bearer"));
    assert_null(auth_bearer("Basic abc"));
    assert_null(auth_bearer("abc"));
    assert_null(auth_bearer(""));
}

static void a_key_is_known_until_its_time_is_up(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(look(f, "key_a"), KEY_CACHE_MISS);
    key_cache_add(f->cache, f->mac, f->who, key_cache_epoch(f->cache));
    assert_int_equal(look(f, "key_a"), KEY_CACHE_HIT);
    fake_ms += KEY_CACHE_LIFE_MS - 1;
    assert_int_equal(look(f, "key_a"), KEY_CACHE_HIT);
    fake_ms += 1;
    assert_int_equal(look(f, "key_a"), KEY_CACHE_MISS);
}

static void the_same_id_with_another_secret_is_refused(void **state)
{
    struct fixture *f = *state;
    key_cache_add(f->cache, f->mac, f->who, key_cache_epoch(f->cache));
    f->mac[31] ^= 1;
    assert_int_equal(look(f, "key_a"), KEY_CACHE_REFUSED);
    f->mac[31] ^= 1;
    assert_int_equal(look(f, "key_a"), KEY_CACHE_HIT);
}

static void a_dropped_key_is_gone_at_once_and_others_stay(void **state)
{
    struct fixture *f = *state;
    struct principal *other = principal_of("key_b", "ten_b", NULL, 0);
    key_cache_add(f->cache, f->mac, f->who, key_cache_epoch(f->cache));
    key_cache_add(f->cache, f->mac, other, key_cache_epoch(f->cache));
    key_cache_drop_key(f->cache, "key_a");
    assert_int_equal(look(f, "key_a"), KEY_CACHE_MISS);
    assert_int_equal(look(f, "key_b"), KEY_CACHE_HIT);
    key_cache_drop_tenant(f->cache, "ten_a");
    assert_int_equal(look(f, "key_b"), KEY_CACHE_HIT);
    key_cache_drop_tenant(f->cache, "ten_b");
    assert_int_equal(look(f, "key_b"), KEY_CACHE_MISS);
    principal_release(other);
}

static void an_answer_from_before_a_drop_is_not_remembered(void **state)
{
    struct fixture *f = *state;
    uint64_t epoch = key_cache_epoch(f->cache);
    key_cache_drop_key(f->cache, "key_a");
    key_cache_add(f->cache, f->mac, f->who, epoch);
    assert_int_equal(look(f, "key_a"), KEY_CACHE_MISS);
}

static void a_refused_key_is_refused_for_a_moment(void **state)
{
    struct fixture *f = *state;
    key_cache_refuse(f->cache, f->mac);
    assert_int_equal(look(f, "key_x"), KEY_CACHE_REFUSED);
    fake_ms += KEY_CACHE_REFUSED_MS;
    assert_int_equal(look(f, "key_x"), KEY_CACHE_MISS);
}

static void more_keys_than_fit_push_out_the_oldest(void **state)
{
    struct fixture *f = *state;
    char id[ID_MAX];
    key_cache_add(f->cache, f->mac, f->who, key_cache_epoch(f->cache));
    for (int i = 0; i < 20000; i++) {
        fake_ms += i % 50 == 0;
        snprintf(id, sizeof(id), "key_%d", i);
        struct principal *p = principal_of(id, "ten_z", NULL, 0);
        key_cache_add(f->cache, f->mac, p, key_cache_epoch(f->cache));
        assert_int_equal(look(f, id), KEY_CACHE_HIT);
        principal_release(p);
    }
    assert_int_equal(look(f, "key_a"), KEY_CACHE_MISS);
}

static void macs_differ_between_processes(void **state)
{
    struct fixture *f = *state;
    uint8_t mac[SHA256_LEN];
    struct key_cache *other = key_cache_create(fake_now);
    key_cache_mac(other, mac, "secret of a", 11);
    assert_memory_not_equal(mac, f->mac, SHA256_LEN);
    key_cache_free(other);
}

static void an_allow_list_allows_what_it_lists(void **state)
{
    (void)state;
    const char *models[] = {"one", "two"};
    struct principal *bound = principal_of("key_m", "ten_m", models, 2),
                     *freed = principal_of("key_n", "ten_m", NULL, 0);
    assert_true(principal_may_call(bound, "two"));
    assert_false(principal_may_call(bound, "three"));
    assert_true(principal_may_call(freed, "three"));
    principal_release(bound);
    principal_release(freed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bearer_is_read_whatever_its_case_and_blanks, setup, teardown),
        cmocka_unit_test_setup_teardown(a_key_is_known_until_its_time_is_up, setup, teardown),
        cmocka_unit_test_setup_teardown(the_same_id_with_another_secret_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_dropped_key_is_gone_at_once_and_others_stay, setup, teardown),
        cmocka_unit_test_setup_teardown(an_answer_from_before_a_drop_is_not_remembered, setup, teardown),
        cmocka_unit_test_setup_teardown(a_refused_key_is_refused_for_a_moment, setup, teardown),
        cmocka_unit_test_setup_teardown(more_keys_than_fit_push_out_the_oldest, setup, teardown),
        cmocka_unit_test_setup_teardown(macs_differ_between_processes, setup, teardown),
        cmocka_unit_test_setup_teardown(an_allow_list_allows_what_it_lists, setup, teardown),
    };
    crypto_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
