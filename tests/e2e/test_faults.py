"""Processes killed and Redis wiped in the middle: every acknowledged job ends once and is charged once."""

import os
import pathlib
import signal
import threading

import pytest

from conftest import discard, launch, wait_until
from data import flowers_csv, line_csv, slow_spec

# Long enough to be struck in its middle, short enough to end by itself.
SPEC = slow_spec(12000)


@pytest.fixture(scope="module")
def own():
    """A platform that may be broken; repaired by `tenor up` as an operator would."""
    p = launch("--lease", "2s", "--job-slots", "2")
    yield p
    try:
        p.up()
        p.doctor()
    finally:
        discard(p)


def captures(platform, job_id):
    return int(platform.sql(f"SELECT count(*) FROM holds WHERE job_id = '{job_id}' AND state = 'captured'")[0][0])


def submit_and_start(platform):
    tenant = platform.tenant()
    ds = tenant.upload_csv(flowers_csv())
    job = tenant.submit("flowers", ds["id"], SPEC)
    tenant.wait_running(job["id"])
    return tenant, job["id"]


def check_once(platform, tenant, job_id, seconds=90):
    job = tenant.wait_job(job_id, seconds)
    assert job["status"] == "succeeded", job
    assert captures(platform, job_id) == 1
    trained = [line for line in tenant.invoice()["lines"] if line["kind"] == "train"]
    assert sum(int(line["amount_micros"]) for line in trained) == int(job["cost_micros"])
    assert len(tenant.ok("GET", "/v1/models/flowers/versions")["data"]) == 1
    return job


def test_a_killed_worker_s_job_succeeds_once_after_its_restart(own):
    tenant, job_id = submit_and_start(own)
    own.kill("worker")
    own.tenor("up")
    job = check_once(own, tenant, job_id)
    assert job["attempt"] == 2 and job["crashes"] == 1


def test_a_killed_gateway_loses_no_job(own):
    tenant, job_id = submit_and_start(own)
    own.kill("gateway")
    own.up()
    job = check_once(own, tenant, job_id)
    assert job["attempt"] == 1


def test_a_killed_scheduler_loses_no_job(own):
    tenant, job_id = submit_and_start(own)
    ds = tenant.ok("GET", "/v1/datasets")["data"][0]["id"]
    own.kill("scheduler")
    queued = tenant.submit("second", ds, {"target": "species", "family": "logistic_regression"})
    own.tenor("up")
    assert tenant.wait_job(job_id, 90)["status"] == "succeeded" and captures(own, job_id) == 1
    assert tenant.wait_job(queued["id"])["status"] == "succeeded" and captures(own, queued["id"]) == 1


def test_flushall_in_the_middle_loses_nothing(own):
    tenant, job_id = submit_and_start(own)
    ds = tenant.upload_csv(line_csv())
    line = tenant.train("line", ds["id"], {"family": "linear_regression", "target": "y"})
    asked = [0]
    stop = threading.Event()

    def predict():
        while not stop.is_set():
            reply = tenant.post("/v1/models/line:predict", json={"instances": [[1.0], [2.0]]})
            assert reply.status_code == 200, reply.text
            asked[0] += 2

    thread = threading.Thread(target=predict)
    thread.start()
    jobs = []
    try:
        for _ in range(3):
            wait_until(lambda n=asked[0]: asked[0] >= n + 20, "predictions to be answered")
            own.redis("FLUSHALL")
            jobs.append(tenant.submit("line", ds["id"], {"family": "linear_regression", "target": "y"})["id"])
            own.redis("FLUSHALL")
        wait_until(lambda n=asked[0]: asked[0] >= n + 20, "predictions to be answered")
    finally:
        stop.set()
        thread.join()
    for j in jobs:
        assert tenant.wait_job(j)["status"] == "succeeded" and captures(own, j) == 1
    assert tenant.wait_job(job_id, 90)["status"] == "succeeded" and captures(own, job_id) == 1
    assert captures(own, line["id"]) == 1

    def billed():
        return sum(l["quantity"] for l in tenant.invoice()["lines"] if l["kind"] == "predict")

    wait_until(lambda: billed() >= asked[0], "all predictions to be billed")
    assert billed() == asked[0]


