/* Models, versions and aliases: which version a request means. */
#include "scene.h"

#include <stdio.h>
#include <string.h>
#include "store/alias.h"
#include "store/audit.h"
#include "store/model.h"
#include "store/version.h"

static struct job_ended v[4]; /* versions 1 to 3 of "iris" */

static int three_versions(void **state)
{
    scene_up(state);
    for (int i = 1; i <= 3; i++) scene_train(scene.a.id, scene.dataset, "iris", &v[i]);
    return 0;
}

static int find(const char *model, int64_t number, const char *alias, struct version *out, struct err *e)
{
    return version_find(scene.gateway, model, number, alias, &scene.arena, out, e);
}

static int set(const char *alias, int64_t number, int64_t etag, struct alias *out, struct err *e)
{
    return alias_set(scene.gateway, "iris", alias, &(struct alias_target){.version = number}, etag,
                     &pg_fixture_actor, out, e);
}

static void a_request_without_a_version_means_live_and_without_live_the_newest(void **state)
{
    (void)state;
    struct err e;
    struct version found;
    struct alias al;
    assert_ok(find("iris", 0, NULL, &found, &e), e);
    assert_int_equal(found.number, 1); /* live was made with the first version */
    assert_ok(set("live", 2, -1, &al, &e), e);
    assert_ok(find("iris", 0, NULL, &found, &e), e);
    assert_int_equal(found.number, 2);
    assert_string_equal(found.id, v[2].version_id);
    assert_ok(find("iris", 3, NULL, &found, &e), e);
    assert_string_equal(found.id, v[3].version_id);
}

static void without_any_alias_the_newest_answers(void **state)
{
    (void)state;
    struct err e;
    struct version found;
    db_rollback(scene.gateway);
    pg_fixture_exec("CREATE TABLE kept AS SELECT * FROM aliases; DELETE FROM aliases");
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_ok(find("iris", 0, NULL, &found, &e), e);
    assert_int_equal(found.number, 3);
    assert_err(ERR_NOT_FOUND, find("iris", 0, "live", &found, &e));
    db_rollback(scene.gateway);
    pg_fixture_exec("INSERT INTO aliases SELECT * FROM kept; DROP TABLE kept");
}

static void what_is_missing_is_named(void **state)
{
    (void)state;
    struct err e;
    struct version found;
    assert_err(ERR_NOT_FOUND, find("rose", 0, NULL, &found, &e));
    assert_string_equal(e.field, "model");
    assert_err(ERR_NOT_FOUND, find("rose", 1, NULL, &found, &e));
    assert_string_equal(e.field, "model");
    assert_err(ERR_NOT_FOUND, find("iris", 4, NULL, &found, &e));
    assert_string_equal(e.field, "version");
    assert_err(ERR_NOT_FOUND, find("iris", 0, "canary", &found, &e));
    assert_string_equal(e.field, "alias");
    assert_err(ERR_NOT_FOUND, version_find_id(scene.gateway, "ver_x", &scene.arena, &found, &e));
}

static void a_version_tells_everything_a_server_needs(void **state)
{
    (void)state;
    struct err e;
    struct version found;
    struct blob b;
    assert_ok(version_find_id(scene.gateway, v[2].version_id, &scene.arena, &found, &e), e);
    assert_string_equal(found.model, "iris");
    assert_int_equal(found.number, 2);
    assert_int_equal(found.memory_bytes, 4096);
    assert_string_equal(found.metrics, "{\"accuracy\":0.5}");
    assert_string_equal(found.signature, "{\"inputs\":[],\"outputs\":[]}");
    assert_true(found.created_at_us > 0);
    assert_ok(version_blob(scene.gateway, found.id, &b, &e), e);
    assert_string_equal(b.sha256, found.sha256);
    assert_int_equal(b.bytes, found.bytes);
    struct blob_key key;
    struct blob_reader *r;
    char text[ID_MAX] = "";
    size_t got;
    assert_ok(blob_key_load(scene.gateway, scene.blobs, &key, &e), e);
    assert_ok(blob_reader_open(&r, scene.blobs, &key, &b, &e), e);
    assert_ok(blob_reader_read(r, text, sizeof text, &got, &e), e);
    blob_reader_free(r);
    assert_string_equal(text, found.job_id); /* what the scene trains is the job's id */
}

