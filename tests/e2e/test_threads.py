"""Jobs that ask for several threads: computed with them, placed by them, paid for by them."""

import pytest

from conftest import wait_until
from data import flowers_csv, slow_spec

# Enough to do in a batch for two threads.
WIDE = {"target": "species", "preprocess": [{"op": "standardise"}],
        "architecture": [{"layer": "Dense", "units": 256, "activation": "relu"}, {"layer": "Dropout", "rate": 0.2},
                         {"layer": "Dense", "units": 256, "activation": "relu"}, {"layer": "Dense", "units": 3}],
        "training": {"epochs": 4, "batch_size": 64, "seed": 5, "validation_split": 0.2}}


def told(tenant, job):
    return [e["message"] for e in tenant.events(job["id"]) if e["type"] == "message" and "thread" in e["message"]]


def test_two_threads_train_a_network_to_the_same_end_each_time(tenant):
    ds = tenant.upload_csv(flowers_csv())
    one, two, again = (tenant.train("wide", ds["id"], WIDE, threads=n) for n in (1, 2, 2))
    assert (one["threads"], two["threads"]) == (1, 2)
    losses = [job["result"]["metrics"]["train"]["loss"] for job in (one, two, again)]
    assert losses[1] == losses[2] and abs(losses[0] - losses[1]) < 1e-3
    assert not told(tenant, two)


def test_threads_that_a_network_cannot_use_are_mentioned(tenant):
    ds = tenant.upload_csv(flowers_csv())
    spec = {**WIDE, "architecture": [{"layer": "Dense", "units": 8}, {"layer": "BatchNormalization"}, {"layer": "Dense", "units": 3}]}
    job = tenant.train("small", ds["id"], spec, threads=2)
    assert any("BatchNormalization" in text for text in told(tenant, job))


def test_each_thread_is_held_for_and_charged(platform, tenant):
    platform.tenor("plan", "set", "by-thread", "train-second-micros=1000000")
    platform.tenor("tenant", "plan", tenant.name, "by-thread")
    ds = tenant.upload_csv(flowers_csv())
    job = tenant.train("wide", ds["id"], WIDE, threads=2, max_seconds=10)
    assert int(job["hold_micros"]) == 2 * 10 * 1000000
    assert int(job["cost_micros"]) % 2000000 == 0 and int(job["cost_micros"]) >= 2000000
    assert int(tenant.invoice()["total_micros"]) == int(job["cost_micros"])


@pytest.mark.parametrize("threads", [0, -1, 1.5, "two", 1000, 3])
def test_threads_that_no_worker_has_are_refused_by_name(tenant, threads):
    ds = tenant.upload_csv(flowers_csv())
    reply = tenant.post("/v1/jobs", json={"type": "train", "model": "m", "dataset": ds["id"], "spec": WIDE, "threads": threads})
    assert reply.status_code == 400 and reply.json()["error"]["param"] == "threads", reply.text
    if threads == 3:
        assert "2 slots" in reply.json()["error"]["message"]


def test_a_job_of_two_threads_waits_for_two_slots(tenant):
    ds = tenant.upload_csv(flowers_csv())
    long = tenant.submit("long", ds["id"], slow_spec())
    tenant.wait_running(long["id"])
    pair = tenant.submit("pair", ds["id"], WIDE, threads=2)
    quick = tenant.train("quick", ds["id"], {"target": "species", "family": "logistic_regression"})
    assert quick["status"] == "succeeded"  # the second slot is free, and not enough for the pair
    assert tenant.job(pair["id"])["status"] == "queued"
    tenant.ok("POST", f"/v1/jobs/{long['id']}/cancel")
    assert tenant.wait_job(pair["id"])["status"] == "succeeded"


def test_a_job_of_two_threads_fills_a_worker_of_two_slots(tenant):
    ds = tenant.upload_csv(flowers_csv())
    pair = tenant.submit("pair", ds["id"], slow_spec(), threads=2)
    tenant.wait_running(pair["id"])
    single = tenant.submit("single", ds["id"], {"target": "species", "family": "logistic_regression"})
    wait_until(lambda: (tenant.job(pair["id"])["progress"] or {}).get("epoch", 0) > 50, "progress")
    assert tenant.job(single["id"])["status"] == "queued"
    tenant.ok("POST", f"/v1/jobs/{pair['id']}/cancel")
    assert tenant.wait_job(single["id"])["status"] == "succeeded"
