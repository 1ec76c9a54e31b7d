"""The predict road over both protocols: right answers, the same answers, and refusals that say what was expected."""

import json
import random
import struct
import threading

import pytest

import wire
from arrays import npy
from conftest import Tenant, wait_until
from data import flowers_csv, line_csv, mixed_csv

LINE = {"family": "linear_regression", "target": "y"}
FLOWERS = {"target": "species", "preprocess": [{"op": "standardise"}],
           "architecture": [{"layer": "Dense", "units": 24, "activation": "tanh"}, {"layer": "Dense", "units": 3}],
           "training": {"epochs": 20, "batch_size": 16, "seed": 3, "optimizer": {"name": "adam", "learning_rate": 0.01}}}
ROW = [5.0, 3.4, 1.5, 0.2]


@pytest.fixture(scope="module")
def own(platform):
    """A tenant with a line (two versions), flowers (text labels), a table with a category, and small pictures (integer labels)."""
    t = platform.tenant("predict")
    line, steep = (t.upload_csv(line_csv(slope=s))["id"] for s in (3, 30))
    flowers, mixed = t.upload_csv(flowers_csv())["id"], t.upload_csv(mixed_csv())["id"]
    rng = random.Random(1)
    labels = [rng.randrange(3) for _ in range(90)]
    pictures = [float(label == k // 2) * 10 + rng.random() for label in labels for k in range(6)]
    form = {"features": ("x.npy", npy("f", (90, 2, 3), pictures)), "labels": ("y.npy", npy("q", (90,), labels))}
    shapes = t.ok("POST", "/v1/datasets", data={"name": "shapes"}, files=form)["id"]
    t.train("line", line, LINE)
    t.train("line", steep, LINE)
    jobs = [t.submit("flowers", flowers, FLOWERS), t.submit("mixed", mixed, {"target": "kind", "family": "logistic_regression"}),
            t.submit("shapes", shapes, {"family": "logistic_regression", "training": {"epochs": 30, "batch_size": 10}})]
    for job in jobs:
        assert t.wait_job(job["id"])["status"] == "succeeded"
    return t


def tfs(tenant, model, body, status=200, at=""):
    reply = tenant.post(f"/v1/models/{model}{at}:predict", json=body)
    assert reply.status_code == status, reply.text
    return reply.json() if status == 200 else error_of(reply)


def infer(tenant, model, inputs, status=200, at="", **more):
    reply = tenant.post(f"/v2/models/{model}{at}/infer", json={"inputs": inputs, **more})
    assert reply.status_code == status, reply.text
    return reply.json() if status == 200 else error_of(reply)


def error_of(reply):
    """Both protocols' errors are {"error": text}."""
    body = reply.json()
    assert set(body) == {"error"} and isinstance(body["error"], str) and body["error"], body
    assert reply.headers["Content-Type"].startswith("application/json") and reply.headers["X-Request-Id"].startswith("req_")
    return body["error"]


def fp32(shape, data, name="input"):
    return {"name": name, "datatype": "FP32", "shape": shape, "data": data}


def outputs_of(reply):
    return {o["name"]: o for o in reply["outputs"]}


# ---- the answers of both protocols ----

def test_open_inference_answers_in_its_shape(own):
    reply = infer(own, "flowers", [fp32([2, 4], ROW + [6.6, 3.0, 5.6, 2.0])], id="abc")
    assert reply["model_name"] == "flowers" and reply["model_version"] == "1" and reply["id"] == "abc"
    out = outputs_of(reply)
    assert list(out) == ["probabilities", "label"]
    assert out["probabilities"]["datatype"] == "FP32" and out["probabilities"]["shape"] == [2, 3] and len(out["probabilities"]["data"]) == 6
    assert out["label"] == {"name": "label", "datatype": "BYTES", "shape": [2], "data": ["setosa", "virginica"]}


def test_nested_data_and_any_order_of_members_are_the_same_request(own):
    flat = infer(own, "flowers", [fp32([2, 4], ROW + ROW)])
    nested = infer(own, "flowers", [fp32([2, 4], [ROW, ROW])])
    text = json.dumps({"inputs": [{"data": [ROW, ROW], "shape": [2, 4], "name": "input", "datatype": "FP32"}], "parameters": {"anything": 1}})
    turned = own.post("/v2/models/flowers/infer", data=text)
    assert flat == nested == turned.json()


def test_named_outputs_are_the_only_ones_and_in_the_order_asked_for(own):
    reply = infer(own, "flowers", [fp32([1, 4], ROW)], outputs=[{"name": "label"}])
    assert [o["name"] for o in reply["outputs"]] == ["label"]
    reply = infer(own, "flowers", [fp32([1, 4], ROW)], outputs=[{"name": "label"}, {"name": "probabilities"}])
    assert [o["name"] for o in reply["outputs"]] == ["label", "probabilities"]


def test_binary_tensors_go_in_and_come_out(own):
    raw = struct.pack("<8f", *ROW, *ROW)
    head = json.dumps({"inputs": [{"name": "input", "datatype": "FP32", "shape": [2, 4], "parameters": {"binary_data_size": len(raw)}}],
                       "outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
    reply = own.post("/v2/models/flowers/infer", data=head + raw, headers=headers)
    assert reply.status_code == 200, reply.text
    cut = int(reply.headers["Inference-Header-Content-Length"])
    out = json.loads(reply.content[:cut])["outputs"][0]
    assert out["shape"] == [2, 3] and out["parameters"] == {"binary_data_size": 24} and "data" not in out
    plain = outputs_of(infer(own, "flowers", [fp32([2, 4], ROW + ROW)]))["probabilities"]["data"]
    assert reply.content[cut:] == struct.pack("<6f", *plain)


def test_tensorflow_serving_answers_rows_for_rows_and_columns_for_columns(own):
    rows = tfs(own, "flowers", {"instances": [ROW, ROW]})
    assert set(rows) == {"predictions"} and len(rows["predictions"]) == 2 and set(rows["predictions"][0]) == {"probabilities", "label"}
    columns = tfs(own, "flowers", {"inputs": [ROW, ROW]})
    assert set(columns) == {"outputs"} and columns["outputs"]["label"] == [p["label"] for p in rows["predictions"]]
    assert columns["outputs"]["probabilities"] == [p["probabilities"] for p in rows["predictions"]]
    named = tfs(own, "flowers", {"signature_name": "serving_default", "instances": [{"input": ROW}] * 2})
    assert named == rows and tfs(own, "flowers", {"inputs": {"input": [ROW, ROW]}}) == columns


def test_a_model_with_one_output_answers_bare_numbers(own):
    (value,) = tfs(own, "line", {"instances": [[4.0]]})["predictions"]
    assert value == pytest.approx(14, abs=0.2)
    assert tfs(own, "line", {"inputs": [[4.0]]}) == {"outputs": [value]}
    out = outputs_of(infer(own, "line", [fp32([1, 1], [4.0])]))
    assert out["prediction"] == {"name": "prediction", "datatype": "FP32", "shape": [1], "data": [value]}


def test_integer_labels_come_back_as_integers(own):
    picture = [[0.0, 0.0, 10.0], [10.0, 0.0, 0.0]]  # cells 2 and 3: label 1
    reply = tfs(own, "shapes", {"instances": [picture]})
    assert reply["predictions"][0]["label"] == 1
    out = outputs_of(infer(own, "shapes", [fp32([1, 2, 3], [v for r in picture for v in r])]))
    assert out["label"]["datatype"] == "INT64" and out["label"]["data"] == [1]


def test_a_table_with_categories_has_an_input_for_each_column(own):
    rows = tfs(own, "mixed", {"instances": [{"size": 0.5, "colour": "red"}, {"size": -0.5, "colour": "blue"}]})["predictions"]
    columns = tfs(own, "mixed", {"inputs": {"size": [0.5, -0.5], "colour": ["red", "blue"]}})["outputs"]
    size, colour = fp32([2], [0.5, -0.5], "size"), {"name": "colour", "datatype": "BYTES", "shape": [2], "data": ["red", "blue"]}
    out = outputs_of(infer(own, "mixed", [colour, size]))
    assert [r["label"] for r in rows] == columns["label"] == out["label"]["data"]
    assert [v for r in rows for v in r["probabilities"]] == out["probabilities"]["data"]


def test_both_protocols_agree_bit_for_bit_on_many_rows(own):
    rng = random.Random(5)
    rows = [[rng.uniform(0, 8) for _ in range(4)] for _ in range(300)]
    a = tfs(own, "flowers", {"instances": rows})["predictions"]
    b = outputs_of(infer(own, "flowers", [fp32([300, 4], rows)]))
    assert [v for p in a for v in p["probabilities"]] == b["probabilities"]["data"] and [p["label"] for p in a] == b["label"]["data"]


def test_a_row_alone_equals_the_row_in_a_batch_bit_for_bit(own):
    rng = random.Random(6)
    rows = [[rng.uniform(0, 8) for _ in range(4)] for _ in range(257)]
    batch = tfs(own, "flowers", {"instances": rows})["predictions"]
    for i in (0, 1, 2, 3, 15, 16, 17, 100, 255, 256):
        assert tfs(own, "flowers", {"instances": [rows[i]]})["predictions"] == [batch[i]]
    for n in (2, 3, 7, 16, 33, 64):
        assert tfs(own, "flowers", {"instances": rows[:n]})["predictions"] == batch[:n]


def test_concurrent_callers_get_their_own_rows(own):
    """Many small requests at once, which the worker batches: each answer is exactly the one that its rows get alone."""
    rng = random.Random(7)
    rows = [[rng.uniform(0, 8) for _ in range(4)] for _ in range(200)]
    expected = tfs(own, "flowers", {"instances": rows})["predictions"]
    wrong = []

    def ask(seed):
        tenant, dice = Tenant(own.platform, own.name, own.key), random.Random(seed)
        for _ in range(40):
            picks = [dice.randrange(200) for _ in range(dice.randint(1, 5))]
            reply = tenant.post("/v1/models/flowers:predict", json={"instances": [rows[i] for i in picks]})
            if reply.status_code != 200 or reply.json()["predictions"] != [expected[i] for i in picks]:
                wrong.append((picks, reply.text))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []


# ---- versions, aliases, metadata ----

def test_versions_and_aliases_answer_for_themselves(own):
    def at(path):
        return tfs(own, "line", {"instances": [[1.0]]}, at=path)["predictions"][0]

    assert at("/versions/1") == pytest.approx(5, abs=0.5) and at("/versions/2") == pytest.approx(32, abs=0.5)
    assert at("") == at("/labels/live") == at("/versions/1")
    own.ok("PUT", "/v1/models/line/aliases/next", json={"version": 2})
    assert at("/labels/next") == at("/versions/2")
    assert infer(own, "line", [fp32([1, 1], [1.0])], at="/versions/2")["model_version"] == "2"
    own.ok("PUT", "/v1/models/line/aliases/live", json={"version": 2})
    assert at("") == at("/versions/2")  # the alias moved, and the gateway's cache with it
    own.ok("PUT", "/v1/models/line/aliases/live", json={"version": 1})
    assert at("") == at("/versions/1")


def test_an_answered_move_is_in_force_on_every_connection(own):
    others = [Tenant(own.platform, own.name, own.key) for _ in range(4)]  # connections of their own, on all loops
    for k in range(30):
        version = 2 - k % 2
        own.ok("PUT", "/v1/models/line/aliases/live", json={"version": version, "warm": False})
        for tenant in others:
            assert infer(tenant, "line", [fp32([1, 1], [1.0])])["model_version"] == str(version)
    assert version == 1  # as it was


def test_a_canary_gets_its_share_of_the_calls_until_it_is_rolled_back_or_promoted(own):
    def versions(n):
        return [infer(own, "line", [fp32([1, 1], [1.0])])["model_version"] for _ in range(n)]

    own.ok("PUT", "/v1/models/line/aliases/live", json={"version": 1})
    alias = own.ok("PUT", "/v1/models/line/aliases/live", json={"version": 1, "canary": {"version": 2, "weight": 0.25}})
    assert alias["canary"] == {"version": 2, "weight": 0.25}
    assert versions(80).count("2") == 20  # one connection, so one loop: every fourth of its calls
    assert infer(own, "line", [fp32([1, 1], [1.0])], at="/versions/1")["model_version"] == "1"  # who names a version gets it
    back = own.ok("POST", "/v1/models/line/aliases/live/rollback")
    assert back["version"] == 1 and back["canary"] is None and set(versions(12)) == {"1"}
    own.ok("PUT", "/v1/models/line/aliases/live", json={"version": 1, "canary": {"version": 2, "weight": 0.5}})
    promoted = own.ok("PUT", "/v1/models/line/aliases/live", json={"version": 2})
    assert promoted["previous_version"] == 1 and set(versions(12)) == {"2"}
    assert own.ok("POST", "/v1/models/line/aliases/live/rollback")["version"] == 1
    assert set(versions(12)) == {"1"}
    assert own.call("POST", "/v1/models/line/aliases/live/rollback").status_code == 409
    for canary, param in (({"version": 1, "weight": 0.5}, "canary.version"), ({"version": 2, "weight": 0}, "canary.weight"),
                          ({"version": 2, "weight": 1}, "canary.weight"), ({"version": 2}, "canary.weight")):
        reply = own.call("PUT", "/v1/models/line/aliases/live", json={"version": 1, "canary": canary})
        assert reply.status_code == 400 and reply.json()["error"]["param"] == param, reply.text


def test_an_alias_moves_only_under_the_condition_that_is_sent(own):
    made = own.call("PUT", "/v1/models/line/aliases/careful", json={"version": 1}, headers={"If-None-Match": "*"})
    assert made.status_code == 200, made.text
    assert own.call("PUT", "/v1/models/line/aliases/careful", json={"version": 2}, headers={"If-None-Match": "*"}).status_code in (409, 412)
    tag = made.headers["ETag"]
    moved = own.call("PUT", "/v1/models/line/aliases/careful", json={"version": 2}, headers={"If-Match": tag})
    assert moved.status_code == 200 and moved.headers["ETag"] != tag
    assert own.call("PUT", "/v1/models/line/aliases/careful", json={"version": 1}, headers={"If-Match": tag}).status_code in (409, 412)
    assert own.call("PUT", "/v1/models/line/aliases/careful", json={"version": 99}).status_code == 404
    for body, param in (({}, "version"), ({"version": "1"}, "version"), ({"version": 1, "colour": 2}, "colour")):
        reply = own.call("PUT", "/v1/models/line/aliases/careful", json=body)
        assert reply.status_code == 400 and reply.json()["error"]["param"] == param


def test_models_and_versions_tell_about_themselves(own):
    model = own.ok("GET", "/v1/models/line")
    assert model["object"] == "model" and model["latest_version"] == 2 and model["aliases"]["live"] == 1 and model["model_version_status"]
    version = own.ok("GET", "/v1/models/flowers/versions/1")
    assert version["object"] == "model.version" and version["version"] == 1 and version["job"].startswith("job_") and len(version["sha256"]) == 64
    assert version["model_version_status"][0]["state"] == "AVAILABLE" and version["bytes"] > 0 and version["metrics"]
    listed = own.ok("GET", "/v1/models/line/versions")["data"]
    assert [v["version"] for v in listed] == [2, 1]
    assert {m["name"] for m in own.ok("GET", "/v1/models")["data"]} == {"line", "flowers", "mixed", "shapes"}


def test_open_inference_metadata_has_the_signature(own):
    meta = own.ok("GET", "/v2/models/flowers")
    assert meta["name"] == "flowers" and meta["versions"] == ["1"] and meta["platform"]
    assert meta["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 4]}]
    assert meta["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}, {"name": "label", "datatype": "BYTES", "shape": [-1]}]
    mixed = own.ok("GET", "/v2/models/mixed/versions/1")["inputs"]
    assert sorted((i["name"], i["datatype"], i["shape"]) for i in mixed) == [("colour", "BYTES", [-1]), ("size", "FP32", [-1])]
    assert own.ok("GET", "/v2/models/shapes")["inputs"][0]["shape"] == [-1, 2, 3]
    assert own.ok("GET", "/v2/models/line")["versions"] == ["1", "2"]
    assert own.ok("GET", "/v2/models/line/ready")["ready"] is True and own.ok("GET", "/v2/models/line/versions/2/ready")["ready"] is True
    assert own.ok("GET", "/v2")["name"] == "tenor"


@pytest.mark.parametrize("method, path", [
    ("POST", "/v1/models/nobody:predict"), ("POST", "/v1/models/line/versions/99:predict"), ("POST", "/v1/models/line/labels/nobody:predict"),
    ("POST", "/v1/models/line/versions/x:predict"), ("POST", "/v1/models/line/versions/0:predict"), ("POST", "/v1/models/No%20Name:predict"),
    ("POST", "/v2/models/nobody/infer"), ("POST", "/v2/models/line/versions/99/infer"), ("GET", "/v2/models/nobody"), ("GET", "/v2/models/line/versions/99"),
    ("GET", "/v2/models/nobody/ready"), ("GET", "/v2/models/line/versions/99/ready")])
def test_an_unknown_model_version_or_alias_is_404(own, method, path):
    body = {"inputs": [fp32([1, 1], [1.0])]} if "/v2/" in path else {"instances": [[1.0]]}
    reply = own.call(method, path, json=body if method == "POST" else None)
    assert reply.status_code == 404, reply.text
    error_of(reply)


# ---- what is refused, and how it is said ----

TFS_BAD = {
    "ragged rows": ("flowers", {"instances": [ROW, ROW[:3]]}, ["instances[1]", "4", "3"]),
    "too wide": ("flowers", {"instances": [ROW + [1.0]]}, ["instances[0]", "4"]),
    "too deep": ("flowers", {"instances": [[ROW]]}, ["instances[0]"]),
    "too flat": ("flowers", {"instances": ROW}, ["instances[0]"]),
    "a text for a number": ("flowers", {"instances": [[1, 2, "x", 4]]}, ["instances[0][2]"]),
    "null where nothing fills it": ("flowers", {"instances": [[1, 2, None, 4]]}, ["row 0", "petal_length", "missing"]),
    "beyond a float": ("flowers", {"instances": [[1, 2, 1e300, 4]]}, ["instances[0][2]"]),
    "no rows": ("flowers", {"instances": []}, ["at least one row"]),
    "nothing": ("flowers", {}, ["instances"]),
    "both": ("flowers", {"instances": [ROW], "inputs": [ROW]}, ["instances", "inputs"]),
    "unknown field": ("flowers", {"instances": [ROW], "colour": 1}, ["colour"]),
    "unknown signature": ("flowers", {"signature_name": "other", "instances": [ROW]}, ["signature_name", "serving_default"]),
    "unknown input": ("flowers", {"instances": [{"inptu": ROW}]}, ["inptu", "input"]),
    "missing column": ("mixed", {"instances": [{"size": 1.0}]}, ["colour", "missing"]),
    "unknown column": ("mixed", {"instances": [{"size": 1.0, "colour": "red", "weight": 2}]}, ["weight"]),
    "bare row of columns": ("mixed", {"instances": [[1.0, "red"]]}, ["2 inputs", "object"]),
    "unknown category": ("mixed", {"instances": [{"size": 1.0, "colour": "purple"}]}, ["purple", "colour"]),
    "columns of two lengths": ("mixed", {"inputs": {"size": [1.0, 2.0], "colour": ["red"]}}, ["1", "2"]),
    "number for a text": ("mixed", {"instances": [{"size": 1.0, "colour": 5}]}, ["colour"]),
}


@pytest.mark.parametrize("case", TFS_BAD)
def test_a_wrong_tensorflow_serving_request_is_told_what_was_expected(own, case):
    model, body, parts = TFS_BAD[case]
    message = tfs(own, model, body, 400)
    for part in parts:
        assert part in message, message


OIP_BAD = {
    "wrong width": ([fp32([2, 3], [1.0] * 6)], ["[2,3]", "[-1,4]", "input"]),
    "wrong rank": ([fp32([4], ROW)], ["[4]", "[-1,4]"]),
    "no rows": ([fp32([0, 4], [])], ["rows"]),
    "wrong datatype": ([{**fp32([1, 4], ROW), "datatype": "BYTES"}], ["FP32", "BYTES"]),
    "no datatype of the protocol": ([{**fp32([1, 4], ROW), "datatype": "float"}], ["datatype"]),
    "too few numbers": ([fp32([2, 4], ROW)], ["8", "4"]),
    "too many numbers": ([fp32([1, 4], ROW + [1.0])], ["4"]),
    "ragged": ([fp32([2, 4], [ROW, ROW[:2]])], ["data"]),
    "unknown input": ([fp32([1, 4], ROW, "x")], ['"x"', '"input"']),
    "input twice": ([fp32([1, 4], ROW), fp32([1, 4], ROW)], ["twice"]),
    "no input": ([], ["input"]),
    "no name": ([{"datatype": "FP32", "shape": [1, 4], "data": ROW}], ["name"]),
    "no shape": ([{"name": "input", "datatype": "FP32", "data": ROW}], ["shape"]),
    "no data": ([{"name": "input", "datatype": "FP32", "shape": [1, 4]}], ["data"]),
    "unknown member": ([{**fp32([1, 4], ROW), "colour": 1}], ["colour"]),
    "not a list": ({"name": "input"}, ["inputs"]),
    "negative size": ([fp32([-1, 4], ROW)], ["shape"]),
}


@pytest.mark.parametrize("case", OIP_BAD)
def test_a_wrong_open_inference_request_is_told_what_was_expected(own, case):
    inputs, parts = OIP_BAD[case]
    message = infer(own, "flowers", inputs, 400)
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize("path", ["/v1/models/flowers:predict", "/v2/models/flowers/infer"])
@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{} x", '{"instances":[[1,2,3,4]]', '{"instances":[[1,2,3,04]]}', '{"inputs":[NaN]}',
                                  '{"instances":' + "[" * 5000, '{"a\\ud800":1}'])
def test_malformed_json_is_refused_in_the_protocol_s_shape(own, path, text):
    reply = own.post(path, data=text)
    assert reply.status_code == 400, reply.text
    error_of(reply)


def test_more_rows_than_a_request_may_hold_are_refused(own):
    message = tfs(own, "line", {"instances": [[1]] * 70000}, 400)
    assert "65536" in message or "10000" in message
    message = infer(own, "line", [fp32([70000, 1], [])], 400)
    assert "65536" in message or "10000" in message


@pytest.mark.parametrize("path", ["/v1/models/line:predict", "/v2/models/line/infer"])
def test_a_body_over_the_limit_is_refused_before_it_is_sent(own, path):
    reply = wire.ask(own.platform.url, wire.head("POST", path, own.key, Content_Type="application/json", Content_Length=2**40))
    assert reply.status == 413 and set(reply.json()) == {"error"}


# ---- limits ----

def test_the_rate_of_the_plan_is_kept_and_told(platform):
    tenant = platform.tenant(plan=platform.plan(requests_per_second=5, request_burst=10))
    replies = [tenant.post("/v1/models/none:predict", json={"instances": [[1.0]]}) for _ in range(40)]
    refused = [r for r in replies if r.status_code == 429]
    assert refused and len(refused) < 40 and {r.status_code for r in replies} == {404, 429}
    for reply in refused:
        assert 1 <= int(reply.headers["Retry-After"]) <= 10 and "rate" in error_of(reply)
        assert "q=5;" in reply.headers["RateLimit-Policy"]
    wait_until(lambda: tenant.post("/v1/models/none:predict", json={"instances": [[1.0]]}).status_code == 404, "the bucket to fill again", 5)


def test_the_plan_s_rate_is_told_with_each_prediction(own):
    for path, body in (("/v1/models/line:predict", {"instances": [[1.0]]}), ("/v2/models/line/infer", {"inputs": [fp32([1, 1], [1.0])]})):
        reply = own.post(path, json=body)
        assert reply.status_code == 200 and reply.headers["RateLimit-Policy"] == '"requests";q=2000;w=1', reply.headers


def test_the_control_plane_keeps_the_rate_too(platform):
    tenant = platform.tenant(plan=platform.plan(requests_per_second=2, request_burst=4))
    replies = [tenant.get("/v1/datasets") for _ in range(20)]
    refused = [r for r in replies if r.status_code == 429]
    assert refused and replies[0].status_code == 200
    error = refused[0].json()["error"]
    assert error["type"] == "rate_limit_error" and error["code"] == "limit" and int(refused[0].headers["Retry-After"]) >= 1


def test_one_tenant_s_rate_is_no_other_s(platform, own):
    slow = platform.tenant(plan=platform.plan(requests_per_second=1, request_burst=1))
    statuses = []
    for _ in range(10):
        slow.post("/v1/models/none:predict", json={})
        statuses.append(own.post("/v1/models/line:predict", json={"instances": [[1.0]]}).status_code)
    assert set(statuses) == {200}


def test_requests_are_counted_where_they_were_answered(own):
    before = usage_rows(own, "mixed")
    for n in (1, 2, 3):
        tfs(own, "mixed", {"instances": [{"size": 0.5, "colour": "red"}] * n})
    tfs(own, "mixed", {"instances": [{"size": 1.0, "colour": "purple"}]}, 400)
    wait_until(lambda: usage_rows(own, "mixed") == (before[0] + 3, before[1] + 6), "the usage to be counted")


def test_metrics_tell_how_predictions_ended_and_what_they_cost(platform, own):
    def counters():
        lines = [line.rsplit(" ", 1) for line in wire.ops(platform, "/metrics").body.decode().splitlines() if line.startswith("tenor_gateway_predict")]
        return {name: float(value) for name, value in lines}

    then = counters()["tenor_gateway_predict_rows_total"]
    tfs(own, "mixed", {"instances": [{"size": 0.5, "colour": "red"}]})
    wait_until(lambda: counters()["tenor_gateway_predict_rows_total"] > then, "the metrics to be of now: they are a second old at most")
    before = counters()
    for n in (1, 2, 3):
        tfs(own, "mixed", {"instances": [{"size": 0.5, "colour": "red"}] * n})
    tfs(own, "mixed", {"instances": [{"size": 1.0, "colour": "purple"}]}, 400)

    def grown():
        return {name.removeprefix("tenor_gateway_"): value - before.get(name, 0) for name, value in counters().items()}

    wait_until(lambda: grown()["predict_rows_total"] == 6, "the metrics to tell")
    seen = grown()
    assert seen['predicts_total{result="answered"}'] == 3 and seen['predicts_total{result="failed"}'] == 1
    assert seen["predict_batch_rows_total"] == 6 and 0 < seen["predict_compute_seconds_total"] < 1 and 0 <= seen["predict_queue_seconds_total"] < 1


def usage_rows(tenant, model):
    results = [r for b in tenant.ok("GET", "/v1/usage?bucket_width=1h")["data"] for r in b["results"] if r["model"] == model]
    return sum(r["requests"] for r in results), sum(r["rows"] for r in results)