def test_a_stopped_worker_s_late_finish_is_refused(own):
    tenant, job_id = submit_and_start(own)
    pid = own.pid("worker")
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: tenant.job(job_id)["status"] in ("retry_wait", "queued"), "the reaper to take the job back", 30)
    finally:
        os.kill(pid, signal.SIGCONT)
    check_once(own, tenant, job_id)


def test_postgres_restarting_loses_no_job(own):
    tenant, job_id = submit_and_start(own)
    own.tenor("stop", "postgres")
    own.tenor("up")
    job = tenant.wait_job(job_id, 90)
    assert job["status"] == "succeeded" and captures(own, job_id) == 1


def test_a_job_that_kills_its_runner_is_dead_after_three_crashes(own):
    """The child is shot from outside each time it runs: the platform stops trying, and charges nothing."""
    tenant = own.tenant()
    ds = tenant.upload_csv(flowers_csv())
    job_id = tenant.submit("flowers", ds["id"], slow_spec())["id"]

    def shoot():
        worker = own.pid("worker")
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                text = stat.read_text()
            except OSError:
                continue
            if "(tenor-runner)" in text and int(text.rsplit(")", 1)[1].split()[1]) == worker:
                os.kill(int(text.split()[0]), signal.SIGSEGV)
        return tenant.job(job_id)["status"] == "dead"

    wait_until(shoot, "the job to be given up", 60)
    job = tenant.job(job_id)
    assert job["crashes"] == 3 and job["error"]["message"]
    assert captures(own, job_id) == 0 and tenant.invoice()["total_micros"] == "0"


def ask_later(tenant, x):
    reply = tenant.post("/v1/models/line:predict", json={"instances": [[x]]}, headers={"Prefer": "respond-async"})
    assert reply.status_code == 202, reply.text
    return reply.json()["id"]


def test_one_tenant_s_backlog_of_predictions_keeps_no_other_waiting(own):
    mine, theirs = own.tenant("backlog"), own.tenant("single")
    for t in (mine, theirs):
        t.train("line", t.upload_csv(line_csv(slope=3))["id"], {"family": "linear_regression", "target": "y"})
    own.kill("worker", signal.SIGSTOP)
    try:
        backlog = [ask_later(mine, float(i)) for i in range(5)]
        single = ask_later(theirs, 1.0)
        wait_until(lambda: theirs.job(single)["status"] == "running", "the single one to get a place")
        taken = [mine.job(i)["status"] for i in backlog].count("running")
    finally:
        own.kill("worker", signal.SIGCONT)
    assert taken == 2  # half of the worker's four places
    for t, i in [(theirs, single), *((mine, i) for i in backlog)]:
        assert t.wait_job(i)["status"] == "succeeded" and captures(own, i) == 1


def test_a_prediction_that_is_answered_later_outlives_a_worker_and_a_gateway(own):
    t = own.tenant("later")
    t.train("line", t.upload_csv(line_csv(slope=3))["id"], {"family": "linear_regression", "target": "y"})
    at_once = t.post("/v1/models/line:predict", json={"instances": [[4.0]]}).content

    own.kill("worker", signal.SIGSTOP)
    job, unwanted = ask_later(t, 4.0), ask_later(t, 5.0)
    for i in (job, unwanted):
        wait_until(lambda: t.job(i)["status"] == "running", "the stopped worker to get the job")
    t.ok("POST", f"/v1/jobs/{unwanted}/cancel")
    own.kill("worker")
    own.tenor("up")
    done = t.wait_job(job)
    assert (done["status"], done["attempt"], done["crashes"]) == ("succeeded", 2, 1) and captures(own, job) == 1
    assert t.get(f"/v1/jobs/{job}/result").content == at_once
    assert t.wait_job(unwanted)["status"] == "cancelled" and captures(own, unwanted) == 0
    reply = t.get(f"/v1/jobs/{unwanted}/result")
    assert reply.status_code == 409 and "cancelled" in reply.json()["error"]
    job = ask_later(t, 4.0)
    own.kill("gateway")
    own.up()
    assert t.wait_job(job)["status"] == "succeeded" and t.get(f"/v1/jobs/{job}/result").content == at_once
