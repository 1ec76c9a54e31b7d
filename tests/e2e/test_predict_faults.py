"""Workers killed and stopped and Redis restarted under a load of predictions: each request gets its own answer or an honest error, in time."""

import concurrent.futures
import json
import os
import re
import signal
import threading
import time

import pytest
import requests

import wire
from conftest import Tenant, discard, launch, wait_until
from data import line_csv
from fleet import Worker, holders, workers

HONEST = {429, 503, 504}
SLACK_S = 0.25  # beyond a deadline, on a machine that other things keep busy; the timers themselves are in milliseconds
TIMEOUT_MS = 8000


class Load:
    """Threads that ask for y at their own x, one request after the other; no two requests have the same x."""

    def __init__(self, platform, tenant, law, threads=8, timeout_ms=TIMEOUT_MS):
        self.url, self.key, self.law, self.timeout_ms = platform.url, tenant.key, law, timeout_ms
        self.right, self.refused, self.wrong, self.cut, self.longest_s = 0, [], [], 0, 0.0
        self.next, self.stop, self.lock = 0, threading.Event(), threading.Lock()
        self.threads = [threading.Thread(target=self.run) for _ in range(threads)]

    def take(self):
        with self.lock:
            self.next += 1
            return self.next

    def note(self, x, reply, took_s):
        with self.lock:
            self.longest_s = max(self.longest_s, took_s)
            if reply.status_code != 200:
                self.refused.append((reply.status_code, reply.headers.get("Retry-After"), reply.text))
            elif abs(reply.json()["outputs"][0]["data"][0] - self.law(x)) > 0.4 * abs(self.law(1) - self.law(0)):
                self.wrong.append((x, self.law(x), reply.text))
            else:
                self.right += 1

    def run(self):
        http = requests.Session()
        http.trust_env = False
        http.headers["Authorization"] = f"Bearer {self.key}"
        while not self.stop.is_set():
            x = self.take()
            body = {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 1], "data": [x]}], "parameters": {"timeout": self.timeout_ms * 1000}}
            begin = time.monotonic()
            try:
                reply = http.post(f"{self.url}/v2/models/line/infer", data=json.dumps(body), timeout=60)
            except requests.ConnectionError:  # the gateway is gone, and this thread goes too
                with self.lock:
                    self.cut += 1
                return
            self.note(x, reply, time.monotonic() - begin)

    def wait_right(self, n=50):
        """Until so many more were answered."""
        wait_until(lambda goal=self.right + n: self.right >= goal, "predictions to be answered")

    def __enter__(self):
        for t in self.threads:
            t.start()
        self.wait_right()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for t in self.threads:
            t.join()

    def check(self):
        assert not self.wrong, self.wrong[:3]
        assert not self.cut
        assert all(status in HONEST and "error" in json.loads(text) for status, _, text in self.refused), self.refused[:3]
        assert all(after and int(after) >= 1 for status, after, _ in self.refused if status != 504), self.refused[:3]
        assert self.longest_s < self.timeout_ms / 1000 + SLACK_S


@pytest.fixture(scope="module")
def own():
    p = launch("--lease", "2s", "--job-slots", "1")
    try:
        yield p
        p.doctor()
    finally:
        discard(p)


@pytest.fixture(scope="module")
def line(own):
    """A tenant with a line, its version, and what the line is."""
    tenant = own.tenant(plan=own.plan(requests_per_second=100000, request_burst=100000))
    job = tenant.train("line", tenant.upload_csv(line_csv())["id"], {"family": "linear_regression", "target": "y"})
    ends = tenant.ok("POST", "/v1/models/line:predict", json={"instances": [[0.0], [1000.0]]})["predictions"]
    low, high = (e["prediction"] if isinstance(e, dict) else e for e in ends)
    tenant.asked = 2
    return tenant, job["result"]["version_id"], lambda x: low + (high - low) / 1000 * x


