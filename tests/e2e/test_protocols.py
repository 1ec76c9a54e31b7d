"""The inference protocols beside the predictions themselves: what they tell of models, every datatype, and TensorFlow Serving's other verbs."""

import json
import struct

import pytest

from data import flowers_csv, line_csv, mixed_csv

LINE = {"family": "linear_regression", "target": "y"}
FLOWERS = {"target": "species", "family": "logistic_regression", "training": {"epochs": 10, "seed": 3}}
ROW = [5.0, 3.4, 1.5, 0.2]
OTHER_ROW = [6.6, 3.0, 5.6, 2.0]
NUMBERS = {"setosa": "7", "versicolor": "-12", "virginica": "100"}  # labels that are integers


@pytest.fixture(scope="module")
def own(platform):
    t = platform.tenant("protocols")
    line, flowers, mixed = (t.upload_csv(csv)["id"] for csv in (line_csv(slope=3), flowers_csv(), mixed_csv()))
    numbered = flowers_csv()
    for name, number in NUMBERS.items():
        numbered = numbered.replace(name, number)
    jobs = [t.submit("line", line, LINE), t.submit("line", line, LINE), t.submit("flowers", flowers, FLOWERS), t.submit("old", flowers, FLOWERS),
            t.submit("numbered", t.upload_csv(numbered)["id"], {**FLOWERS, "task": "classification"}),
            t.submit("mixed", mixed, {"target": "kind", "family": "logistic_regression"}),
            t.submit("one", mixed, {"target": "kind", "family": "mlp", "architecture": [{"layer": "Dense", "units": 1}], "training": {"epochs": 30, "seed": 3}})]
    for job in jobs:
        assert t.wait_job(job["id"])["status"] == "succeeded"
    return t


def binary(tenant, model, datatype, shape, raw, **more):
    head = json.dumps({"inputs": [{"name": "input", "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": len(raw)}}], **more}).encode()
    return tenant.post(f"/v2/models/{model}/infer", data=head + raw, headers={"Inference-Header-Content-Length": str(len(head))})


# ---- Open Inference Protocol ----

def test_the_server_and_a_model_tell_about_themselves(own):
    server = own.ok("GET", "/v2")
    assert server["name"] == "tenor" and server["version"] and "binary_tensor_data" in server["extensions"]
    model = own.ok("GET", "/v2/models/line")
    assert model["versions"] == ["1", "2"] and model["platform"] == "tenor" and model["name"] == "line"
    assert model["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 1]}]
    assert own.ok("GET", "/v2/models/line/versions/2")["outputs"] == model["outputs"]


@pytest.mark.parametrize("datatype,code", [("INT8", "b"), ("INT16", "h"), ("INT32", "i"), ("INT64", "q"), ("UINT8", "B"), ("UINT16", "H"), ("UINT32", "I"),
                                           ("UINT64", "Q"), ("FP16", "e"), ("FP32", "f"), ("FP64", "d"), ("BOOL", "?")])
def test_every_number_type_says_the_same_in_json_and_in_bytes(own, datatype, code):
    row = [True, False, True, True] if datatype == "BOOL" else [5, 3, 2, 0]
    inputs = [{"name": "input", "datatype": datatype, "shape": [1, 4], "data": row}]
    text = own.ok("POST", "/v2/models/flowers/infer", json={"inputs": inputs})
    raw = binary(own, "flowers", datatype, [1, 4], struct.pack(f"<4{code}", *row))
    assert raw.status_code == 200, raw.text
    plain = own.ok("POST", "/v2/models/flowers/infer", json={"inputs": [{**inputs[0], "datatype": "FP32", "data": [float(x) for x in row]}]})
    assert text == raw.json() == plain


@pytest.mark.parametrize("datatype,raw,words", [("FP64", struct.pack("<4d", 1e300, 0, 0, 0), "32-bit float"), ("FP32", b"\0" * 15, "do not fit"),
                                                ("BYTES", b"\1\0\0\0x" * 4, "takes FP32, not BYTES"), ("BF16", b"\0" * 8, "not a datatype")])
def test_bytes_that_are_no_such_numbers_are_refused(own, datatype, raw, words):
    reply = binary(own, "flowers", datatype, [1, 4], raw)
    assert reply.status_code == 400 and set(reply.json()) == {"error"} and words in reply.json()["error"], reply.text


def test_inputs_come_in_any_order_and_each_output_as_it_was_asked_for(own):
    names = [i["name"] for i in own.ok("GET", "/v2/models/mixed")["inputs"]]
    assert len(names) > 1
    signature = {i["name"]: i for i in own.ok("GET", "/v2/models/mixed")["inputs"]}
    inputs = [{"name": n, "datatype": signature[n]["datatype"], "shape": [1], "data": ["red"] if signature[n]["datatype"] == "BYTES" else [1]} for n in names]
    outputs = [{"name": "label"}, {"name": "probabilities", "parameters": {"binary_data": True}}]
    replies = [own.post("/v2/models/mixed/infer", json={"id": "7", "inputs": given, "outputs": outputs, "parameters": {"binary_data_output": False}})
               for given in (inputs, inputs[::-1])]
    assert replies[0].status_code == 200, replies[0].text
    assert replies[0].content == replies[1].content
    cut = int(replies[0].headers["Inference-Header-Content-Length"])
    head = json.loads(replies[0].content[:cut])
    assert head["id"] == "7" and [o["name"] for o in head["outputs"]] == ["label", "probabilities"] and "data" in head["outputs"][0]
    assert head["outputs"][1]["parameters"]["binary_data_size"] == len(replies[0].content) - cut


def test_a_timeout_is_in_microseconds_and_kept(own):
    body = {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 1], "data": [1]}], "parameters": {"timeout": 30_000_000}}
    assert own.post("/v2/models/line/infer", json=body).status_code == 200
    for wrong in (-1, 1.5, "soon"):
        assert own.post("/v2/models/line/infer", json={**body, "parameters": {"timeout": wrong}}).status_code == 400


