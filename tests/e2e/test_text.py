"""Texts from the upload to the prediction: a vocabulary learnt from the data and kept in the version, strings over both protocols."""

import base64
import json
import random
import struct

import pytest

GOOD = "meeting agenda patch review lunch minutes kernel release".split()
BAD = "prize winner cash offer click free unsubscribe guaranteed".split()
ANY = "the a of it's été today we and with für".split()
SPEC = {"target": "kind", "features": ["note"],
        "preprocess": [{"op": "tokenise", "vocabulary": 200, "length": 24}],
        "architecture": [{"layer": "Embedding", "output_dim": 8, "mask_zero": True}, {"layer": "GlobalAveragePooling1D"},
                         {"layer": "Dense", "units": 2}],
        "training": {"epochs": 10, "batch_size": 16, "seed": 1, "validation_split": 0.2, "optimizer": {"name": "adam", "learning_rate": 0.02}}}
HAM, SPAM = "Please review the patch, then lunch.", "FREE cash!\nClick the offer, WINNER"


def note(rng, kind):
    own = BAD if kind == "spam" else GOOD
    words = [rng.choice(own if i % 3 else ANY) for i in range(rng.randrange(4, 40))]
    return rng.choice([" ", ", ", ",\n", " \"", "; "]).join(words) + "."


def notes_csv(rows, seed=1):
    rng = random.Random(seed)
    lines = ["kind,note"]
    for i in range(rows):
        kind = rng.choice(["ham", "spam"])
        lines.append(f'{kind},"' + f"{note(rng, kind)} {i}".replace('"', '""') + '"')
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def own(platform):
    t = platform.tenant("texts")
    t.dataset = t.upload_csv(notes_csv(1500))
    t.trained = t.train("notes", t.dataset["id"], SPEC)
    return t


def infer(tenant, texts, status=200):
    body = {"inputs": [{"name": "note", "datatype": "BYTES", "shape": [len(texts)], "data": texts}]}
    reply = tenant.post("/v2/models/notes/infer", json=body)
    assert reply.status_code == status, reply.text
    return {o["name"]: o["data"] for o in reply.json()["outputs"]} if status == 200 else reply.json()["error"]


def infer_binary(tenant, texts, status=200):
    """texts: bytes; each goes as its length and itself."""
    raw = b"".join(struct.pack("<I", len(x)) + x for x in texts)
    head = json.dumps({"inputs": [{"name": "note", "datatype": "BYTES", "shape": [len(texts)],
                                   "parameters": {"binary_data_size": len(raw)}}]}).encode()
    reply = tenant.post("/v2/models/notes/infer", data=head + raw,
                        headers={"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"})
    assert reply.status_code == status, reply.text
    return {o["name"]: o["data"] for o in reply.json()["outputs"]} if status == 200 else reply.json()["error"]


def tfs(tenant, instances, status=200):
    reply = tenant.post("/v1/models/notes:predict", json={"instances": instances})
    assert reply.status_code == status, reply.text
    return reply.json()["predictions"] if status == 200 else reply.json()["error"]


def test_a_column_of_texts_is_seen_as_one_and_learnt_from(own):
    column = next(c for c in own.dataset["columns"] if c["name"] == "note")
    assert column["type"] == "text" and column["text_bytes"] > 1500 * 20
    assert own.trained["result"]["metrics"]["validation"]["accuracy"] > 0.97
    version = own.ok("GET", "/v1/models/notes/versions/1")
    assert version["signature"]["inputs"] == [{"name": "note", "datatype": "BYTES", "shape": [-1]}]


def test_strings_get_the_same_answers_over_both_protocols_and_every_encoding(own):
    texts = [HAM, SPAM, "", "words that nobody has seen", "été für the", SPAM * 200]
    want = infer(own, texts)
    assert want["label"][:2] == ["ham", "spam"] and want["label"][5] == "spam"
    assert infer_binary(own, [x.encode() for x in texts]) == want
    rows = tfs(own, texts)
    named = tfs(own, [{"note": x} for x in texts])
    packed = tfs(own, [{"b64": base64.b64encode(x.encode()).decode()} for x in texts])
    both = tfs(own, [{"note": {"b64": base64.b64encode(x.encode()).decode()}} for x in texts])
    assert rows == named == packed == both
    assert [r["label"] for r in rows] == want["label"]
    assert [p for r in rows for p in r["probabilities"]] == want["probabilities"]
    columns = own.ok("POST", "/v1/models/notes:predict", json={"inputs": texts})["outputs"]
    assert columns["label"] == want["label"]


def test_unknown_words_and_empty_texts_have_an_answer(own):
    out = infer(own, ["", "   ", "zzz yyy", "!!! ..."])
    p = out["probabilities"]
    assert all(0 <= x <= 1 for x in p) and all(abs(p[i] + p[i + 1] - 1) < 1e-5 for i in range(0, 8, 2))
    assert p[0:2] == p[2:4] == p[6:8]  # nothing but padding


