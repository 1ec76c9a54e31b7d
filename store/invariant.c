/* Here stand the sentences that must hold whatever crashed, each as SQL that finds what breaks it. */
#include "store/invariant.h"

#include <stdio.h>
#include <string.h>

enum { COUNTED_MAX = 100 };

static const struct invariant invariants[] = {
    {"ledger_balanced", "Every ledger transaction has two entries that sum to zero.",
     "SELECT txn_id FROM ledger_entries GROUP BY tenant_id, txn_id HAVING sum(amount_micros) <> 0 OR "
     "count(*) <> 2"},
    {"succeeded_captured_once",
     "A job has succeeded exactly if its hold was captured, for its cost, and posted to the ledger once.",
     "SELECT j.id FROM jobs j LEFT JOIN holds h ON h.tenant_id = j.tenant_id AND h.job_id = j.id "
     "LEFT JOIN ledger_entries l ON l.tenant_id = j.tenant_id AND l.source = 'job:' || j.id AND l.account = "
     "'receivable' "
     "WHERE (j.state = 'succeeded') <> (coalesce(h.state, '') = 'captured') "
     "OR (j.state = 'succeeded') <> (l.id IS NOT NULL) "
     "OR (j.state = 'succeeded' AND (h.captured_micros <> j.cost_micros OR l.amount_micros <> "
     "j.cost_micros))"},
    {"ended_hold_resolved", "A job's hold is open exactly until the job ends.",
     "SELECT j.id FROM jobs j LEFT JOIN holds h ON h.tenant_id = j.tenant_id AND h.job_id = j.id "
     "WHERE h.state IS NULL OR (j.finished_at IS NOT NULL) <> (h.state <> 'open')"},
    {"no_expired_lease", "No running job's lease ended more than 10 seconds ago.",
     "SELECT id FROM jobs WHERE state = 'running' AND lease_until < now() - interval '10 seconds'"},
    {"one_claim_per_fence", "Each fence of a job was given to at most one claim.",
     "SELECT job_id FROM job_events WHERE type = 'status' AND data->>'status' = 'running' "
     "GROUP BY tenant_id, job_id, data->>'fence' HAVING count(*) > 1"},
    {"no_finish_under_old_fence", "No job ended under a fence older than its newest claim or loss.",
     "SELECT f.job_id FROM job_events f JOIN job_events c ON c.tenant_id = f.tenant_id AND c.job_id = "
     "f.job_id "
     "WHERE f.type = 'status' AND f.data->>'status' IN ('succeeded', 'failed', 'cancelled', 'dead') "
     "AND c.type = 'status' AND (c.data->>'fence')::bigint > (f.data->>'fence')::bigint"},
    {"ended_once", "A job ends once, and its end is its last status.",
     "SELECT j.id FROM jobs j JOIN job_events e ON e.tenant_id = j.tenant_id AND e.job_id = j.id AND e.type "
     "= 'status' "
     "WHERE j.finished_at IS NOT NULL GROUP BY j.tenant_id, j.id, j.state "
     "HAVING count(*) FILTER (WHERE e.data->>'status' IN ('succeeded', 'failed', 'cancelled', 'dead')) <> 1 "
     "OR (array_agg(e.data->>'status' ORDER BY e.seq DESC))[1] <> j.state"},
    {"one_version_per_success",
     "A job has made a version exactly if it succeeded and was a training or a search.",
     "SELECT j.id FROM jobs j LEFT JOIN model_versions v ON v.tenant_id = j.tenant_id AND v.job_id = j.id "
     "WHERE (j.state = 'succeeded' AND j.type NOT IN ('evaluate', 'predict')) <> (v.id IS NOT NULL)"},
    {"versions_without_gap", "A model's versions are numbered from 1 to its newest without a gap.",
     "SELECT m.id FROM models m LEFT JOIN model_versions v ON v.tenant_id = m.tenant_id AND v.model_id = "
     "m.id "
     "GROUP BY m.tenant_id, m.id, m.latest_version HAVING count(v.id) <> m.latest_version "
     "OR coalesce(max(v.number), 0) <> m.latest_version"},
    {"audit_sealed", "No audit row stays unsealed for more than 2 seconds.",
     "SELECT id FROM audit_log WHERE seq IS NULL AND created_at < now() - interval '2 seconds'"},
    {"audit_chained",
     "Each sealed audit row follows from the one before it, and the chain ends where its head says.",
     "SELECT id FROM (SELECT tenant_id, id, seq, prev_hash, lag(seq, 1, 0::bigint) OVER w AS before_seq, "
     "lag(hash, 1, decode(repeat('00', 32), 'hex')) OVER w AS before_hash FROM audit_log WHERE seq IS NOT "
     "NULL "
     "WINDOW w AS (PARTITION BY tenant_id ORDER BY seq)) c WHERE seq <> before_seq + 1 OR prev_hash <> "
     "before_hash "
     "UNION ALL SELECT h.tenant_id FROM audit_heads h LEFT JOIN audit_log l ON l.tenant_id = h.tenant_id AND "
     "l.seq = h.seq "
     "WHERE h.seq <> coalesce((SELECT max(seq) FROM audit_log x WHERE x.tenant_id = h.tenant_id), 0) "
     "OR (h.seq > 0 AND l.hash <> h.hash)"},
    {"no_row_of_another_tenant",
     "No job's result names a version of another tenant, or none where it made one.",
     "SELECT j.id FROM jobs j LEFT JOIN model_versions v ON v.tenant_id = j.tenant_id AND v.id = "
     "j.result->>'version_id' "
     "WHERE j.result IS NOT NULL AND v.id IS NULL AND j.type <> 'evaluate'"},
    {"usage_billed_once", "The rows that were counted are the rows that were billed, by tenant and model.",
     "SELECT coalesce(c.tenant_id, b.tenant_id) FROM (SELECT tenant_id, model, sum(rows) AS rows FROM "
     "(SELECT u.tenant_id, m.name AS model, u.rows "
     "FROM usage_totals u JOIN model_versions v ON v.tenant_id = u.tenant_id AND v.id = u.version_id "
     "JOIN models m ON m.tenant_id = v.tenant_id AND m.id = v.model_id UNION ALL "
     "SELECT tenant_id, model, (result->'metrics'->>'rows')::bigint FROM jobs WHERE type = 'predict' AND "
     "state = 'succeeded') k GROUP BY 1, 2) c "
     "FULL JOIN (SELECT tenant_id, model, sum(quantity) AS rows FROM ledger_entries "
     "WHERE kind = 'predict' AND account = 'receivable' GROUP BY 1, 2) b USING (tenant_id, model) "
     "WHERE coalesce(c.rows, 0) <> coalesce(b.rows, 0)"},
    {"usage_sums_to_ledger", "A tenant's usage costs what its ledger says, month by month.",
     "SELECT tenant_id FROM (SELECT tenant_id, date_trunc('month', hour) AS month, sum(amount_micros) AS "
     "amount "
     "FROM usage_hours GROUP BY 1, 2) u FULL JOIN (SELECT tenant_id, date_trunc('month', created_at) AS "
     "month, "
     "sum(amount_micros) AS amount FROM ledger_entries WHERE account = 'receivable' GROUP BY 1, 2) l "
     "USING (tenant_id, month) WHERE coalesce(u.amount, 0) <> coalesce(l.amount, 0)"},
};
enum { INVARIANTS = sizeof invariants / sizeof invariants[0] };

int invariant_count(void)
{
    return INVARIANTS;
}

const struct invariant *invariant_get(int index)
{
    return &invariants[index];
}

int invariant_check(struct db *db, struct invariant_result *out, int *broken, struct err *e)
{
    *broken = 0;
    for (int i = 0; i < INVARIANTS; i++) {
        char sql[2048];
        struct db_rows *r;
        snprintf(sql, sizeof sql, "SELECT * FROM (%s) found LIMIT %d", invariants[i].sql, COUNTED_MAX);
        int rc = db_query_text(db, sql, &r, e);
        if (rc) return err_prefix(e, "invariant %s", invariants[i].name);
        out[i] = (struct invariant_result){.invariant = &invariants[i], .violations = db_rows_count(r)};
        if (out[i].violations > 0) snprintf(out[i].example, sizeof out[i].example, "%s", db_text(r, 0, 0));
        *broken += out[i].violations > 0;
        db_rows_free(r);
    }
    return 0;
}