# ---- TensorFlow Serving ----

def test_metadata_is_a_signature_def(own):
    for path, version in (("", "1"), ("/versions/2", "2"), ("/labels/live", "1")):
        reply = own.ok("GET", f"/v1/models/line{path}/metadata")
        assert reply["model_spec"] == {"name": "line", "signature_name": "", "version": version}
        signature = reply["metadata"]["signature_def"]["signature_def"]["serving_default"]
        assert signature["method_name"] == "tensorflow/serving/predict"
        assert signature["inputs"]["input"] == {"dtype": "DT_FLOAT", "name": "input:0",
                                                "tensor_shape": {"dim": [{"size": "-1", "name": ""}, {"size": "1", "name": ""}], "unknown_rank": False}}
    assert own.ok("GET", "/v1/models/flowers/metadata")["metadata"]["signature_def"]["signature_def"]["serving_default"]["outputs"]["label"]["dtype"] == "DT_STRING"


def test_a_label_has_the_status_of_its_version(own):
    status = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert own.ok("GET", "/v1/models/line/labels/live") == {"model_version_status": [status]}
    assert own.ok("GET", "/v1/models/line/versions/1")["model_version_status"] == [status]
    missing = own.get("/v1/models/line/labels/absent")
    assert missing.status_code == 404 and set(missing.json()) == {"error"}


FLOWER_EXAMPLES = [{"input": ROW}, {"input": OTHER_ROW}]
MIXED_EXAMPLES = [{"size": 0.5, "colour": "red"}, {"size": 0.5, "colour": "blue"}, {"size": -0.9, "colour": "blue"}]


def predictions(tenant, model, examples):
    return tenant.ok("POST", f"/v1/models/{model}:predict", json={"instances": examples})["predictions"]


@pytest.mark.parametrize("model,classes,examples", [
    ("flowers", ["setosa", "versicolor", "virginica"], FLOWER_EXAMPLES),
    ("numbered", ["-12", "7", "100"], FLOWER_EXAMPLES),
    ("mixed", ["no", "yes"], MIXED_EXAMPLES),
    ("one", ["no", "yes"], MIXED_EXAMPLES),
])
def test_classify_gives_every_class_and_its_probability(own, model, classes, examples):
    rows = predictions(own, model, examples)
    assert len({row["label"] for row in rows}) > 1
    for at in ("", "/versions/1", "/labels/live"):
        result = own.ok("POST", f"/v1/models/{model}{at}:classify", json={"examples": examples})["result"]
        assert result == [[list(pair) for pair in zip(classes, row["probabilities"], strict=True)] for row in rows]
    assert [max(pairs, key=lambda pair: pair[1])[0] for pairs in result] == [str(row["label"]) for row in rows]