static void the_scheduler_learns_a_versions_size_only_with_the_right_tenant(void **state)
{
    (void)state;
    struct err e;
    int64_t bytes, memory;
    assert_ok(db_begin_system(scene.scheduler, &e), e);
    assert_ok(version_size(scene.scheduler, scene.a.id, v[1].version_id, &bytes, &memory, &e), e);
    assert_int_equal(memory, 4096);
    assert_err(ERR_NOT_FOUND,
               version_size(scene.scheduler, scene.b.id, v[1].version_id, &bytes, &memory, &e));
    db_rollback(scene.scheduler);
}

static void versions_are_listed_newest_first(void **state)
{
    (void)state;
    struct err e;
    struct version_list list;
    assert_ok(version_list(scene.gateway, "iris", &(struct page){.limit = 2}, &scene.arena, &list, &e), e);
    assert_int_equal(list.n, 2);
    assert_true(list.has_more);
    assert_int_equal(list.items[0].number, 3);
    assert_ok(version_list(scene.gateway, "iris", &(struct page){.after = list.items[1].id, .limit = 2},
                           &scene.arena, &list, &e),
              e);
    assert_int_equal(list.n, 1);
    assert_int_equal(list.items[0].number, 1);
    assert_false(list.has_more);
}

static void an_alias_moves_under_its_etag_only(void **state)
{
    (void)state;
    struct err e;
    struct alias al;
    assert_ok(set("canary", 3, 0, &al, &e), e);
    assert_int_equal(al.etag, 1);
    assert_int_equal(al.version, 3);
    assert_err(ERR_CONFLICT, set("canary", 2, 0, &al, &e)); /* it is not new any more */
    assert_ok(set("canary", 2, 1, &al, &e), e);
    assert_int_equal(al.etag, 2);
    assert_err(ERR_CONFLICT, set("canary", 1, 1, &al, &e));
    assert_string_equal(e.field, "etag");
    assert_ok(set("canary", 1, -1, &al, &e), e);
    assert_int_equal(al.etag, 3);
    struct alias *list;
    int n;
    assert_ok(alias_list(scene.gateway, "iris", &scene.arena, &list, &n, &e), e);
    assert_int_equal(n, 2);
    assert_string_equal(list[0].name, "canary");
    assert_int_equal(list[0].version, 1);
    assert_string_equal(list[1].name, "live");
    struct audit_list audit;
    assert_ok(audit_list(scene.gateway, &(struct page){.limit = 3}, "alias.set", &scene.arena, &audit, &e),
              e);
    assert_int_equal(audit.n, 3);
    assert_string_equal(audit.items[0].data, "{\"model\":\"iris\",\"alias\":\"canary\",\"version\":1}");
}

static void an_alias_points_at_what_exists_and_has_a_name(void **state)
{
    (void)state;
    struct err e;
    struct alias al;
    assert_err(ERR_NOT_FOUND, set("live", 9, -1, &al, &e));
    assert_string_equal(e.field, "version");
    assert_err(ERR_INVALID, set("Live!", 1, -1, &al, &e));
    assert_string_equal(e.field, "alias");
    assert_err(ERR_NOT_FOUND, alias_set(scene.gateway, "rose", "live", &(struct alias_target){.version = 1},
                                        -1, &pg_fixture_actor, &al, &e));
    assert_string_equal(e.field, "model");
}

static int set_canary(int64_t number, int64_t canary, int64_t ppm, struct alias *out, struct err *e)
{
    return alias_set(scene.gateway, "iris", "live",
                     &(struct alias_target){.version = number, .canary = canary, .canary_ppm = ppm}, -1,
                     &pg_fixture_actor, out, e);
}

static int roll_back(int64_t etag, struct alias *out, struct err *e)
{
    return alias_roll_back(scene.gateway, "iris", "live", etag, &pg_fixture_actor, out, e);
}

