/* Usage, ledger and invoices: every row is billed once, and no micro-unit is lost or invented. */
#include "scene.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "store/invoice.h"
#include "store/ledger.h"
#include "store/usage.h"

/* A tenant with one version, at that price per 1,000 rows. */
static void one_version(struct tenant *t, int64_t price, char version_id[ID_MAX])
{
    char dataset[ID_MAX];
    struct job_ended ended;
    scene_tenant(t);
    t->plan.predict_krows_micros = price;
    t->plan.train_second_micros = 0; /* so that the ledger's money is all predictions */
    scene_plan(&t->plan);
    scene_dataset(t->id, "d", dataset);
    scene_train(t->id, dataset, "served", &ended);
    memcpy(version_id, ended.version_id, ID_MAX);
}

static int64_t bill(struct db *db, const char *inc, const char *tenant_id, const char *version_id,
                    int64_t requests, int64_t rows)
{
    struct err e;
    int64_t amount;
    struct usage_counters total = {requests, rows, requests * 10};
    assert_ok(db_begin_system(db, &e), e);
    assert_ok(usage_bill(db, inc, tenant_id, version_id, &total, &amount, &e), e);
    assert_ok(db_commit(db, &e), e);
    return amount;
}

static int64_t receivable(const char *tenant_id)
{
    struct err e;
    int64_t micros, mirror;
    assert_ok(db_begin(scene.gateway, tenant_id, &e), e);
    assert_ok(ledger_balance(scene.gateway, "receivable", &micros, &e), e);
    assert_ok(ledger_balance(scene.gateway, "revenue", &mirror, &e), e);
    db_rollback(scene.gateway);
    assert_int_equal(micros, -mirror);
    return micros;
}

static void report_all(const char *tenant_id, struct usage_row *sum, int *buckets)
{
    struct err e;
    struct usage_report r;
    int64_t now = scene_number("SELECT extract(epoch FROM now())::bigint");
    memset(sum, 0, sizeof *sum);
    assert_ok(db_begin(scene.gateway, tenant_id, &e), e);
    assert_ok(usage_report(scene.gateway, now - 90000, now + 1, 3600, &scene.arena, &r, &e), e);
    db_rollback(scene.gateway);
    for (int i = 0; i < r.n; i++) {
        sum->requests += r.items[i].requests;
        sum->rows += r.items[i].rows;
        sum->compute_us += r.items[i].compute_us;
        sum->train_seconds += r.items[i].train_seconds;
        sum->amount_micros += r.items[i].amount_micros;
    }
    if (buckets) *buckets = r.n;
}

static void repeated_and_older_totals_bill_nothing_twice(void **state)
{
    (void)state;
    struct tenant t;
    char version[ID_MAX], inc[ID_MAX];
    one_version(&t, 1000, version); /* a micro-unit a row */
    id_new(inc, "inc_");
    assert_int_equal(bill(scene.scheduler, inc, t.id, version, 5, 100), 100);
    assert_int_equal(bill(scene.scheduler, inc, t.id, version, 5, 100), 0);
    assert_int_equal(bill(scene.scheduler, inc, t.id, version, 3, 60), 0);
    assert_int_equal(bill(scene.scheduler, inc, t.id, version, 9, 130), 30);
    assert_int_equal(bill(scene.scheduler, inc, t.id, version, 5, 100), 0);
    assert_int_equal(receivable(t.id), 130);
    struct usage_row sum;
    report_all(t.id, &sum, NULL);
    assert_int_equal(sum.requests, 9);
    assert_int_equal(sum.rows, 130);
    assert_int_equal(sum.compute_us, 90);
    assert_int_equal(sum.amount_micros, 130);
    assert_int_equal(sum.train_seconds, 1);
    /* Another incarnation counts from zero on its own. */
    id_new(inc, "inc_");
    assert_int_equal(bill(scene.scheduler, inc, t.id, version, 1, 7), 7);
    assert_int_equal(receivable(t.id), 137);
    scene_check_invariants();
}