def test_classify_takes_a_context_and_the_signatures_name(own):
    reply = own.ok("POST", "/v1/models/flowers:classify", json={"signature_name": "serving_default", "context": {"input": ROW}, "examples": [{}, {"input": OTHER_ROW}]})
    assert reply == own.ok("POST", "/v1/models/flowers:classify", json={"examples": FLOWER_EXAMPLES})


def test_a_version_from_before_classes_were_named_is_answered_by_the_chosen_one(own, platform):
    version = own.ok("GET", "/v1/models/old/versions/1")["id"]
    platform.sql("SET session_replication_role = replica; "  # a version is immutable, by trigger
                 f"UPDATE model_versions SET signature = (signature::jsonb #- '{{outputs,0,classes}}')::json WHERE id = '{version}'")
    assert "classes" not in own.ok("GET", "/v1/models/old/versions/1")["signature"]["outputs"][0]
    rows = predictions(own, "flowers", FLOWER_EXAMPLES)
    reply = own.ok("POST", "/v1/models/old:classify", json={"examples": FLOWER_EXAMPLES})
    assert reply == {"result": [[[row["label"], max(row["probabilities"])]] for row in rows]}


def test_only_our_own_view_of_a_version_names_its_classes(own):
    outputs = own.ok("GET", "/v1/models/flowers/versions/1")["signature"]["outputs"]
    assert outputs == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 3], "classes": ["setosa", "versicolor", "virginica"]},
                       {"name": "label", "datatype": "BYTES", "shape": [-1]}]
    for path in ("", "/versions/1"):
        assert own.ok("GET", f"/v2/models/flowers{path}")["outputs"] == [{k: v for k, v in o.items() if k != "classes"} for o in outputs]
    tfs = own.ok("GET", "/v1/models/flowers/metadata")["metadata"]["signature_def"]["signature_def"]["serving_default"]["outputs"]
    assert {name: set(tensor) for name, tensor in tfs.items()} == {name: {"dtype", "tensor_shape", "name"} for name in ("probabilities", "label")}
    assert all(set(o) == {"name", "datatype", "shape"} for o in own.ok("GET", "/v1/models/line/versions/1")["signature"]["outputs"])


def test_regress_gives_the_values(own):
    values = own.ok("POST", "/v1/models/line:predict", json={"instances": [[2], [3]]})["predictions"]
    flat = [v[0] if isinstance(v, list) else v for v in values]
    for at in ("", "/versions/1", "/labels/live"):
        assert own.ok("POST", f"/v1/models/line{at}:regress", json={"examples": [{"input": 2}, {"input": [3.0]}]}) == {"result": flat}


@pytest.mark.parametrize("path,body,words", [
    ("/v1/models/line:classify", {"examples": [{"input": 1}]}, "does not tell classes apart"),
    ("/v1/models/flowers:regress", {"examples": [{"input": ROW}]}, "does not predict one number"),
    ("/v1/models/line:regress", {"examples": [{"input": "x"}]}, "examples[0].input"),
    ("/v1/models/line:regress", {"instances": [[1]]}, "unknown field"),
    ("/v1/models/line:regress", {"examples": [{"input": 1}], "signature_name": "other"}, "serving_default"),
    ("/v1/models/line:regress", {"examples": [{"input": 1}] * 10001}, "max_request_rows"),
])
def test_examples_that_fit_no_model_are_refused(own, path, body, words):
    reply = own.post(path, json=body)
    assert reply.status_code == 400 and set(reply.json()) == {"error"} and words in reply.json()["error"], reply.text


def test_a_wrong_method_is_told_in_the_protocols_shape(own):
    for path in ("/v1/models/line:classify", "/v1/models/line:regress", "/v2/models/line/infer"):
        reply = own.get(path)
        assert reply.status_code == 405 and set(reply.json()) == {"error"} and reply.headers["Allow"] == "POST"
