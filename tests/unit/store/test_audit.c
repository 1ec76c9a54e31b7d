/* The audit trail: sealed into a chain, and any tampering found at its first row. */
#include "scene.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include "store/audit.h"

static void append(const char *tenant_id, const char *type, const char *data)
{
    struct err e;
    struct actor by = {"key", "key_x"};
    assert_ok(db_begin(scene.gateway, tenant_id, &e), e);
    assert_ok(audit_append(scene.gateway, NULL, type, &by, "thing", data, &e), e);
    assert_ok(db_commit(scene.gateway, &e), e);
}

static int64_t seal(void)
{
    struct err e;
    int64_t n;
    assert_ok(audit_seal(scene.scheduler, &n, &e), e);
    return n;
}

static struct audit_verdict verify(const char *tenant_id)
{
    struct err e;
    struct audit_verdict v;
    assert_ok(db_begin(scene.gateway, tenant_id, &e), e);
    assert_ok(audit_verify(scene.gateway, &v, &e), e);
    db_rollback(scene.gateway);
    return v;
}

/* A tenant with n rows besides its creation, sealed. ids: of all rows by number, from 1. */
static void chain(struct tenant *t, int n, char ids[][ID_MAX])
{
    struct err e;
    struct audit_list list;
    scene_tenant(t);
    for (int i = 0; i < n; i++) append(t->id, "thing.done", "{\"k\":1}");
    seal();
    assert_ok(db_begin(scene.gateway, t->id, &e), e);
    assert_ok(audit_list(scene.gateway, &(struct page){.limit = 100}, NULL, &scene.arena, &list, &e), e);
    db_rollback(scene.gateway);
    assert_int_equal(list.n, n + 1);
    for (int i = 0; i < list.n; i++) memcpy(ids[list.items[i].seq], list.items[i].id, ID_MAX);
}

static void rows_are_unsealed_first_then_numbered_and_chained(void **state)
{
    (void)state;
    struct err e;
    struct tenant t;
    struct audit_list list;
    scene_tenant(&t);
    append(t.id, "a.b", "{ \"spacing\" :  \"kept\" }");
    struct audit_verdict v = verify(t.id);
    assert_true(v.verified);
    assert_int_equal(v.rows, 0);
    assert_int_equal(v.unsealed, 2);
    assert_true(seal() >= 2);
    assert_int_equal(seal(), 0);
    append(t.id, "a.c", NULL);
    seal();
    v = verify(t.id);
    assert_true(v.verified);
    assert_int_equal(v.rows, 3);
    assert_int_equal(v.unsealed, 0);
    assert_string_equal(v.first_bad, "");
    assert_ok(db_begin(scene.gateway, t.id, &e), e);
    assert_ok(audit_list(scene.gateway, &(struct page){.limit = 10}, NULL, &scene.arena, &list, &e), e);
    for (int i = 0; i < 3; i++) assert_int_equal(list.items[i].seq, 3 - i);
    assert_string_equal(list.items[1].data, "{ \"spacing\" :  \"kept\" }");
    assert_int_equal(strlen(list.items[1].hash), 64);
    assert_ok(audit_list(scene.gateway, &(struct page){.limit = 10}, "a.c", &scene.arena, &list, &e), e);
    assert_int_equal(list.n, 1);
    db_rollback(scene.gateway);
}

/* Tampering as somebody who owns the machine would do it: with the triggers off. */
static void tamper(const char *sql)
{
    char text[600];
    snprintf(text, sizeof text, "SET LOCAL session_replication_role = replica; %s", sql);
    pg_fixture_exec(text);
}

static void a_changed_field_is_found_at_its_row(void **state)
{
    (void)state;
    struct tenant t;
    char ids[8][ID_MAX], sql[300];
    const char *const changes[] = {
        "type = 'thing.undone'",
        "actor_type = 'operator'",
        "actor_id = 'somebody'",
        "object_id = 'another'",
        "data = '{\"k\":2}'",
        "created_at = created_at + interval '1 microsecond'",
        "hash = sha256('x')",
        "prev_hash = sha256('x')",
        "actor_type = actor_type || actor_id, actor_id = ''",
    };
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        chain(&t, 5, ids);
        assert_true(verify(t.id).verified);
        snprintf(sql, sizeof sql, "UPDATE audit_log SET %s WHERE id = '%s'", changes[i], ids[4]);
        tamper(sql);
        struct audit_verdict v = verify(t.id);
        assert_false(v.verified);
        assert_string_equal(v.first_bad, ids[4]);
        assert_int_equal(v.first_bad_seq, 4);
    }
}

static void a_removed_row_is_found_at_the_next(void **state)
{
    (void)state;
    struct tenant t;
    char ids[8][ID_MAX], sql[300];
    chain(&t, 5, ids);
    snprintf(sql, sizeof sql, "DELETE FROM audit_log WHERE id = '%s'", ids[3]);
    tamper(sql);
    struct audit_verdict v = verify(t.id);
    assert_false(v.verified);
    assert_string_equal(v.first_bad, ids[4]);
    assert_int_equal(v.rows, 2);
}

