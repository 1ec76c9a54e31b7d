"""Predictions that are answered later: Prefer: respond-async makes a job, whose result is what would have been answered at once."""

import json
import struct
import time

import pytest

from conftest import Tenant, wait_until
from data import flowers_csv, line_csv, slow_spec

LINE = {"family": "linear_regression", "target": "y"}
FLOWERS = {"target": "species", "family": "logistic_regression", "training": {"epochs": 10, "seed": 3}}
ROW = [5.0, 3.4, 1.5, 0.2]
ASYNC = {"Prefer": "respond-async"}
INPUT = {"name": "input", "datatype": "FP32", "shape": [2, 4], "data": [ROW, ROW]}


@pytest.fixture(scope="module")
def own(platform):
    t = platform.tenant("later", platform.plan(max_request_rows=65536))
    jobs = [t.submit("line", t.upload_csv(line_csv(slope=3))["id"], LINE), t.submit("flowers", t.upload_csv(flowers_csv())["id"], FLOWERS)]
    for job in jobs:
        assert t.wait_job(job["id"])["status"] == "succeeded"
    return t


def later(tenant, path, headers=None, **body):
    reply = tenant.post(path, headers={**ASYNC, **(headers or {})}, **body)
    assert reply.status_code == 202, reply.text
    job = reply.json()
    assert reply.headers["Location"] == f"/v1/jobs/{job['id']}" and reply.headers["Preference-Applied"] == "respond-async"
    assert job["object"] == "job" and job["type"] == "predict" and job["dataset"] is None
    return job


def result(tenant, job, status="succeeded"):
    assert tenant.wait_job(job["id"])["status"] == status
    return tenant.get(f"/v1/jobs/{job['id']}/result")


# ---- the answers ----

@pytest.mark.parametrize("path,body", [
    ("/v2/models/flowers/infer", {"id": "abc", "inputs": [INPUT]}),
    ("/v2/models/flowers/versions/1/infer", {"inputs": [INPUT], "outputs": [{"name": "label"}]}),
    ("/v1/models/flowers:predict", {"instances": [ROW, ROW, ROW]}),
    ("/v1/models/flowers/labels/live:predict", {"inputs": [ROW, ROW]}),
    ("/v1/models/flowers:classify", {"examples": [{"input": ROW}]}),
    ("/v1/models/line/versions/1:regress", {"examples": [{"input": [2.0]}, {"input": 3.0}]}),
])
def test_the_result_is_what_would_have_been_answered_at_once(own, path, body):
    at_once = own.post(path, json=body)
    assert at_once.status_code == 200, at_once.text
    reply = result(own, later(own, path, json=body))
    assert reply.status_code == 200 and reply.content == at_once.content
    assert reply.headers["Content-Type"] == at_once.headers["Content-Type"]


