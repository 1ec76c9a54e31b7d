"""Jobs that are refused: at submission wherever that is possible, by field, and with nothing left behind."""

import pytest

from arrays import idx
from conftest import wait_until
from data import flowers_csv, line_csv, mixed_csv, slow_spec

LAYERS = [{"layer": "Dense", "units": 8, "activation": "relu", "name": "hidden"}, {"layer": "Dense", "units": 3, "name": "answer"}]
FLOWERS = {"target": "species", "family": "mlp", "architecture": LAYERS, "training": {"epochs": 2}}


@pytest.fixture(scope="module")
def own(platform):
    """One tenant with its datasets, for all the submissions of this file that must fail."""
    t = platform.tenant("refused")
    t.flowers = t.upload_csv(flowers_csv(), "flowers")["id"]
    t.line = t.upload_csv(line_csv(), "line")["id"]
    t.mixed = t.upload_csv(mixed_csv(), "mixed")["id"]
    t.holes = t.upload_csv("a,b,kind\n1,2,x\n,3,y\n4,5,x\n6,7,y\n", "holes")["id"]
    return t


def changed(spec, path, value):
    """A copy of spec with the value at path ("training.epochs", "architecture.0.units")."""
    if not path:
        return value
    name, _, rest = path.partition(".")
    if isinstance(spec, list):
        return [changed(v, rest, value) if i == int(name) else v for i, v in enumerate(spec)]
    return {**spec, name: changed(spec.get(name, {}), rest, value)}


def body_of(tenant, spec=None, **more):
    return {"type": "train", "model": "m", "dataset": tenant.flowers, "spec": FLOWERS if spec is None else spec, **more}


def refused(tenant, body, status, param, *parts):
    before = len(tenant.ok("GET", "/v1/jobs?limit=100")["data"])
    reply = tenant.post("/v1/jobs", json=body)
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert error["param"] == param, error
    for part in parts:
        assert part in error["message"], error
    assert len(tenant.ok("GET", "/v1/jobs?limit=100")["data"]) == before
    return error


def test_the_spec_that_the_others_are_changed_from_is_accepted(own):
    assert own.train("m", own.flowers, FLOWERS)["result"]["version"] >= 1


# ---- fields ----

@pytest.mark.parametrize("path", ["colour", "training.epoch", "architecture.0.unit", "training.optimizer.lr", "training.early_stopping.patients"])
def test_an_unknown_field_of_the_spec_is_named_by_its_path(own, path):
    spec = {**FLOWERS, "training": {"epochs": 2, "optimizer": {"name": "adam"}, "early_stopping": {"monitor": "loss"}}}
    dotted = "spec." + path.replace(".0.", "[0].")
    refused(own, body_of(own, changed(spec, path, 1)), 400, dotted)


def test_an_unknown_field_of_a_preprocessing_step_is_named_by_its_path(own):
    spec = {**FLOWERS, "preprocess": [{"op": "standardise"}, {"op": "scale", "min": 0, "max": 1, "middle": 2}]}
    refused(own, body_of(own, spec), 400, "spec.preprocess[1].middle")


@pytest.mark.parametrize("name", ["colour", "Type", "tenant_id"])
def test_an_unknown_field_of_the_job_is_named(own, name):
    refused(own, body_of(own, **{name: 1}), 400, name)


@pytest.mark.parametrize("name", ["type", "model", "dataset", "spec"])
def test_a_missing_field_of_the_job_is_named(own, name):
    body = body_of(own)
    del body[name]
    refused(own, body, 400, name)


@pytest.mark.parametrize("path, value", [
    ("training.epochs", "ten"), ("training.epochs", 0), ("training.epochs", 1.5), ("training.batch_size", -1), ("training.validation_split", 1),
    ("training.shuffle", "yes"), ("architecture.0.units", 0), ("architecture.0.activation", "sparkle"), ("architecture.0.layer", "Telepathy"),
    ("architecture", {}), ("architecture", []), ("family", "oracle"), ("task", "dream"), ("features", "sepal_length"),
    ("training.optimizer", {"name": "magic"}), ("training.loss", "despair")])
def test_a_wrong_value_is_named_by_its_path(own, path, value):
    reply = own.post("/v1/jobs", json=body_of(own, changed(FLOWERS, path, value)))
    error = reply.json()["error"]
    assert reply.status_code == 400 and error["type"] == "invalid_request_error", reply.text
    dotted = "spec." + path.replace(".0.", "[0].")
    assert error["param"].startswith(dotted), error