static void fractions_of_a_micro_unit_are_carried_exactly(void **state)
{
    (void)state;
    struct tenant t;
    char version[ID_MAX], inc[2][ID_MAX];
    one_version(&t, 333, version);
    int64_t rows[2] = {0, 0}, sum = 0;
    for (int i = 0; i < 2; i++) id_new(inc[i], "inc_");
    unsigned seed = 5;
    for (int i = 0; i < 60; i++) {
        seed = seed * 1103515245u + 12345u;
        int who = seed >> 30 & 1;
        rows[who] += seed >> 16 & 7;
        sum += bill(scene.scheduler, inc[who], t.id, version, i, rows[who]);
        assert_int_equal(sum, (rows[0] + rows[1]) * 333 / 1000);
    }
    assert_int_equal(receivable(t.id), sum);
    /* A new price keeps what is left of the old one. */
    t.plan.predict_krows_micros = 1;
    scene_plan(&t.plan);
    int64_t left = (rows[0] + rows[1]) * 333 % 1000;
    assert_int_equal(bill(scene.scheduler, inc[0], t.id, version, 99, rows[0] + 1000 - left), 1);
    scene_check_invariants();
}

struct flusher {
    struct db *db;
    pthread_barrier_t *gate;
    const char *inc, *tenant_id, *version_id;
    unsigned seed;
    int failed;
};

/* Flushes the same growing totals as its siblings, each reading them at its own moments. */
static void *flush(void *arg)
{
    struct flusher *f = arg;
    pthread_barrier_wait(f->gate);
    for (int64_t total = 1; total <= 40; total += 1 + (f->seed = f->seed * 69069 + 1) % 3) {
        struct err e;
        struct usage_counters c = {total, total * 10, total};
        int rc = db_begin_system(f->db, &e);
        if (!rc) rc = usage_bill(f->db, f->inc, f->tenant_id, f->version_id, &c, NULL, &e);
        if (!rc)
            rc = db_commit(f->db, &e);
        else
            db_rollback(f->db);
        f->failed += rc != 0;
    }
    return NULL;
}

static void interleaved_flushes_of_several_meters_bill_each_row_once(void **state)
{
    (void)state;
    enum { METERS = 4 };
    struct tenant t;
    char version[ID_MAX], inc[ID_MAX];
    struct flusher f[METERS];
    pthread_t threads[METERS];
    pthread_barrier_t gate;
    one_version(&t, 777, version);
    id_new(inc, "inc_");
    pthread_barrier_init(&gate, NULL, METERS);
    for (unsigned i = 0; i < METERS; i++) {
        f[i] = (struct flusher){pg_fixture_open(PG_SCHEDULER), &gate, inc, t.id, version, i * 7919, 0};
        pthread_create(&threads[i], NULL, flush, &f[i]);
    }
    for (int i = 0; i < METERS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(f[i].failed, 0);
        db_free(f[i].db);
    }
    pthread_barrier_destroy(&gate);
    bill(scene.scheduler, inc, t.id, version, 40, 400);
    assert_int_equal(receivable(t.id), 400 * 777 / 1000);
    struct usage_row sum;
    report_all(t.id, &sum, NULL);
    assert_int_equal(sum.rows, 400);
    assert_int_equal(sum.requests, 40);
    scene_check_invariants();
}

static void junk_counters_are_refused(void **state)
{
    (void)state;
    struct err e;
    struct tenant t;
    char version[ID_MAX], inc[ID_MAX];
    struct usage_counters c = {1, 1, 1};
    one_version(&t, 1000, version);
    id_new(inc, "inc_");
    struct db *db = scene.scheduler;
    assert_ok(db_begin_system(db, &e), e);
    assert_err(ERR_NOT_FOUND,
               usage_bill(db, inc, scene.b.id, version, &c, NULL, &e)); /* another tenant's version */
    assert_err(ERR_NOT_FOUND, usage_bill(db, inc, t.id, "ver_nonsense", &c, NULL, &e));
    assert_err(ERR_NOT_FOUND, usage_bill(db, inc, "' OR true --", version, &c, NULL, &e));
    assert_err(ERR_INVALID, usage_bill(db, "host-1", t.id, version, &c, NULL, &e));
    c.rows = -1;
    assert_err(ERR_INVALID, usage_bill(db, inc, t.id, version, &c, NULL, &e));
    c.rows = INT64_MAX;
    assert_err(ERR_INVALID, usage_bill(db, inc, t.id, version, &c, NULL, &e));
    db_rollback(db);
    assert_int_equal(receivable(t.id), 0);
}

