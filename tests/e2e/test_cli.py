"""Every command of `tenor help`, as a person types it: what it prints, how it fails, and with which exit status."""

import json
import os
import re
import signal
import subprocess
import threading
import time

import pytest

from arrays import gz, idx
from conftest import BIN, wait_until
from data import flowers_csv, line_csv, slow_spec


class Shell:
    """A tenant's shell: TENOR_URL and TENOR_API_KEY are set, files lie in a folder of its own."""

    def __init__(self, platform, folder):
        self.platform, self.folder = platform, folder
        self.tenant = platform.tenant("cli")
        self.name = self.tenant.name
        self.env = {"TENOR_URL": platform.url, "TENOR_API_KEY": self.tenant.key}

    def file(self, name, data):
        path = self.folder / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return str(path)

    def run(self, *words, check=True, env=None, stdin=None):
        return self.platform.tenor(*words, check=check, env={**self.env, **(env or {})}, stdin=stdin)

    def json(self, *words):
        return json.loads(self.run(*words, "--json").stdout)

    def fails(self, *words, status=1, env=None, stdin=None):
        """What a command that must fail says: on stderr, on one line, naming itself."""
        done = self.run(*words, check=False, env=env, stdin=stdin)
        assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
        assert done.stderr.startswith("tenor") and "error" not in done.stdout.lower()
        assert status == 2 or done.stderr.count("\n") == 1, done.stderr
        return done.stderr


@pytest.fixture(scope="module")
def sh(platform, tmp_path_factory):
    return Shell(platform, tmp_path_factory.mktemp("cli"))


@pytest.fixture(scope="module")
def line(sh):
    """A dataset and a trained model, both made by command."""
    out = sh.run("dataset", "upload", sh.file("My Line.csv", line_csv())).stdout
    assert re.fullmatch(r"ds_\w{26}  my-line, 200 rows, 2 columns\n", out)
    dataset = out.split()[0]
    trained = sh.run("train", dataset, "--model", "line", "--target", "y", "--family", "linear_regression")
    return dataset, trained.stdout


# ---- help ----

def commands():
    text = subprocess.run([str(BIN / "tenor"), "help"], capture_output=True, text=True, timeout=20).stdout
    return re.findall(r"(?m)^  tenor ((?:[a-z]+ )+)", text)


COMMANDS = sorted({c.strip() for c in commands()})


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(sh, command):
    text = sh.run(*command.split(), "--help").stdout
    assert command in text.splitlines()[0] and ("--home" in text or command == "help")


def test_the_tests_of_this_file_run_every_command(request):
    """Each command of the overview is typed somewhere in these files, or this says which is not."""
    here = request.path.parent
    text = "".join(p.read_text() for p in here.glob("test_*.py")) + (here / "conftest.py").read_text()
    typed = {" ".join(w) for w in re.findall(r'(?:tenor|run|json|fails|Popen|launch_it)\([^\n]*?"([a-z]+)"(?:, "([a-z]+)")?', text)}
    first = {t.split(" ")[0] for t in typed}
    for command in COMMANDS:
        assert command in typed or (" " not in command and command in first), command


def test_misuse_is_told_apart_from_failure(sh):
    assert "no command 'fly'" in sh.fails("fly", status=2)
    assert "argument is missing" in sh.fails("train", status=2)
    assert "too many" in sh.fails("usage", "now", status=2)
    assert "--colour" in sh.fails("usage", "--colour", "red", status=2)
    assert "hours" in sh.fails("usage", "--hours", "none", status=2)
    assert "dataset upload" in sh.run("dataset").stdout
    assert sh.platform.tenor(check=False).returncode == 2


# ---- datasets ----

def test_datasets_are_uploaded_listed_shown_and_deleted(sh, line):
    form = sh.run("dataset", "upload", sh.file("x.gz", gz(idx("B", (6, 2), list(range(12))))), "--labels", sh.file("y.idx", idx("B", (6,), [0, 1] * 3)), "--name", "pair")
    assert re.fullmatch(r"ds_\w{26}  pair, 6 rows, 2 columns\n", form.stdout)
    listed = sh.run("dataset", "list").stdout.splitlines()
    assert listed[0].split()[:4] == ["ID", "NAME", "FORMAT", "ROWS"]
    assert any(re.search(r"\bpair\s+idx\s+6\b", row) for row in listed) and any(re.search(r"\bmy-line\s+csv\s+200\b", row) for row in listed)
    shown = sh.run("dataset", "show", line[0]).stdout
    assert re.search(r"(?m)^x\s+number\s+0\s", shown) and "MEAN" in shown
    assert sh.json("dataset", "show", line[0])["rows"] == 200
    gone = form.stdout.split()[0]
    assert sh.run("dataset", "delete", gone).stdout == f"deleted {gone}\n"
    assert "no such dataset" in sh.fails("dataset", "show", gone)


