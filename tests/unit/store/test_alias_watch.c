/* Shadows, limits and trials that end by themselves, as the database keeps them. */
#include "scene.h"

#include <stdio.h>
#include <string.h>
#include "store/alias.h"
#include "store/audit.h"

static const struct alias_limits limits = {
    .window_s = 60, .min_requests = 100, .error_ppm = 50000, .latency_us = -1, .disagreement_ppm = 20000};
static const struct actor scheduler = {.type = "scheduler", .id = "rollout"};

/* Versions 1 to 3 of "iris" that are alike, 4 with another input, 5 with another output, 6 with another
 * output shape. */
static int six_versions(void **state)
{
    static const char copy[] = "INSERT INTO tenor.model_versions (tenant_id, id, model_id, number, sha256, "
                               "bytes, memory_bytes, metrics, "
                               "signature) SELECT tenant_id, left(id, 26) || '000%d', model_id, %d, sha256, "
                               "bytes, memory_bytes, metrics, "
                               "'%s' FROM tenor.model_versions WHERE number = 1";
    static const char *const signatures[] = {
        "{\"inputs\":[{\"name\":\"a\",\"datatype\":\"FP32\",\"shape\":[-1,2]}],\"outputs\":[]}",
        "{\"inputs\":[],\"outputs\":[{\"name\":\"label\",\"datatype\":\"INT64\",\"shape\":[-1]}]}",
        "{\"inputs\":[],\"outputs\":[{\"name\":\"label\",\"datatype\":\"INT64\",\"shape\":[-1,3]}]}"};
    char sql[1024];
    scene_up(state);
    for (int i = 0; i < 3; i++) scene_train(scene.a.id, scene.dataset, "iris", &(struct job_ended){0});
    for (int i = 0; i < 3; i++) {
        snprintf(sql, sizeof sql, copy, i + 4, i + 4, signatures[i]);
        pg_fixture_exec(sql);
    }
    pg_fixture_exec("UPDATE tenor.models SET latest_version = 6 WHERE name = 'iris'");
    return 0;
}

static int set(const struct alias_target *to, struct alias *out, struct err *e)
{
    int rc = db_begin(scene.gateway, scene.a.id, e);
    if (!rc) rc = alias_set(scene.gateway, "iris", "live", to, -1, &pg_fixture_actor, out, e);
    if (!rc) return db_commit(scene.gateway, e);
    db_rollback(scene.gateway);
    return rc;
}

static void find(const char *tenant_id, int expected, struct alias *out)
{
    struct err e = {0};
    assert_ok(db_begin(scene.gateway, tenant_id, &e), e);
    assert_err(expected, alias_find(scene.gateway, "iris", "live", out, &e));
    db_rollback(scene.gateway);
}

/* The one alias on trial, or none. */
static bool watched(struct alias_watched *out)
{
    struct err e = {0};
    struct alias_watched *list;
    int n;
    assert_ok(db_begin_system(scene.scheduler, &e), e);
    assert_ok(alias_watched(scene.scheduler, &scene.arena, &list, &n, &e), e);
    assert_in_range(n, 0, 1);
    if (n) *out = list[0];
    db_rollback(scene.scheduler);
    return n == 1;
}

static bool end(const struct alias_watched *a, const char *arm)
{
    struct err e = {0};
    struct alias_end what = {
        .alias = a, .arm = arm, .reason = "error_rate", .message = "too many", .numbers = "{\"requests\":7}"};
    bool done = false;
    assert_ok(db_begin_system(scene.scheduler, &e), e);
    assert_ok(alias_end(scene.scheduler, &what, &scheduler, &done, &e), e);
    assert_ok(db_commit(scene.scheduler, &e), e);
    return done;
}

static void a_shadow_and_limits_are_kept_until_the_next_put(void **state)
{
    (void)state;
    struct err e = {0};
    struct alias al;
    struct alias_target to = {
        .version = 1, .shadow = 2, .shadow_ppm = 1000000, .shadow_tolerance = 0.1, .limits = limits};
    assert_ok(set(&to, &al, &e), e);
    assert_int_equal(al.shadow, 2);
    assert_int_equal(al.shadow_ppm, 1000000);
    assert_true(al.shadow_tolerance == 0.1);
    assert_memory_equal(&al.limits, &limits, sizeof limits);
    assert_int_equal(al.ended.at_us, 0);
    find(scene.b.id, ERR_NOT_FOUND, &al);
    assert_ok(set(&(struct alias_target){.version = 1}, &al, &e), e);
    assert_int_equal(al.shadow, 0);
    assert_int_equal(al.limits.window_s, 0);
}

