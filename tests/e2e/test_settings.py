"""A model's settings, the versions that its policy serves, deleted versions, and aliases that move without making anybody wait."""

import threading
import time

import pytest

from conftest import Tenant, wait_until
from data import line_csv

LINE = {"family": "linear_regression", "target": "y"}
ROW = {"instances": [[1.0]]}


def train(tenant, model, versions):
    data = [tenant.upload_csv(line_csv(slope=3 + 10 * i))["id"] for i in range(versions)]
    for dataset in data:
        tenant.train(model, dataset, LINE)


@pytest.fixture(scope="module")
def own(platform):
    t = platform.tenant("settings")
    train(t, "line", 4)
    return t


@pytest.fixture(autouse=True)
def as_it_was(request):
    yield
    if "own" in request.fixturenames:
        t = request.getfixturevalue("own")
        t.ok("PATCH", "/v1/models/line", json={"batching": None, "version_policy": None})
        t.ok("PUT", "/v1/models/line/aliases/live", json={"version": 1})


def patch(tenant, body, status=200, **headers):
    reply = tenant.call("PATCH", "/v1/models/line", json=body, headers=headers)
    assert reply.status_code == status, reply.text
    return reply.json() if status == 200 else reply.json()["error"]


def states(tenant, path="/v1/models/line"):
    return {int(s["version"]): (s["state"], s["status"]["error_code"]) for s in tenant.ok("GET", path)["model_version_status"]}


# ---- settings ----

def test_settings_are_patched_shown_and_audited(own):
    fresh = own.ok("GET", "/v1/models/line")
    assert fresh["batching"] == {"max_batch_rows": None, "max_queue_delay_us": None} and fresh["version_policy"] == {"all": {}}
    one = patch(own, {"batching": {"max_batch_rows": 64}})
    two = patch(own, {"batching": {"max_queue_delay_us": 2000}, "version_policy": {"latest": {"num_versions": 3}}})
    assert two["batching"] == {"max_batch_rows": 64, "max_queue_delay_us": 2000} and two["version_policy"] == {"latest": {"num_versions": 3}}
    assert int(fresh["etag"]) < int(one["etag"]) < int(two["etag"])
    again = patch(own, {"batching": {"max_queue_delay_us": 2000}})
    assert again["etag"] == two["etag"]
    shown = own.call("GET", "/v1/models/line")
    assert shown.headers["ETag"] == f'"{two["etag"]}"' and shown.json()["batching"] == two["batching"]
    row = own.ok("GET", "/v1/audit?type=model.set&limit=1")["data"][0]
    assert row["data"] == {"model": "line", "batching": two["batching"], "version_policy": two["version_policy"]}
    assert patch(own, {"version_policy": {"specific": {"versions": [3, 1]}}})["version_policy"] == {"specific": {"versions": [1, 3]}}
    back = patch(own, {"batching": {"max_batch_rows": None}, "version_policy": None})
    assert back["batching"] == {"max_batch_rows": None, "max_queue_delay_us": 2000} and back["version_policy"] == {"all": {}}


def test_settings_change_under_the_condition_that_is_sent(own):
    etag = own.ok("GET", "/v1/models/line")["etag"]
    patch(own, {"batching": {"max_batch_rows": 5}}, **{"If-Match": f'"{etag}"'})
    assert patch(own, {"batching": {"max_batch_rows": 6}}, 409, **{"If-Match": f'"{etag}"'})["param"] == "etag"
    patch(own, {"batching": {"max_batch_rows": 5}}, **{"If-Match": f'"{etag}"'})  # asked again: it is so already
    assert patch(own, {}, 400, **{"If-Match": "x"})["param"] == "If-Match"


@pytest.mark.parametrize("body, param", [
    ({"batching": {"max_batch_rows": 0}}, "batching.max_batch_rows"), ({"batching": {"max_batch_rows": 4097}}, "batching.max_batch_rows"),
    ({"batching": {"max_queue_delay_us": 100001}}, "batching.max_queue_delay_us"), ({"batching": {"rows": 1}}, "batching.rows"),
    ({"batching": 5}, "batching"), ({"version_policy": {}}, "version_policy"), ({"version_policy": {"all": {}, "latest": {"num_versions": 1}}}, "version_policy"),
    ({"version_policy": {"latest": {"num_versions": 0}}}, "version_policy.latest.num_versions"), ({"version_policy": {"latest": {}}}, "version_policy.latest.num_versions"),
    ({"version_policy": {"specific": {"versions": []}}}, "version_policy.specific.versions"),
    ({"version_policy": {"specific": {"versions": [1, 9]}}}, "version_policy.specific.versions[1]"),
    ({"version_policy": {"specific": {"versions": [2, 2]}}}, "version_policy.specific.versions"),
    ({"version_policy": {"specific": {"versions": ["1"]}}}, "version_policy.specific.versions[0]"), ({"colour": 1}, "colour")])
