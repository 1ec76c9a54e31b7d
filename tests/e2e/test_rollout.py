"""Versions on trial: a shadow is compared and never seen, limits end a trial within seconds and say why, and a good version stays."""

import json
import pathlib
import threading
import time

import pytest

from conftest import Tenant, wait_until
from data import line_csv

LINE = {"family": "linear_regression", "target": "y"}
ALIAS = "/v1/models/line/aliases/live"


@pytest.fixture(scope="module")
def own(platform):
    """A tenant whose model `line` has a version, one that answers the same, one that is steeper, and one whose artifact is damaged."""
    t = platform.tenant("rollout")
    line, steep = (t.upload_csv(line_csv(slope=s))["id"] for s in (3, 30))
    for data in (line, line, steep, steep):
        t.train("line", data, LINE)
    [[owner, name]] = platform.sql("SELECT b.tenant_id, b.file FROM model_versions v JOIN blobs b ON b.tenant_id = v.tenant_id AND b.sha256 = v.sha256 "
                                   f"WHERE v.number = 4 AND v.tenant_id = (SELECT id FROM tenants WHERE name = '{t.name}')")
    path = pathlib.Path(platform.home) / "blobs" / owner / name
    blob = bytearray(path.read_bytes())
    blob[len(blob) // 2] ^= 1
    path.write_bytes(blob)
    for version in (1, 2, 3):  # loaded, so that no trial waits for that
        ask(t, at=f"/versions/{version}")
    return t


def ask(t, at="", timeout_us=None):
    body = {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 1], "data": [1.0]}]}
    if timeout_us:
        body["parameters"] = {"timeout": timeout_us}
    reply = t.post(f"/v2/models/line{at}/infer", json=body)
    return reply.status_code, reply.json().get("model_version"), (reply.json().get("outputs") or [{}])[0].get("data")


def put(t, **alias):
    return t.ok("PUT", ALIAS, json=alias)


def arms(t):
    report = t.ok("GET", ALIAS + "/rollout")
    assert report["object"] == "model.rollout" and report["alias"] == "live" and report["model"] == "line"
    return {a["arm"]: a for a in report["arms"]}


def last_audit(t):
    entry = t.ok("GET", "/v1/audit?type=alias.rolled_back&limit=1")["data"][0]
    return entry["actor"], entry["data"]


class Calls:
    """Calls the alias all the time, as clients do, and keeps what they got."""

    def __init__(self, t, **how):
        self.t, self.how, self.answers, self.on = Tenant(t.platform, t.name, t.key), how, [], True
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while self.on:
            self.answers.append(ask(self.t, **self.how))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.on = False
        self.thread.join()


def wait_ended(t, arm, seconds=10.0):
    def ended():
        last = t.ok("GET", ALIAS)["last_rollback"]
        return last if last and last["arm"] == arm else None

    return wait_until(ended, f"the end of the {arm}", seconds)


def test_what_gateways_that_are_gone_have_counted_stays_in_the_report_and_in_one_field(own):
    etag = put(own, version=1, canary={"version": 2, "weight": 0.5})["etag"]
    redis, key = own.platform.redis, f"tnr:rollout:{own.ok('GET', '/v1/tenant')['id']}:line:live:{etag}"
    for i in range(20):  # as loops have written them two days ago: of the version 5 requests each, of the canary 2 that failed
        redis("HSET", key, f"inc_{i} 1", f"{int(time.time() - 2 * 86400) * 1000} 0 0 0 0 5 0 0 0 2 2 0 0 0 0 0 0")

    def counted():
        return sum(a["requests"] for a in arms(own).values())

    for _ in range(2):  # whoever reads first folds them, and who reads then sees the same
        assert counted() == 20 * 7 and redis("HKEYS", key) == "gone"
    wait_until(lambda: ask(own) and counted() > 20 * 7, "a call to be counted")
    assert arms(own)["canary"]["errors"] == 40


def test_a_shadow_is_compared_and_changes_no_answer(own):
    put(own, version=1)
    expected = ask(own)
    alias = put(own, version=1, shadow={"version": 3, "weight": 0.5, "tolerance": 0.5})
    assert alias["shadow"] == {"version": 3, "weight": 0.5, "tolerance": 0.5} and alias["canary"] is None
    assert {str(ask(own)) for _ in range(40)} == {str(expected)}
    # A loop may answer a call or two before it hears of the alias's change: these are not counted.
    wait_until(lambda: arms(own)["primary"]["requests"] >= 38 and arms(own)["shadow"]["compared"] + arms(own)["shadow"]["skipped"] >= 19, "the copies to be compared")
    seen = arms(own)
    assert set(seen) == {"primary", "shadow"} and seen["primary"]["requests"] <= 40 and seen["primary"]["errors"] == 0
    shadow = seen["shadow"]
    assert shadow["version"] == 3 and 20 - shadow["skipped"] >= shadow["disagreements"] == shadow["compared"] == shadow["requests"] > 0
    assert shadow["largest_difference"] == pytest.approx(27, abs=1) and 0 < shadow["latency_p50_ms"] <= shadow["latency_p99_ms"]
    put(own, version=1, shadow={"version": 2, "weight": 1})
    wait_until(lambda: ask(own) and arms(own)["shadow"]["compared"] > 0, "a copy to be compared")
    assert arms(own)["shadow"]["disagreements"] == 0 and arms(own)["shadow"]["largest_difference"] <= 1e-3

    def rows_of(version):
        return sum(r["rows"] for b in own.ok("GET", "/v1/usage?bucket_width=1h")["data"] for r in b["results"] if r["version"] == version)

    wait_until(lambda: rows_of(3) >= 1 + shadow["compared"], "the copies to be billed as their version's rows")  # 1: the one that loaded it