@pytest.mark.parametrize("field, value", [("type", "dream"), ("type", 5), ("model", "No Spaces"), ("model", ""), ("model", "x" * 65),
                                          ("priority", 11), ("priority", "high"), ("max_seconds", 0), ("max_seconds", 10**9), ("spec", "mlp")])
def test_a_wrong_value_of_the_job_is_named(own, field, value):
    refused(own, body_of(own, **{field: value}), 400, field)


# ---- bodies ----

@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"type":"train","type":"train"}', '{"type":"tr\xff"}', "{} trailing", "[" * 100000,
                                  '{"a":' * 100 + "1" + "}" * 100, "0," * 50000, '{"n":1e999}', "{'a':1}", "NaN"],
                         ids=["nothing", "half", "list", "null", "twice", "bad utf-8", "trailing", "deep list", "deep object", "commas", "huge", "quotes", "nan"])
def test_a_malformed_body_is_refused(own, text):
    reply = own.post("/v1/jobs", data=text.encode("latin-1"), headers={"Content-Type": "application/json"})
    assert reply.status_code == 400 and reply.json()["error"]["type"] == "invalid_request_error", reply.text


def test_a_body_that_is_no_json_by_its_type_is_refused(own):
    for headers in ({"Content-Type": "text/plain"}, {}):
        reply = own.post("/v1/jobs", data=b"{}", headers=headers)
        assert reply.status_code == 415 and "application/json" in reply.json()["error"]["message"]


def test_a_body_over_the_limit_is_refused(own):
    reply = own.post("/v1/jobs", data=b" " * (1024 * 1024 + 1), headers={"Content-Type": "application/json"})
    assert reply.status_code == 413 and reply.json()["error"]["code"] == "too_large"


# ---- what cannot fit the data ----

@pytest.mark.parametrize("architecture, at, name", [
    ([{"layer": "Dense", "units": 4, "name": "answer"}], "[0]", "answer"),
    ([{"layer": "Dense", "units": 8, "name": "hidden"}, {"layer": "Dense", "units": 2, "name": "answer"}], "[1]", "answer"),
    ([{"layer": "Reshape", "target_shape": [3, 3], "name": "fold"}, {"layer": "Flatten"}, {"layer": "Dense", "units": 3}], "[0]", "fold"),
    ([{"layer": "InputLayer", "shape": [7], "name": "door"}, {"layer": "Dense", "units": 3}], "[0]", "door"),
    ([{"layer": "Dense", "units": 3}, {"layer": "Dropout", "rate": 0.5, "name": "thinning"}], "[1]", "thinning"),
    ([{"layer": "Dense", "units": 3, "activation": "relu", "name": "answer"}], "[0]", "answer"),
], ids=["units", "units of the last", "reshape", "input shape", "dropout last", "activation"])
def test_an_architecture_that_cannot_fit_is_refused_with_the_layer_s_name(own, architecture, at, name):
    reply = own.post("/v1/jobs", json=body_of(own, {**FLOWERS, "architecture": architecture}))
    error = reply.json()["error"]
    assert reply.status_code == 400 and f'"{name}"' in error["message"], error
    assert error["param"].startswith(f"spec.architecture{at}"), error


def test_units_that_miss_the_classes_are_told_which_number_fits(own):
    reply = own.post("/v1/jobs", json=body_of(own, changed(FLOWERS, "architecture.1.units", 10)))
    assert "3 classes" in reply.json()["error"]["message"] and "species" in reply.json()["error"]["message"]


def test_a_keras_model_that_cannot_fit_is_refused_with_the_layer_s_name(own):
    keras = {"class_name": "Sequential", "config": {"name": "s", "layers": [
        {"class_name": "InputLayer", "config": {"batch_shape": [None, 4], "dtype": "float32", "name": "door"}},
        {"class_name": "Dense", "config": {"name": "answer", "units": 5, "activation": "softmax"}}]}}
    reply = own.post("/v1/jobs", json=body_of(own, {"target": "species", "architecture": keras}))
    error = reply.json()["error"]
    assert reply.status_code == 400 and '"answer"' in error["message"] and error["param"].startswith("spec.architecture.config.layers[1]"), error


def test_the_target_and_the_features_must_be_columns(own):
    refused(own, body_of(own, {"family": "logistic_regression"}), 400, "spec.target", "missing")
    refused(own, body_of(own, {**FLOWERS, "target": "petals"}), 400, "spec.target", "petals")
    refused(own, body_of(own, {**FLOWERS, "features": ["sepal_length", "petals"]}), 400, "spec.features[1]", "petals")
    refused(own, body_of(own, {**FLOWERS, "features": ["sepal_length", "species"]}), 400, "spec.features[1]", "species")


