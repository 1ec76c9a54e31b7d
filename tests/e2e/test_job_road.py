"""Training jobs through the real servers: from submission to a version, an invoice line and sealed audit rows."""

import pytest

from conftest import wait_until
from data import flowers_csv, line_csv, mixed_csv, slow_spec


def test_a_line_comes_back_with_its_coefficients(tenant):
    ds = tenant.upload_csv(line_csv())
    job = tenant.train("line", ds["id"], {"family": "linear_regression", "target": "y"})
    found = job["result"]["metrics"]["coefficients"]
    assert abs(found["x"] - 3) < 0.05 and abs(found["intercept"] - 2) < 0.05
    assert job["attempt"] == 1 and job["crashes"] == 0 and job["error"] is None


def test_a_network_learns_text_labels_and_predicts_them(tenant):
    ds = tenant.upload_csv(flowers_csv())
    spec = {"target": "species", "preprocess": [{"op": "standardise"}],
            "architecture": [{"layer": "Dense", "units": 16, "activation": "relu"}, {"layer": "Dense", "units": 3}],
            "training": {"epochs": 60, "batch_size": 16, "seed": 3, "optimizer": {"name": "adam", "learning_rate": 0.01}, "validation_split": 0.2}}
    tenant.train("flowers", ds["id"], spec)
    reply = tenant.ok("POST", "/v1/models/flowers:predict", json={"instances": [[5.0, 3.4, 1.5, 0.2], [6.6, 3.0, 5.6, 2.0]]})
    assert [p["label"] for p in reply["predictions"]] == ["setosa", "virginica"]
    assert all(abs(sum(p["probabilities"]) - 1) < 1e-5 for p in reply["predictions"])


def test_category_columns_are_one_hot_encoded_inside_the_version(tenant):
    ds = tenant.upload_csv(mixed_csv())
    spec = {"target": "kind", "preprocess": [{"op": "one_hot", "columns": ["colour"]}, {"op": "standardise", "columns": ["size"]}],
            "architecture": [{"layer": "Dense", "units": 16, "activation": "tanh"}, {"layer": "Dense", "units": 2}],
            "training": {"epochs": 120, "batch_size": 16, "seed": 2, "optimizer": {"name": "adam", "learning_rate": 0.02}}}
    tenant.train("mixed", ds["id"], spec)
    rows = [{"size": 0.8, "colour": "red"}, {"size": 0.8, "colour": "blue"}, {"size": -0.8, "colour": "green"}]
    reply = tenant.ok("POST", "/v1/models/mixed:predict", json={"instances": rows})
    assert [p["label"] for p in reply["predictions"]] == ["yes", "no", "yes"]
    bad = tenant.post("/v1/models/mixed:predict", json={"instances": [{"size": 0.8, "colour": "purple"}]})
    assert bad.status_code == 400 and "purple" in bad.text and "colour" in bad.text


def test_events_tell_the_job_s_life_in_order(tenant):
    ds = tenant.upload_csv(flowers_csv())
    job = tenant.train("flowers", ds["id"], {"target": "species", "family": "logistic_regression", "training": {"epochs": 5}})
    events = tenant.events(job["id"])
    assert len({e["id"] for e in events}) == len(events) >= 3
    times = [e["created_at"] for e in events]
    assert times == sorted(times) or times == sorted(times, reverse=True)
    assert {"status", "metrics"} <= {e["type"] for e in events}


def test_a_second_training_makes_version_two_and_live_stays(tenant):
    ds = tenant.upload_csv(line_csv())
    spec = {"family": "linear_regression", "target": "y"}
    assert tenant.train("line", ds["id"], spec)["result"]["version"] == 1
    assert tenant.train("line", ds["id"], spec)["result"]["version"] == 2
    assert tenant.ok("GET", "/v1/models/line")["aliases"] == {"live": 1}
    tenant.ok("PUT", "/v1/models/line/aliases/live", json={"version": 2})
    assert tenant.ok("GET", "/v1/models/line")["aliases"] == {"live": 2}


def test_a_job_is_charged_once_and_the_invoice_says_so(tenant):
    ds = tenant.upload_csv(line_csv())
    job = tenant.train("line", ds["id"], {"family": "linear_regression", "target": "y"})
    assert 0 < int(job["cost_micros"]) <= int(job["hold_micros"])
    invoice = tenant.invoice()
    lines = [line for line in invoice["lines"] if line["kind"] == "train"]
    assert sum(int(line["amount_micros"]) for line in lines) == int(job["cost_micros"]) == int(invoice["total_micros"])


def test_predictions_reach_the_invoice_exactly(tenant):
    ds = tenant.upload_csv(line_csv())
    tenant.train("line", ds["id"], {"family": "linear_regression", "target": "y"})
    for n in (1, 7, 32):
        reply = tenant.ok("POST", "/v1/models/line:predict", json={"instances": [[float(i)] for i in range(n)]})
        assert len(reply["predictions"]) == n

    def rows():
        return sum(line["quantity"] for line in tenant.invoice()["lines"] if line["kind"] == "predict")

    wait_until(lambda: rows() >= 40, "the predictions to be billed")
    assert rows() == 40