def test_a_malformed_file_is_reported_with_its_line_and_column(sh):
    text = sh.fails("dataset", "upload", sh.file("bad.csv", "a,b\n1,2\n3\n"))
    assert "line 3" in text and "column 2" in text
    assert "nowhere.csv" in sh.fails("dataset", "upload", str(sh.folder / "nowhere.csv"))


# ---- jobs ----

def test_training_off_a_terminal_prints_a_line_for_each_step_and_the_result(sh, line):
    out = line[1].splitlines()
    assert re.fullmatch(r"job_\w{26}", out[0])
    assert any(row.strip().startswith(("queued", "running")) for row in out) and any(row.strip().startswith("succeeded") for row in out)
    assert "model line version 1" in line[1] and "cost 0.000" in line[1]
    assert "\r" not in line[1] and "\033" not in line[1]
    slope = float(re.search(r"coefficients\.x\s+(\S+)", line[1])[1])
    assert abs(slope - 3) < 0.05


def test_a_long_training_prints_progress_while_it_runs(sh):
    dataset = sh.json("dataset", "upload", sh.file("f.csv", flowers_csv()))["id"]
    spec = sh.file("spec.json", json.dumps({**slow_spec(3000), "target": "species"}))
    out = sh.run("train", dataset, "--model", "flowers", "--spec", spec).stdout
    epochs = [int(e) for e in re.findall(r"running .*epoch (\d+)/3000", out)]
    assert epochs and epochs == sorted(epochs) and re.search(r"epoch \d+/3000  .*loss \d", out)
    assert "left" in out


def test_the_options_of_train_complete_the_spec(sh, line):
    spec = sh.file("mlp.json", json.dumps({"target": "y", "architecture": [{"layer": "Dense", "units": 1}], "training": {"epochs": 50}}))
    job = sh.json("train", line[0], "--model", "net", "--spec", spec, "--epochs", "2", "--max-seconds", "60", "--priority", "3", "--test", line[0])
    assert job["status"] == "succeeded" and job["priority"] == 3 and job["progress"]["epochs"] == 2 and job["test_dataset"] == line[0]
    assert job["result"]["metrics"]["test"]


def test_jobs_are_detached_watched_listed_shown_and_told_of(sh, line):
    out = sh.run("train", line[0], "--model", "line", "--target", "y", "--family", "linear_regression", "--detach").stdout
    job = out.strip()
    assert re.fullmatch(r"job_\w{26}\n", out)
    assert "succeeded" in sh.run("job", "watch", job).stdout
    assert re.search(rf"{job}\s+train\s+succeeded\s+line\b", sh.run("job", "list").stdout)
    assert "version 2" in sh.run("job", "show", job).stdout
    events = sh.run("job", "events", job).stdout
    assert "queued" in events and "succeeded" in events
    assert "no such job" in sh.fails("job", "show", job[:-1] + ("0" if job[-1] != "0" else "1"))


def test_a_job_is_cancelled_by_command(sh):
    dataset = sh.tenant.upload_csv(flowers_csv())["id"]
    job = sh.tenant.submit("slow", dataset, slow_spec())["id"]
    sh.tenant.wait_running(job)
    assert job in sh.run("job", "cancel", job).stdout
    assert sh.tenant.wait_job(job)["status"] == "cancelled"
    assert "cancelled" in sh.fails("job", "watch", job)


def test_a_refused_job_names_the_layer_and_the_field(sh):
    dataset = sh.tenant.upload_csv(flowers_csv())["id"]
    spec = sh.file("bad.json", json.dumps({"target": "species", "architecture": [{"layer": "Dense", "units": 7, "name": "answer"}]}))
    text = sh.fails("train", dataset, "--model", "bad", "--spec", spec)
    assert '"answer"' in text and "spec.architecture[0]" in text
    assert "bad.json" in sh.fails("train", dataset, "--model", "bad", "--spec", sh.file("bad.json", "{nonsense"))


def test_interrupting_train_leaves_the_job_and_says_so(sh):
    dataset = sh.tenant.upload_csv(flowers_csv())["id"]
    spec = sh.file("slow.json", json.dumps(slow_spec()))
    before = {j["id"] for j in sh.tenant.ok("GET", "/v1/jobs?limit=100")["data"]}
    process = subprocess.Popen([str(BIN / "tenor"), "train", dataset, "--model", "left", "--spec", spec], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, **sh.env, "TENOR_HOME": str(sh.platform.home)})
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, "")))
    reader.start()
    try:
        wait_until(lambda: any("running" in text for text in lines), "the job to run")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
    finally:
        process.kill()
        reader.join()
    said = process.stderr.read()
    (job,) = {j["id"] for j in sh.tenant.ok("GET", "/v1/jobs?limit=100")["data"]} - before
    assert "goes on" in said and f"tenor job watch {job}" in said
    at = sh.tenant.wait_running(job)["progress"]["epoch"]
    sh.tenant.wait_running(job, epochs=at + 1)
    sh.tenant.ok("POST", f"/v1/jobs/{job}/cancel")
    sh.tenant.wait_job(job)


