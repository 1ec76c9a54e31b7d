/* A model's settings: under an etag, bounded, audited; which versions its policy serves; and versions that
 * are deleted. */
#include "scene.h"

#include <stdio.h>
#include <string.h>
#include "store/alias.h"
#include "store/audit.h"
#include "store/model.h"
#include "store/version.h"

enum { VERSIONS = 5 };
static struct job_ended v[VERSIONS + 1];
static const struct model_settings defaults = {.batching = {.max_queue_delay_us = -1}};

static int five_versions(void **state)
{
    scene_up(state);
    for (int i = 1; i <= VERSIONS; i++) scene_train(scene.a.id, scene.dataset, "iris", &v[i]);
    return 0;
}

static int set(const struct model_settings *s, int64_t etag, struct model *out, struct err *e)
{
    return model_set(scene.gateway, "iris", s, etag, &pg_fixture_actor, &scene.arena, out, e);
}

static struct model_settings latest(int64_t n)
{
    struct model_settings s = defaults;
    s.policy.kind = VERSIONS_LATEST;
    s.policy.num_versions = n;
    return s;
}

static struct model_settings specific(int n, const int64_t *numbers)
{
    struct model_settings s = defaults;
    s.policy.kind = VERSIONS_SPECIFIC;
    s.policy.n_versions = n;
    for (int i = 0; i < n; i++) s.policy.versions[i] = numbers[i];
    return s;
}

static void point(const char *alias, int64_t version, int64_t canary)
{
    struct err e;
    struct alias al;
    struct alias_target to = {.version = version, .canary = canary, .canary_ppm = canary ? 1000 : 0};
    assert_ok(alias_set(scene.gateway, "iris", alias, &to, -1, &pg_fixture_actor, &al, &e), e);
}

/* The versions that answer, as digits: "1345". */
static const char *served(void)
{
    static char text[16];
    struct err e;
    struct version_list list;
    size_t n = 0;
    assert_ok(version_list(scene.gateway, "iris", &(struct page){.limit = 100}, &scene.arena, &list, &e), e);
    for (int i = list.n - 1; i >= 0; i--)
        if (list.items[i].served) text[n++] = (char)('0' + list.items[i].number);
    text[n] = '\0';
    return text;
}

static void a_new_model_serves_everything_and_has_no_batching_of_its_own(void **state)
{
    (void)state;
    struct err e;
    struct model m;
    assert_ok(model_find(scene.gateway, "iris", &scene.arena, &m, &e), e);
    assert_int_equal(m.etag, 1);
    assert_int_equal(m.settings.batching.max_batch_rows, 0);
    assert_int_equal(m.settings.batching.max_queue_delay_us, -1);
    assert_int_equal(m.settings.policy.kind, VERSIONS_ALL);
    assert_string_equal(served(), "12345");
}

static void settings_are_kept_shown_and_audited(void **state)
{
    (void)state;
    struct err e;
    struct model m, read;
    struct version found;
    struct audit_list audit;
    struct model_settings s = specific(2, (const int64_t[]){2, 4});
    s.batching = (struct model_batching){.max_batch_rows = 64, .max_queue_delay_us = 0};
    assert_ok(set(&s, 1, &m, &e), e);
    assert_int_equal(m.etag, 2);
    assert_ok(model_find(scene.gateway, "iris", &scene.arena, &read, &e), e);
    assert_int_equal(read.etag, 2);
    assert_int_equal(read.settings.batching.max_batch_rows, 64);
    assert_int_equal(read.settings.batching.max_queue_delay_us, 0);
    assert_int_equal(read.settings.policy.kind, VERSIONS_SPECIFIC);
    assert_int_equal(read.settings.policy.n_versions, 2);
    assert_int_equal(read.settings.policy.versions[1], 4);
    assert_ok(version_find(scene.gateway, "iris", 4, NULL, &scene.arena, &found, &e), e);
    assert_int_equal(found.batching.max_batch_rows, 64);
    assert_ok(audit_list(scene.gateway, &(struct page){.limit = 1}, "model.set", &scene.arena, &audit, &e),
              e);
    assert_string_equal(audit.items[0].data,
                        "{\"model\":\"iris\",\"batching\":{\"max_batch_rows\":64,\"max_queue_delay_us\":0},"
                        "\"version_policy\":{\"specific\":{\"versions\":[2,4]}}}");
    assert_ok(set(&defaults, -1, &m, &e), e);
    assert_ok(model_find(scene.gateway, "iris", &scene.arena, &read, &e), e);
    assert_int_equal(read.settings.policy.kind, VERSIONS_ALL);
    assert_int_equal(read.settings.batching.max_queue_delay_us, -1);
}

