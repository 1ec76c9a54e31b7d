/* The wrong tenant sees nothing: through every query of every noun, and through none of the tables. */
#include "scene.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include "store/alias.h"
#include "store/audit.h"
#include "store/idem.h"
#include "store/invoice.h"
#include "store/job_event.h"
#include "store/key.h"
#include "store/ledger.h"
#include "store/model.h"
#include "store/usage.h"
#include "store/version.h"

static struct job job;
static struct job_ended ended;
static struct api_key key;
static struct blob artifact;
static const uint8_t request[SHA256_LEN] = {1};

/* Tenant a gets one of everything. */
static int fill(void **state)
{
    struct err e;
    char secret[KEY_TEXT_MAX];
    struct idem taken;
    scene_up(state);
    scene_submit(scene.a.id, scene.dataset, "mine", &job);
    scene_finish(scene.a.id, job.id, scene_claim(scene.a.id, job.id), JOB_SUCCEEDED, &ended);
    struct key_new in = {.name = "ci", .scopes = SCOPE_ALL};
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_ok(key_create(scene.gateway, pg_fixture_keyring(), &in, &pg_fixture_actor, &scene.arena, &key,
                         secret, &e),
              e);
    assert_ok(version_blob(scene.gateway, ended.version_id, &artifact, &e), e);
    assert_ok(idem_take(scene.gateway, "once", request, 60, &scene.arena, &taken, &e), e);
    assert_ok(idem_finish(scene.gateway, "once", &taken, 201, "{}", &e), e);
    assert_ok(db_commit(scene.gateway, &e), e);
    char inc[ID_MAX];
    id_new(inc, "inc_");
    assert_ok(db_begin_system(scene.scheduler, &e), e);
    struct usage_counters total = {10, 5000, 100};
    assert_ok(usage_bill(scene.scheduler, inc, scene.a.id, ended.version_id, &total, NULL, &e), e);
    assert_ok(db_commit(scene.scheduler, &e), e);
    int64_t sealed;
    assert_ok(audit_seal(scene.scheduler, &sealed, &e), e);
    return 0;
}

static void a_stranger_finds_no_single_thing(void **state)
{
    (void)state;
    struct err e;
    struct db *db = scene.gateway;
    struct arena *a = &scene.arena;
    struct job j;
    struct dataset d;
    struct model m;
    struct version v;
    struct alias al, *als;
    struct api_key k;
    struct blob b;
    struct tenant t;
    struct job_event_list ev;
    struct version_list vl;
    uint8_t tk[AES_KEY_LEN];
    int n;
    bool cancel;
    enum job_state where;
    assert_ok(db_begin(db, scene.b.id, &e), e);
    assert_err(ERR_NOT_FOUND, job_find(db, job.id, a, &j, &e));
    assert_err(ERR_NOT_FOUND, job_cancel(db, job.id, &pg_fixture_actor, a, &j, NULL, &e));
    assert_err(ERR_NOT_FOUND, job_event_list(db, job.id, &(struct page){.limit = 9}, a, &ev, &e));
    assert_err(ERR_STALE, job_renew(db, job.id, 1, 1000, &cancel, &e));
    assert_err(ERR_STALE, job_progress(db, job.id, 1, "{}", "info", "message", "x", NULL, &e));
    assert_err(ERR_STALE, job_crash(db, job.id, 1, "x", &where, &e));
    assert_err(ERR_STALE, job_yield(db, job.id, 1, NULL, "x", &e));
    assert_err(ERR_NOT_FOUND, dataset_find(db, scene.dataset, a, &d, &e));
    assert_err(ERR_NOT_FOUND, dataset_delete(db, scene.dataset, &pg_fixture_actor, &e));
    assert_err(ERR_NOT_FOUND, model_find(db, "mine", a, &m, &e));
    assert_err(ERR_NOT_FOUND, version_find(db, "mine", 1, NULL, a, &v, &e));
    assert_err(ERR_NOT_FOUND, version_find(db, "mine", 0, NULL, a, &v, &e));
    assert_err(ERR_NOT_FOUND, version_find(db, "mine", 0, "live", a, &v, &e));
    assert_err(ERR_NOT_FOUND, version_find_id(db, ended.version_id, a, &v, &e));
    assert_err(ERR_NOT_FOUND, version_blob(db, ended.version_id, &b, &e));
    assert_err(ERR_NOT_FOUND, version_list(db, "mine", &(struct page){.limit = 9}, a, &vl, &e));
    assert_err(ERR_NOT_FOUND, alias_list(db, "mine", a, &als, &n, &e));
    assert_err(ERR_NOT_FOUND, alias_set(db, "mine", "live", &(struct alias_target){.version = 1}, -1,
                                        &pg_fixture_actor, &al, &e));
    assert_err(ERR_NOT_FOUND, key_find(db, key.id, a, &k, &e));
    assert_err(ERR_NOT_FOUND, key_revoke(db, key.id, &pg_fixture_actor, NULL, &e));
    assert_err(ERR_NOT_FOUND, blob_find(db, artifact.sha256, &b, &e));
    assert_err(ERR_NOT_FOUND, tenant_find(db, scene.a.id, &t, &e));
    assert_err(ERR_NOT_FOUND, tenant_find_name(db, scene.a.name, &t, &e));
    assert_err(ERR_NOT_FOUND, tenant_load_key(db, pg_fixture_keyring(), scene.a.id, tk, &e));
    db_rollback(db);
}