static void removed_last_rows_and_rows_behind_the_end_are_found_at_the_head(void **state)
{
    (void)state;
    struct tenant t;
    char ids[8][ID_MAX], sql[300];
    chain(&t, 3, ids);
    snprintf(sql, sizeof sql, "DELETE FROM audit_log WHERE id = '%s'", ids[4]);
    tamper(sql);
    assert_string_equal(verify(t.id).first_bad, "head");
    chain(&t, 3, ids);
    snprintf(sql, sizeof sql,
             "UPDATE audit_heads SET seq = 3, hash = (SELECT hash FROM audit_log WHERE id = '%s') WHERE "
             "tenant_id = '%s'",
             ids[3], t.id);
    tamper(sql);
    assert_string_equal(verify(t.id).first_bad, "head");
    chain(&t, 3, ids);
    snprintf(sql, sizeof sql, "DELETE FROM audit_log WHERE tenant_id = '%s'", t.id);
    tamper(sql);
    assert_string_equal(verify(t.id).first_bad, "head");
}

static void swapped_rows_are_found(void **state)
{
    (void)state;
    struct tenant t;
    char ids[8][ID_MAX], sql[400];
    chain(&t, 5, ids);
    snprintf(sql, sizeof sql,
             "UPDATE audit_log SET seq = 100 WHERE id = '%s'; UPDATE audit_log SET seq = 3 WHERE id = '%s'; "
             "UPDATE audit_log SET seq = 4 WHERE id = '%s'",
             ids[3], ids[4], ids[3]);
    tamper(sql);
    struct audit_verdict v = verify(t.id);
    assert_string_equal(v.first_bad, ids[4]);
    assert_int_equal(v.first_bad_seq, 3);
}

static void no_role_of_the_application_can_change_or_remove_a_row_or_seal_its_own(void **state)
{
    (void)state;
    struct err e;
    struct tenant t;
    char ids[8][ID_MAX], sql[400];
    chain(&t, 2, ids);
    append(t.id, "open", NULL);
    const char *const changes[] = {
        "UPDATE audit_log SET type = 'x'",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "UPDATE audit_log SET seq = seq + 10 WHERE seq IS NOT NULL",
        "UPDATE audit_heads SET seq = seq - 1",
    };
    struct db *roles[] = {scene.gateway, scene.worker, scene.scheduler, scene.admin};
    for (int r = 0; r < 4; r++) {
        for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
            if (r >= 2 && i == 4) continue; /* the sealer moves the head */
            assert_ok(db_begin(roles[r], t.id, &e), e);
            assert_int_not_equal(db_exec_text(roles[r], changes[i], &e), 0);
            db_rollback(roles[r]);
        }
    }
    snprintf(sql, sizeof sql,
             "INSERT INTO audit_log (tenant_id, id, type, actor_type, actor_id, object_id, data, seq, "
             "prev_hash, hash) SELECT "
             "'%s', 'aud_00000000000000000000000000', 'x', 'x', '', '', '{}', 9, sha256('x'), sha256('x')",
             t.id);
    for (int r = 0; r < 4; r++) {
        assert_ok(db_begin(roles[r], t.id, &e), e);
        assert_int_not_equal(db_exec_text(roles[r], sql, &e), 0);
        db_rollback(roles[r]);
    }
    /* Nor the superuser, while the triggers stand. */
    struct db *super = pg_fixture_open(PG_SUPER);
    for (int i = 0; i < 4; i++) {
        assert_ok(db_begin_system(super, &e), e);
        assert_err(ERR_CONFLICT, db_exec_text(super, changes[i], &e));
        db_rollback(super);
    }
    db_free(super);
}

static void *seal_often(void *arg)
{
    struct err e;
    int64_t n, *total = arg;
    struct db *db = pg_fixture_open(PG_SCHEDULER);
    for (int i = 0; i < 30; i++)
        if (audit_seal(db, &n, &e) == 0)
            *total += n;
        else
            *total = INT64_MIN / 2;
    db_free(db);
    return NULL;
}

static void several_sealers_beside_writers_make_one_chain(void **state)
{
    (void)state;
    struct tenant t;
    pthread_t threads[3];
    int64_t sealed[3] = {0};
    scene_tenant(&t);
    seal();
    for (int i = 0; i < 3; i++) pthread_create(&threads[i], NULL, seal_often, &sealed[i]);
    for (int i = 0; i < 60; i++) append(t.id, "busy", NULL);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    int64_t rest = seal();
    assert_int_equal(sealed[0] + sealed[1] + sealed[2] + rest, 60);
    struct audit_verdict v = verify(t.id);
    assert_true(v.verified);
    assert_int_equal(v.rows, 61);
    assert_int_equal(v.unsealed, 0);
}

static void a_rolled_back_change_leaves_no_trace(void **state)
{
    (void)state;
    struct err e;
    int64_t before = scene_number("SELECT count(*) FROM audit_log");
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_ok(audit_append(scene.gateway, NULL, "never", &pg_fixture_actor, NULL, NULL, &e), e);
    db_rollback(scene.gateway);
    assert_int_equal(scene_number("SELECT count(*) FROM audit_log"), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_unsealed_first_then_numbered_and_chained),
        cmocka_unit_test(a_changed_field_is_found_at_its_row),
        cmocka_unit_test(a_removed_row_is_found_at_the_next),
        cmocka_unit_test(removed_last_rows_and_rows_behind_the_end_are_found_at_the_head),
        cmocka_unit_test(swapped_rows_are_found),
        cmocka_unit_test(no_role_of_the_application_can_change_or_remove_a_row_or_seal_its_own),
        cmocka_unit_test(several_sealers_beside_writers_make_one_chain),
        cmocka_unit_test(a_rolled_back_change_leaves_no_trace),
    };
    return cmocka_run_group_tests(tests, scene_up, scene_down);
}
