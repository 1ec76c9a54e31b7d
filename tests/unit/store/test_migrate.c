/* Migrations: once, in order, unchanged; and what they leave behind. */
#include "scene.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/fs.h"
#include "store/migrate.h"

static char dir[128];
static struct db *fresh;
static int databases;

static void write_migration(const char *name, const char *sql)
{
    char path[256];
    struct err e;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_ok(fs_write_atomic(path, sql, strlen(sql), 0644, &e), e);
}

/* An empty database of its own for each test, and an empty folder. */
static int set_up(void **state)
{
    (void)state;
    struct err e;
    char conninfo[512], sql[64], name[32];
    pg_fixture_start();
    snprintf(name, sizeof name, "fresh%d", ++databases);
    snprintf(sql, sizeof sql, "CREATE DATABASE %s", name);
    pg_fixture_conninfo(conninfo, PG_SUPER, "postgres");
    PGconn *c = PQconnectdb(conninfo);
    PQclear(PQexec(c, sql));
    PQfinish(c);
    pg_fixture_conninfo(conninfo, PG_SUPER, name);
    assert_ok(db_open(&fresh, &(struct db_options){.conninfo = conninfo}, &e), e);
    snprintf(dir, sizeof dir, "%s/migrations%d", pg_fixture_dir(), databases);
    assert_ok(fs_mkdir_p(dir, 0755, &e), e);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    db_free(fresh);
    return 0;
}

static bool table_exists(const char *name)
{
    struct err e;
    struct db_rows *r;
    char sql[128];
    snprintf(sql, sizeof sql, "SELECT to_regclass('%s') IS NOT NULL", name);
    assert_ok(db_begin_system(fresh, &e), e);
    assert_ok(db_query_text(fresh, sql, &r, &e), e);
    bool there = db_bool(r, 0, 0);
    db_rows_free(r);
    db_rollback(fresh);
    return there;
}

static void running_twice_changes_nothing(void **state)
{
    (void)state;
    struct err e;
    struct migrate_report first, second;
    assert_ok(migrate_run(fresh, pg_fixture_migrations(), &first, &e), e);
    assert_true(first.applied >= 7);
    assert_int_equal(first.applied, first.total);
    assert_ok(migrate_run(fresh, pg_fixture_migrations(), &second, &e), e);
    assert_int_equal(second.applied, 0);
    assert_int_equal(second.total, first.total);
    assert_string_equal(second.newest, first.newest);
}

static void a_later_file_is_added_alone(void **state)
{
    (void)state;
    struct err e;
    struct migrate_report report;
    write_migration("0001_one.sql", "CREATE TABLE one (a int)");
    assert_ok(migrate_run(fresh, dir, &report, &e), e);
    write_migration("0002_two.sql", "CREATE TABLE two (a int); CREATE INDEX ON two (a)");
    assert_ok(migrate_run(fresh, dir, &report, &e), e);
    assert_int_equal(report.applied, 1);
    assert_int_equal(report.total, 2);
    assert_string_equal(report.newest, "0002_two.sql");
}

static void a_changed_file_is_refused(void **state)
{
    (void)state;
    struct err e;
    struct migrate_report report;
    write_migration("0001_one.sql", "CREATE TABLE one (a int)");
    assert_ok(migrate_run(fresh, dir, &report, &e), e);
    write_migration("0001_one.sql", "CREATE TABLE one (a int) ");
    assert_err(ERR_CORRUPT, migrate_run(fresh, dir, &report, &e));
    assert_non_null(strstr(e.message, "0001_one.sql"));
}

static void a_database_of_a_newer_tenor_is_refused(void **state)
{
    (void)state;
    struct err e;
    struct migrate_report report;
    char path[256];
    write_migration("0001_one.sql", "CREATE TABLE one (a int)");
    write_migration("0002_two.sql", "CREATE TABLE two (a int)");
    assert_ok(migrate_run(fresh, dir, &report, &e), e);
    snprintf(path, sizeof path, "%s/0002_two.sql", dir);
    remove(path);
    assert_err(ERR_CORRUPT, migrate_run(fresh, dir, &report, &e));
    assert_non_null(strstr(e.message, "0002_two.sql"));
}