static void what_other_calls_fit_is_no_canary_and_no_shadow(void **state)
{
    (void)state;
    struct err e = {0};
    struct alias al;
    assert_err(ERR_INVALID, set(&(struct alias_target){.version = 1, .canary = 4, .canary_ppm = 1}, &al, &e));
    assert_string_equal(e.field, "canary.version");
    assert_non_null(strstr(e.message, "inputs"));
    struct alias_target shadow = {.version = 1, .shadow = 5, .shadow_ppm = 1};
    assert_err(ERR_INVALID, set(&shadow, &al, &e));
    assert_string_equal(e.field, "shadow.version");
    assert_non_null(strstr(e.message, "outputs"));
    shadow.shadow = 1;
    assert_err(ERR_INVALID, set(&shadow, &al, &e));
    shadow.shadow = 9;
    assert_err(ERR_NOT_FOUND, set(&shadow, &al, &e));
    assert_ok(set(&(struct alias_target){.version = 5, .canary = 6, .canary_ppm = 1}, &al, &e), e);
    assert_ok(set(&(struct alias_target){.version = 4}, &al, &e), e); /* the alias itself may go anywhere */
    assert_ok(set(&(struct alias_target){.version = 1}, &al, &e), e);
}

static void only_what_is_on_trial_with_limits_is_watched(void **state)
{
    (void)state;
    struct err e = {0};
    struct alias al;
    struct alias_watched w;
    assert_ok(set(&(struct alias_target){.version = 1, .canary = 2, .canary_ppm = 1}, &al, &e), e);
    assert_false(watched(&w));
    pg_fixture_exec("UPDATE tenor.aliases SET moved_at = now() - interval '1 hour'");
    assert_ok(set(&(struct alias_target){.version = 1, .limits = limits}, &al, &e), e);
    assert_false(watched(&w));
    struct alias_target to = {.version = 1, .canary = 2, .canary_ppm = 1, .limits = limits};
    assert_ok(set(&to, &al, &e), e);
    assert_true(watched(&w));
    assert_string_equal(w.tenant_id, scene.a.id);
    assert_string_equal(w.model, "iris");
    assert_string_equal(w.name, "live");
    assert_int_equal(w.canary, 2);
    assert_int_equal(w.shadow, 0);
    assert_int_equal(w.previous, 0);
    assert_int_equal(w.etag, al.etag);
    assert_in_range(w.age_ms, 0, 60000);
    assert_memory_equal(&w.limits, &limits, sizeof limits);
    assert_ok(set(&(struct alias_target){.version = 2, .limits = limits}, &al, &e), e); /* promoted */
    assert_true(watched(&w));
    assert_int_equal(w.previous, 1);
    pg_fixture_exec("UPDATE tenor.aliases SET moved_at = now() - interval '64 seconds'");
    assert_false(watched(&w));
}

static void a_trial_ends_once_under_its_etag_and_says_why(void **state)
{
    (void)state;
    struct err e = {0};
    struct alias al, now;
    struct alias_watched w;
    struct audit_list audit;
    struct alias_target to = {
        .version = 1, .canary = 2, .canary_ppm = 5, .shadow = 3, .shadow_ppm = 6, .limits = limits};
    assert_ok(set(&to, &al, &e), e);
    assert_true(watched(&w));
    assert_true(end(&w, "canary"));
    assert_false(end(&w, "canary")); /* another scheduler decided the same a moment later */
    find(scene.a.id, 0, &now);
    assert_int_equal(now.version, 1);
    assert_int_equal(now.canary, 0);
    assert_int_equal(now.shadow, 3); /* which did nothing wrong */
    assert_int_equal(now.etag, al.etag + 1);
    assert_string_equal(now.ended.arm, "canary");
    assert_string_equal(now.ended.reason, "error_rate");
    assert_string_equal(now.ended.message, "too many");
    assert_int_equal(now.ended.version, 2);
    assert_true(now.ended.at_us > 0);
    assert_true(watched(&w));
    assert_false(end(&w, "canary")); /* there is none any more */
    assert_true(end(&w, "shadow"));
    find(scene.a.id, 0, &now);
    assert_int_equal(now.shadow, 0);
    assert_int_equal(now.version, 1);
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_ok(
        audit_list(scene.gateway, &(struct page){.limit = 9}, "alias.rolled_back", &scene.arena, &audit, &e),
        e);
    db_rollback(scene.gateway);
    assert_int_equal(audit.n, 2);
    assert_string_equal(
        audit.items[1].data,
        "{\"model\":\"iris\",\"alias\":\"live\",\"version\":1,\"arm\":\"canary\",\"ended_version\":2,"
        "\"reason\":\"error_rate\",\"message\":\"too many\",\"numbers\":{\"requests\":7}}");
    assert_string_equal(audit.items[1].actor_type, "scheduler");
    assert_ok(db_begin(scene.gateway, scene.b.id, &e), e);
    assert_ok(
        audit_list(scene.gateway, &(struct page){.limit = 9}, "alias.rolled_back", &scene.arena, &audit, &e),
        e);
    db_rollback(scene.gateway);
    assert_int_equal(audit.n, 0);
}

