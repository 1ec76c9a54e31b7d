/* The connection: what it survives, what it reports, and what each failure is called. */
#include "scene.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include "base/clock.h"

static int query(struct db *db, const char *sql, int64_t *out, struct err *e)
{
    struct db_rows *r;
    int rc = db_query_text(db, sql, &r, e);
    if (rc) return rc;
    if (out) *out = db_rows_count(r) ? db_int(r, 0, 0) : 0;
    db_rows_free(r);
    return 0;
}

/* Ends the server's side of a connection that is in a transaction or idle, and waits until it is gone. */
static void kill_backend(int64_t pid)
{
    char sql[128];
    snprintf(sql, sizeof sql, "SELECT pg_terminate_backend(%lld, 5000)::int", (long long)pid);
    assert_int_equal(scene_number(sql), 1);
}

static int64_t pid_of(struct db *db)
{
    struct err e;
    int64_t pid;
    assert_ok(db_begin_system(db, &e), e);
    assert_ok(query(db, "SELECT pg_backend_pid()", &pid, &e), e);
    assert_ok(db_commit(db, &e), e);
    return pid;
}

static void a_server_that_is_not_there_is_unavailable(void **state)
{
    (void)state;
    struct err e;
    struct db *db;
    struct db_options o = {.conninfo = "host=/nonexistent dbname=tenor user=x"};
    assert_err(ERR_UNAVAILABLE, db_open(&db, &o, &e));
    assert_null(db);
    assert_null(strchr(e.message, '\n'));
    assert_ok(db_open_lazy(&db, &o, &e), e);
    assert_err(ERR_UNAVAILABLE, db_begin_system(db, &e));
    assert_false(db_in_tx(db));
    db_free(db);
    o.conninfo = "";
    assert_err(ERR_INVALID, db_open(&db, &o, &e));
}

static void a_wrong_password_is_unavailable_and_not_shown(void **state)
{
    (void)state;
    struct err e;
    struct db *db;
    char conninfo[512];
    snprintf(conninfo, sizeof conninfo, "host=%s dbname=tenor user=tenor_gateway password=mistaken",
             pg_fixture_dir());
    assert_err(ERR_UNAVAILABLE, db_open(&db, &(struct db_options){.conninfo = conninfo}, &e));
    assert_null(strstr(e.message, "mistaken"));
}

static void a_connection_that_died_between_transactions_is_replaced_silently(void **state)
{
    (void)state;
    struct err e;
    struct job_list list;
    struct page p = {.limit = 1};
    struct db *db = pg_fixture_open(PG_GATEWAY);
    assert_ok(db_begin(db, scene.a.id, &e), e);
    assert_ok(job_list(db, &p, -1, NULL, &scene.arena, &list, &e),
              e); /* prepares a statement on the old connection */
    assert_ok(db_commit(db, &e), e);
    uint64_t generation = db_generation(db);
    kill_backend(pid_of(db));
    assert_ok(db_begin(db, scene.a.id, &e), e);
    assert_true(db_generation(db) > generation);
    assert_string_equal(db_tenant(db), scene.a.id);
    assert_ok(job_list(db, &p, -1, NULL, &scene.arena, &list, &e), e);
    assert_ok(db_commit(db, &e), e);
    db_free(db);
}

static void a_connection_that_dies_inside_a_transaction_is_reported(void **state)
{
    (void)state;
    struct err e;
    int64_t pid;
    struct db *db = pg_fixture_open(PG_GATEWAY);
    assert_ok(db_begin(db, scene.a.id, &e), e);
    assert_ok(query(db, "SELECT pg_backend_pid()", &pid, &e), e);
    kill_backend(pid);
    assert_err(ERR_UNAVAILABLE, query(db, "SELECT 1", NULL, &e));
    assert_err(ERR_UNAVAILABLE, query(db, "SELECT 1", NULL, &e));
    db_rollback(db);
    assert_ok(db_begin(db, scene.a.id, &e), e);
    db_rollback(db);
    db_free(db);
}