def test_wrong_settings_are_refused_by_path(own, body, param):
    assert patch(own, body, 400)["param"] == param


def test_strangers_and_weak_keys_change_nothing(own, platform):
    stranger = platform.tenant("stranger")
    assert stranger.call("PATCH", "/v1/models/line", json={"batching": None}).status_code == 404
    assert stranger.call("DELETE", "/v1/models/line/versions/1").status_code == 404
    weak = own.ok("POST", "/v1/keys", json={"name": "weak", "scopes": ["models:read", "predict"]})
    reader = Tenant(platform, own.name, weak["secret"])
    assert reader.call("PATCH", "/v1/models/line", json={"batching": None}).status_code == 403
    assert reader.call("DELETE", "/v1/models/line/versions/1").status_code == 403


def test_a_model_that_waits_for_company_answers_after_its_delay_and_alike(own):
    def once():
        begin = time.monotonic()
        answer = own.ok("POST", "/v1/models/line:predict", json=ROW)
        return answer, time.monotonic() - begin

    plain, _ = once()
    patch(own, {"batching": {"max_queue_delay_us": 60000}})
    answers = [once() for _ in range(3)]
    assert all(a == plain for a, _ in answers) and min(s for _, s in answers) >= 0.06
    patch(own, {"batching": {"max_batch_rows": 1}})  # full with one row
    answers = [once() for _ in range(5)]
    assert all(a == plain for a, _ in answers) and min(s for _, s in answers) < 0.06


# ---- which versions are served ----

def test_a_version_outside_of_the_policy_is_not_served_and_comes_back(own):
    own.ok("PUT", "/v1/models/line/aliases/live", json={"version": 4})
    own.ok("PUT", "/v1/models/line/aliases/live", json={"version": 3})
    at = {n: own.ok("POST", f"/v1/models/line/versions/{n}:predict", json=ROW) for n in (1, 2, 3, 4)}
    patch(own, {"version_policy": {"latest": {"num_versions": 1}}})
    assert states(own) == {4: ("AVAILABLE", "OK"), 3: ("AVAILABLE", "OK"), 2: ("END", "UNAVAILABLE"), 1: ("END", "UNAVAILABLE")}
    for path, body in (("/v1/models/line/versions/1:predict", ROW), ("/v2/models/line/versions/2/infer", {"inputs": []})):
        reply = own.post(path, json=body)
        assert reply.status_code == 404 and "version_policy" in reply.json()["error"], reply.text
    assert own.call("GET", "/v2/models/line/versions/1/ready").status_code == 404
    for path in ("/v2/models/line/versions/1", "/v1/models/line/versions/1/metadata"):
        assert own.call("GET", path).status_code == 404, path
    assert own.ok("GET", "/v2/models/line")["versions"] == ["3", "4"]
    one = own.ok("GET", "/v1/models/line/versions/1")
    assert one["served"] is False and one["model_version_status"][0]["state"] == "END" and "version_policy" in one["model_version_status"][0]["status"]["error_message"]
    assert own.ok("POST", "/v1/models/line/versions/4:predict", json=ROW) == at[4]
    assert own.ok("POST", "/v1/models/line/versions/3:predict", json=ROW) == at[3]  # live
    patch(own, {"version_policy": {"specific": {"versions": [2]}}})
    assert {n for n, (state, _) in states(own).items() if state == "AVAILABLE"} == {2, 3, 4}  # 4 is what a rollback goes back to
    assert own.ok("POST", "/v1/models/line/versions/2:predict", json=ROW) == at[2]
    patch(own, {"version_policy": {"all": {}}})
    assert own.ok("POST", "/v1/models/line/versions/1:predict", json=ROW) == at[1]


def test_an_alias_may_point_at_a_version_outside_of_the_policy_which_is_served_then(own):
    patch(own, {"version_policy": {"latest": {"num_versions": 1}}})
    assert own.post("/v1/models/line/versions/2:predict", json=ROW).status_code == 404
    own.ok("PUT", "/v1/models/line/aliases/live", json={"version": 1, "canary": {"version": 2, "weight": 0.5}})
    assert own.post("/v1/models/line/versions/2:predict", json=ROW).status_code == 200


# ---- deleting ----