@pytest.fixture
def victim(own, line):
    """A second worker, the only one that holds the line; the launcher's stands by."""
    tenant, version, _ = line
    own.tenor("stop", "worker")
    worker = Worker(own)
    tenant.ok("POST", "/v1/models/line:predict", json={"instances": [[1.0]]})
    tenant.asked += 1
    wait_until(lambda: holders(own, version) == {worker.inc}, "the line to be held by the second worker alone")
    own.tenor("up")
    wait_until(lambda: len(workers(own)) == 2, "both workers")
    yield worker
    if worker.process.poll() is None:
        worker.process.kill()
    worker.end()


def metered(tenant):
    return sum(r["rows"] for b in tenant.ok("GET", "/v1/usage?bucket_width=1d")["data"] for r in b["results"] if r["model"] == "line")


def check_usage(tenant, *loads):
    """What was answered is what is metered: not what was computed twice, too late, or for nobody. What is metered too much
    shows here or, where it comes late, in the next test."""
    tenant.asked += sum(load.right for load in loads)
    wait_until(lambda: metered(tenant) >= tenant.asked, f"{tenant.asked} rows to be metered")
    assert metered(tenant) == tenant.asked


def test_a_worker_killed_under_load_costs_no_answer(own, line, victim):
    tenant, _, law = line
    with Load(own, tenant, law) as load:
        victim.process.kill()
        load.wait_right(300)
    load.check()
    assert not load.refused, load.refused[:3]
    check_usage(tenant, load)


def test_a_worker_stopped_under_load_is_noticed_and_its_requests_are_answered_by_another(own, line, victim):
    tenant, _, law = line
    with Load(own, tenant, law) as load, Load(own, tenant, law, threads=2, timeout_ms=300) as hurried:
        os.kill(victim.process.pid, signal.SIGSTOP)
        begin = time.monotonic()
        load.wait_right(100)  # all threads stand until the worker is given up
        assert time.monotonic() - begin < TIMEOUT_MS / 1000
        hurried.wait_right(20)
        os.kill(victim.process.pid, signal.SIGCONT)
        load.wait_right(300)
    load.check()
    hurried.check()
    assert not load.refused, load.refused[:3]
    assert {status for status, _, _ in hurried.refused} <= {503, 504} and hurried.refused
    check_usage(tenant, load, hurried)


def test_what_expired_in_a_stopped_worker_is_not_computed_when_it_goes_on(own, line, victim):
    tenant, version, law = line
    own.tenor("stop", "worker")  # the launcher's: nobody else may answer
    with Load(own, tenant, law, timeout_ms=200) as load:
        load.wait_right(20)
        os.kill(victim.process.pid, signal.SIGSTOP)
        wait_until(lambda: len(load.refused) >= 5 * len(load.threads), "deadlines to pass")
    os.kill(victim.process.pid, signal.SIGCONT)
    load.check()
    assert {status for status, _, _ in load.refused} <= {503, 504}
    answer = tenant.call("POST", "/v1/models/line:predict", json={"instances": [[5.0]]})
    assert answer.status_code == 200, answer.text
    tenant.asked += 1
    check_usage(tenant, load)
    own.tenor("up")


def test_a_gateway_killed_under_load_has_counted_what_it_answered(own, line):
    tenant, _, law = line  # and no test before has taken Redis away: what a loop counts while it reconnects is in its memory alone
    with Load(own, tenant, law) as load:
        own.kill("gateway")
        for t in load.threads:
            t.join()
    assert load.cut == len(load.threads) and not load.wrong
    own.up()
    tenant.asked += load.right
    wait_until(lambda: metered(tenant) >= tenant.asked, f"{tenant.asked} rows to be metered")
    assert metered(tenant) <= tenant.asked + load.cut  # answers that were counted and did not get out
    tenant.asked = metered(tenant)