/* The database's time in Unix seconds, and its month as "YYYY-MM". */
static int64_t this_month(char month[8])
{
    time_t now = (time_t)scene_number("SELECT extract(epoch FROM now())::bigint");
    struct tm tm;
    strftime(month, 8, "%Y-%m", gmtime_r(&now, &tm));
    return now;
}

static void a_strangers_lists_are_empty(void **state)
{
    (void)state;
    struct err e;
    struct db *db = scene.gateway;
    struct arena *a = &scene.arena;
    struct page p = {.limit = 100};
    struct job_list jobs;
    struct dataset_list datasets;
    struct model_list models;
    struct key_list keys;
    struct ledger_list ledger;
    struct usage_report usage;
    struct invoice invoice;
    struct audit_list audit;
    struct idem idem;
    int64_t balance, held, billed;
    char month[8];
    struct tenant stranger;
    scene_tenant(&stranger);
    int64_t now = this_month(month);
    assert_ok(db_begin(db, stranger.id, &e), e);
    assert_ok(job_list(db, &p, -1, NULL, a, &jobs, &e), e);
    assert_int_equal(jobs.n, 0);
    assert_ok(dataset_list(db, &p, a, &datasets, &e), e);
    assert_int_equal(datasets.n, 0);
    assert_ok(model_list(db, &p, a, &models, &e), e);
    assert_int_equal(models.n, 0);
    assert_ok(key_list(db, &p, a, &keys, &e), e);
    assert_int_equal(keys.n, 0);
    assert_ok(ledger_list(db, &p, a, &ledger, &e), e);
    assert_int_equal(ledger.n, 0);
    assert_ok(ledger_balance(db, "receivable", &balance, &e), e);
    assert_int_equal(balance, 0);
    assert_ok(ledger_exposure(db, &held, &billed, &e), e);
    assert_int_equal(held + billed, 0);
    assert_ok(usage_report(db, now - 86400, now + 86400, 3600, a, &usage, &e), e);
    assert_int_equal(usage.n, 0);
    assert_ok(invoice_make(db, month, a, &invoice, &e), e);
    assert_int_equal(invoice.n_lines, 0);
    assert_ok(audit_list(db, &p, NULL, a, &audit, &e), e);
    assert_int_equal(audit.n, 1); /* its own creation */
    assert_string_equal(audit.items[0].object_id, stranger.id);
    assert_ok(idem_take(db, "once", request, 60, a, &idem, &e), e);
    assert_int_equal(idem.outcome, IDEM_FRESH);
    db_rollback(db);
}

/* Through the same queries the owner sees all of it: the emptiness above is the stranger's alone. */
static void the_owners_lists_are_not_empty(void **state)
{
    (void)state;
    struct err e;
    struct db *db = scene.gateway;
    struct arena *a = &scene.arena;
    struct page p = {.limit = 100};
    struct job_list jobs;
    struct model_list models;
    struct key_list keys;
    struct usage_report usage;
    struct invoice invoice;
    char month[8];
    int64_t now = this_month(month);
    assert_ok(db_begin(db, scene.a.id, &e), e);
    assert_ok(job_list(db, &p, -1, NULL, a, &jobs, &e), e);
    assert_ok(model_list(db, &p, a, &models, &e), e);
    assert_ok(key_list(db, &p, a, &keys, &e), e);
    assert_ok(usage_report(db, now - 86400, now + 86400, 3600, a, &usage, &e), e);
    assert_ok(invoice_make(db, month, a, &invoice, &e), e);
    assert_int_equal(jobs.n, 1);
    assert_int_equal(models.n, 1);
    assert_int_equal(keys.n, 1);
    assert_int_equal(usage.n, 1);
    assert_int_equal(invoice.n_lines, 2);
    db_rollback(db);
}

/* Tables of tenants: those with a column tenant_id, and tenants itself. */
#define TENANT_TABLES                                                                                        \
    "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'tenor' AND c.relkind " \
    "= 'r' AND "                                                                                             \
    "(c.relname = 'tenants' OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = " \
    "'tenant_id' "                                                                                           \
    "AND NOT a.attisdropped))"

static void every_tenant_table_has_row_security_forced_and_a_policy_for_each_role(void **state)
{
    (void)state;
    int64_t tables = scene_number("SELECT count(*) " TENANT_TABLES);
    assert_true(tables >= 17);
    assert_int_equal(
        scene_number("SELECT count(*) " TENANT_TABLES " AND c.relrowsecurity AND c.relforcerowsecurity"),
        tables);
    assert_int_equal(
        scene_number("SELECT count(*) " TENANT_TABLES
                     " AND 2 = (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname IN "
                     "('tenant_rows', 'system_rows'))"),
        tables);
}