def test_only_the_beginning_of_a_long_text_counts(own):
    start = " ".join(["prize"] * 24)
    assert infer(own, [start + " " + HAM])["probabilities"] == infer(own, [start])["probabilities"]
    long = (SPAM + "\n") * (1_000_000 // len(SPAM))
    assert infer(own, [long])["label"] == ["spam"]
    assert infer_binary(own, [long.encode()])["label"] == ["spam"]


def test_what_is_no_text_is_refused_by_the_inputs_name(own):
    assert "\"note\", row 1: the text is not valid UTF-8" in infer_binary(own, [b"fine", b"not \xff fine"], 400)
    assert "\"note\", row 0: the text is not valid UTF-8" in infer_binary(own, [b"nul \0"], 400)
    bad = base64.b64encode(b"\xc3(").decode()
    assert "\"note\", row 0: the text is not valid UTF-8" in tfs(own, [{"b64": bad}], 400)
    assert "\"note\" takes BYTES: expected a string, found a number" in tfs(own, [7], 400)
    assert "\"note\" takes BYTES: expected a string, found an array" in tfs(own, [["a"]], 400)
    assert "\"note\" takes BYTES" in infer(own, [1.5], 400)
    body = b'{"inputs":[{"name":"note","datatype":"BYTES","shape":[1],"data":["\xff"]}]}'
    reply = own.post("/v2/models/notes/infer", data=body, headers={"Content-Type": "application/json"})
    assert reply.status_code == 400 and '"note": malformed JSON: a string is not valid UTF-8' in reply.json()["error"]
    wrong = {"inputs": [{"name": "note", "datatype": "FP32", "shape": [1], "data": [1]}]}
    reply = own.post("/v2/models/notes/infer", json=wrong)
    assert reply.status_code == 400 and 'input "note" takes BYTES, not FP32' in reply.json()["error"]


def test_binary_strings_that_lie_about_their_length_are_refused(own):
    head = {"inputs": [{"name": "note", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}}]}
    for raw in (struct.pack("<I", 2) + b"a", struct.pack("<I", 0) + b"a", struct.pack("<I", 0xFFFFFFFF) + b"a"):
        text = json.dumps(head).encode()
        reply = own.post("/v2/models/notes/infer", data=text + raw, headers={"Inference-Header-Content-Length": str(len(text))})
        assert reply.status_code == 400, reply.text


def test_a_few_different_texts_are_texts_where_a_step_says_so(own):
    """With few different values the column counts as categories; the step decides."""
    rows = ["kind,note"] + [f"{'spam' if i % 2 else 'ham'},{(BAD if i % 2 else GOOD)[i % 8]} the" for i in range(80)]
    dataset = own.upload_csv("\n".join(rows) + "\n")
    assert dataset["columns"][1]["type"] == "category"
    spec = {**SPEC, "training": {**SPEC["training"], "epochs": 40, "batch_size": 8}}
    own.train("few", dataset["id"], spec)
    reply = own.ok("POST", "/v1/models/few:predict", json={"instances": ["an offer, a prize", "the agenda"]})
    assert [r["label"] for r in reply["predictions"]] == ["spam", "ham"]


def test_a_test_dataset_is_read_with_the_vocabulary_of_the_training_dataset(own):
    test = own.upload_csv(notes_csv(300, seed=7))
    job = own.train("tested", own.dataset["id"], SPEC, test_dataset=test["id"])
    assert job["result"]["metrics"]["test"]["accuracy"] > 0.97


def evaluate(tenant, dataset, spec):
    job = tenant.ok("POST", "/v1/jobs", json={"type": "evaluate", "model": "notes", "dataset": dataset, "spec": spec})
    job = tenant.wait_job(job["id"])
    assert job["status"] == "succeeded", job
    return job["result"]["metrics"]


def test_a_version_is_scored_and_a_spec_is_cross_validated_on_texts(own):
    """Each fold has a vocabulary of its own, learnt from the same texts."""
    other = own.upload_csv(notes_csv(200, seed=9))["id"]
    assert evaluate(own, other, {"version": 1})["accuracy"] > 0.97
    assert "accuracy" in json.dumps(evaluate(own, own.dataset["id"], {"base": SPEC, "folds": 3}))


def test_texts_without_an_architecture_get_a_network_that_learns(own):
    spec = {"target": "kind", "features": ["note"], "training": SPEC["training"]}
    assert own.train("usual", own.dataset["id"], spec)["result"]["metrics"]["validation"]["accuracy"] > 0.97


@pytest.mark.parametrize("spec,param,words", [
    ({**SPEC, "preprocess": [{"op": "tokenise", "mode": "line"}]}, "spec.preprocess[0].mode", "word or character"),
    ({**SPEC, "architecture": [{"layer": "Dense", "units": 2}]}, "spec.architecture[0]", "Embedding"),
    ({**SPEC, "family": "logistic_regression", "architecture": None}, "spec.family", "mlp"),
    ({**SPEC, "target": "note", "features": ["kind"]}, "spec.target", "free text"),
])
def test_what_cannot_be_done_with_texts_is_refused_at_submission(own, spec, param, words):
    reply = own.post("/v1/jobs", json={"type": "train", "model": "no", "dataset": own.dataset["id"], "spec": spec})
    error = reply.json()["error"]
    assert reply.status_code == 400 and error["param"] == param and words in error["message"], error


def test_the_command_line_predicts_a_text(platform, own):
    env = {"TENOR_API_KEY": own.key}
    out = json.loads(platform.tenor("predict", "notes", HAM, SPAM, "--json", env=env).stdout)
    assert [r["label"] for r in out["predictions"]] == ["ham", "spam"]
