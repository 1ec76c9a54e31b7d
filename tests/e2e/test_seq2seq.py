"""Texts from texts: an encoder and a decoder from the upload to greedy answers over both protocols, and Transformers on numbers."""

import json
import random
import struct

import pytest

TOKENS = {"layer": "TokenAndPositionEmbedding", "embedding_dim": 24, "mask_zero": True}
BLOCK = {"intermediate_dim": 48, "num_heads": 2}
SPEC = {"family": "seq2seq", "target": "back", "features": ["word"],
        "preprocess": [{"op": "tokenise", "mode": "character", "length": 8, "vocabulary": 40}],
        "architecture": {"encoder": [TOKENS, {"layer": "TransformerEncoder", **BLOCK}],
                         "decoder": [TOKENS, {"layer": "TransformerDecoder", **BLOCK}]},
        "training": {"epochs": 12, "batch_size": 32, "seed": 3, "validation_split": 0.1,
                     "optimizer": {"name": "adam", "learning_rate": 0.005}}}


def words(rows, seed):
    rng = random.Random(seed)
    return ["".join(rng.choice("abcdef") for _ in range(rng.randrange(2, 6))) for _ in range(rows)]


def pairs_csv(rows, seed):
    return "word,back\n" + "".join(f"{w},{w[::-1]}\n" for w in words(rows, seed))


@pytest.fixture(scope="module")
def own(platform):
    t = platform.tenant("pairs")
    t.dataset = t.upload_csv(pairs_csv(1500, 1))
    t.held = t.upload_csv(pairs_csv(200, 2))
    t.trained = t.train("backwards", t.dataset["id"], SPEC, test_dataset=t.held["id"])
    return t


def tfs(tenant, instances, status=200):
    reply = tenant.post("/v1/models/backwards:predict", json={"instances": instances})
    assert reply.status_code == status, reply.text
    return reply.json()


def test_a_pair_is_learnt_and_measured_text_by_text(own):
    metrics = own.trained["result"]["metrics"]
    assert metrics["evaluated_on"] == "test" and metrics["exact_match"] > 0.9
    assert metrics["accuracy"] >= metrics["exact_match"] and metrics["perplexity"] >= 1
    assert metrics["history"][-1]["val_accuracy"] > metrics["history"][0]["val_accuracy"]
    version = own.ok("GET", "/v1/models/backwards/versions/1")
    assert version["signature"] == {"inputs": [{"name": "word", "datatype": "BYTES", "shape": [-1]}],
                                    "outputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}]}


def test_what_was_measured_is_what_is_answered(own):
    asked = words(200, 2)
    said = tfs(own, asked)["predictions"]
    exact = sum(s == w[::-1] for s, w in zip(said, asked)) / len(asked)
    assert abs(exact - own.trained["result"]["metrics"]["exact_match"]) < 1e-9
    assert [tfs(own, [w])["predictions"][0] for w in asked[:5]] == said[:5]  # alone as in company


def test_both_protocols_and_the_binary_form_say_the_same(own):
    asked = ["abc", "fed", "", "aabbccddee", "éàü"]
    said = tfs(own, asked)["predictions"]
    body = {"inputs": [{"name": "word", "datatype": "BYTES", "shape": [5], "data": asked}]}
    reply = own.ok("POST", "/v2/models/backwards/infer", json=body)
    assert reply["outputs"] == [{"name": "text", "datatype": "BYTES", "shape": [5], "data": said}]
    raw = b"".join(struct.pack("<I", len(w.encode())) + w.encode() for w in asked)
    head = json.dumps({"inputs": [{"name": "word", "datatype": "BYTES", "shape": [5], "parameters": {"binary_data_size": len(raw)}}],
                       "outputs": [{"name": "text", "parameters": {"binary_data": True}}]}).encode()
    reply = own.post("/v2/models/backwards/infer", data=head + raw,
                     headers={"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"})
    assert reply.status_code == 200, reply.text
    split = int(reply.headers["Inference-Header-Content-Length"])
    assert reply.content[split:] == b"".join(struct.pack("<I", len(s.encode())) + s.encode() for s in said)


def test_a_version_is_evaluated_on_other_pairs(own):
    job = own.ok("POST", "/v1/jobs", json={"type": "evaluate", "model": "backwards", "dataset": own.held["id"]})
    job = own.wait_job(job["id"])
    assert job["status"] == "succeeded", job
    assert job["result"]["metrics"]["exact_match"] == own.trained["result"]["metrics"]["exact_match"]


def test_what_cannot_be_learnt_is_refused_before_it_is_queued(own):
    leaky = {**SPEC, "architecture": {**SPEC["architecture"], "decoder": [TOKENS, {"layer": "TransformerEncoder", **BLOCK}]}}
    reply = own.post("/v1/jobs", json={"type": "train", "model": "x", "dataset": own.dataset["id"], "spec": leaky})
    error = reply.json()["error"]
    assert reply.status_code in (400, 422) and error["param"] == "spec.architecture.decoder[1]"
    assert "no step may see a later one" in error["message"]
    odd = {**SPEC, "architecture": {**SPEC["architecture"], "encoder": [TOKENS, {"layer": "TransformerEncoder", "intermediate_dim": 8, "num_heads": 5}]}}
    reply = own.post("/v1/jobs", json={"type": "train", "model": "x", "dataset": own.dataset["id"], "spec": odd})
    assert reply.json()["error"]["param"] == "spec.architecture.encoder[1].num_heads"


def test_a_transformer_with_residuals_classifies_texts(own):
    """Whether a stands before f: a matter of order alone."""
    rng = random.Random(5)
    rows = ["kind,note"]
    for i in range(1200):
        w = rng.sample("bcdeghijkl", 6)
        a, f = rng.sample(range(6), 2)
        w[a], w[f] = "a", "f"
        rows.append(f"{'yes' if a < f else 'no'},{' '.join(w)} {i}")
    dataset = own.upload_csv("\n".join(rows) + "\n")
    spec = {"target": "kind", "features": ["note"], "preprocess": [{"op": "tokenise", "vocabulary": 40, "length": 8}],
            "architecture": [{**TOKENS, "embedding_dim": 16},
                             {"layer": "Residual", "layers": [{"layer": "LayerNormalization"}, {"layer": "MultiHeadAttention", "num_heads": 2, "key_dim": 8}]},
                             {"layer": "TransformerEncoder", "intermediate_dim": 32, "num_heads": 2},
                             {"layer": "GlobalAveragePooling1D"}, {"layer": "Dense", "units": 2}],
            "training": {"epochs": 25, "batch_size": 32, "seed": 1, "validation_split": 0.2, "optimizer": {"name": "adam", "learning_rate": 0.005}}}
    job = own.train("order", dataset["id"], spec)
    assert job["result"]["metrics"]["accuracy"] > 0.95