static void raw_sql_of_an_application_role_sees_its_tenant_only(void **state)
{
    (void)state;
    struct err e;
    struct db_rows *names, *r;
    struct db *super = pg_fixture_open(PG_SUPER);
    assert_ok(db_begin_system(super, &e), e);
    assert_ok(db_query_text(super,
                            "SELECT c.relname " TENANT_TABLES
                            " AND has_table_privilege('tenor_app', c.oid, 'SELECT')",
                            &names, &e),
              e);
    int full = 0;
    for (int i = 0; i < db_rows_count(names); i++) {
        char sql[256];
        const char *table = db_text(names, i, 0);
        snprintf(sql, sizeof sql, "SELECT count(*) FROM %s WHERE %s = '%s'", table,
                 strcmp(table, "tenants") == 0 ? "id" : "tenant_id", scene.a.id);
        struct db *roles[] = {scene.gateway, scene.worker};
        for (int k = 0; k < 2; k++) {
            assert_ok(db_begin(roles[k], scene.b.id, &e), e);
            assert_ok(db_query_text(roles[k], sql, &r, &e), e);
            assert_int_equal(db_int(r, 0, 0), 0);
            db_rows_free(r);
            db_rollback(roles[k]);
            assert_ok(db_begin_system(roles[k], &e), e); /* no tenant: nothing at all */
            assert_ok(db_query_text(roles[k], sql, &r, &e), e);
            assert_int_equal(db_int(r, 0, 0), 0);
            db_rows_free(r);
            db_rollback(roles[k]);
        }
        full += scene_number(sql) > 0;
    }
    assert_true(full >= 12); /* the tables that were asked for do hold rows of the other tenant */
    db_rows_free(names);
    db_free(super);
}

static void nobody_writes_rows_into_another_tenant(void **state)
{
    (void)state;
    struct err e;
    char sql[400];
    const char *const writes[] = {
        "INSERT INTO audit_log (tenant_id, id, type, actor_type, actor_id, object_id, data) SELECT '%s', "
        "'aud_00000000000000000000000000', 'x', 'x', 'x', 'x', '{}'",
        "INSERT INTO models (tenant_id, id, name) SELECT '%s', 'mdl_00000000000000000000000000', 'planted'",
        "INSERT INTO idempotency_keys (tenant_id, key, request, token, taken_until) SELECT '%s', 'k', "
        "decode(repeat('00', 32), 'hex'), 'req_00000000000000000000000000', now()",
    };
    for (size_t i = 0; i < sizeof writes / sizeof writes[0]; i++) {
        const char *cut = strstr(writes[i], "%s");
        snprintf(sql, sizeof sql, "%.*s%s%s", (int)(cut - writes[i]), writes[i], scene.a.id, cut + 2);
        assert_ok(db_begin(scene.gateway, scene.b.id, &e), e);
        assert_err(ERR_INTERNAL, db_exec_text(scene.gateway, sql, &e)); /* insufficient privilege: policy */
        assert_non_null(strstr(e.message, "42501"));
        db_rollback(scene.gateway);
        assert_ok(db_begin(scene.gateway, scene.a.id, &e),
                  e); /* the owner may: it is the policy that refused */
        assert_ok(db_exec_text(scene.gateway, sql, &e), e);
        db_rollback(scene.gateway);
    }
}

static void application_roles_own_nothing_and_cannot_bypass_anything(void **state)
{
    (void)state;
    assert_int_equal(scene_number("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'tenor\\_%'"), 8);
    assert_int_equal(scene_number("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'tenor\\_%' AND "
                                  "(rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb)"),
                     0);
    assert_int_equal(scene_number("SELECT count(*) FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner "
                                  "WHERE r.rolname LIKE 'tenor\\_%' AND r.rolname <> 'tenor_owner'"),
                     0);
    assert_int_equal(
        scene_number("SELECT count(*) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member WHERE "
                     "r.rolname IN ('tenor_gateway', 'tenor_worker', 'tenor_scheduler', 'tenor_admin')"),
        4);
    struct err e;
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_err(ERR_INTERNAL, db_exec_text(scene.gateway, "SET ROLE tenor_system", &e));
    db_rollback(scene.gateway);
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_err(ERR_INTERNAL, db_exec_text(scene.gateway, "UPDATE plans SET train_second_micros = 0", &e));
    db_rollback(scene.gateway);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stranger_finds_no_single_thing),
        cmocka_unit_test(a_strangers_lists_are_empty),
        cmocka_unit_test(the_owners_lists_are_not_empty),
        cmocka_unit_test(every_tenant_table_has_row_security_forced_and_a_policy_for_each_role),
        cmocka_unit_test(raw_sql_of_an_application_role_sees_its_tenant_only),
        cmocka_unit_test(nobody_writes_rows_into_another_tenant),
        cmocka_unit_test(application_roles_own_nothing_and_cannot_bypass_anything),
    };
    return cmocka_run_group_tests(tests, fill, scene_down);
}