# ---- models and predictions ----

def test_predictions_from_arguments_json_a_file_and_standard_input(sh, line):
    (value,) = json.loads(sh.run("predict", "line", "4").stdout)
    assert abs(value - 14) < 0.3
    body = sh.file("rows.json", '{"instances":[[4],[5]]}')
    for out in (sh.run("predict", "line", "[[4],[5]]"), sh.run("predict", "line", f"@{body}"), sh.run("predict", "line", "-", stdin='{"instances":[[4],[5]]}')):
        assert json.loads(out.stdout)[0] == value
    assert sh.json("predict", "line", "4")["predictions"] == [value]
    assert json.loads(sh.run("predict", "line", "-4").stdout)[0] < 0  # a negative number is no option
    assert json.loads(sh.run("predict", "line", "4", "--version", "1").stdout) == [value] == json.loads(sh.run("predict", "line", "4", "--alias", "live").stdout)
    assert "no " in sh.fails("predict", "nobody", "4") and "found a string" in sh.fails("predict", "line", "four")
    assert "instances[0]" in sh.fails("predict", "line", "4", "5")
    job = sh.run("predict", "line", "4", "--async").stdout.strip()
    sh.run("job", "watch", job)
    assert json.loads(sh.run("job", "result", job).stdout) == [value] == sh.json("job", "result", job)["predictions"]


def test_models_versions_and_aliases_by_command(sh, line):
    assert re.search(r"(?m)^line\s+\d+\s+1\b", sh.run("model", "list").stdout)
    assert re.search(r"(?m)^1\s+ready\s", sh.run("model", "versions", "line").stdout)
    assert sh.run("model", "alias", "line", "stable", "1").stdout == "stable of line is version 1 now\n"
    assert sh.tenant.ok("GET", "/v1/models/line")["aliases"]["stable"] == 1
    assert "no such version" in sh.fails("model", "alias", "line", "stable", "99")
    assert "pointed at no other version" in sh.fails("model", "rollback", "line", "stable")
    assert "canary" in sh.fails("model", "alias", "line", "stable", "1", "--canary", "1", "--weight", "0.1")
    assert "'one'" in sh.fails("model", "alias", "line", "stable", "one")
    assert re.search(r"(?m)^primary\s+1\s+0\b.*\nnothing is on trial", sh.run("model", "rollout", "line", "stable").stdout)
    assert sh.json("model", "rollout", "line", "stable")["counted"] is False
    assert "--rollback-on error_rate=0.05" in sh.fails("model", "alias", "line", "stable", "1", "--rollback-on", "error_rate")
    assert sh.run("model", "alias", "line", "stable", "1", "--cold").returncode == 0


def test_a_models_settings_by_command(sh, line):
    out = json.loads(sh.run("model", "set", "line", "--max-batch-rows", "64", "--max-queue-delay-us", "0", "--serve", "latest:2").stdout)
    assert out == {"model": "line", "batching": {"max_batch_rows": 64, "max_queue_delay_us": 0}, "version_policy": {"latest": {"num_versions": 2}}}
    assert json.loads(sh.run("model", "show", "line").stdout) == out and sh.json("model", "show", "line")["batching"] == out["batching"]
    assert json.loads(sh.run("model", "set", "line", "--serve", "1").stdout)["version_policy"] == {"specific": {"versions": [1]}}
    out = json.loads(sh.run("model", "set", "line", "--max-batch-rows", "none", "--max-queue-delay-us", "none", "--serve", "all").stdout)
    assert out["batching"] == {"max_batch_rows": None, "max_queue_delay_us": None} and out["version_policy"] == {"all": {}}
    assert "nothing to set" in sh.fails("model", "set", "line") and "whole number" in sh.fails("model", "set", "line", "--max-batch-rows", "many")
    assert "latest:N" in sh.fails("model", "set", "line", "--serve", "newest") and "4096" in sh.fails("model", "set", "line", "--max-batch-rows", "5000")
    assert "alias" in sh.fails("model", "delete", "line", "1") and "no such" in sh.fails("model", "delete", "line", "99")


# ---- money and proof ----