static void a_trial_that_was_changed_meanwhile_goes_on(void **state)
{
    (void)state;
    struct err e = {0};
    struct alias al;
    struct alias_watched w;
    struct alias_target to = {.version = 1, .canary = 2, .canary_ppm = 5, .limits = limits};
    assert_ok(set(&to, &al, &e), e);
    assert_true(watched(&w));
    to.canary_ppm = 6;
    assert_ok(set(&to, &al, &e), e);
    assert_false(end(&w, "canary")); /* what was counted was counted of another share */
    find(scene.a.id, 0, &al);
    assert_int_equal(al.canary_ppm, 6);
}

static void a_move_goes_back_to_the_version_before_and_is_not_watched_again(void **state)
{
    (void)state;
    struct err e = {0};
    struct alias al;
    struct alias_watched w;
    assert_ok(set(&(struct alias_target){.version = 2}, &al, &e), e);
    assert_ok(
        set(&(struct alias_target){.version = 3, .shadow = 2, .shadow_ppm = 1, .limits = limits}, &al, &e),
        e);
    assert_true(watched(&w));
    assert_int_equal(w.previous, 2);
    assert_true(end(&w, "primary"));
    find(scene.a.id, 0, &al);
    assert_int_equal(al.version, 2);
    assert_int_equal(al.previous, 0);
    assert_int_equal(al.shadow, 0); /* it is the version again */
    assert_int_equal(al.ended.version, 3);
    assert_string_equal(al.ended.arm, "primary");
    assert_false(watched(&w));
}

static void a_tenant_cannot_end_anothers_trial(void **state)
{
    (void)state;
    struct err e = {0};
    struct alias al;
    struct alias_watched w, *list;
    int n;
    struct alias_target to = {.version = 1, .canary = 2, .canary_ppm = 1, .limits = limits};
    assert_ok(set(&to, &al, &e), e);
    assert_true(watched(&w));
    struct alias_end what = {.alias = &w, .arm = "canary", .reason = "r", .message = "m", .numbers = "{}"};
    bool done = true;
    assert_ok(db_begin(scene.gateway, scene.b.id, &e), e);
    assert_ok(alias_watched(scene.gateway, &scene.arena, &list, &n, &e), e);
    assert_int_equal(n, 0);
    assert_ok(alias_end(scene.gateway, &what, &scheduler, &done, &e), e);
    assert_false(done);
    assert_ok(db_commit(scene.gateway, &e), e);
    find(scene.a.id, 0, &al);
    assert_int_equal(al.canary, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_shadow_and_limits_are_kept_until_the_next_put),
        cmocka_unit_test(what_other_calls_fit_is_no_canary_and_no_shadow),
        cmocka_unit_test(only_what_is_on_trial_with_limits_is_watched),
        cmocka_unit_test(a_trial_ends_once_under_its_etag_and_says_why),
        cmocka_unit_test(a_trial_that_was_changed_meanwhile_goes_on),
        cmocka_unit_test(a_move_goes_back_to_the_version_before_and_is_not_watched_again),
        cmocka_unit_test(a_tenant_cannot_end_anothers_trial),
    };
    return cmocka_run_group_tests(tests, six_versions, scene_down);
}
