/* API keys: their text, and who they turn out to belong to. */
#include "scene.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/fs.h"
#include "store/key.h"

/* ---- the text alone: no database is touched ---- */

static void a_formatted_key_parses_back_to_the_same_id_and_secret(void **state)
{
    (void)state;
    struct err e;
    uint8_t secret[KEY_SECRET_LEN], back[KEY_SECRET_LEN];
    char id[ID_MAX], id_back[ID_MAX], text[KEY_TEXT_MAX];
    for (int i = 0; i < 200; i++) {
        id_new(id, "key_");
        crypto_random(secret, sizeof secret);
        if (i < 3) memset(secret, i == 0 ? 0 : i == 1 ? 0xff : 1, sizeof secret);
        key_format(text, id, secret);
        assert_int_equal(strlen(text), 9 + 26 + 1 + 43 + 6);
        assert_ok(key_parse(id_back, back, text, strlen(text), &e), e);
        assert_string_equal(id_back, id);
        assert_memory_equal(back, secret, sizeof secret);
    }
}

static void every_single_character_change_is_caught_without_a_look_up(void **state)
{
    (void)state;
    struct err e;
    uint8_t secret[KEY_SECRET_LEN], back[KEY_SECRET_LEN];
    char id[ID_MAX], text[KEY_TEXT_MAX], bad[KEY_TEXT_MAX];
    id_new(id, "key_");
    crypto_random(secret, sizeof secret);
    key_format(text, id, secret);
    size_t len = strlen(text);
    for (size_t i = 0; i < len; i++) {
        for (const char *c = "0Az_ \x7f"; *c; c++) {
            if (text[i] == *c) continue;
            memcpy(bad, text, sizeof bad);
            bad[i] = *c;
            assert_err(ERR_UNAUTHORIZED, key_parse(id, back, bad, len, &e));
        }
    }
    assert_err(ERR_UNAUTHORIZED, key_parse(id, back, text, len - 1, &e));
    assert_err(ERR_UNAUTHORIZED, key_parse(id, back, text, len + 1, &e));
    assert_err(ERR_UNAUTHORIZED, key_parse(id, back, "", 0, &e));
    assert_null(strstr(e.message, text));
}

static void a_text_is_cut_into_its_parts_whatever_its_digits(void **state)
{
    (void)state;
    struct err e;
    struct key_parts parts;
    uint8_t secret[KEY_SECRET_LEN] = {9}, back[KEY_SECRET_LEN];
    char id[ID_MAX], text[KEY_TEXT_MAX];
    id_new(id, "key_");
    key_format(text, id, secret);
    size_t len = strlen(text);
    assert_true(key_split(&parts, text, len));
    assert_string_equal(parts.id, id);
    assert_ptr_equal(parts.secret + KEY_SECRET_TEXT_LEN, text + len);
    text[len - 1] = text[len - 1] == 'x' ? 'y' : 'x'; /* a wrong CRC is key_parse's to see */
    assert_true(key_split(&parts, text, len));
    assert_err(ERR_UNAUTHORIZED, key_parse(id, back, text, len, &e));
    assert_false(key_split(&parts, text, len - 1));
    assert_false(key_split(&parts, text, len + 1));
    for (size_t i = 0; i < 9; i++) {
        char was = text[i];
        text[i] = '-';
        assert_false(key_split(&parts, text, len));
        text[i] = was;
    }
    text[9 + 26] = '-';
    assert_false(key_split(&parts, text, len));
}

static void a_number_beyond_256_bits_is_no_secret_even_with_the_right_crc(void **state)
{
    (void)state;
    struct err e;
    uint8_t secret[KEY_SECRET_LEN] = {0}, back[KEY_SECRET_LEN];
    char id[ID_MAX], text[KEY_TEXT_MAX];
    const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    id_new(id, "key_");
    key_format(text, id, secret);
    memset(text + 36, 'z', 43);
    uint32_t crc = crypto_crc32(0, text, 79);
    for (int i = 84; i >= 79; i--, crc /= 62) text[i] = digits[crc % 62];
    assert_err(ERR_UNAUTHORIZED, key_parse(id, back, text, 85, &e));
}

static void scope_names_and_bits_are_each_others_inverse(void **state)
{
    (void)state;
    for (int i = 0; i < SCOPE_COUNT; i++) assert_int_equal(key_scope_of(key_scope_name(i)), 1u << i);
    assert_int_equal(key_scope_of("everything"), 0);
}

