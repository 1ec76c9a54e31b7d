/* Tenants, plans, datasets, and the operator's overview of them. */
#include "scene.h"

#include <stdio.h>
#include <string.h>
#include "store/audit.h"
#include "store/overview.h"

static void a_tenant_is_found_by_id_and_name_with_its_plan(void **state)
{
    (void)state;
    struct err e;
    struct tenant t;
    assert_ok(db_begin_system(scene.admin, &e), e);
    assert_ok(tenant_find(scene.admin, scene.a.id, &t, &e), e);
    assert_memory_equal(&t, &scene.a, sizeof t);
    assert_ok(tenant_find_name(scene.admin, scene.b.name, &t, &e), e);
    assert_string_equal(t.id, scene.b.id);
    assert_err(ERR_NOT_FOUND, tenant_find_name(scene.admin, "nobody", &t, &e));
    db_rollback(scene.admin);
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e); /* a tenant sees itself */
    assert_ok(tenant_find(scene.gateway, scene.a.id, &t, &e), e);
    db_rollback(scene.gateway);
}

static void names_are_unique_plans_must_exist_and_names_be_names(void **state)
{
    (void)state;
    struct err e;
    struct tenant t;
    const struct keyring *k = pg_fixture_keyring();
    assert_ok(db_begin_system(scene.admin, &e), e);
    assert_err(ERR_CONFLICT,
               tenant_create(scene.admin, k, scene.a.name, "standard", &pg_fixture_actor, &t, &e));
    assert_string_equal(e.field, "name");
    assert_err(ERR_NOT_FOUND, tenant_create(scene.admin, k, "fine", "no-plan", &pg_fixture_actor, &t, &e));
    assert_string_equal(e.field, "plan");
    assert_err(ERR_INVALID, tenant_create(scene.admin, k, "not fine", "standard", &pg_fixture_actor, &t, &e));
    db_rollback(scene.admin);
}

static void a_tenants_key_opens_under_its_root_key_only(void **state)
{
    (void)state;
    struct err e;
    uint8_t key[AES_KEY_LEN], again[AES_KEY_LEN];
    struct keyring other = *pg_fixture_keyring();
    other.root[0] ^= 1;
    assert_ok(db_begin(scene.worker, scene.a.id, &e), e);
    assert_ok(tenant_load_key(scene.worker, pg_fixture_keyring(), scene.a.id, key, &e), e);
    assert_ok(tenant_load_key(scene.worker, pg_fixture_keyring(), scene.a.id, again, &e), e);
    assert_memory_equal(key, again, sizeof key);
    assert_err(ERR_CORRUPT, tenant_load_key(scene.worker, &other, scene.a.id, key, &e));
    db_rollback(scene.worker);
    assert_ok(db_begin(scene.worker, scene.b.id, &e), e);
    assert_ok(tenant_load_key(scene.worker, pg_fixture_keyring(), scene.b.id, key, &e), e);
    assert_memory_not_equal(key, again, sizeof key);
    db_rollback(scene.worker);
}

static void changing_a_plan_is_in_the_trail_of_each_of_its_tenants(void **state)
{
    (void)state;
    struct err e;
    struct tenant t, now;
    struct audit_list list;
    scene_tenant(&t);
    t.plan.weight = 7;
    scene_plan(&t.plan);
    assert_ok(db_begin_system(scene.admin, &e), e);
    assert_ok(tenant_set_plan(scene.admin, t.id, "standard", &pg_fixture_actor, &e), e);
    assert_err(ERR_NOT_FOUND, tenant_set_plan(scene.admin, t.id, "none", &pg_fixture_actor, &e));
    assert_ok(tenant_suspend(scene.admin, t.id, true, &pg_fixture_actor, &e), e);
    assert_ok(tenant_find(scene.admin, t.id, &now, &e), e);
    assert_ok(db_commit(scene.admin, &e), e);
    assert_true(now.suspended);
    assert_string_equal(now.plan.name, "standard");
    const char *const types[] = {"tenant.suspended", "tenant.plan_changed", "plan.changed", "tenant.created"};
    assert_ok(db_begin(scene.gateway, t.id, &e), e);
    assert_ok(audit_list(scene.gateway, &(struct page){.limit = 10}, NULL, &scene.arena, &list, &e), e);
    assert_int_equal(list.n, 4);
    for (int i = 0; i < 4; i++) assert_string_equal(list.items[i].type, types[i]);
    assert_string_equal(list.items[0].actor_type, "operator");
    assert_string_equal(list.items[0].actor_id, "tests");
    db_rollback(scene.gateway);
}

