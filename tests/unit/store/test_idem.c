/* Idempotency keys and leadership: who is the one that does it. */
#include "scene.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include "store/idem.h"
#include "store/lead.h"

static const uint8_t request[SHA256_LEN] = {1}, other[SHA256_LEN] = {2};

static int take(struct db *db, const char *key, const uint8_t *r, int64_t hold_s, struct idem *out,
                struct err *e)
{
    assert_ok(db_begin(db, scene.a.id, e), *e);
    int rc = idem_take(db, key, r, hold_s, &scene.arena, out, e);
    if (rc) db_rollback(db);
    return rc;
}

static void an_answer_is_replayed_to_the_same_request_only(void **state)
{
    (void)state;
    struct err e;
    struct idem first, again;
    assert_ok(take(scene.gateway, "k1", request, 60, &first, &e), e);
    assert_int_equal(first.outcome, IDEM_FRESH);
    assert_ok(idem_finish(scene.gateway, "k1", &first, 201, "{\"id\":\"job_1\"}", &e), e);
    assert_ok(db_commit(scene.gateway, &e), e);
    assert_ok(take(scene.gateway, "k1", request, 60, &again, &e), e);
    assert_int_equal(again.outcome, IDEM_REPLAY);
    assert_int_equal(again.status, 201);
    assert_string_equal(again.body, "{\"id\":\"job_1\"}");
    db_rollback(scene.gateway);
    assert_err(ERR_INVALID, take(scene.gateway, "k1", other, 60, &again, &e));
    assert_string_equal(e.field, "Idempotency-Key");
}

static void a_rolled_back_attempt_leaves_the_key_free(void **state)
{
    (void)state;
    struct err e;
    struct idem it;
    assert_ok(take(scene.gateway, "k2", request, 60, &it, &e), e);
    db_rollback(scene.gateway);
    assert_ok(take(scene.gateway, "k2", other, 60, &it, &e), e);
    assert_int_equal(it.outcome, IDEM_FRESH);
    db_rollback(scene.gateway);
}

static void a_second_request_learns_at_once_that_the_first_is_at_work(void **state)
{
    (void)state;
    struct err e;
    struct idem it;
    assert_ok(take(scene.gateway, "k3", request, 60, &it, &e), e); /* not committed, hence not visible */
    assert_err(ERR_CONFLICT, take(scene.worker, "k3", request, 60, &it, &e));
    assert_true(e.retry_after_ms > 0);
    db_rollback(scene.gateway);
}

static void a_long_holder_is_respected_until_its_time_is_over(void **state)
{
    (void)state;
    struct err e;
    struct idem slow, fast;
    assert_ok(take(scene.gateway, "k4", request, 60, &slow, &e), e);
    assert_ok(db_commit(scene.gateway, &e), e);
    assert_err(ERR_CONFLICT, take(scene.worker, "k4", request, 60, &fast, &e));
    assert_err(ERR_INVALID, take(scene.worker, "k4", other, 60, &fast, &e));
    pg_fixture_exec("UPDATE idempotency_keys SET taken_until = now() WHERE key = 'k4'");
    assert_ok(take(scene.worker, "k4", request, 60, &fast, &e), e);
    assert_int_equal(fast.outcome, IDEM_FRESH);
    assert_ok(idem_finish(scene.worker, "k4", &fast, 201, "fast", &e), e);
    assert_ok(db_commit(scene.worker, &e), e);
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_err(ERR_STALE, idem_finish(scene.gateway, "k4", &slow, 201, "slow", &e));
    assert_err(ERR_STALE, idem_release(scene.gateway, "k4", &slow, &e));
    db_rollback(scene.gateway);
}

static void a_failed_holder_lets_go(void **state)
{
    (void)state;
    struct err e;
    struct idem it;
    assert_ok(take(scene.gateway, "k5", request, 600, &it, &e), e);
    assert_ok(db_commit(scene.gateway, &e), e);
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_ok(idem_release(scene.gateway, "k5", &it, &e), e);
    assert_ok(db_commit(scene.gateway, &e), e);
    assert_ok(take(scene.gateway, "k5", other, 60, &it, &e), e);
    assert_int_equal(it.outcome, IDEM_FRESH);
    db_rollback(scene.gateway);
}

static void keys_have_1_to_255_bytes(void **state)
{
    (void)state;
    struct err e;
    struct idem it;
    char key[300];
    memset(key, 'k', sizeof key);
    key[256] = '\0';
    assert_err(ERR_INVALID, take(scene.gateway, key, request, 60, &it, &e));
    assert_err(ERR_INVALID, take(scene.gateway, "", request, 60, &it, &e));
    key[255] = '\0';
    assert_ok(take(scene.gateway, key, request, 60, &it, &e), e);
    db_rollback(scene.gateway);
}

static void old_answers_are_forgotten_and_young_ones_kept(void **state)
{
    (void)state;
    struct err e;
    struct idem it;
    int64_t n;
    for (int i = 0; i < 2; i++) {
        const char *key = i ? "young" : "old";
        assert_ok(take(scene.gateway, key, request, 60, &it, &e), e);
        assert_ok(idem_finish(scene.gateway, key, &it, 200, "x", &e), e);
        assert_ok(db_commit(scene.gateway, &e), e);
    }
    pg_fixture_exec("UPDATE idempotency_keys SET created_at = now() - interval '25 hours' WHERE key = 'old'");
    assert_ok(db_begin_system(scene.scheduler, &e), e);
    assert_ok(idem_expire(scene.scheduler, 86400, &n, &e), e);
    assert_ok(db_commit(scene.scheduler, &e), e);
    assert_int_equal(n, 1);
    assert_ok(take(scene.gateway, "young", request, 60, &it, &e), e);
    assert_int_equal(it.outcome, IDEM_REPLAY);
    db_rollback(scene.gateway);
}