static void an_invoice_tells_rows_seconds_and_prices_and_sums_to_the_ledger(void **state)
{
    (void)state;
    struct err e;
    struct tenant t;
    struct invoice inv;
    char version[ID_MAX], inc[ID_MAX], month[8], dataset[ID_MAX];
    one_version(&t, 500, version);
    id_new(inc, "inc_");
    bill(scene.scheduler, inc, t.id, version, 2, 3000);
    t.plan.predict_krows_micros = 900;
    t.plan.train_second_micros = 40;
    scene_plan(&t.plan);
    bill(scene.scheduler, inc, t.id, version, 3, 5000);
    scene_dataset(t.id, "d2", dataset);
    struct job_ended ended;
    scene_train(t.id, dataset, "second", &ended);

    time_t now = (time_t)scene_number("SELECT extract(epoch FROM now())::bigint");
    struct tm tm;
    strftime(month, sizeof month, "%Y-%m", gmtime_r(&now, &tm));
    assert_ok(db_begin(scene.gateway, t.id, &e), e);
    assert_ok(invoice_make(scene.gateway, month, &scene.arena, &inv, &e), e);
    assert_string_equal(inv.currency, "EUR");
    assert_int_equal(inv.n_lines, 4);
    const struct invoice_line want[] = {{"predict", "served", 3000, "1000 rows", 500, 1500},
                                        {"predict", "served", 2000, "1000 rows", 900, 1800},
                                        {"train", "second", 1, "second", 40, 40},
                                        {"train", "served", 1, "second", 0, 0}};
    for (int i = 0; i < 4; i++) {
        assert_string_equal(inv.lines[i].kind, want[i].kind);
        assert_string_equal(inv.lines[i].model, want[i].model);
        assert_string_equal(inv.lines[i].unit, want[i].unit);
        assert_int_equal(inv.lines[i].unit_price_micros, want[i].unit_price_micros);
        if (i < 2) assert_int_equal(inv.lines[i].quantity, want[i].quantity);
        if (i < 2) assert_int_equal(inv.lines[i].amount_micros, want[i].amount_micros);
    }
    assert_int_equal(inv.lines[2].amount_micros, ended.cost_micros);
    assert_int_equal(inv.total_micros, 3300 + ended.cost_micros);
    struct ledger_list entries;
    assert_ok(ledger_list(scene.gateway, &(struct page){.limit = 100}, &scene.arena, &entries, &e), e);
    assert_int_equal(entries.n, 8);
    int64_t total = 0;
    for (int i = 0; i < entries.n; i++)
        if (strcmp(entries.items[i].account, "receivable") == 0) total += entries.items[i].amount_micros;
    assert_int_equal(total, inv.total_micros);
    int64_t held, billed;
    assert_ok(ledger_exposure(scene.gateway, &held, &billed, &e), e);
    assert_int_equal(billed, inv.total_micros);
    assert_int_equal(held, 0);
    db_rollback(scene.gateway);
    scene_check_invariants();
}