static void a_commit_whose_answer_is_lost_says_so(void **state)
{
    (void)state;
    struct err e;
    int64_t pid;
    struct db *db = pg_fixture_open(PG_GATEWAY);
    assert_ok(db_begin(db, scene.a.id, &e), e);
    assert_ok(query(db, "SELECT pg_backend_pid()", &pid, &e), e);
    kill_backend(pid);
    assert_err(ERR_UNAVAILABLE, db_commit(db, &e));
    assert_true(db_commit_unknown(db));
    assert_false(db_in_tx(db));
    assert_ok(db_begin(db, scene.a.id, &e), e);
    assert_false(db_commit_unknown(db));
    db_rollback(db);
    db_free(db);
}

static void a_commit_after_a_failed_statement_is_no_success(void **state)
{
    (void)state;
    struct err e;
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_int_not_equal(query(scene.gateway, "SELECT 1/0", NULL, &e), 0);
    assert_err(ERR_INTERNAL, db_commit(scene.gateway, &e));
    assert_false(db_in_tx(scene.gateway));
}

static void the_tenant_ends_with_its_transaction(void **state)
{
    (void)state;
    struct err e;
    int64_t n;
    const char *count = "SELECT count(*) FROM datasets";
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_ok(query(scene.gateway, count, &n, &e), e);
    assert_true(n > 0);
    assert_ok(db_commit(scene.gateway, &e), e);
    assert_string_equal(db_tenant(scene.gateway), "");
    assert_ok(db_begin_system(scene.gateway, &e), e);
    assert_ok(query(scene.gateway, count, &n, &e), e);
    assert_int_equal(n, 0);
    db_rollback(scene.gateway);
    const char *const junk[] = {"", "ten_", "x'; DROP TABLE jobs; --", scene.dataset};
    for (size_t i = 0; i < 4; i++) assert_err(ERR_INVALID, db_begin(scene.gateway, junk[i], &e));
    assert_err(ERR_INVALID, db_begin(scene.gateway, NULL, &e));
}

static void each_failure_has_its_code(void **state)
{
    (void)state;
    struct err e;
    const struct {
        const char *sql;
        int code;
    } cases[] = {
        {"INSERT INTO plans SELECT * FROM plans WHERE name = 'standard'", ERR_CONFLICT},
        {"INSERT INTO tenants (id, name, plan, wrapped_key) SELECT 'ten_' || repeat('0', 26), 'x', "
         "'nosuchplan', "
         "decode(repeat('00', 60), 'hex')",
         ERR_CONFLICT},
        {"UPDATE plans SET weight = 0 WHERE name = 'standard'", ERR_INVALID},
        {"SELECT 1/0", ERR_INVALID},
        {"SELECT 'x'::json", ERR_INVALID},
        {"SELECT pg_sleep(60)", ERR_TIMEOUT},
        {"SELECT nonsense", ERR_INTERNAL},
    };
    char conninfo[512];
    struct db *db;
    pg_fixture_conninfo(conninfo, PG_SUPER, NULL);
    assert_ok(db_open(&db,
                      &(struct db_options){
                          .conninfo = conninfo, .statement_timeout_ms = 200, .lock_timeout_ms = 100},
                      &e),
              e);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_ok(db_begin_system(db, &e), e);
        assert_err(cases[i].code, query(db, cases[i].sql, NULL, &e));
        assert_false(db_retryable(db));
        db_rollback(db);
    }
    /* A lock that somebody else holds. */
    assert_ok(db_begin_system(scene.admin, &e), e);
    assert_ok(query(scene.admin, "SELECT pg_advisory_xact_lock(99)", NULL, &e), e);
    assert_ok(db_begin_system(db, &e), e);
    assert_err(ERR_TIMEOUT, query(db, "SELECT pg_advisory_xact_lock(99)", NULL, &e));
    db_rollback(db);
    db_rollback(scene.admin);
    db_free(db);
}

/* Two transactions that take two locks in opposite order: one must lose, and db_run must carry both through.
 */
struct crossing {
    struct db *db;
    const char *first, *second;
    pthread_barrier_t *gate;
    int runs, rc;
};