static void what_is_set_already_changes_nothing(void **state)
{
    (void)state;
    struct err e;
    struct model m;
    struct audit_list audit;
    struct model_settings s = latest(2);
    assert_ok(set(&s, -1, &m, &e), e);
    int64_t etag = m.etag;
    assert_ok(set(&s, -1, &m, &e), e);
    assert_int_equal(m.etag, etag);
    assert_ok(set(&s, etag - 1, &m, &e), e); /* asked again, since the first answer was lost */
    assert_int_equal(m.etag, etag);
    assert_ok(audit_list(scene.gateway, &(struct page){.limit = 9}, "model.set", &scene.arena, &audit, &e),
              e);
    assert_int_equal(audit.n, 1);
}

static void a_change_under_an_old_etag_is_refused(void **state)
{
    (void)state;
    struct err e;
    struct model m;
    struct model_settings s = latest(2);
    assert_ok(set(&s, 1, &m, &e), e);
    s = latest(3);
    assert_err(ERR_CONFLICT, set(&s, 1, &m, &e));
    assert_string_equal(e.field, "etag");
    assert_ok(set(&s, 2, &m, &e), e);
}

static void values_out_of_bounds_are_refused_by_path(void **state)
{
    (void)state;
    static const struct {
        struct model_batching batching;
        const char *field;
    } wrong[] = {{{.max_batch_rows = 4097}, "batching.max_batch_rows"},
                 {{.max_batch_rows = -1}, "batching.max_batch_rows"},
                 {{.max_queue_delay_us = 100001}, "batching.max_queue_delay_us"}};
    struct err e;
    struct model m;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct model_settings s = {.batching = wrong[i].batching};
        assert_err(ERR_INVALID, set(&s, -1, &m, &e));
        assert_string_equal(e.field, wrong[i].field);
    }
    struct model_settings s = latest(0);
    assert_err(ERR_INVALID, set(&s, -1, &m, &e));
    assert_string_equal(e.field, "version_policy.latest.num_versions");
    s = specific(0, NULL);
    assert_err(ERR_INVALID, set(&s, -1, &m, &e));
    assert_string_equal(e.field, "version_policy.specific.versions");
    s = specific(2, (const int64_t[]){1, 9});
    assert_err(ERR_INVALID, set(&s, -1, &m, &e));
    assert_string_equal(e.field, "version_policy.specific.versions[1]");
    assert_err(ERR_NOT_FOUND,
               model_set(scene.gateway, "rose", &defaults, -1, &pg_fixture_actor, &scene.arena, &m, &e));
    assert_string_equal(e.field, "model");
}

static void a_policy_serves_what_it_names_and_what_aliases_point_at(void **state)
{
    (void)state;
    struct err e;
    struct model m;
    struct model_settings s = latest(2);
    assert_ok(set(&s, -1, &m, &e), e);
    assert_string_equal(served(), "145"); /* live points at 1 */
    point("live", 4, 0);
    assert_string_equal(served(), "145"); /* 1 is what a rollback goes back to */
    point("live", 5, 3);
    assert_string_equal(served(), "345");
    s = specific(1, (const int64_t[]){2});
    assert_ok(set(&s, -1, &m, &e), e);
    assert_string_equal(served(), "2345");
    assert_ok(set(&defaults, -1, &m, &e), e);
    assert_string_equal(served(), "12345");
}