def test_what_a_family_cannot_do_is_refused(own):
    refused(own, body_of(own, {"target": "species", "family": "linear_regression"}), 400, "spec.target", "texts")
    refused(own, body_of(own, {"target": "species", "family": "logistic_regression", "architecture": LAYERS}), 400, "spec.architecture", "mlp")
    refused(own, body_of(own, {"target": "y", "family": "logistic_regression"}, dataset=own.line), 400, "spec.target", "y")


def test_categories_and_gaps_need_a_step_that_is_named(own):
    for dataset, column, step in ((own.mixed, "colour", "one_hot"), (own.holes, "a", "impute")):
        spec = {"target": "kind", "family": "logistic_regression", "preprocess": [{"op": "rescale", "factor": 2}]}
        reply = own.post("/v1/jobs", json=body_of(own, spec, dataset=dataset))
        error = reply.json()["error"]
        assert reply.status_code == 400 and error["param"] == "spec.preprocess", reply.text
        assert f'"{column}"' in error["message"] and step in error["message"], error


def test_arrays_without_labels_cannot_be_learned_from(own):
    reply = own.post("/v1/datasets?name=bare", data=idx("B", (4, 2), list(range(8))), headers={"Content-Type": "application/octet-stream"})
    refused(own, body_of(own, {"family": "logistic_regression"}, dataset=reply.json()["id"]), 400, "dataset", "labels")


def test_a_test_dataset_that_does_not_match_is_refused(own):
    refused(own, body_of(own, test_dataset=own.line), 400, "test_dataset", "sepal_length")


def test_a_class_only_in_the_test_dataset_is_refused_by_name(own):
    other = own.upload_csv(flowers_csv(30).replace("virginica", "mystery"), "test")["id"]
    refused(own, body_of(own, test_dataset=other), 400, "test_dataset", "mystery", "species")


def test_a_class_only_in_the_validation_part_fails_the_job_with_its_name(own):
    """One row of a class of its own: half of the seeds put it into the validation part."""
    text = "a,kind\n" + "".join(f"{i}.5,{'x' if i % 2 else 'y'}\n" for i in range(19)) + "30.5,rare\n"
    dataset = own.upload_csv(text, "rare")["id"]
    spec = {"target": "kind", "family": "logistic_regression", "training": {"epochs": 2, "validation_split": 0.5, "stratify": False}}
    ids = [own.submit("rare", dataset, changed(spec, "training.seed", seed))["id"] for seed in range(1, 7)]
    jobs = [own.wait_job(i) for i in ids]
    failed = [j for j in jobs if j["status"] == "failed"]
    assert failed and len(failed) < len(jobs), [j["status"] for j in jobs]
    for job in failed:
        assert "rare" in job["error"]["message"] and "validation" in job["error"]["message"], job
        assert job["error"]["code"] == "invalid" and job["cost_micros"] == "0" and job["result"] is None


def test_by_default_each_class_is_in_the_training_part(own):
    text = "a,kind\n" + "".join(f"{i}.5,{'x' if i % 2 else 'y'}\n" for i in range(19)) + "30.5,rare\n"
    dataset = own.upload_csv(text, "rare")["id"]
    spec = {"target": "kind", "family": "logistic_regression", "training": {"epochs": 2, "validation_split": 0.5}}
    ids = [own.submit("rare", dataset, changed(spec, "training.seed", seed))["id"] for seed in range(1, 4)]
    assert {own.wait_job(i)["status"] for i in ids} == {"succeeded"}


# ---- datasets that are not there ----

def test_a_missing_a_malformed_and_a_foreign_dataset_are_the_same_404(platform, own):
    theirs = platform.tenant("other").upload_csv(flowers_csv())["id"]
    missing = own.flowers[:-1] + ("0" if own.flowers[-1] != "0" else "1")
    for field in ("dataset", "test_dataset"):
        replies = [own.post("/v1/jobs", json=body_of(own, **{field: i})) for i in (theirs, missing, "ds_", "job_" + missing[3:], "x' OR 1=1")]
        assert {r.status_code for r in replies} == {404} and len({r.content for r in replies}) == 1, [r.text for r in replies]
        assert replies[0].json()["error"]["param"] == field


# ---- quotas ----