/* ---- keyrings ---- */

static void write_file(const char *name, const char *text, char path[200])
{
    struct err e;
    snprintf(path, 200, "%s/%s", pg_fixture_dir(), name);
    assert_ok(fs_write_atomic(path, text, strlen(text), 0600, &e), e);
}

#define HEX64 "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static void a_keyring_loads_and_names_the_line_that_is_wrong(void **state)
{
    (void)state;
    struct err e;
    struct keyring k;
    char root[200], peppers[200];
    write_file("root", HEX64 "\n", root);
    write_file("peppers", "# comment\n2:" HEX64 "\n\n7:" HEX64 "\n", peppers);
    assert_ok(keyring_load(&k, root, peppers, &e), e);
    assert_int_equal(k.n_peppers, 2);
    assert_int_equal(keyring_newest(&k), 7);
    assert_non_null(keyring_pepper(&k, 2));
    assert_null(keyring_pepper(&k, 3));
    write_file("peppers", "1:" HEX64 "\n1:" HEX64 "\n", peppers);
    assert_err(ERR_INVALID, keyring_load(&k, root, peppers, &e));
    assert_non_null(strstr(e.message, "line 2"));
    write_file("peppers", "\n", peppers);
    assert_err(ERR_INVALID, keyring_load(&k, root, peppers, &e));
    write_file("root", "abc", root);
    assert_err(ERR_INVALID, keyring_load(&k, root, NULL, &e));
    assert_string_equal(e.field, "root-key-file");
    write_file("root", "", root);
    assert_err(ERR_INVALID, keyring_load(&k, root, NULL, &e));
    assert_err(ERR_NOT_FOUND, keyring_load(&k, "/nonexistent/key", NULL, &e));
}

/* ---- with the database ---- */

static int create(const char *tenant_id, const struct key_new *in, struct api_key *out, char *secret,
                  struct err *e)
{
    assert_ok(db_begin(scene.gateway, tenant_id, e), *e);
    int rc =
        key_create(scene.gateway, pg_fixture_keyring(), in, &pg_fixture_actor, &scene.arena, out, secret, e);
    if (!rc)
        assert_ok(db_commit(scene.gateway, e), *e);
    else
        db_rollback(scene.gateway);
    return rc;
}

static int authenticate_with(struct db *db, const struct keyring *k, const char *text, struct key_auth *out)
{
    struct err e;
    assert_ok(db_begin_system(db, &e), e);
    int rc = key_authenticate(db, k, text, strlen(text), &scene.arena, out, &e);
    db_rollback(db);
    return rc;
}

static int authenticate(const char *text, struct key_auth *out)
{
    return authenticate_with(scene.gateway, pg_fixture_keyring(), text, out);
}

static void a_key_tells_its_tenant_scopes_models_and_plan(void **state)
{
    (void)state;
    struct err e;
    struct api_key key;
    struct key_auth who;
    char secret[KEY_TEXT_MAX];
    const char *const models[] = {"iris", "fashion.v2"};
    struct key_new in = {
        .name = "robot", .scopes = SCOPE_PREDICT | SCOPE_JOBS_READ, .models = models, .n_models = 2};
    assert_ok(create(scene.a.id, &in, &key, secret, &e), e);
    assert_int_equal(authenticate(secret, &who), 0);
    assert_string_equal(who.key.id, key.id);
    assert_string_equal(who.key.name, "robot");
    assert_int_equal(who.key.scopes, SCOPE_PREDICT | SCOPE_JOBS_READ);
    assert_int_equal(who.key.n_models, 2);
    assert_string_equal(who.key.models[0], "iris");
    assert_string_equal(who.key.models[1], "fashion.v2");
    assert_string_equal(who.tenant.id, scene.a.id);
    assert_string_equal(who.tenant.name, scene.a.name);
    assert_string_equal(who.tenant.plan.name, scene.a.plan.name);
    assert_int_equal(who.tenant.plan.requests_per_second, scene.a.plan.requests_per_second);
    assert_int_equal(authenticate_with(scene.worker, pg_fixture_keyring(), secret, &who), 0);
}