static void a_plan_outside_its_bounds_is_refused_by_field(void **state)
{
    (void)state;
    struct err e;
    struct plan p, all[64];
    int n;
    assert_ok(db_begin_system(scene.admin, &e), e);
    plan_init(&p, "odd");
    p.weight = 0;
    assert_err(ERR_INVALID, plan_put(scene.admin, &p, &pg_fixture_actor, &e));
    assert_string_equal(e.field, "weight");
    plan_init(&p, "odd");
    p.train_second_micros = -1;
    assert_err(ERR_INVALID, plan_put(scene.admin, &p, &pg_fixture_actor, &e));
    assert_string_equal(e.field, "train_second_micros");
    plan_init(&p, "odd");
    p.currency[0] = 'x';
    assert_err(ERR_INVALID, plan_put(scene.admin, &p, &pg_fixture_actor, &e));
    assert_ok(plan_list(scene.admin, all, 64, &n, &e), e);
    assert_true(n >= 3);
    for (int i = 1; i < n; i++) assert_true(strcmp(all[i - 1].name, all[i].name) < 0);
    db_rollback(scene.admin);
}

static void tenants_are_listed_newest_first_in_pages(void **state)
{
    (void)state;
    struct err e;
    struct tenant t[3];
    struct tenant_list list;
    for (int i = 0; i < 3; i++) scene_tenant(&t[i]);
    assert_ok(db_begin_system(scene.admin, &e), e);
    assert_ok(tenant_list(scene.admin, &(struct page){.limit = 2}, &scene.arena, &list, &e), e);
    assert_true(list.has_more);
    assert_string_equal(list.items[0].id, t[2].id);
    assert_string_equal(list.items[1].id, t[1].id);
    assert_ok(tenant_list(scene.admin, &(struct page){.after = t[1].id, .limit = 1}, &scene.arena, &list, &e),
              e);
    assert_string_equal(list.items[0].id, t[0].id);
    assert_ok(
        tenant_list(scene.admin, &(struct page){.before = t[1].id, .limit = 5}, &scene.arena, &list, &e), e);
    assert_int_equal(list.n, 1);
    assert_string_equal(list.items[0].id, t[2].id);
    db_rollback(scene.admin);
}

/* ---- datasets ---- */

static int create(const char *tenant_id, const char *name, const char *text, struct dataset *out,
                  struct err *e)
{
    struct blob b;
    scene_blob(scene.gateway, tenant_id, text, strlen(text), &b);
    struct dataset_new in = {
        .name = name, .format = "csv", .rows = 3, .schema = "{\"columns\":[]}", .n_parts = 1};
    memcpy(in.parts[0].role, "table", 6);
    memcpy(in.parts[0].sha256, b.sha256, sizeof b.sha256);
    in.parts[0].bytes = b.bytes;
    assert_ok(db_begin(scene.gateway, tenant_id, e), *e);
    assert_ok(blob_put(scene.gateway, &b, e), *e);
    int rc = dataset_create(scene.gateway, &in, &pg_fixture_actor, &scene.arena, out, e);
    if (!rc)
        assert_ok(db_commit(scene.gateway, e), *e);
    else
        db_rollback(scene.gateway);
    return rc;
}