def full(tenant, body, status, param, part):
    reply = tenant.post("/v1/jobs", json=body)
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert error["param"] == param and part in error["message"], error
    assert reply.headers.get("Retry-After", "x").isdigit() == (status == 429)
    assert status != 429 or error["type"] == "rate_limit_error"


def limited(platform, **changes):
    tenant = platform.tenant("limited", plan=platform.plan(**changes))
    tenant.flowers = tenant.upload_csv(flowers_csv())["id"]
    return tenant


def test_the_quota_of_waiting_jobs_is_kept(platform):
    full(t := limited(platform, max_queued_jobs=0), body_of(t), 429, "jobs", "0 waiting")


def test_the_quota_of_models_counts_jobs_on_their_way(platform):
    tenant = limited(platform, max_models=1)
    job = tenant.submit("first", tenant.flowers, slow_spec())["id"]
    full(tenant, body_of(tenant, model="second"), 429, "model", "1")
    again = tenant.submit("first", tenant.flowers, FLOWERS)["id"]
    tenant.ok("POST", f"/v1/jobs/{job}/cancel")
    assert tenant.wait_job(again)["status"] == "succeeded"
    full(tenant, body_of(tenant, model="second"), 429, "model", "1")


def test_a_job_that_the_plan_can_never_run_is_wrong_input(platform):
    full(t := limited(platform, max_job_memory_bytes=1000), body_of(t), 400, "spec", "1000")
    full(t := limited(platform, max_job_seconds=5), body_of(t, max_seconds=6), 400, "max_seconds", "5")


def test_the_month_s_budget_is_kept(platform):
    tenant = limited(platform, month_budget_micros=100000, train_second_micros=1000, max_job_seconds=60)
    job = tenant.submit("m", tenant.flowers, slow_spec(), max_seconds=60)["id"]  # holds 60,000
    full(tenant, body_of(tenant, max_seconds=60), 429, "budget", "100000")
    tenant.ok("POST", f"/v1/jobs/{job}/cancel")
    tenant.wait_job(job)
    assert tenant.train("m", tenant.flowers, FLOWERS, max_seconds=60)["hold_micros"] == "60000"


def test_the_quota_of_running_jobs_keeps_the_rest_waiting(platform):
    tenant = limited(platform, max_running_jobs=1)
    first = tenant.submit("a", tenant.flowers, slow_spec())["id"]
    tenant.wait_running(first)
    second = tenant.submit("b", tenant.flowers, FLOWERS)["id"]
    tenant.wait_running(first, epochs=tenant.job(first)["progress"]["epoch"] + 50)  # time enough to start another
    assert tenant.job(second)["status"] == "queued"
    tenant.ok("POST", f"/v1/jobs/{first}/cancel")
    assert tenant.wait_job(second)["status"] == "succeeded"


def test_a_refused_job_leaves_no_hold_and_no_audit_row(platform):
    tenant = limited(platform, max_queued_jobs=0)
    tenant.post("/v1/jobs", json=body_of(tenant))
    ten = tenant.ok("GET", "/v1/tenant")["id"]
    assert platform.sql(f"SELECT count(*) FROM holds WHERE tenant_id = '{ten}'") == [["0"]]
    assert not any(row["type"].startswith("job.") for row in tenant.ok("GET", "/v1/audit?limit=100")["data"])


def test_cancelling_a_waiting_job_ends_it_at_once(platform):
    tenant = limited(platform, max_running_jobs=1)
    first = tenant.submit("a", tenant.flowers, slow_spec())["id"]
    tenant.wait_running(first)
    second = tenant.submit("b", tenant.flowers, FLOWERS)["id"]
    assert tenant.ok("POST", f"/v1/jobs/{second}/cancel")["status"] == "cancelled"
    tenant.ok("POST", f"/v1/jobs/{first}/cancel", json={})
    assert wait_until(lambda: tenant.job(first)["status"] == "cancelled", "the running job to be cancelled")
    refused_body = tenant.post(f"/v1/jobs/{first}/cancel", json={"why": "x"})
    assert refused_body.status_code == 400 and refused_body.json()["error"]["param"] == "why"


@pytest.mark.parametrize("query, param", [("status=sleeping", "status"), ("colour=red", "colour"), ("after=ds_01jd8x00000000000000000000", "after")])
def test_a_wrong_parameter_of_the_job_list_is_named(own, query, param):
    reply = own.get(f"/v1/jobs?{query}")
    assert reply.status_code == 400 and reply.json()["error"]["param"] == param