def test_a_shadow_that_disagrees_is_ended_with_its_reason(own):
    put(own, version=1, shadow={"version": 3, "weight": 1}, rollback_on={"disagreement": 0.1, "min_requests": 10, "window_seconds": 30})
    with Calls(own) as calls:
        last = wait_ended(own, "shadow")
    assert {a[:2] for a in calls.answers} == {(200, "1")}
    assert last["reason"] == "disagreement" and last["version"] == 3 and last["time"] == pytest.approx(time.time(), abs=30)
    alias = own.ok("GET", ALIAS)
    assert alias["shadow"] is None and alias["version"] == 1 and last["message"].startswith("100 % of ")
    actor, data = last_audit(own)
    assert actor == {"type": "scheduler", "id": "rollout"} and data["reason"] == "disagreement" and data["ended_version"] == 3
    assert data["numbers"]["disagreements"] == data["numbers"]["compared"] >= 10 and data["numbers"]["largest_difference"] > 20


def test_a_canary_that_fails_is_taken_back_within_seconds(own):
    put(own, version=1, canary={"version": 4, "weight": 0.5}, rollback_on={"error_rate": 0.2, "min_requests": 3}, warm=False)
    began = time.monotonic()
    with Calls(own, timeout_us=200000) as calls:
        last = wait_ended(own, "canary")
        assert time.monotonic() - began < 8
        wait_until(lambda: len(calls.answers) > 400 or set(a[:2] for a in calls.answers[-20:]) == {(200, "1")}, "the good version to answer alone")
    assert last["reason"] == "error_rate" and last["version"] == 4 and "failed" in last["message"]
    assert own.ok("GET", ALIAS)["canary"] is None
    actor, data = last_audit(own)
    assert data["arm"] == "canary" and data["numbers"]["canary"]["errors"] >= 3 and data["numbers"]["primary"]["errors"] == 0


def test_a_version_that_is_too_slow_goes_back_after_the_move(own):
    put(own, version=1)
    put(own, version=2, rollback_on={"latency_ms": 0.001, "min_requests": 5})
    with Calls(own):
        last = wait_ended(own, "primary")
    alias = own.ok("GET", ALIAS)
    assert alias["version"] == 1 and alias["previous_version"] is None and last["reason"] == "latency" and last["version"] == 2
    assert alias["rollback_on"] == {"latency_ms": 0.001, "min_requests": 5, "window_seconds": 60}
    assert ask(own)[1] == "1"


def test_a_good_canary_stays_and_a_rollback_by_hand_says_so(own):
    put(own, version=1, canary={"version": 2, "weight": 0.5}, shadow={"version": 2, "weight": 1},
        rollback_on={"error_rate": 0.01, "latency_ms": 5000, "disagreement": 0.01, "min_requests": 5, "window_seconds": 5})
    with Calls(own):
        wait_until(lambda: arms(own)["canary"]["requests"] >= 100, "a hundred calls of the canary")
        own.platform.redis("FLUSHALL")
        wait_until(lambda: arms(own)["canary"]["requests"] >= 200, "the counts to come back")
        own.platform.kill("scheduler")
        own.platform.tenor("up", *own.platform.options)
        wait_until(lambda: arms(own)["canary"]["requests"] >= 500, "more calls of the canary")
        alias = own.ok("GET", ALIAS)
    assert alias["canary"]["version"] == 2 and alias["shadow"]["version"] == 2
    back = own.ok("POST", ALIAS + "/rollback")
    assert back["canary"] is None and back["last_rollback"]["reason"] == "requested" and back["last_rollback"]["version"] == 2


def test_what_makes_no_sense_is_refused_by_its_field(own):
    for more, param in (({"shadow": {"version": 1, "weight": 0.1}}, "shadow.version"), ({"shadow": {"version": 2, "weight": 0}}, "shadow.weight"),
                        ({"shadow": {"version": 2, "weight": 1, "tolerance": -1}}, "shadow.tolerance"), ({"rollback_on": {}}, "rollback_on"),
                        ({"rollback_on": {"min_requests": 5}}, "rollback_on"), ({"rollback_on": {"disagreement": 0.1}}, "rollback_on.disagreement"),
                        ({"rollback_on": {"error_rate": 2}}, "rollback_on.error_rate"), ({"rollback_on": {"error_rate": 0, "window_seconds": 0}}, "rollback_on.window_seconds"),
                        ({"rollback_on": {"p99": 5}}, "rollback_on.p99")):
        reply = own.call("PUT", ALIAS, json={"version": 1, **more})
        assert reply.status_code == 400 and reply.json()["error"]["param"] == param, (more, reply.text)
    assert own.call("GET", "/v1/models/line/aliases/nobody").status_code == own.call("GET", "/v1/models/line/aliases/nobody/rollout").status_code == 404


def test_the_same_by_command(own):
    def tenor(*words):
        return own.platform.tenor(*words, env={"TENOR_API_KEY": own.key})

    tenor("model", "alias", "line", "live", "1", "--shadow", "2", "--shadow-weight", "1", "--rollback-on", "error_rate=0.5,disagreement=0.5,min_requests=9")
    assert own.ok("GET", ALIAS)["rollback_on"] == {"error_rate": 0.5, "disagreement": 0.5, "min_requests": 9, "window_seconds": 60}
    wait_until(lambda: ask(own) and arms(own)["shadow"]["compared"] > 0, "a copy to be compared")
    shown = tenor("model", "rollout", "line", "live").stdout
    assert "shadow" in shown and "DIFFERENT" in shown and "last rollback: " in shown
    assert json.loads(tenor("model", "rollout", "line", "live", "--json").stdout)["counted"] is True
    put(own, version=1)