static void a_dataset_reads_back_with_its_parts_in_order(void **state)
{
    (void)state;
    struct err e;
    struct blob x, y;
    struct dataset made, found;
    scene_blob(scene.gateway, scene.a.id, "features!", 9, &x);
    scene_blob(scene.gateway, scene.a.id, "labels", 6, &y);
    struct dataset_new in = {.name = "Fashion, 2 parts",
                             .format = "idx",
                             .rows = 10,
                             .schema = "{\"rows\": 10}",
                             .n_parts = 2,
                             .parts = {{.role = "labels", .bytes = 6}, {.role = "features", .bytes = 9}}};
    memcpy(in.parts[0].sha256, y.sha256, sizeof y.sha256);
    memcpy(in.parts[1].sha256, x.sha256, sizeof x.sha256);
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_ok(blob_put(scene.gateway, &x, &e), e);
    assert_ok(blob_put(scene.gateway, &y, &e), e);
    assert_ok(dataset_create(scene.gateway, &in, &pg_fixture_actor, &scene.arena, &made, &e), e);
    assert_ok(dataset_find(scene.gateway, made.id, &scene.arena, &found, &e), e);
    assert_ok(db_commit(scene.gateway, &e), e);
    assert_string_equal(found.name, "Fashion, 2 parts");
    assert_string_equal(found.schema, "{\"rows\": 10}");
    assert_int_equal(found.bytes, 15);
    assert_int_equal(found.n_parts, 2);
    assert_string_equal(found.parts[0].role, "features");
    assert_string_equal(found.parts[0].sha256, x.sha256);
    assert_string_equal(found.parts[1].role, "labels");
}

static void dataset_quotas_count_numbers_and_bytes(void **state)
{
    (void)state;
    struct err e;
    struct tenant t;
    struct dataset d;
    int64_t room;
    scene_tenant(&t);
    t.plan.max_datasets = 2;
    t.plan.max_dataset_bytes = 10;
    t.plan.max_storage_bytes = 15;
    scene_plan(&t.plan);
    assert_err(ERR_TOO_LARGE, create(t.id, "big", "0123456789a", &d, &e));
    assert_ok(create(t.id, "one", "0123456789", &d, &e), e);
    assert_ok(db_begin(scene.gateway, t.id, &e), e);
    assert_ok(dataset_room(scene.gateway, &room, &e), e);
    assert_int_equal(room, 5);
    db_rollback(scene.gateway);
    assert_err(ERR_LIMIT, create(t.id, "two", "abcdef", &d, &e));
    assert_string_equal(e.field, "storage");
    assert_ok(create(t.id, "two", "abcde", &d, &e), e);
    assert_err(ERR_LIMIT, create(t.id, "three", "", &d, &e));
    assert_string_equal(e.field, "datasets");
    assert_ok(db_begin(scene.gateway, t.id, &e), e);
    assert_err(ERR_LIMIT, dataset_room(scene.gateway, &room, &e));
    assert_ok(dataset_delete(scene.gateway, d.id, &pg_fixture_actor, &e), e);
    assert_ok(dataset_room(scene.gateway, &room, &e), e);
    assert_int_equal(room, 5);
    assert_err(ERR_NOT_FOUND, dataset_delete(scene.gateway, d.id, &pg_fixture_actor, &e));
    db_rollback(scene.gateway);
}

static void a_dataset_that_a_job_needs_stays(void **state)
{
    (void)state;
    struct err e;
    struct job j;
    struct dataset d;
    assert_ok(create(scene.a.id, "needed", "x", &d, &e), e);
    scene_submit(scene.a.id, d.id, "m", &j);
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_err(ERR_CONFLICT, dataset_delete(scene.gateway, d.id, &pg_fixture_actor, &e));
    assert_non_null(strstr(e.message, j.id));
    assert_ok(job_cancel(scene.gateway, j.id, &pg_fixture_actor, &scene.arena, &j, NULL, &e), e);
    assert_ok(dataset_delete(scene.gateway, d.id, &pg_fixture_actor, &e), e);
    assert_ok(db_commit(scene.gateway, &e), e);
    scene_find(scene.a.id, j.id, &j); /* the job still tells what it was about */
    assert_string_equal(j.dataset_id, d.id);
}

