/* The invariants hold after honest work, and each of them notices the damage that it is there for. */
#include "scene.h"

#include <stdio.h>
#include <string.h>
#include "store/audit.h"
#include "store/invariant.h"
#include "store/usage.h"

static struct job ended_job, waiting_job, running_job;
static struct job_ended ended;
static char planted[ID_MAX];

/* A platform that has seen everything: success, failure, cancellation, a running and a waiting job,
 * predictions, seals. */
static int live_a_little(void **state)
{
    struct err e;
    struct job j;
    char inc[ID_MAX];
    int64_t sealed;
    scene_up(state);
    scene_submit(scene.a.id, scene.dataset, "m", &ended_job);
    scene_finish(scene.a.id, ended_job.id, scene_claim(scene.a.id, ended_job.id), JOB_SUCCEEDED, &ended);
    scene_submit(scene.a.id, scene.dataset, "m", &j);
    scene_finish(scene.a.id, j.id, scene_claim(scene.a.id, j.id), JOB_FAILED, NULL);
    scene_submit(scene.a.id, scene.dataset, "m", &running_job);
    scene_claim(scene.a.id, running_job.id);
    scene_submit(scene.a.id, scene.dataset, "m", &waiting_job);
    id_new(inc, "inc_");
    struct usage_counters total = {10, 50000, 100};
    assert_ok(db_begin_system(scene.scheduler, &e), e);
    assert_ok(usage_bill(scene.scheduler, inc, scene.a.id, ended.version_id, &total, NULL, &e), e);
    assert_ok(db_commit(scene.scheduler, &e), e);
    assert_ok(audit_seal(scene.scheduler, &sealed, &e), e);
    return 0;
}

/* How many invariants the database breaks as db sees it; *named says whether that one is among them. */
static int broken_in(struct db *db, const char *name, bool *named)
{
    struct err e;
    struct invariant_result results[64];
    int broken;
    assert_ok(invariant_check(db, results, &broken, &e), e);
    *named = false;
    for (int i = 0; i < invariant_count(); i++)
        if (results[i].violations && strcmp(results[i].invariant->name, name) == 0)
            *named = results[i].example[0];
    return broken;
}

static void honest_work_breaks_none(void **state)
{
    (void)state;
    struct err e;
    bool named;
    struct db *roles[] = {scene.scheduler, scene.admin};
    for (int i = 0; i < 2; i++) {
        assert_ok(db_begin_system(roles[i], &e), e);
        assert_int_equal(broken_in(roles[i], "", &named), 0);
        db_rollback(roles[i]);
    }
}