static void a_version_that_is_not_served_is_in_the_registry_and_says_why(void **state)
{
    (void)state;
    struct err e;
    struct model m;
    struct version found;
    struct model_settings s = latest(1);
    assert_ok(set(&s, -1, &m, &e), e);
    assert_ok(version_find(scene.gateway, "iris", 3, NULL, &scene.arena, &found, &e), e);
    assert_err(ERR_NOT_FOUND, version_require_served(&found, &e));
    assert_string_equal(e.field, "version_policy");
    assert_non_null(strstr(e.message, "version 3 is not served"));
    assert_ok(set(&defaults, -1, &m, &e), e);
    assert_ok(version_find(scene.gateway, "iris", 3, NULL, &scene.arena, &found, &e), e);
    assert_ok(version_require_served(&found, &e), e);
}

static int erase(int64_t number, struct err *e)
{
    char id[ID_MAX];
    return version_delete(scene.gateway, "iris", number, &pg_fixture_actor, id, e);
}

static void a_version_that_an_alias_needs_stays(void **state)
{
    (void)state;
    struct err e;
    point("live", 2, 3); /* 1 came before */
    for (int64_t i = 1; i <= 3; i++) {
        assert_err(ERR_CONFLICT, erase(i, &e));
        assert_non_null(strstr(e.message, "the alias live"));
    }
    assert_err(ERR_NOT_FOUND, erase(9, &e));
    assert_string_equal(e.field, "version");
    assert_err(ERR_NOT_FOUND,
               version_delete(scene.gateway, "rose", 1, &pg_fixture_actor, (char[ID_MAX]){0}, &e));
    assert_string_equal(e.field, "model");
}

static void a_version_that_a_job_reads_stays(void **state)
{
    (void)state;
    struct err e;
    char sql[256];
    struct job j;
    db_rollback(scene.gateway);
    scene_submit(scene.a.id, scene.dataset, "rose", &j);
    snprintf(sql, sizeof sql, "UPDATE jobs SET type = 'evaluate', version_id = '%s' WHERE id = '%s'",
             v[3].version_id, j.id);
    pg_fixture_exec(sql);
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_err(ERR_CONFLICT, erase(3, &e));
    assert_non_null(strstr(e.message, j.id));
}

static void a_version_that_the_policy_names_stays(void **state)
{
    (void)state;
    struct err e;
    struct model m;
    struct model_settings s = specific(2, (const int64_t[]){2, 5});
    assert_ok(set(&s, -1, &m, &e), e);
    assert_err(ERR_CONFLICT, erase(2, &e));
    assert_non_null(strstr(e.message, "version_policy names version 2"));
    assert_ok(erase(4, &e), e);
}

static void a_deleted_version_is_gone_its_number_is_not_given_again(void **state)
{
    (void)state;
    struct err e;
    struct version found;
    struct version_list list;
    struct model m;
    struct blob b;
    struct audit_list audit;
    int64_t bytes, memory;
    assert_ok(erase(5, &e), e);
    assert_ok(db_commit(scene.gateway, &e), e);
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_err(ERR_NOT_FOUND, version_find(scene.gateway, "iris", 5, NULL, &scene.arena, &found, &e));
    assert_err(ERR_NOT_FOUND, version_find_id(scene.gateway, v[5].version_id, &scene.arena, &found, &e));
    assert_err(ERR_NOT_FOUND, alias_set(scene.gateway, "iris", "next", &(struct alias_target){.version = 5},
                                        -1, &pg_fixture_actor, &(struct alias){0}, &e));
    assert_err(ERR_NOT_FOUND, version_blob(scene.gateway, v[5].version_id, &b, &e));
    assert_err(ERR_NOT_FOUND, erase(5, &e));
    assert_ok(version_list(scene.gateway, "iris", &(struct page){.limit = 9}, &scene.arena, &list, &e), e);
    assert_int_equal(list.n, 4);
    assert_ok(model_find(scene.gateway, "iris", &scene.arena, &m, &e), e);
    assert_int_equal(m.latest_version, 4);
    struct model_settings s = latest(2);
    assert_ok(set(&s, -1, &m, &e), e);
    assert_string_equal(served(), "134");
    assert_ok(
        audit_list(scene.gateway, &(struct page){.limit = 1}, "version.deleted", &scene.arena, &audit, &e),
        e);
    assert_string_equal(audit.items[0].data, "{\"model\":\"iris\",\"version\":5}");
    db_rollback(scene.gateway);
    assert_ok(db_begin_system(scene.scheduler, &e), e);
    assert_err(ERR_NOT_FOUND,
               version_size(scene.scheduler, scene.a.id, v[5].version_id, &bytes, &memory, &e));
    db_rollback(scene.scheduler);
    struct job_ended sixth;
    scene_train(scene.a.id, scene.dataset, "iris", &sixth);
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_ok(version_find_id(scene.gateway, sixth.version_id, &scene.arena, &found, &e), e);
    assert_int_equal(found.number, 6);
    scene_check_invariants();
}