def test_binary_tensors_go_in_now_and_come_out_later(own):
    raw = struct.pack("<8f", *ROW, *ROW)
    head = json.dumps({"inputs": [{"name": "input", "datatype": "FP32", "shape": [2, 4], "parameters": {"binary_data_size": len(raw)}}],
                       "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
    at_once = own.post("/v2/models/flowers/infer", data=head + raw, headers=headers)
    reply = result(own, later(own, "/v2/models/flowers/infer", headers, data=head + raw))
    assert reply.content == at_once.content and len(reply.content) > 24
    assert reply.headers["Inference-Header-Content-Length"] == at_once.headers["Inference-Header-Content-Length"]


def test_a_request_of_many_bytes_is_answered_too(own):
    raw = struct.pack("<4f", *ROW) * 65536
    head = json.dumps({"inputs": [{"name": "input", "datatype": "FP32", "shape": [65536, 4], "parameters": {"binary_data_size": len(raw)}}],
                       "outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    at_once = own.post("/v2/models/flowers/infer", data=head + raw, headers=headers)
    assert at_once.status_code == 200
    assert result(own, later(own, "/v2/models/flowers/infer", headers, data=head + raw)).content == at_once.content


def test_a_job_tells_what_it_asked_and_its_rows_are_billed_once(tenant):
    tenant.train("line", tenant.upload_csv(line_csv(slope=3))["id"], LINE)
    job = later(tenant, "/v1/models/line:predict", json={"instances": [[1.0]] * 5000})
    assert job["hold_micros"] == "1000" and job["estimate"]["cost_micros"] == "1000"
    done = tenant.wait_job(job["id"])
    assert done["result"]["version"] == 1 and done["result"]["metrics"]["rows"] == 5000 and done["version_id"] == done["result"]["version_id"]
    assert done["cost_micros"] == "1000" and done["crashes"] == 0
    tenant.ok("POST", "/v1/models/line:predict", json={"instances": [[1.0]]})  # counted after whatever the engine has counted before

    def predicted():
        return [line for line in tenant.invoice()["lines"] if line["kind"] == "predict" and int(line["quantity"]) > 5000]

    (line,) = wait_until(predicted, "the later row to be billed")
    assert int(line["quantity"]) == 5001 and line["amount_micros"] == "1000"
    usage = [u for bucket in tenant.ok("GET", "/v1/usage")["data"] for u in bucket["results"] if u["rows"]]
    assert sum(u["rows"] for u in usage) == 5001 and sum(u["requests"] for u in usage) == 2


# ---- refusals ----

def test_what_is_wrong_is_refused_at_once_and_makes_no_job(own, platform):
    jobs = own.ok("GET", "/v1/jobs?limit=100")["data"]
    for path, body, status in (("/v1/models/line:predict", {"instances": [["x"]]}, 400), ("/v1/models/absent:predict", {"instances": [[1]]}, 404),
                               ("/v1/models/line:predict", {"instances": [[1]] * 65537}, 400)):
        reply = own.post(path, headers=ASYNC, json=body)
        assert reply.status_code == status and set(reply.json()) == {"error"}, reply.text
    assert own.ok("GET", "/v1/jobs?limit=100")["data"] == jobs


def test_a_repeated_request_with_a_key_is_one_job(own):
    headers = {"Idempotency-Key": "later-1"}
    first = later(own, "/v1/models/line:predict", headers, json={"instances": [[1.0]]})
    again = own.post("/v1/models/line:predict", headers={**ASYNC, **headers}, data='{ "instances" : [[1]] }')
    assert again.status_code == 202 and again.json()["id"] == first["id"] and again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Location"] == f"/v1/jobs/{first['id']}"
    other = own.post("/v1/models/line:predict", headers={**ASYNC, **headers}, json={"instances": [[2.0]]})
    assert other.status_code == 422


def test_a_waiting_job_counts_towards_the_plans_jobs(platform):
    t = platform.tenant("later-full", platform.plan(max_queued_jobs=1, max_running_jobs=0))
    platform.sql(f"UPDATE plans SET max_running_jobs = 1 WHERE name = (SELECT plan FROM tenants WHERE name = '{t.name}')")
    t.train("line", t.upload_csv(line_csv(slope=3))["id"], LINE)
    platform.sql(f"UPDATE plans SET max_running_jobs = 0 WHERE name = (SELECT plan FROM tenants WHERE name = '{t.name}')")
    job = later(t, "/v1/models/line:predict", json={"instances": [[1.0]]})
    refused = t.post("/v1/models/line:predict", headers=ASYNC, json={"instances": [[1.0]]})
    assert refused.status_code == 429 and "waiting jobs" in refused.json()["error"] and int(refused.headers["Retry-After"]) > 0
    early = t.get(f"/v1/jobs/{job['id']}/result")
    assert early.status_code == 409 and "queued" in early.json()["error"] and early.headers["Retry-After"] == "1"
    assert t.ok("POST", f"/v1/jobs/{job['id']}/cancel")["status"] == "cancelled"
    gone = t.get(f"/v1/jobs/{job['id']}/result")
    assert gone.status_code == 409 and "cancelled" in gone.json()["error"]


def test_a_key_for_predictions_sees_its_answers_and_nothing_else(own, platform):
    made = own.ok("POST", "/v1/keys", json={"name": "asker", "scopes": ["predict"], "models": ["line"]})
    asker = Tenant(platform, own.name, made["secret"])
    job = later(asker, "/v1/models/line:predict", json={"instances": [[1.0]]})
    assert result(asker, job).status_code == 200
    training = own.ok("GET", "/v1/jobs?limit=100&model=flowers")["data"][-1]
    hidden = later(own, "/v1/models/flowers:predict", json={"instances": [ROW]})
    for unseen in (training["id"], hidden["id"]):
        assert asker.get(f"/v1/jobs/{unseen}").status_code == 404
        assert asker.get(f"/v1/jobs/{unseen}/result").status_code == 404
        assert asker.post(f"/v1/jobs/{unseen}/cancel").status_code == 404
    stranger = platform.tenant("stranger")
    assert stranger.get(f"/v1/jobs/{job['id']}/result").status_code == 404
    assert own.get(f"/v1/jobs/{training['id']}/result").status_code == 404


# ---- versions that cannot be loaded ----

def artifact_of(tenant, model):
    """Where the model's only version lies."""
    [[owner, name]] = tenant.platform.sql("SELECT b.tenant_id, b.file FROM model_versions v JOIN blobs b ON b.tenant_id = v.tenant_id AND b.sha256 = v.sha256 "
                                          f"JOIN models m ON m.tenant_id = v.tenant_id AND m.id = v.model_id WHERE m.name = '{model}' AND m.tenant_id = "
                                          f"(SELECT id FROM tenants WHERE name = '{tenant.name}')")
    return tenant.platform.home / "blobs" / owner / name


def damage(path):
    blob = bytearray(path.read_bytes())
    blob[len(blob) // 2] ^= 1
    path.write_bytes(blob)


@pytest.mark.parametrize("harm,why", [(damage, "fails its check"), (lambda path: path.unlink(), "its file is missing")], ids=["damaged", "removed"])
def test_a_version_that_cannot_be_loaded_fails_its_jobs_and_holds_no_place(tenant, harm, why):
    for model, slope in (("whole", 3), ("broken", 5)):  # of different data: the same bytes would be one blob
        tenant.train(model, tenant.upload_csv(line_csv(slope=slope))["id"], LINE)
    harm(artifact_of(tenant, "broken"))
    begin = time.monotonic()
    broken = [later(tenant, "/v1/models/broken:predict", json={"instances": [[1.0]]}) for _ in range(6)]  # more than there are places
    assert result(tenant, later(tenant, "/v1/models/whole:predict", json={"instances": [[1.0]]})).status_code == 200
    for job in broken:
        refused = result(tenant, job, "failed")
        assert refused.status_code == 500 and why in refused.json()["error"], refused.text
        done = tenant.job(job["id"])
        assert done["error"]["code"] == "corrupt" and done["attempt"] == 1 and done["crashes"] == 0 and done["cost_micros"] == "0"
    assert time.monotonic() - begin < 30  # and not the five minutes that a job has


# ---- waiting ----

def test_trainings_that_fill_every_slot_keep_no_answer_waiting(own):
    """The platform has two slots."""
    flowers = own.ok("GET", "/v1/datasets?limit=100")["data"]
    data = next(d["id"] for d in flowers if "species" in [c["name"] for c in d["columns"]])
    slow = [own.submit(f"slow-{i}", data, slow_spec())["id"] for i in range(3)]
    try:
        wait_until(lambda: sum(own.job(i)["status"] == "running" for i in slow) == 2, "both slots to be taken")
        assert result(own, later(own, "/v1/models/line:predict", json={"instances": [[1.0]]})).status_code == 200
        assert sorted(own.job(i)["status"] for i in slow) == ["queued", "running", "running"]
    finally:
        for i in slow:
            own.ok("POST", f"/v1/jobs/{i}/cancel")


def test_a_wait_bounds_an_answer_and_is_told(own):
    reply = own.post("/v1/models/line:predict", headers={"Prefer": 'handling=lenient, Wait="5"'}, json={"instances": [[1.0]]})
    assert reply.status_code == 200 and reply.headers["Preference-Applied"] == "wait=5"
    reply = own.post("/v1/models/line:predict", headers={"Prefer": "wait=soon"}, json={"instances": [[1.0]]})
    assert reply.status_code == 200 and "Preference-Applied" not in reply.headers