static void a_rollback_goes_to_the_version_that_served_before_once(void **state)
{
    (void)state;
    struct err e;
    struct alias al;
    struct audit_list audit;
    assert_err(ERR_CONFLICT, roll_back(-1, &al, &e)); /* nothing came before */
    assert_ok(set("live", 2, -1, &al, &e), e);
    assert_int_equal(al.previous, 1);
    assert_ok(set("live", 2, -1, &al, &e), e); /* no move: what came before stays */
    assert_int_equal(al.previous, 1);
    assert_err(ERR_CONFLICT, roll_back(al.etag + 1, &al, &e));
    assert_ok(roll_back(al.etag, &al, &e), e);
    assert_int_equal(al.version, 1);
    assert_int_equal(al.previous, 0);
    assert_err(ERR_CONFLICT, roll_back(-1, &al, &e)); /* not back to the bad one */
    assert_ok(
        audit_list(scene.gateway, &(struct page){.limit = 3}, "alias.rolled_back", &scene.arena, &audit, &e),
        e);
    assert_string_equal(audit.items[0].data, "{\"model\":\"iris\",\"alias\":\"live\",\"version\":1}");
    assert_err(ERR_NOT_FOUND,
               alias_roll_back(scene.gateway, "iris", "nobody", -1, &pg_fixture_actor, &al, &e));
    assert_string_equal(e.field, "alias");
    assert_err(ERR_NOT_FOUND, alias_roll_back(scene.gateway, "rose", "live", -1, &pg_fixture_actor, &al, &e));
    assert_string_equal(e.field, "model");
}

static void a_rollback_ends_a_canary_and_the_version_stays(void **state)
{
    (void)state;
    struct err e;
    struct alias al;
    assert_ok(set("live", 2, -1, &al, &e), e);
    assert_ok(set_canary(2, 3, 250000, &al, &e), e);
    assert_int_equal(al.canary, 3);
    assert_int_equal(al.canary_ppm, 250000);
    assert_int_equal(al.previous, 1);
    assert_ok(roll_back(-1, &al, &e), e);
    assert_int_equal(al.version, 2);
    assert_int_equal(al.canary, 0);
    assert_int_equal(al.previous, 1);
    assert_ok(set_canary(2, 3, 1, &al, &e), e);
    assert_ok(set("live", 3, -1, &al, &e), e); /* the canary is promoted */
    assert_int_equal(al.canary, 0);
    assert_int_equal(al.previous, 2);
    assert_err(ERR_INVALID, set_canary(3, 3, 1000, &al, &e));
    assert_string_equal(e.field, "canary.version");
    assert_err(ERR_NOT_FOUND, set_canary(3, 9, 1000, &al, &e));
    assert_string_equal(e.field, "version");
}

static void models_are_listed_with_their_aliases(void **state)
{
    (void)state;
    struct err e;
    struct model_list list;
    db_rollback(scene.gateway);
    scene_train(scene.a.id, scene.dataset, "rose", &(struct job_ended){0});
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_ok(model_list(scene.gateway, &(struct page){.limit = 10}, &scene.arena, &list, &e), e);
    assert_int_equal(list.n, 2);
    assert_string_equal(list.items[0].name, "rose");
    assert_string_equal(list.items[1].name, "iris");
    assert_int_equal(list.items[1].latest_version, 3);
    assert_int_equal(list.items[1].n_aliases, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_request_without_a_version_means_live_and_without_live_the_newest,
                                        scene_begin, scene_rollback),
        cmocka_unit_test_setup_teardown(without_any_alias_the_newest_answers, scene_begin, scene_rollback),
        cmocka_unit_test_setup_teardown(what_is_missing_is_named, scene_begin, scene_rollback),
        cmocka_unit_test_setup_teardown(a_version_tells_everything_a_server_needs, scene_begin,
                                        scene_rollback),
        cmocka_unit_test(the_scheduler_learns_a_versions_size_only_with_the_right_tenant),
        cmocka_unit_test_setup_teardown(versions_are_listed_newest_first, scene_begin, scene_rollback),
        cmocka_unit_test_setup_teardown(an_alias_moves_under_its_etag_only, scene_begin, scene_rollback),
        cmocka_unit_test_setup_teardown(an_alias_points_at_what_exists_and_has_a_name, scene_begin,
                                        scene_rollback),
        cmocka_unit_test_setup_teardown(a_rollback_goes_to_the_version_that_served_before_once, scene_begin,
                                        scene_rollback),
        cmocka_unit_test_setup_teardown(a_rollback_ends_a_canary_and_the_version_stays, scene_begin,
                                        scene_rollback),
        cmocka_unit_test_setup_teardown(models_are_listed_with_their_aliases, scene_begin, scene_rollback),
    };
    return cmocka_run_group_tests(tests, three_versions, scene_down);
}
