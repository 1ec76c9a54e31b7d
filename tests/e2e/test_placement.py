"""Where models are: handed over by a worker that stops, held by several workers while they are hot."""

import contextlib
import json
import threading
import time

import pytest
import requests

from conftest import discard, launch, wait_until
from data import line_csv
from fleet import Worker, holders, workers

COLD_MS = 1000  # a model whose load is waited for takes longer under load than anything else here


class Asking:
    """Predictions one after the other on some threads: each one's status, and the longest time."""

    def __init__(self, platform, tenant, models, threads=2, rows=1):
        self.platform, self.tenant, self.models, self.rows = platform, tenant, models, rows
        self.asked, self.bad, self.longest_ms, self.stop = 0, [], 0, threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run) for _ in range(threads)]

    def run(self):
        http = requests.Session()
        http.trust_env = False
        http.headers["Authorization"] = f"Bearer {self.tenant.key}"
        k, body = 0, json.dumps({"instances": [[1.0]] * self.rows})
        while not self.stop.is_set():
            k += 1
            begin = time.monotonic()
            reply = http.post(f"{self.platform.url}/v1/models/{self.models[k % len(self.models)]}:predict", data=body, timeout=30)
            ms = (time.monotonic() - begin) * 1000
            with self.lock:
                self.asked += 1
                self.longest_ms = max(self.longest_ms, ms)
                if reply.status_code != 200:
                    self.bad.append(reply.text)

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for t in self.threads:
            t.join()


@pytest.fixture(scope="module")
def own():
    p = launch("--lease", "2s", "--job-slots", "2")
    try:
        yield p
        p.doctor()
    finally:
        discard(p)


def train_lines(platform, names, spec=None):
    tenant = platform.tenant(plan=platform.plan(requests_per_second=100000, request_burst=100000))
    ds = tenant.upload_csv(line_csv())["id"]
    jobs = [tenant.submit(name, ds, spec or {"family": "linear_regression", "target": "y"})["id"] for name in names]
    return tenant, {name: tenant.wait_job(j)["result"]["version_id"] for name, j in zip(names, jobs)}


def test_a_worker_that_stops_hands_its_models_over_and_nobody_notices(own):
    names = ["a", "b", "c"]
    tenant, versions = train_lines(own, names)
    with contextlib.ExitStack() as stack:
        first = next(iter(workers(own)))
        for name in names:  # loaded by the first worker, the only one
            tenant.ok("POST", f"/v1/models/{name}:predict", json={"instances": [[1.0]]})
        assert all(holders(own, v) == {first} for v in versions.values())
        second = Worker(own)
        asking = stack.enter_context(Asking(own, tenant, names))
        wait_until(lambda: asking.asked > 100, "predictions to be answered")
        asking.longest_ms = 0
        own.tenor("stop", "worker")
        wait_until(lambda n=asking.asked: asking.asked > n + 100, "predictions to be answered by the other worker")
        assert all(holders(own, v) == {second.inc} for v in versions.values())
        assert "handed=3 left=0" in (own.home / "log/worker.log").read_text()
        assert not asking.bad and asking.longest_ms < COLD_MS
        own.tenor("up")
        wait_until(lambda: len(workers(own)) == 2, "the first worker to be back")
        assert second.end() == 0
        wait_until(lambda n=asking.asked: asking.asked > n + 100, "predictions to be answered by the first worker again")
        assert not asking.bad and asking.longest_ms < COLD_MS


def test_a_hot_model_is_held_by_another_worker_too(own):
    wide = [{"layer": "Dense", "units": 2048, "activation": "relu"} for _ in range(2)]  # enough work to fill a serving thread
    spec = {"family": "mlp", "target": "y", "architecture": [*wide, {"layer": "Dense", "units": 1}], "training": {"epochs": 1, "seed": 1}}
    tenant, versions = train_lines(own, ["hot"], spec)
    hot = versions["hot"]
    second = Worker(own)
    try:
        with Asking(own, tenant, ["hot"], threads=16, rows=100) as asking:
            wait_until(lambda: len(holders(own, hot)) == 2, "the hot model to be held by both workers")
            wait_until(lambda: all(w["predict_busy"] > 50 for w in workers(own).values()), "both to answer")
        assert not asking.bad
        assert "replica_added" in (own.home / "log/scheduler.log").read_text()
    finally:
        assert second.end() == 0