static void the_secret_is_stored_nowhere(void **state)
{
    (void)state;
    struct err e;
    struct api_key key;
    char secret[KEY_TEXT_MAX], sql[400];
    uint8_t bytes[KEY_SECRET_LEN];
    char id[ID_MAX], hex[SHA256_HEX_LEN];
    struct key_new in = {.name = "hidden", .scopes = SCOPE_ALL};
    assert_ok(create(scene.a.id, &in, &key, secret, &e), e);
    assert_ok(key_parse(id, bytes, secret, strlen(secret), &e), e);
    crypto_hex(hex, bytes, sizeof bytes);
    snprintf(sql, sizeof sql,
             "SELECT count(*) FROM api_keys k WHERE k::text LIKE '%%%s%%' OR k::text LIKE '%%%.43s%%'", hex,
             secret + 36);
    assert_int_equal(scene_number(sql), 0);
    snprintf(sql, sizeof sql,
             "SELECT count(*) FROM audit_log a WHERE a.object_id = '%s' AND a.type = 'key.created'", key.id);
    assert_int_equal(scene_number(sql), 1);
}

static void a_right_id_with_a_wrong_secret_is_nobody(void **state)
{
    (void)state;
    struct err e;
    struct api_key key;
    struct key_auth who;
    char secret[KEY_TEXT_MAX], forged[KEY_TEXT_MAX];
    uint8_t random[KEY_SECRET_LEN];
    struct key_new in = {.name = "forged", .scopes = SCOPE_ALL};
    assert_ok(create(scene.a.id, &in, &key, secret, &e), e);
    crypto_random(random, sizeof random);
    key_format(forged, key.id, random);
    assert_err(ERR_UNAUTHORIZED, authenticate(forged, &who));
    char unknown[ID_MAX];
    id_new(unknown, "key_");
    key_format(forged, unknown, random);
    assert_err(ERR_UNAUTHORIZED, authenticate(forged, &who));
    assert_err(ERR_UNAUTHORIZED, authenticate("Bearer what", &who));
}

static void a_pepper_that_is_gone_takes_its_keys_along_and_a_new_one_keeps_the_old(void **state)
{
    (void)state;
    struct err e;
    struct api_key key;
    struct key_auth who;
    char secret[KEY_TEXT_MAX];
    struct keyring k = *pg_fixture_keyring();
    struct key_new in = {.name = "peppered", .scopes = SCOPE_ALL};
    assert_ok(create(scene.a.id, &in, &key, secret, &e), e); /* under version 2 */
    k.pepper_version[k.n_peppers] = 3;
    crypto_random(k.pepper[k.n_peppers++], SHA256_LEN);
    assert_int_equal(authenticate_with(scene.gateway, &k, secret, &who), 0);
    k = *pg_fixture_keyring();
    k.n_peppers = 1;
    assert_err(ERR_UNAUTHORIZED, authenticate_with(scene.gateway, &k, secret, &who));
}

static void revoked_and_expired_keys_and_suspended_tenants_are_kept_out(void **state)
{
    (void)state;
    struct err e;
    struct api_key key;
    struct key_auth who;
    char secret[KEY_TEXT_MAX], sql[200];
    bool was_live;
    struct tenant t;
    scene_tenant(&t);
    struct key_new in = {.name = "short",
                         .scopes = SCOPE_ALL,
                         .expires_at_us = scene_number("SELECT us(now() + interval '1 hour')")};
    assert_ok(create(t.id, &in, &key, secret, &e), e);
    assert_int_equal(authenticate(secret, &who), 0);
    assert_int_equal(who.key.expires_at_us, in.expires_at_us);
    snprintf(sql, sizeof sql, "UPDATE api_keys SET expires_at = now() WHERE id = '%s'", key.id);
    pg_fixture_exec(sql);
    assert_err(ERR_UNAUTHORIZED, authenticate(secret, &who));

    in.expires_at_us = 0;
    assert_ok(create(t.id, &in, &key, secret, &e), e);
    assert_ok(db_begin_system(scene.admin, &e), e);
    assert_ok(tenant_suspend(scene.admin, t.id, true, &pg_fixture_actor, &e), e);
    assert_ok(db_commit(scene.admin, &e), e);
    assert_err(ERR_FORBIDDEN, authenticate(secret, &who));
    assert_ok(db_begin_system(scene.admin, &e), e);
    assert_ok(tenant_suspend(scene.admin, t.id, false, &pg_fixture_actor, &e), e);
    assert_ok(db_commit(scene.admin, &e), e);
    assert_int_equal(authenticate(secret, &who), 0);
    for (int i = 0; i < 2; i++) {
        assert_ok(db_begin(scene.gateway, t.id, &e), e);
        assert_ok(key_revoke(scene.gateway, key.id, &pg_fixture_actor, &was_live, &e), e);
        assert_ok(db_commit(scene.gateway, &e), e);
        assert_int_equal(was_live, i == 0);
    }
    assert_err(ERR_UNAUTHORIZED, authenticate(secret, &who));
}