static const struct damage {
    const char *invariant;
    const char *sql; /* %J ended job, %W waiting job, %R running job, %N a new id, %T the tenant */
} damages[] = {
    {"ledger_balanced", "UPDATE ledger_entries SET amount_micros = amount_micros + 1 WHERE source = 'job:%J' "
                        "AND account = 'revenue'"},
    {"ledger_balanced", "DELETE FROM ledger_entries WHERE source = 'job:%J' AND account = 'revenue'"},
    {"succeeded_captured_once",
     "UPDATE holds SET state = 'voided', captured_micros = NULL WHERE job_id = '%J'"},
    {"succeeded_captured_once", "DELETE FROM ledger_entries WHERE source = 'job:%J'"},
    {"succeeded_captured_once", "UPDATE jobs SET cost_micros = cost_micros + 1 WHERE id = '%J'"},
    {"succeeded_captured_once",
     "UPDATE holds SET state = 'captured', captured_micros = 0, resolved_at = now() WHERE job_id = '%R'"},
    {"ended_hold_resolved", "UPDATE holds SET state = 'voided', resolved_at = now() WHERE job_id = '%W'"},
    {"ended_hold_resolved",
     "UPDATE holds SET state = 'open', captured_micros = NULL, resolved_at = NULL WHERE job_id = '%J'"},
    {"ended_hold_resolved", "DELETE FROM holds WHERE job_id = '%W'"},
    {"no_expired_lease", "UPDATE jobs SET lease_until = now() - interval '11 seconds' WHERE id = '%R'"},
    {"one_claim_per_fence",
     "INSERT INTO job_events SELECT tenant_id, job_id, 99, '%N', created_at, level, type, message, data FROM "
     "job_events WHERE job_id = '%R' AND data->>'status' = 'running'"},
    {"no_finish_under_old_fence",
     "UPDATE job_events SET data = '{\"status\":\"running\",\"fence\":7}' WHERE job_id = '%J' AND "
     "data->>'status' = 'running'"},
    {"ended_once",
     "INSERT INTO job_events SELECT tenant_id, job_id, 99, '%N', created_at, level, type, message, data FROM "
     "job_events WHERE job_id = '%J' AND data->>'status' = 'succeeded'"},
    {"ended_once",
     "UPDATE job_events SET data = '{\"status\":\"failed\",\"fence\":1}' WHERE job_id = '%J' AND "
     "data->>'status' = 'succeeded'"},
    {"one_version_per_success", "UPDATE model_versions SET job_id = NULL WHERE job_id = '%J'"},
    {"versions_without_gap", "UPDATE models SET latest_version = latest_version + 1"},
    {"audit_sealed", "INSERT INTO audit_log (tenant_id, id, created_at, type, actor_type, actor_id, "
                     "object_id, data) SELECT '%T', '%N', "
                     "now() - interval '3 seconds', 'x', 'x', '', '', '{}'"},
    {"audit_chained", "UPDATE audit_log SET prev_hash = sha256('x') WHERE seq = 2"},
    {"audit_chained", "DELETE FROM audit_log WHERE seq = 2"},
    {"audit_chained", "DELETE FROM audit_log a WHERE seq = (SELECT max(seq) FROM audit_log b WHERE "
                      "b.tenant_id = a.tenant_id)"},
    {"audit_chained", "UPDATE audit_heads SET hash = sha256('x')"},
    {"no_row_of_another_tenant", "UPDATE jobs SET result = '{\"version_id\":\"ver_1\"}' WHERE id = '%J'"},
    {"usage_billed_once", "UPDATE usage_totals SET rows = rows + 1"},
    {"usage_billed_once", "UPDATE ledger_entries SET quantity = quantity + 1 WHERE kind = 'predict'"},
    {"usage_sums_to_ledger", "UPDATE usage_hours SET amount_micros = amount_micros + 1"},
};

/* sql with its letters replaced. */
static void spell(char *out, size_t cap, const char *sql)
{
    size_t n = 0;
    id_new(planted, strncmp(sql, "INSERT INTO audit", 17) == 0 ? "aud_" : "evt_");
    for (const char *p = sql; *p; p++) {
        const char *with = NULL;
        if (*p == '%')
            with = p[1] == 'J'   ? ended_job.id
                   : p[1] == 'W' ? waiting_job.id
                   : p[1] == 'R' ? running_job.id
                   : p[1] == 'N' ? planted
                                 : scene.a.id;
        n += (size_t)snprintf(out + n, cap - n, "%.*s", with ? ID_MAX : 1, with ? with : p);
        p += with != NULL;
    }
}

static void each_notices_its_damage(void **state)
{
    (void)state;
    struct err e;
    char sql[800];
    struct db *super = pg_fixture_open(PG_SUPER);
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        bool named;
        spell(sql, sizeof sql, damages[i].sql);
        assert_ok(db_begin_system(super, &e), e);
        assert_ok(db_exec_text(super, "SET LOCAL session_replication_role = replica", &e),
                  e); /* triggers and keys off */
        assert_ok(db_exec_text(super, sql, &e), e);
        broken_in(super, damages[i].invariant, &named);
        if (!named) fail_msg("%s did not notice: %s", damages[i].invariant, sql);
        db_rollback(super);
    }
    db_free(super);
}

static void every_invariant_has_a_damage_above_and_a_name_of_its_own(void **state)
{
    (void)state;
    for (int i = 0; i < invariant_count(); i++) {
        const struct invariant *v = invariant_get(i);
        bool covered = false;
        for (size_t d = 0; d < sizeof damages / sizeof damages[0]; d++)
            covered |= strcmp(damages[d].invariant, v->name) == 0;
        if (!covered) fail_msg("nothing shows that %s notices anything", v->name);
        assert_true(strlen(v->says) > 10);
        for (int k = 0; k < i; k++) assert_string_not_equal(invariant_get(k)->name, v->name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(honest_work_breaks_none),
        cmocka_unit_test(each_notices_its_damage),
        cmocka_unit_test(every_invariant_has_a_damage_above_and_a_name_of_its_own),
    };
    return cmocka_run_group_tests(tests, live_a_little, scene_down);
}