static void nothing_else_about_a_version_can_be_changed(void **state)
{
    (void)state;
    static const char *const changes[] = {"bytes = 0", "sha256 = NULL", "deleted_at = now()",
                                          "deleted_at = now(), sha256 = NULL, number = 77"};
    struct err e;
    char sql[160];
    db_rollback(scene.gateway);
    struct db *super = pg_fixture_open(PG_SUPER);
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        snprintf(sql, sizeof sql, "UPDATE tenor.model_versions SET %s WHERE number = 1", changes[i]);
        assert_ok(db_begin_system(super, &e), e);
        assert_true(db_exec_text(super, sql, &e) != 0);
        db_rollback(super);
    }
    db_free(super);
    assert_int_equal(scene_number("SELECT count(*) FROM model_versions WHERE number = 1 AND bytes > 0 AND "
                                  "deleted_at IS NULL AND sha256 IS NOT NULL"),
                     1);
}

static void the_wrong_tenant_sees_nothing_and_changes_nothing(void **state)
{
    (void)state;
    struct err e;
    struct model m;
    struct model_settings s = latest(1);
    db_rollback(scene.gateway);
    assert_ok(db_begin(scene.gateway, scene.b.id, &e), e);
    assert_err(ERR_NOT_FOUND, set(&s, -1, &m, &e));
    assert_err(ERR_NOT_FOUND, model_lock(scene.gateway, "iris", &scene.arena, &m, &e));
    assert_err(ERR_NOT_FOUND, erase(3, &e));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_new_model_serves_everything_and_has_no_batching_of_its_own,
                                        scene_begin, scene_rollback),
        cmocka_unit_test_setup_teardown(settings_are_kept_shown_and_audited, scene_begin, scene_rollback),
        cmocka_unit_test_setup_teardown(what_is_set_already_changes_nothing, scene_begin, scene_rollback),
        cmocka_unit_test_setup_teardown(a_change_under_an_old_etag_is_refused, scene_begin, scene_rollback),
        cmocka_unit_test_setup_teardown(values_out_of_bounds_are_refused_by_path, scene_begin,
                                        scene_rollback),
        cmocka_unit_test_setup_teardown(a_policy_serves_what_it_names_and_what_aliases_point_at, scene_begin,
                                        scene_rollback),
        cmocka_unit_test_setup_teardown(a_version_that_is_not_served_is_in_the_registry_and_says_why,
                                        scene_begin, scene_rollback),
        cmocka_unit_test_setup_teardown(a_version_that_an_alias_needs_stays, scene_begin, scene_rollback),
        cmocka_unit_test_setup_teardown(a_version_that_a_job_reads_stays, scene_begin, scene_rollback),
        cmocka_unit_test_setup_teardown(a_version_that_the_policy_names_stays, scene_begin, scene_rollback),
        cmocka_unit_test_setup_teardown(nothing_else_about_a_version_can_be_changed, scene_begin,
                                        scene_rollback),
        cmocka_unit_test_setup_teardown(the_wrong_tenant_sees_nothing_and_changes_nothing, scene_begin,
                                        scene_rollback),
        cmocka_unit_test_setup_teardown(a_deleted_version_is_gone_its_number_is_not_given_again, scene_begin,
                                        scene_rollback),
    };
    return cmocka_run_group_tests(tests, five_versions, scene_down);
}