static void a_dataset_of_bytes_that_nobody_stored_is_refused(void **state)
{
    (void)state;
    struct err e;
    struct dataset d;
    struct dataset_new in = {
        .name = "ghost", .format = "csv", .schema = "{}", .n_parts = 1, .parts = {{.role = "table"}}};
    memset(in.parts[0].sha256, 'a', SHA256_HEX_LEN - 1);
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_err(ERR_CONFLICT, dataset_create(scene.gateway, &in, &pg_fixture_actor, &scene.arena, &d, &e));
    db_rollback(scene.gateway);
    in.name = "two\nlines";
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_err(ERR_INVALID, dataset_create(scene.gateway, &in, &pg_fixture_actor, &scene.arena, &d, &e));
    assert_string_equal(e.field, "name");
    db_rollback(scene.gateway);
}

/* ---- overview ---- */

static void the_overview_counts_what_is_there(void **state)
{
    (void)state;
    struct err e;
    struct overview before, after;
    struct overview_tenant *rows;
    struct job_list jobs;
    struct job j;
    struct tenant t;
    char dataset[ID_MAX];
    int n;
    bool more;
    assert_ok(db_begin_system(scene.admin, &e), e);
    assert_ok(overview_load(scene.admin, &before, &e), e);
    db_rollback(scene.admin);
    scene_tenant(&t);
    scene_dataset(t.id, "seen", dataset);
    scene_train(t.id, dataset, "seen", &(struct job_ended){0});
    scene_submit(t.id, dataset, "seen", &j);
    assert_ok(db_begin_system(scene.admin, &e), e);
    assert_ok(overview_load(scene.admin, &after, &e), e);
    assert_int_equal(after.tenants, before.tenants + 1);
    assert_int_equal(after.jobs[JOB_QUEUED], before.jobs[JOB_QUEUED] + 1);
    assert_int_equal(after.jobs[JOB_SUCCEEDED], before.jobs[JOB_SUCCEEDED] + 1);
    assert_int_equal(after.versions, before.versions + 1);
    assert_true(after.billed_month_micros > before.billed_month_micros);
    assert_true(after.unsealed_audit > before.unsealed_audit);
    assert_ok(overview_tenants(scene.admin, &(struct page){.limit = 1}, &scene.arena, &rows, &n, &more, &e),
              e);
    assert_int_equal(n, 1);
    assert_true(more);
    assert_string_equal(rows[0].id, t.id);
    assert_int_equal(rows[0].queued, 1);
    assert_int_equal(rows[0].models, 1);
    assert_int_equal(rows[0].datasets, 1);
    assert_int_equal(rows[0].billed_month_micros, after.billed_month_micros - before.billed_month_micros);
    assert_ok(overview_jobs(scene.admin, &(struct page){.limit = 1}, JOB_QUEUED, &scene.arena, &jobs, &e), e);
    assert_string_equal(jobs.items[0].id, j.id);
    db_rollback(scene.admin);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tenant_is_found_by_id_and_name_with_its_plan),
        cmocka_unit_test(names_are_unique_plans_must_exist_and_names_be_names),
        cmocka_unit_test(a_tenants_key_opens_under_its_root_key_only),
        cmocka_unit_test(changing_a_plan_is_in_the_trail_of_each_of_its_tenants),
        cmocka_unit_test(a_plan_outside_its_bounds_is_refused_by_field),
        cmocka_unit_test(tenants_are_listed_newest_first_in_pages),
        cmocka_unit_test(a_dataset_reads_back_with_its_parts_in_order),
        cmocka_unit_test(dataset_quotas_count_numbers_and_bytes),
        cmocka_unit_test(a_dataset_that_a_job_needs_stays),
        cmocka_unit_test(a_dataset_of_bytes_that_nobody_stored_is_refused),
        cmocka_unit_test(the_overview_counts_what_is_there),
    };
    return cmocka_run_group_tests(tests, scene_up, scene_down);
}
