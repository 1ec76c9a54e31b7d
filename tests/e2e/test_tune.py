"""Tune and evaluate jobs through the whole platform: one row, one hold and one runner each."""

import math

import pytest

from data import flowers_csv, line_csv, mixed_csv

NETWORK = {"target": "species", "preprocess": [{"op": "standardise"}],
           "architecture": [{"layer": "Dense", "units": 8, "activation": "relu"}, {"layer": "Dense", "units": 3}],
           "training": {"epochs": 9, "optimizer": {"name": "adam", "learning_rate": 0.01}}}
RATES = {"training.optimizer.learning_rate": {"type": "log_uniform", "min": 1e-5, "max": 0.05}}


@pytest.fixture(scope="module")
def own(platform):
    t = platform.tenant("tuning")
    t.flowers = t.upload_csv(flowers_csv(300), "flowers")["id"]
    t.held = t.upload_csv(flowers_csv(90, seed=9), "held")["id"]
    return t


def job_of(tenant, kind, spec, dataset=None, model="flowers", seconds=120, **more):
    body = {"type": kind, "model": model, "dataset": dataset or tenant.flowers, **more}
    if spec is not None:
        body["spec"] = spec
    job = tenant.wait_job(tenant.ok("POST", "/v1/jobs", json=body)["id"], seconds)
    assert job["status"] == "succeeded", job
    return job


def probabilities(tenant, model, rows):
    return tenant.ok("POST", f"/v1/models/{model}:predict", json={"instances": rows})["predictions"]


# ---- tune ----

def test_a_random_search_of_six_makes_its_best_trial_the_version(own):
    spec = {"base": NETWORK, "trials": 6, "metric": "val_accuracy", "seed": 3,
            "parameters": {"training.optimizer.learning_rate": {"type": "log_uniform", "min": 1e-3, "max": 0.1}, "architecture[0].units": [4, 16]}}
    job = job_of(own, "tune", spec, model="searched", test_dataset=own.held)
    metrics = job["result"]["metrics"]
    tune = metrics["tune"]
    assert len(tune["trials"]) == 6 and all(t["state"] == "finished" for t in tune["trials"])
    best = tune["trials"][tune["best_trial"] - 1]
    assert best["score"] == tune["best_score"] == max(t["score"] for t in tune["trials"]) == metrics["validation"]["accuracy"]
    assert metrics["evaluated_on"] == "test" and metrics["accuracy"] > 0.8
    assert len(own.ok("GET", "/v1/models/searched/versions")["data"]) == 1, "one version of six trials"
    assert len(probabilities(own, "searched", [[5.0, 3.4, 1.5, 0.2]])) == 1
    events = own.events(job["id"])
    assert sum("trial 6 of 6: val_accuracy" in e["message"] for e in events) == 1
    trained = [e["data"] for e in events if e["type"] == "metrics"]
    assert trained and all(1 <= d["trial"]["number"] <= 6 and "parameters" in d["trial"] for d in trained)


def test_the_best_trial_s_parameters_train_the_same_model_by_hand(own):
    spec = {"base": NETWORK, "method": "grid", "parameters": {"training.optimizer.learning_rate": [0.001, 0.02]}}
    tune = job_of(own, "tune", spec, model="by-search")["result"]["metrics"]["tune"]
    rate = tune["best_parameters"]["training.optimizer.learning_rate"]
    training = {"epochs": 9, "validation_split": 0.2, "optimizer": {"name": "adam", "learning_rate": rate}}
    job_of(own, "train", {**NETWORK, "training": training}, model="by-hand")
    rows = [[5.0, 3.4, 1.5, 0.2], [5.9, 2.8, 4.3, 1.3], [6.6, 3.0, 5.6, 2.0]]
    assert probabilities(own, "by-search", rows) == probabilities(own, "by-hand", rows)


def test_halving_stops_losers(own):
    spec = {"base": NETWORK, "method": "halving", "trials": 9, "parameters": RATES, "metric": "loss"}
    tune = job_of(own, "tune", spec, model="halved")["result"]["metrics"]["tune"]
    assert sorted(t["epochs"] for t in tune["trials"]) == [1, 1, 1, 1, 1, 1, 3, 3, 9]
    assert [t["state"] for t in tune["trials"]].count("stopped") == 8
    assert tune["trials"][tune["best_trial"] - 1]["epochs"] == 9