def test_a_version_that_nobody_needs_can_be_deleted(platform, tenant):
    train(tenant, "gone", 3)
    tenant.ok("PUT", "/v1/models/gone/aliases/live", json={"version": 3})
    reply = tenant.call("DELETE", "/v1/models/gone/versions/3")
    assert reply.status_code == 409 and "live" in reply.json()["error"]["message"]
    assert tenant.call("DELETE", "/v1/models/gone/versions/1").status_code == 409  # a rollback goes back to it
    version = tenant.ok("GET", "/v1/models/gone/versions/2")
    tenant.ok("POST", "/v1/models/gone/versions/2:predict", json=ROW)
    assert tenant.ok("DELETE", "/v1/models/gone/versions/2") == {"id": version["id"], "object": "model.version", "deleted": True}
    for method, path in (("GET", "/v1/models/gone/versions/2"), ("DELETE", "/v1/models/gone/versions/2"), ("POST", "/v1/models/gone/versions/2:predict")):
        assert tenant.call(method, path, json=ROW if method == "POST" else None).status_code == 404, path
    for warm in (True, False):
        assert tenant.call("PUT", "/v1/models/gone/aliases/live", json={"version": 2, "warm": warm}).status_code == 404
    assert [v["version"] for v in tenant.ok("GET", "/v1/models/gone/versions")["data"]] == [3, 1]
    assert platform.sql(f"SELECT count(*) FROM model_versions WHERE id = '{version['id']}' AND sha256 IS NULL") == [["1"]]
    job = tenant.ok("GET", f"/v1/jobs/{version['job']}")  # its story stays
    assert job["result"]["version"] == 2
    tenant.train("gone", job["dataset"], LINE)
    assert tenant.ok("GET", "/v1/models/gone")["latest_version"] == 4  # no number is given twice


# ---- warm before the flip ----

def loaded(tenant, model, version):
    return tenant.ok("GET", f"/v2/models/{model}/versions/{version}/ready")["loaded"]


def test_no_call_waits_for_a_load_when_an_alias_moves(platform, tenant):
    """Calls go on all the while: each is answered by one of the two versions, none after the flip by the old one, and none waits for a load."""
    train(tenant, "flip", 2)
    tenant.ok("POST", "/v1/models/flip:predict", json=ROW)
    assert not loaded(tenant, "flip", 2)
    seen, stop = [], threading.Event()

    def ask():
        me = Tenant(platform, tenant.name, tenant.key)
        body = {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 1], "data": [1.0]}]}
        while not stop.is_set():
            begin = time.monotonic()
            reply = me.post("/v2/models/flip/infer", json=body)
            end = time.monotonic()
            seen.append((begin, end, reply.status_code, reply.json().get("model_version"), reply.json().get("outputs", [{}])[0].get("data")))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for t in threads:
        t.start()
    wait_until(lambda: len(seen) > 30, "calls before the flip")
    moved = tenant.ok("PUT", "/v1/models/flip/aliases/live", json={"version": 2})
    flipped = time.monotonic()
    was_loaded = loaded(tenant, "flip", 2)
    wait_until(lambda: sum(begin > flipped for begin, *_ in seen) > 30, "calls after the flip")
    stop.set()
    for t in threads:
        t.join()
    assert moved["warmed"] is True and was_loaded
    assert {status for _, _, status, _, _ in seen} == {200}
    answers = {version: {str(data) for _, _, _, v, data in seen if v == version} for version in ("1", "2")}
    assert len(answers["1"]) == len(answers["2"]) == 1 and answers["1"] != answers["2"]
    assert {version for begin, _, _, version, _ in seen if begin > flipped} == {"2"}
    slowest = sorted(end - begin for begin, end, *_ in seen)[-1]
    assert slowest < 0.5, slowest  # a machine full of tests; a load would be a placement and more


def test_a_version_that_cannot_be_loaded_does_not_get_the_alias(platform, tenant):
    train(tenant, "broken", 2)
    tenant.ok("POST", "/v1/models/broken:predict", json=ROW)
    sha = tenant.ok("GET", "/v1/models/broken/versions/2")["sha256"]
    (file,), = platform.sql(f"SELECT b.file FROM blobs b WHERE b.sha256 = '{sha}'")
    path = next(p for p in platform.home.rglob(file.split("/")[-1]) if p.is_file())
    whole = path.read_bytes()
    path.write_bytes(whole[:-20] + bytes(20))
    begin = time.monotonic()
    reply = tenant.call("PUT", "/v1/models/broken/aliases/live", json={"version": 2})
    took = time.monotonic() - begin
    path.write_bytes(whole)
    assert reply.status_code == 409 and reply.json()["error"]["param"] == "version", reply.text
    assert took < 5 and "no worker can serve version 2" in reply.json()["error"]["message"]
    assert tenant.ok("GET", "/v1/models/broken/aliases/live")["version"] == 1
    canary = {"version": 1, "canary": {"version": 2, "weight": 0.5}}
    assert tenant.call("PUT", "/v1/models/broken/aliases/live", json=canary).status_code == 409  # within seconds the failure is remembered
    forced = tenant.ok("PUT", "/v1/models/broken/aliases/live", json={"version": 2, "warm": False})
    assert forced["version"] == 2 and forced["warmed"] is False