def test_audit_rows_are_sealed_and_the_chain_verifies(tenant):
    ds = tenant.upload_csv(line_csv())
    job = tenant.train("line", ds["id"], {"family": "linear_regression", "target": "y"})
    verdict = wait_until(lambda: (v := tenant.ok("GET", "/v1/audit/verify"))["unsealed"] == 0 and v, "audit rows to be sealed")
    assert verdict["verified"] is True and verdict["rows"] >= 4
    types = {row["type"] for row in tenant.ok("GET", "/v1/audit?limit=100")["data"] if row["object_id"] == job["id"]}
    assert any("created" in t for t in types) and any("succeeded" in t for t in types)


def test_a_tampered_audit_row_is_named(platform, tenant):
    tenant.upload_csv(line_csv())
    wait_until(lambda: tenant.ok("GET", "/v1/audit/verify")["unsealed"] == 0, "audit rows to be sealed")
    rows = tenant.ok("GET", "/v1/audit?limit=100")["data"]
    victim = next(row for row in rows if row["seq"] == 1)["id"]
    tamper = "ALTER TABLE audit_log DISABLE TRIGGER ALL; {} ALTER TABLE audit_log ENABLE TRIGGER ALL;"
    platform.sql(tamper.format(f"UPDATE audit_log SET type = type || 'x' WHERE id = '{victim}';"))
    try:
        verdict = tenant.ok("GET", "/v1/audit/verify")
        assert verdict["verified"] is False and victim in str(verdict["first_bad"])
    finally:
        platform.sql(tamper.format(f"UPDATE audit_log SET type = left(type, -1) WHERE id = '{victim}';"))
    assert tenant.ok("GET", "/v1/audit/verify")["verified"] is True


def test_cancelling_a_running_job_ends_it_and_frees_the_hold(platform, tenant):
    ds = tenant.upload_csv(flowers_csv())
    job = tenant.submit("flowers", ds["id"], slow_spec())
    tenant.wait_running(job["id"])
    assert platform.sql(f"SELECT count(*) FROM holds WHERE job_id = '{job['id']}' AND state = 'open'") == [["1"]]
    tenant.ok("POST", f"/v1/jobs/{job['id']}/cancel")
    ended = tenant.wait_job(job["id"], 15)
    assert ended["status"] == "cancelled"
    assert tenant.get("/v1/models/flowers").status_code == 404
    assert platform.sql(f"SELECT count(*) FROM holds WHERE job_id = '{job['id']}' AND state = 'open'") == [["0"]]
    assert tenant.ok("POST", f"/v1/jobs/{job['id']}/cancel")["status"] == "cancelled"


def test_a_job_that_succeeded_cannot_be_cancelled(tenant):
    ds = tenant.upload_csv(line_csv())
    job = tenant.train("line", ds["id"], {"family": "linear_regression", "target": "y"})
    assert tenant.post(f"/v1/jobs/{job['id']}/cancel").status_code == 409
    assert tenant.job(job["id"])["status"] == "succeeded"


def test_a_job_past_its_time_limit_fails_and_says_so(tenant):
    ds = tenant.upload_csv(flowers_csv())
    job = tenant.wait_job(tenant.submit("flowers", ds["id"], slow_spec(), max_seconds=1)["id"], 20)
    assert job["status"] == "failed" and job["error"]["code"] == "timeout" and "1" in job["error"]["message"]


def test_a_class_only_in_the_test_part_is_named(tenant):
    train = tenant.upload_csv(flowers_csv(), "train")
    test = tenant.upload_csv(flowers_csv(30).replace("virginica", "mystery"), "test")
    reply = tenant.post("/v1/jobs", json={"type": "train", "model": "m", "dataset": train["id"], "test_dataset": test["id"],
                                          "spec": {"target": "species", "family": "logistic_regression"}})
    if reply.status_code == 201:
        job = tenant.wait_job(reply.json()["id"])
        assert job["status"] == "failed"
        text = str(job["error"])
    else:
        assert reply.status_code == 400
        text = reply.text
    assert "mystery" in text


@pytest.mark.parametrize("name", ["idem-1", "x" * 255])
def test_the_same_idempotency_key_makes_one_job(tenant, name):
    ds = tenant.upload_csv(line_csv())
    body = {"type": "train", "model": "line", "dataset": ds["id"], "spec": {"family": "linear_regression", "target": "y"}}
    headers = {"Idempotency-Key": name}
    first = tenant.post("/v1/jobs", json=body, headers=headers)
    second = tenant.post("/v1/jobs", json=body, headers=headers)
    assert first.status_code == second.status_code == 201 and first.json()["id"] == second.json()["id"]
    other = tenant.post("/v1/jobs", json={**body, "model": "another"}, headers=headers)
    assert other.status_code == 422
    assert len(tenant.ok("GET", "/v1/jobs")["data"]) == 1