def test_a_move_is_in_force_on_every_loop_though_redis_cannot_tell_of_it(own, line):
    tenant, _, _ = line
    spec = {"family": "linear_regression", "target": "y"}
    for _ in range(2):
        tenant.train("moved", tenant.upload_csv(line_csv())["id"], spec)
    callers = [Tenant(own, tenant.name, tenant.key) for _ in range(6)]  # a connection each: on all loops

    def versions(path="/v2/models/moved"):
        body = {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 1], "data": [1.0]}]}
        return {c.ok("POST", f"{path}/infer", json=body)["model_version"] for c in callers}

    assert versions() == {"1"}  # "live" is the first one
    tenant.ok("POST", "/v1/models/moved/versions/2:predict", json={"instances": [[1.0]]})  # is loaded, as one loop knows
    own.kill("redis")
    try:
        tenant.ok("PUT", "/v1/models/moved/aliases/live", json={"version": 2, "warm": False})
        assert versions() == {"2"}
    finally:
        own.tenor("up")


def test_predictions_go_on_while_redis_is_away_and_are_counted_when_it_is_back(own, line):
    tenant, _, law = line
    slow = own.tenant(plan=own.plan(requests_per_second=100, request_burst=10))
    slow.train("line", slow.upload_csv(line_csv())["id"], {"family": "linear_regression", "target": "y"})
    body = {"instances": [[1.0]]}
    slow.ok("POST", "/v1/models/line:predict", json=body)  # one loop knows now who holds it, the other has to find out
    with Load(own, tenant, law) as load:
        own.kill("redis")
        begin = time.monotonic()
        load.wait_right(200)
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            statuses = list(pool.map(lambda _: slow.call("POST", "/v1/models/line:predict", json=body), range(120)))
        assert {r.status_code for r in statuses} == {200, 429}  # its plan holds, by what a gateway knows itself
        assert all(int(r.headers["Retry-After"]) >= 1 for r in statuses if r.status_code == 429)
        load.wait_right(200)
        while time.monotonic() < begin + 2:  # longer than any lease of tokens
            load.wait_right(50)
        assert wire.ops(own, "/readyz").json() == {"ready": True}  # who would send calls elsewhere would lose them
        own.tenor("up")
    load.check()
    assert not load.refused, load.refused[:3]
    check_usage(tenant, load)


def test_a_restart_of_redis_under_load_costs_no_answer_that_is_not_refused_honestly(own, line):
    tenant, _, law = line
    with Load(own, tenant, law) as load:
        own.kill("redis")
        own.tenor("up")
        load.wait_right(300)
    load.check()
    check_usage(tenant, load)


def test_what_a_redis_out_of_memory_refuses_is_counted_when_it_has_some_again(own, line):
    tenant, _, law = line

    def refused():
        return int(re.search(r"cmdstat_hset:.*rejected_calls=(\d+)", own.redis("INFO", "commandstats"))[1])

    try:
        with Load(own, tenant, law) as load:
            own.redis("CONFIG", "SET", "maxmemory", "1")
            assert "OOM" in own.redis("HSET", "tnr:usage:none", "a", "b")
            load.wait_right(100)
        begin = refused()  # no later total brings what the last ones have lost, and they are tried again
        wait_until(lambda: refused() >= begin + 12, "each loop's totals to be refused more than once")
    finally:
        own.redis("CONFIG", "SET", "maxmemory", "0")
    load.check()
    assert not load.refused, load.refused[:3]
    check_usage(tenant, load)


def test_a_stall_of_redis_and_connections_that_it_closes_cost_no_count(own, line):
    tenant, _, law = line
    with Load(own, tenant, law) as load:
        for stall_s in (0.1, 3):  # 3 s: the connection is given up
            own.kill("redis", signal.SIGSTOP)
            begin = time.monotonic()
            try:
                while time.monotonic() < begin + stall_s:
                    load.wait_right(20)
            finally:
                own.kill("redis", signal.SIGCONT)
            load.wait_right(50)
            assert int(own.redis("CLIENT", "KILL", "TYPE", "normal")) > 0
            load.wait_right(100)
    load.check()
    check_usage(tenant, load)