def test_a_search_is_one_job_with_one_hold_at_the_price_of_its_seconds(platform, own):
    spec = {"base": NETWORK, "trials": 3, "parameters": RATES}
    job = job_of(own, "tune", spec, model="billed", max_seconds=60)
    assert job["attempt"] == 1 and int(job["cost_micros"]) > 0
    holds = platform.sql(f"SELECT state, amount_micros >= captured_micros FROM holds WHERE job_id = '{job['id']}'")
    assert holds == [["captured", "t"]]
    assert platform.sql(f"SELECT count(*) FROM ledger_entries WHERE source = 'job:{job['id']}'") == [["2"]]
    one = own.ok("POST", "/v1/jobs", json={"type": "train", "model": "billed", "dataset": own.flowers, "spec": NETWORK})
    own.wait_job(one["id"])
    assert job["estimate"]["seconds"] == pytest.approx(3 * one["estimate"]["seconds"], rel=0.2)
    assert job["estimate"]["memory_bytes"] >= one["estimate"]["memory_bytes"]
    platform.doctor()


def test_cancelling_a_search_ends_it_without_a_version_or_a_charge(own):
    slow = {**NETWORK, "training": {"epochs": 100000, "batch_size": 8}}
    body = {"type": "tune", "model": "given-up", "dataset": own.flowers, "spec": {"base": slow, "trials": 4, "parameters": RATES}}
    job = own.ok("POST", "/v1/jobs", json=body)
    own.wait_running(job["id"])
    own.ok("POST", f"/v1/jobs/{job['id']}/cancel")
    job = own.wait_job(job["id"])
    assert job["status"] == "cancelled" and job["cost_micros"] == "0" and job["result"] is None
    assert own.get("/v1/models/given-up").status_code == 404


@pytest.mark.parametrize("spec, param, part", [
    ({"base": NETWORK, "parameters": {}}, "spec.parameters", "1 to 16"),
    ({"base": NETWORK, "parameters": {"architecture[1].units": [3, 4]}, "method": "grid"}, "spec.base.architecture[1].units",
     "trial 2 (architecture[1].units=4): "),
    ({"base": NETWORK, "parameters": {"architecture[7].units": [4]}}, "spec.parameters.architecture[7].units", "architecture[7].units"),
    ({"base": {**NETWORK, "training": {}}, "parameters": {"training.l2": [0, 1]}, "method": "halving"}, "spec.base.training.epochs", "epochs"),
    ({"base": NETWORK, "parameters": RATES, "metric": "r2"}, "spec.metric", "use accuracy"),
    ({"base": NETWORK, "parameters": {"target": ["species"]}}, "spec.parameters.target", "same for all trials"),
])
def test_a_search_that_cannot_run_is_refused_at_submission(own, spec, param, part):
    reply = own.post("/v1/jobs", json={"type": "tune", "model": "m", "dataset": own.flowers, "spec": spec})
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert error["param"] == param and part in error["message"], error


# ---- evaluate: a version ----

def test_a_version_scores_on_its_test_data_as_its_training_reported(own):
    made = job_of(own, "train", NETWORK, model="scored", test_dataset=own.held)["result"]
    job = job_of(own, "evaluate", {"version": made["version"]}, dataset=own.held, model="scored")
    again, said = job["result"]["metrics"], made["metrics"]
    assert job["result"]["version"] is None and job["result"]["version_id"] is None
    assert job["evaluated_version_id"] == made["version_id"]
    assert again["evaluated_on"] == "dataset"
    for name in ("rows", "loss", "log_loss", "auc", "accuracy", "f1_macro", "f1_micro", "precision_macro", "recall_macro", "classes", "confusion_matrix"):
        assert again[name] == said[name], name
    assert len(own.ok("GET", "/v1/models/scored/versions")["data"]) == 1, "measuring makes no version"
    assert int(job["cost_micros"]) > 0


def test_without_a_version_the_one_that_answers_is_scored(own):
    first = job_of(own, "train", {**NETWORK, "training": {"epochs": 1}}, model="answering")["result"]
    job_of(own, "train", NETWORK, model="answering")
    assert job_of(own, "evaluate", None, dataset=own.held, model="answering")["evaluated_version_id"] == first["version_id"]
    newest = job_of(own, "evaluate", {"version": 2}, dataset=own.held, model="answering")
    assert newest["evaluated_version_id"] != first["version_id"]
    assert job_of(own, "evaluate", {"alias": "live"}, dataset=own.held, model="answering")["evaluated_version_id"] == first["version_id"]