def test_usage_invoice_and_audit_by_command(sh, line):
    sh.run("predict", "line", "[[1],[2],[3]]")
    wait_until(lambda: any(r["rows"] for b in sh.json("usage")["data"] for r in b["results"]), "the predictions to be counted")
    assert re.search(r"(?m)\bline\s+1\s+\d+\s+\d+\s", sh.run("usage", "--hours", "2").stdout)
    invoice = sh.run("invoice").stdout
    assert re.search(r"(?m)^train\s+line\b", invoice) and re.search(r"total 0\.\d+ EUR for \d{4}-\d\d", invoice)
    assert sh.json("invoice", "--month", "2020-01")["total_micros"] == "0"
    wait_until(lambda: sh.json("audit", "verify")["unsealed"] == 0, "the audit rows to be sealed")
    assert re.fullmatch(r"verified: \d+ rows, the chain holds\n", sh.run("audit", "verify").stdout)
    assert "job.created" in sh.run("audit", "list").stdout


# ---- the operator's commands ----

def test_tenants_are_made_listed_suspended_resumed_and_moved_to_a_plan(sh):
    name = sh.name + "-second"
    out = sh.run("tenant", "create", name).stdout
    assert re.fullmatch(rf"ten_\w{{26}}  {name}  plan standard\n", out)
    assert re.search(rf"{name}\s+standard\s+active", sh.run("tenant", "list").stdout)
    sh.run("tenant", "suspend", name)
    assert re.search(rf"{name}\s+standard\s+suspended", sh.run("tenant", "list").stdout)
    sh.run("tenant", "resume", out.split()[0])
    plan = sh.platform.plan(max_datasets=1)
    sh.run("tenant", "plan", name, plan)
    assert re.search(rf"{name}\s+{plan}\s+active", sh.run("tenant", "list").stdout)
    assert "no tenant 'nobody'" in sh.fails("tenant", "suspend", "nobody")
    assert "taken" in (text := sh.fails("tenant", "create", name)) or "exists" in text or "already" in text
    assert "no" in sh.fails("tenant", "plan", name, "no-such-plan")
    assert "Upper" in (text := sh.fails("tenant", "create", "Upper")) or "a-z" in text


def test_keys_are_made_listed_and_revoked(sh):
    secret = sh.run("key", "create", sh.name, "--name", "robot", "--scopes", "jobs:read,predict", "--expires-days", "3").stdout.strip()
    assert re.fullmatch(r"tnr_live_\w{76}", secret)
    key = "key_" + secret[9:35]
    assert re.search(rf"{key}\s+robot\s+live\s.*jobs:read,predict", sh.run("key", "list", sh.name).stdout)
    weak = {"TENOR_API_KEY": secret}
    assert "jobs" not in sh.run("job", "list", env=weak).stderr
    assert "datasets:read" in sh.fails("dataset", "list", env=weak)
    assert sh.run("key", "revoke", sh.name, key).stdout == f"{key} revoked\n"
    wait_until(lambda: sh.run("job", "list", env=weak, check=False).returncode == 1, "the key to be refused", 5)
    assert re.search(rf"{key}\s+robot\s+revoked", sh.run("key", "list", sh.name).stdout)
    assert "'fly'" in sh.fails("key", "create", sh.name, "--scopes", "fly")
    assert key not in sh.fails("key", "revoke", sh.name, "key_01jd8x00000000000000000000")


def test_doctor_migrate_status_and_logs_on_a_running_platform(sh):
    text = sh.run("doctor").stdout
    assert "ok" in text and "BROKEN" not in text
    assert re.match(r"0 applied, \d+ in all", sh.run("migrate").stdout)
    status = sh.run("status").stdout
    assert all(re.search(rf"(?m)^{p}\s+\d+\s+running", status) for p in ("postgres", "redis", "gateway", "scheduler", "worker"))
    assert "listening" in sh.run("logs", "gateway").stdout and "== " in sh.run("logs").stdout


# ---- reaching the platform ----

def test_tls_is_used_with_the_generated_certificate(sh):
    assert sh.run("model", "list", env={"TENOR_URL": sh.platform.tls_url}).returncode == 0
    assert sh.run("model", "list", "--url", sh.platform.tls_url, "--ca", str(sh.platform.home / "etc/tls.crt")).returncode == 0
    began = time.monotonic()
    text = sh.fails("model", "list", "--url", sh.platform.tls_url, "--ca", sh.file("other.crt", "nonsense"))
    assert "cert" in text.lower() and time.monotonic() - began < 3, "what no second try can mend is not tried again"


def test_what_is_missing_to_reach_the_platform_is_said(sh):
    assert "TENOR_API_KEY" in (text := sh.fails("model", "list", env={"TENOR_API_KEY": ""})) or "key" in text
    assert "127.0.0.1:1" in sh.fails("model", "list", env={"TENOR_URL": "http://127.0.0.1:1"})
    assert "API key" in sh.fails("model", "list", env={"TENOR_API_KEY": "nonsense"})
    nowhere = {"TENOR_HOME": str(sh.folder / "none"), "TENOR_URL": ""}
    assert "tenor up" in sh.fails("tenant", "list", env=nowhere)
    assert "tenor up" in sh.fails("status", env=nowhere)