static void a_gap_a_wrong_name_and_an_empty_folder_are_refused_before_anything_runs(void **state)
{
    (void)state;
    struct err e;
    struct migrate_report report;
    assert_err(ERR_INVALID, migrate_run(fresh, dir, &report, &e));
    write_migration("0001_one.sql", "CREATE TABLE one (a int)");
    write_migration("0003_three.sql", "CREATE TABLE three (a int)");
    assert_err(ERR_INVALID, migrate_run(fresh, dir, &report, &e));
    assert_false(table_exists("one"));
    char path[256];
    snprintf(path, sizeof path, "%s/0003_three.sql", dir);
    remove(path);
    write_migration("2_two.sql", "CREATE TABLE two (a int)");
    assert_err(ERR_INVALID, migrate_run(fresh, dir, &report, &e));
    assert_false(table_exists("one"));
}

static void a_failing_migration_leaves_nothing_of_itself(void **state)
{
    (void)state;
    struct err e;
    struct migrate_report report;
    write_migration("0001_one.sql", "CREATE TABLE one (a int)");
    write_migration("0002_bad.sql", "CREATE TABLE half (a int); SELECT no_such_function()");
    assert_int_not_equal(migrate_run(fresh, dir, &report, &e), 0);
    assert_non_null(strstr(e.message, "0002_bad.sql"));
    assert_true(table_exists("one"));
    assert_false(table_exists("half"));
    write_migration("0002_bad.sql", "CREATE TABLE half (a int)");
    assert_ok(migrate_run(fresh, dir, &report, &e), e);
    assert_int_equal(report.applied, 1);
}

static void a_database_owner_without_superuser_rights_can_migrate(void **state)
{
    (void)state;
    struct err e;
    char conninfo[512], sql[256];
    struct migrate_report report;
    struct db *db;
    snprintf(sql, sizeof sql,
             "CREATE ROLE operator LOGIN CREATEROLE PASSWORD 'correct horse battery'; ALTER DATABASE fresh%d "
             "OWNER TO operator",
             databases);
    assert_ok(db_begin_system(fresh, &e), e);
    assert_ok(db_exec_text(fresh, sql, &e), e);
    assert_ok(db_commit(fresh, &e), e);
    snprintf(sql, sizeof sql, "fresh%d", databases);
    pg_fixture_conninfo(conninfo, "operator", sql);
    assert_ok(db_open(&db, &(struct db_options){.conninfo = conninfo}, &e), e);
    assert_ok(migrate_run(db, pg_fixture_migrations(), &report, &e), e);
    assert_ok(migrate_run(db, pg_fixture_migrations(), &report, &e), e);
    assert_int_equal(report.applied, 0);
    db_free(db);
}

static void a_login_gets_its_password_and_a_new_one(void **state)
{
    (void)state;
    struct err e;
    char conninfo[512], home[256];
    struct db *db;
    struct migrate_report report;
    assert_ok(migrate_run(fresh, pg_fixture_migrations(), &report, &e), e);
    assert_ok(migrate_login(fresh, PG_GATEWAY, "it's a \\ new one", &e), e);
    pg_fixture_conninfo(conninfo, PG_GATEWAY, NULL);
    assert_err(ERR_UNAVAILABLE, db_open(&db, &(struct db_options){.conninfo = conninfo}, &e));
    snprintf(home, sizeof home, "host=%s dbname=tenor user=tenor_gateway password='it\\'s a \\\\ new one'",
             pg_fixture_dir());
    assert_ok(db_open(&db, &(struct db_options){.conninfo = home}, &e), e);
    db_free(db);
    assert_ok(migrate_login(fresh, PG_GATEWAY, "correct horse battery", &e), e);
    assert_ok(db_open(&db, &(struct db_options){.conninfo = conninfo}, &e), e);
    db_free(db);
    assert_err(ERR_INVALID, migrate_login(fresh, "postgres", "long enough", &e));
    assert_err(ERR_INVALID, migrate_login(fresh, PG_GATEWAY, "short", &e));
}

static void the_seeded_plan_is_what_the_code_calls_standard(void **state)
{
    (void)state;
    struct err e;
    struct plan code, row;
    struct db *admin = pg_fixture_open(PG_ADMIN);
    plan_init(&code, "standard");
    assert_ok(db_begin_system(admin, &e), e);
    assert_ok(plan_find(admin, "standard", &row, &e), e);
    db_rollback(admin);
    db_free(admin);
    assert_memory_equal(&row, &code, sizeof code);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(running_twice_changes_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_later_file_is_added_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_changed_file_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_database_of_a_newer_tenor_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            a_gap_a_wrong_name_and_an_empty_folder_are_refused_before_anything_runs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_failing_migration_leaves_nothing_of_itself, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_database_owner_without_superuser_rights_can_migrate, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_login_gets_its_password_and_a_new_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_seeded_plan_is_what_the_code_calls_standard, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