/* ---- the whole use: one key, many clients, one job ---- */

struct client {
    struct db *db;
    pthread_barrier_t *gate;
    char answer[ID_MAX];
    bool conflict;
};

static void *submit_once(void *arg)
{
    struct client *c = arg;
    struct err e;
    struct arena a;
    struct idem it;
    struct job j;
    struct job_new in = {.type = "train",
                         .model = "m",
                         .dataset_id = scene.dataset,
                         .max_seconds = 5,
                         .threads = 1,
                         .spec = "{}"};
    arena_init(&a, SIZE_MAX);
    pthread_barrier_wait(c->gate);
    int rc = db_begin(c->db, scene.a.id, &e);
    if (!rc) rc = idem_take(c->db, "storm", request, 60, &a, &it, &e);
    if (!rc && it.outcome == IDEM_REPLAY) snprintf(c->answer, sizeof c->answer, "%s", it.body);
    if (!rc && it.outcome == IDEM_FRESH) {
        rc = job_submit(c->db, &in, &pg_fixture_actor, &a, &j, &e);
        if (!rc) rc = idem_finish(c->db, "storm", &it, 201, j.id, &e);
        if (!rc) snprintf(c->answer, sizeof c->answer, "%s", j.id);
    }
    c->conflict = rc == ERR_CONFLICT;
    if (!rc)
        rc = db_commit(c->db, &e);
    else
        db_rollback(c->db);
    arena_dispose(&a);
    return NULL;
}

static void a_storm_of_the_same_request_makes_one_job(void **state)
{
    (void)state;
    enum { N = 6 };
    struct client c[N];
    pthread_t threads[N];
    pthread_barrier_t gate;
    char winner[ID_MAX] = "";
    int64_t before = scene_number("SELECT count(*) FROM jobs");
    pthread_barrier_init(&gate, NULL, N);
    for (int i = 0; i < N; i++) {
        c[i] = (struct client){.db = pg_fixture_open(PG_GATEWAY), .gate = &gate};
        pthread_create(&threads[i], NULL, submit_once, &c[i]);
    }
    for (int i = 0; i < N; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < N; i++) {
        assert_true(c[i].conflict || c[i].answer[0]);
        if (c[i].answer[0] && winner[0]) assert_string_equal(c[i].answer, winner);
        if (c[i].answer[0]) memcpy(winner, c[i].answer, sizeof winner);
        db_free(c[i].db);
    }
    pthread_barrier_destroy(&gate);
    assert_true(winner[0]);
    assert_int_equal(scene_number("SELECT count(*) FROM jobs"), before + 1);
}

/* ---- leadership ---- */

static bool leads(struct db *db, struct lead *l)
{
    struct err e;
    bool yes;
    assert_ok(lead_check(db, l, &yes, &e), e);
    return yes;
}

static void one_leads_until_it_steps_down_or_its_connection_goes(void **state)
{
    (void)state;
    struct err e;
    struct lead a = {0}, b = {0};
    struct db *x = pg_fixture_open(PG_SCHEDULER), *y = pg_fixture_open(PG_SCHEDULER);
    struct db_rows *r;
    char sql[100];
    assert_true(leads(x, &a));
    assert_true(leads(x, &a));
    assert_false(leads(y, &b));
    lead_drop(x, &a);
    assert_true(leads(y, &b));
    assert_false(leads(x, &a));
    /* y's connection is cut behind its back; x takes over; y must notice although it reconnects silently. */
    assert_ok(db_begin_system(y, &e), e);
    assert_ok(db_query_text(y, "SELECT pg_backend_pid()", &r, &e), e);
    snprintf(sql, sizeof sql, "SELECT pg_terminate_backend(%s, 5000)::int", db_text(r, 0, 0));
    db_rows_free(r);
    assert_ok(db_commit(y, &e), e);
    assert_int_equal(scene_number(sql), 1);
    assert_true(leads(x, &a));
    assert_false(leads(y, &b));
    assert_true(leads(x, &a));
    /* One drop is enough, however often it was checked. */
    lead_drop(x, &a);
    assert_true(leads(y, &b));
    db_free(x);
    db_free(y);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_is_replayed_to_the_same_request_only),
        cmocka_unit_test(a_rolled_back_attempt_leaves_the_key_free),
        cmocka_unit_test(a_second_request_learns_at_once_that_the_first_is_at_work),
        cmocka_unit_test(a_long_holder_is_respected_until_its_time_is_over),
        cmocka_unit_test(a_failed_holder_lets_go),
        cmocka_unit_test(keys_have_1_to_255_bytes),
        cmocka_unit_test(old_answers_are_forgotten_and_young_ones_kept),
        cmocka_unit_test(a_storm_of_the_same_request_makes_one_job),
        cmocka_unit_test(one_leads_until_it_steps_down_or_its_connection_goes),
    };
    return cmocka_run_group_tests(tests, scene_up, scene_down);
}