static int cross(struct db *db, void *arg, struct err *e)
{
    struct crossing *c = arg;
    int rc = query(db, c->first, NULL, e);
    if (c->runs++ == 0) pthread_barrier_wait(c->gate);
    return rc ? rc : query(db, c->second, NULL, e);
}

static void *run_crossing(void *arg)
{
    struct crossing *c = arg;
    struct err e;
    c->rc = db_run(c->db, NULL, cross, c, &e);
    return NULL;
}

static void a_deadlocks_loser_runs_again_and_wins(void **state)
{
    (void)state;
    pthread_barrier_t gate;
    pthread_t threads[2];
    const char *one = "SELECT pg_advisory_xact_lock(1001)", *two = "SELECT pg_advisory_xact_lock(1002)";
    pthread_barrier_init(&gate, NULL, 2);
    struct crossing c[2] = {{.db = scene.scheduler, .first = one, .second = two, .gate = &gate},
                            {.db = scene.admin, .first = two, .second = one, .gate = &gate}};
    for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, run_crossing, &c[i]);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    assert_int_equal(c[0].rc, 0);
    assert_int_equal(c[1].rc, 0);
    assert_int_equal(c[0].runs + c[1].runs, 3);
    pthread_barrier_destroy(&gate);
}

static int refuse(struct db *db, void *arg, struct err *e)
{
    (void)db;
    ++*(int *)arg;
    return err_set(e, ERR_LIMIT, "jobs", "no");
}

static void db_run_gives_back_its_functions_own_error_at_once(void **state)
{
    (void)state;
    struct err e;
    int runs = 0;
    assert_err(ERR_LIMIT, db_run(scene.gateway, scene.a.id, refuse, &runs, &e));
    assert_int_equal(runs, 1);
    assert_string_equal(e.field, "jobs");
    assert_false(db_in_tx(scene.gateway));
}

static void a_server_crash_costs_no_committed_row(void **state)
{
    (void)state;
    struct err e;
    struct job before, after;
    scene_submit(scene.a.id, scene.dataset, "survivor", &before);
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    pg_fixture_stop_server();
    assert_err(ERR_UNAVAILABLE, query(scene.gateway, "SELECT 1", NULL, &e));
    db_rollback(scene.gateway);
    assert_err(ERR_UNAVAILABLE, db_begin(scene.gateway, scene.a.id, &e));
    pg_fixture_start_server();
    scene_find(scene.a.id, before.id, &after);
    assert_int_equal(after.state, JOB_QUEUED);
    scene_check_invariants();
}

static void
an_idle_connection_of_a_server_that_crashed_and_came_back_is_replaced_at_its_next_use(void **state)
{
    (void)state;
    struct err e;
    struct db *db = pg_fixture_open(PG_GATEWAY);
    uint64_t generation = db_generation(db);
    pg_fixture_stop_server();
    pg_fixture_start_server();
    assert_ok(db_begin(db, scene.a.id, &e), e);
    assert_true(db_generation(db) > generation);
    assert_ok(query(db, "SELECT 1", NULL, &e), e);
    assert_ok(db_commit(db, &e), e);
    db_free(db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_server_that_is_not_there_is_unavailable),
        cmocka_unit_test(a_wrong_password_is_unavailable_and_not_shown),
        cmocka_unit_test(a_connection_that_died_between_transactions_is_replaced_silently),
        cmocka_unit_test(a_connection_that_dies_inside_a_transaction_is_reported),
        cmocka_unit_test(a_commit_whose_answer_is_lost_says_so),
        cmocka_unit_test(a_commit_after_a_failed_statement_is_no_success),
        cmocka_unit_test(the_tenant_ends_with_its_transaction),
        cmocka_unit_test(each_failure_has_its_code),
        cmocka_unit_test(a_deadlocks_loser_runs_again_and_wins),
        cmocka_unit_test(db_run_gives_back_its_functions_own_error_at_once),
        cmocka_unit_test(a_server_crash_costs_no_committed_row),
        cmocka_unit_test(
            an_idle_connection_of_a_server_that_crashed_and_came_back_is_replaced_at_its_next_use),
    };
    return cmocka_run_group_tests(tests, scene_up, scene_down);
}