static void a_principal_has_two_live_keys_at_most_and_a_plan_its_number(void **state)
{
    (void)state;
    struct err e;
    struct api_key first, key;
    char secret[KEY_TEXT_MAX];
    struct tenant t;
    scene_tenant(&t);
    t.plan.max_keys = 3;
    scene_plan(&t.plan);
    struct key_new in = {.name = "rotating", .scopes = SCOPE_PREDICT};
    assert_ok(create(t.id, &in, &first, secret, &e), e);
    assert_ok(create(t.id, &in, &key, secret, &e), e);
    assert_err(ERR_CONFLICT, create(t.id, &in, &key, secret, &e));
    assert_string_equal(e.field, "name");
    assert_ok(db_begin(scene.gateway, t.id, &e), e);
    assert_ok(key_revoke(scene.gateway, first.id, &pg_fixture_actor, NULL, &e), e);
    assert_ok(db_commit(scene.gateway, &e), e);
    assert_ok(create(t.id, &in, &key, secret, &e), e);
    in.name = "other";
    assert_ok(create(t.id, &in, &key, secret, &e), e);
    in.name = "third";
    assert_err(ERR_LIMIT, create(t.id, &in, &key, secret, &e));
    struct key_list list;
    assert_ok(db_begin(scene.gateway, t.id, &e), e);
    assert_ok(key_list(scene.gateway, &(struct page){.limit = 10}, &scene.arena, &list, &e), e);
    assert_int_equal(list.n, 4);
    assert_string_equal(list.items[0].id, key.id);
    assert_string_equal(list.items[3].id, first.id);
    assert_true(list.items[3].revoked_at_us > 0);
    db_rollback(scene.gateway);
}

static void what_no_key_can_be_is_refused_by_field(void **state)
{
    (void)state;
    struct err e;
    struct api_key key;
    char secret[KEY_TEXT_MAX];
    const char *const models[] = {"a,b"};
    const struct {
        struct key_new in;
        const char *field;
    } cases[] = {
        {{.name = "Capital", .scopes = SCOPE_ALL}, "name"},
        {{.name = "", .scopes = SCOPE_ALL}, "name"},
        {{.name = "ok", .scopes = 0}, "scopes"},
        {{.name = "ok", .scopes = 1u << SCOPE_COUNT}, "scopes"},
        {{.name = "ok", .scopes = SCOPE_ALL, .models = models, .n_models = 1}, "models"},
        {{.name = "ok", .scopes = SCOPE_ALL, .models = models, .n_models = 0}, "models"},
        {{.name = "ok", .scopes = SCOPE_ALL, .expires_at_us = 1000}, "expires_at"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_err(ERR_INVALID, create(scene.a.id, &cases[i].in, &key, secret, &e));
        assert_string_equal(e.field, cases[i].field);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_formatted_key_parses_back_to_the_same_id_and_secret),
        cmocka_unit_test(every_single_character_change_is_caught_without_a_look_up),
        cmocka_unit_test(a_text_is_cut_into_its_parts_whatever_its_digits),
        cmocka_unit_test(a_number_beyond_256_bits_is_no_secret_even_with_the_right_crc),
        cmocka_unit_test(scope_names_and_bits_are_each_others_inverse),
        cmocka_unit_test(a_keyring_loads_and_names_the_line_that_is_wrong),
        cmocka_unit_test(a_key_tells_its_tenant_scopes_models_and_plan),
        cmocka_unit_test(the_secret_is_stored_nowhere),
        cmocka_unit_test(a_right_id_with_a_wrong_secret_is_nobody),
        cmocka_unit_test(a_pepper_that_is_gone_takes_its_keys_along_and_a_new_one_keeps_the_old),
        cmocka_unit_test(revoked_and_expired_keys_and_suspended_tenants_are_kept_out),
        cmocka_unit_test(a_principal_has_two_live_keys_at_most_and_a_plan_its_number),
        cmocka_unit_test(what_no_key_can_be_is_refused_by_field),
    };
    return cmocka_run_group_tests(tests, scene_up, scene_down);
}