static void a_month_without_entries_is_empty_and_what_is_no_month_is_refused(void **state)
{
    (void)state;
    struct err e;
    struct invoice inv;
    const char *const bad[] = {"",       "2026",    "2026-13",    "2026-00", "26-01",
                               "2026-1", "2026/01", "2026-01-01", "+026-01"};
    assert_ok(db_begin(scene.gateway, scene.a.id, &e), e);
    assert_ok(invoice_make(scene.gateway, "2001-02", &scene.arena, &inv, &e), e);
    assert_int_equal(inv.n_lines, 0);
    assert_int_equal(inv.total_micros, 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_err(ERR_INVALID, invoice_make(scene.gateway, bad[i], &scene.arena, &inv, &e));
    db_rollback(scene.gateway);
}

static void entries_of_other_months_are_on_other_invoices(void **state)
{
    (void)state;
    struct err e;
    struct tenant t;
    struct invoice inv;
    char sql[512];
    scene_tenant(&t);
    const char *const times[] = {"2024-01-31 23:59:59.999999+00", "2024-02-01 00:00:00+00",
                                 "2024-02-29 23:59:59.999999+00", "2024-03-01 00:00:00+00"};
    for (int i = 0; i < 4; i++) {
        char ids[3][ID_MAX];
        for (int k = 0; k < 3; k++) id_new(ids[k], "led_");
        snprintf(sql, sizeof sql,
                 "INSERT INTO ledger_entries SELECT '%s', x.id, '%s', 't%d', x.account, 'train', 'm', 1, 1, "
                 "x.amount, '%s' "
                 "FROM (VALUES ('%s', 'receivable', %d), ('%s', 'revenue', -%d)) x (id, account, amount)",
                 t.id, ids[0], i, times[i], ids[1], 1 << i, ids[2], 1 << i);
        pg_fixture_exec(sql);
    }
    assert_ok(db_begin(scene.gateway, t.id, &e), e);
    assert_ok(invoice_make(scene.gateway, "2024-02", &scene.arena, &inv, &e), e);
    assert_int_equal(inv.total_micros, 2 + 4);
    db_rollback(scene.gateway);
    /* Taken away again, for the invariants of the tests that follow: usage does not know of it. */
    snprintf(
        sql, sizeof sql,
        "SET LOCAL session_replication_role = replica; DELETE FROM ledger_entries WHERE tenant_id = '%s'",
        t.id);
    pg_fixture_exec(sql);
}

static void a_posting_is_taken_once_and_must_balance(void **state)
{
    (void)state;
    struct err e;
    struct ledger_post post = {"test:1", "train", "m", 1, 5, 5};
    assert_ok(db_begin(scene.worker, scene.a.id, &e), e);
    assert_ok(ledger_post(scene.worker, scene.a.id, &post, &e), e);
    assert_err(ERR_CONFLICT, ledger_post(scene.worker, scene.a.id, &post, &e));
    db_rollback(scene.worker);
    char sql[512], id[ID_MAX];
    id_new(id, "led_");
    snprintf(sql, sizeof sql,
             "INSERT INTO ledger_entries (tenant_id, id, txn_id, source, account, kind, model, quantity, "
             "unit_price_micros, "
             "amount_micros) VALUES ('%s', '%s', '%s', 'lone', 'receivable', 'train', 'm', 1, 1, 1)",
             scene.a.id, id, id);
    assert_ok(db_begin(scene.worker, scene.a.id, &e), e);
    assert_err(ERR_CONFLICT, db_exec_text(scene.worker, sql, &e));
    assert_non_null(strstr(e.message, "sum to zero"));
    db_rollback(scene.worker);
}

static void reports_come_by_hour_or_day_and_refuse_what_they_cannot_answer(void **state)
{
    (void)state;
    struct err e;
    struct tenant t;
    struct usage_report r;
    char sql[400];
    scene_tenant(&t);
    snprintf(sql, sizeof sql,
             "INSERT INTO usage_hours (tenant_id, hour, model, version, requests) SELECT '%s', "
             "to_timestamp(1700006400 + h * 3600), 'm', 1, 1 FROM generate_series(0, 47) h",
             t.id); /* 2023-11-15 00:00 UTC and the day after */
    pg_fixture_exec(sql);
    int64_t day = 1700006400;
    assert_ok(db_begin(scene.gateway, t.id, &e), e);
    assert_ok(usage_report(scene.gateway, day, day + 172800, 86400, &scene.arena, &r, &e), e);
    assert_int_equal(r.n, 2);
    assert_int_equal(r.items[0].bucket_start_s, day);
    assert_int_equal(r.items[0].requests, 24);
    assert_int_equal(r.items[1].bucket_start_s, day + 86400);
    assert_ok(usage_report(scene.gateway, day + 100, day + 3700, 3600, &scene.arena, &r, &e), e);
    assert_int_equal(r.n, 2);
    assert_ok(usage_report(scene.gateway, day, day + 3600, 3600, &scene.arena, &r, &e), e);
    assert_int_equal(r.n, 1);
    assert_err(ERR_INVALID, usage_report(scene.gateway, day, day, 3600, &scene.arena, &r, &e));
    assert_err(ERR_INVALID, usage_report(scene.gateway, day, INT64_MAX, 3600, &scene.arena, &r, &e));
    assert_err(ERR_INVALID, usage_report(scene.gateway, day, day + 1, 60, &scene.arena, &r, &e));
    assert_string_equal(e.field, "bucket_width");
    db_rollback(scene.gateway);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(repeated_and_older_totals_bill_nothing_twice),
        cmocka_unit_test(fractions_of_a_micro_unit_are_carried_exactly),
        cmocka_unit_test(interleaved_flushes_of_several_meters_bill_each_row_once),
        cmocka_unit_test(junk_counters_are_refused),
        cmocka_unit_test(an_invoice_tells_rows_seconds_and_prices_and_sums_to_the_ledger),
        cmocka_unit_test(a_month_without_entries_is_empty_and_what_is_no_month_is_refused),
        cmocka_unit_test(entries_of_other_months_are_on_other_invoices),
        cmocka_unit_test(a_posting_is_taken_once_and_must_balance),
        cmocka_unit_test(reports_come_by_hour_or_day_and_refuse_what_they_cannot_answer),
    };
    return cmocka_run_group_tests(tests, scene_up, scene_down);
}