def test_a_regression_and_categories_are_scored_too(own):
    line = own.upload_csv(line_csv(), "line")["id"]
    again = own.upload_csv(line_csv(seed=2), "line-2")["id"]
    made = job_of(own, "train", {"target": "y", "family": "linear_regression"}, dataset=line, model="line", test_dataset=again)
    scored = job_of(own, "evaluate", None, dataset=again, model="line")["result"]["metrics"]
    assert scored["r2"] == made["result"]["metrics"]["r2"] > 0.99
    mixed = own.upload_csv(mixed_csv(), "mixed")["id"]
    job_of(own, "train", {"target": "kind", "training": {"epochs": 40}}, dataset=mixed, model="mixed")
    some = own.upload_csv("\n".join(r for r in mixed_csv(400, 7).splitlines() if "blue" not in r) + "\n", "some")["id"]
    assert job_of(own, "evaluate", None, dataset=some, model="mixed")["result"]["metrics"]["accuracy"] > 0.8


def test_what_cannot_be_scored_is_refused(platform, own):
    job_of(own, "train", NETWORK, model="picky")
    without = own.upload_csv("sepal_length,sepal_width,petal_length,petal_width\n1,2,3,4\n5,6,7,8\n", "without")["id"]
    other = platform.tenant("other")
    foreign = other.upload_csv(flowers_csv(30), "foreign")["id"]
    for tenant, body, status, param in (
        (own, {"model": "picky", "dataset": without}, 400, "dataset"),
        (own, {"model": "picky", "dataset": own.held, "spec": {"version": 77}}, 404, "spec.version"),
        (own, {"model": "nobody", "dataset": own.held}, 404, "model"),
        (other, {"model": "picky", "dataset": foreign}, 404, "model"),
        (own, {"model": "picky", "dataset": own.held, "test_dataset": own.held}, 400, "test_dataset"),
        (own, {"model": "picky", "dataset": own.held, "spec": {"folds": 5}}, 400, "spec.base"),
    ):
        reply = tenant.post("/v1/jobs", json={"type": "evaluate", **body})
        assert reply.status_code == status and reply.json()["error"]["param"] == param, reply.text
    tulips = own.upload_csv(flowers_csv(30).replace("setosa", "tulip"), "tulips")["id"]
    job = own.wait_job(own.ok("POST", "/v1/jobs", json={"type": "evaluate", "model": "picky", "dataset": tulips})["id"])
    assert job["status"] == "failed" and '"tulip"' in job["error"]["message"] and job["error"]["param"] == "dataset"


# ---- evaluate: folds ----

def test_five_folds_of_flowers_reach_ninety_five_percent_on_unseen_rows(own):
    spec = {"base": {"target": "species", "family": "logistic_regression", "preprocess": [{"op": "standardise"}]}, "folds": 5, "stratified": True}
    metrics = job_of(own, "evaluate", spec, model="unborn")["result"]["metrics"]
    each = [f["accuracy"] for f in metrics["folds"]]
    mean = sum(each) / 5
    assert metrics["evaluated_on"] == "folds" and metrics["accuracy"] == pytest.approx(mean) and mean >= 0.95
    assert metrics["std"]["accuracy"] == pytest.approx(math.sqrt(sum((a - mean) ** 2 for a in each) / 5), abs=1e-9)
    assert [f["rows"] for f in metrics["folds"]] == [60] * 5
    counts = metrics["confusion_matrix"]["rows"]
    assert [sum(row) for row in counts] == [100, 100, 100], "every row was held back once"
    assert own.get("/v1/models/unborn").status_code == 404, "cross-validation makes no model"


# ---- the command ----

def test_the_command_searches_and_lists_the_trials(platform, own, tmp_path):
    import json
    file = tmp_path / "search.json"
    file.write_text(json.dumps({"base": NETWORK, "parameters": RATES}))
    env = {"TENOR_API_KEY": own.key}
    out = platform.tenor("tune", own.flowers, "--model", "typed", "--spec", str(file), "--trials", "3", env=env).stdout
    assert "TRIAL" in out and out.count("finished") == 3 and "training.optimizer.learning_rate=" in out
    job = next(line for line in out.splitlines() if line.startswith("job_"))
    assert platform.tenor("job", "trials", job, env=env).stdout.count("finished") == 3
    out = platform.tenor("evaluate", own.held, "--model", "typed", env=env).stdout
    assert "accuracy" in out and "is" in out
    file.write_text(json.dumps(NETWORK))
    out = platform.tenor("evaluate", own.flowers, "--model", "typed", "--spec", str(file), "--folds", "3", env=env).stdout
    assert "FOLD" in out
