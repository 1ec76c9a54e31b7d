"""The platform under test: launched once, for real, in a folder of its own; each test makes the tenants it needs."""

import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

import pytest
import requests

sys.path.insert(0, str(pathlib.Path(__file__).parent))
BIN = pathlib.Path(os.environ.get("TENOR_BIN", pathlib.Path(__file__).parents[2] / "build/bin"))
ENDED = ("succeeded", "failed", "cancelled", "dead")


def wait_until(condition, what, seconds=30.0):
    """Asks condition() until it is true; its value. Fails naming what was waited for."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


class Tenant:
    """An API key's view of the platform."""

    def __init__(self, platform, name, key):
        self.platform, self.name, self.key = platform, name, key
        self.http = requests.Session()
        self.http.trust_env = False
        self.http.headers["Authorization"] = f"Bearer {key}"

    def call(self, method, path, **kw):
        kw.setdefault("timeout", 60)
        return self.http.request(method, self.platform.url + path, **kw)

    def get(self, path, **kw):
        return self.call("GET", path, **kw)

    def post(self, path, **kw):
        return self.call("POST", path, **kw)

    def ok(self, method, path, **kw):
        reply = self.call(method, path, **kw)
        assert 200 <= reply.status_code < 300, f"{method} {path}: {reply.status_code} {reply.text[:500]}"
        return reply.json()

    def upload_csv(self, text, name="table"):
        return self.ok("POST", f"/v1/datasets?name={name}&format=csv", data=text.encode(), headers={"Content-Type": "text/csv"})

    def submit(self, model, dataset, spec, **more):
        return self.ok("POST", "/v1/jobs", json={"type": "train", "model": model, "dataset": dataset, "spec": spec, **more})

    def job(self, job_id):
        return self.ok("GET", f"/v1/jobs/{job_id}")

    def wait_job(self, job_id, seconds=60.0):
        def ended():
            job = self.job(job_id)
            return job if job["status"] in ENDED else None

        return wait_until(ended, f"the end of {job_id}", seconds)

    def train(self, model, dataset, spec, seconds=60.0, **more):
        job = self.wait_job(self.submit(model, dataset, spec, **more)["id"], seconds)
        assert job["status"] == "succeeded", job
        return job

    def wait_running(self, job_id, epochs=1):
        """Until the job has reported progress of at least that many epochs."""

        def runs():
            job = self.job(job_id)
            assert job["status"] not in ENDED, job
            return job if job["status"] == "running" and ((job["progress"] or {}).get("epoch") or 0) >= epochs else None

        return wait_until(runs, f"{job_id} to run")

    def events(self, job_id):
        return self.ok("GET", f"/v1/jobs/{job_id}/events?limit=100")["data"]

    def invoice(self):
        return self.ok("GET", time.strftime("/v1/invoices/%Y-%m", time.gmtime()))


class Platform:
    """One home, up and down through the launcher as a person would."""

    def __init__(self, home, *options):
        self.home = pathlib.Path(home)
        self.options = options
        self.made = 0

    def tenor(self, *words, check=True, env=None, timeout=120, stdin=None):
        done = subprocess.run(
            [str(BIN / "tenor"), *words],
            capture_output=True, text=True, timeout=timeout, input=stdin,
            env={**os.environ, "TENOR_HOME": str(self.home), **(env or {})},
        )
        if check:
            assert done.returncode == 0, f"tenor {' '.join(words)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.logs()}"
        return done

    def up(self):
        self.tenor("up", "--listen", "127.0.0.1:0", "--tls-listen", "127.0.0.1:0", *self.options)
        self.url, self.tls_url = (self.home / "etc/url").read_text().split()
        return self

    def down(self):
        self.tenor("down")

    def logs(self):
        texts = []
        for path in sorted(self.home.glob("log/*.log")):
            texts.append(f"== {path.name}\n" + path.read_text(errors="replace")[-1500:])
        return "\n".join(texts)

    def pid(self, name):
        return int((self.home / f"run/{name}.pid").read_text().split()[0])

    def kill(self, name, signal=9):
        """Ends one process as a crash would and waits until the kernel has let go of it."""
        pid = self.pid(name)
        os.kill(pid, signal)
        if signal == 9:
            wait_until(lambda: not pathlib.Path(f"/proc/{pid}/stat").exists() or " Z " in pathlib.Path(f"/proc/{pid}/stat").read_text(), f"{name} to die")

    def plan(self, **changes):
        """A plan like the standard one but for the changes; its name."""
        self.made += 1
        name = f"plan-{self.made}-{random.randrange(10**9)}"
        self.sql(f"INSERT INTO plans SELECT (jsonb_populate_record(p, '{json.dumps({'name': name, **changes})}')).* FROM plans p WHERE name = 'standard'")
        return name

    def tenant(self, prefix="t", plan="standard"):
        self.made += 1
        name = f"{prefix}-{self.made}-{random.randrange(10**9)}"
        out = self.tenor("bootstrap", name, "--plan", plan).stdout
        key = next(line.split("=", 1)[1] for line in out.splitlines() if line.startswith("export TENOR_API_KEY="))
        return Tenant(self, name, key)

    def secret(self, name):
        return (self.home / "etc" / name).read_text().strip()

    def redis(self, *words):
        sock = self.home / "run/redis.sock"
        done = subprocess.run(["redis-cli", "-s", str(sock), "-a", self.secret("redis-password"), "--no-auth-warning", *words],
                              capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def sql(self, query, user="tenor_root"):
        """Rows of a query as lists of text, straight from Postgres."""
        psql = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/psql"))[-1]
        done = subprocess.run([str(psql), "-h", str(self.home / "run/pg"), "-U", user, "-d", "tenor", "-XAtqc", query],
                              capture_output=True, text=True, timeout=30, env={**os.environ,
                                   "PGPASSWORD": self.secret(f"postgres-{user}"), "PGOPTIONS": "-c search_path=tenor"})
        assert done.returncode == 0, done.stderr
        return [line.split("|") for line in done.stdout.splitlines()]

    def doctor(self):
        done = self.tenor("doctor", check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def make_home():
    """Short enough for unix sockets inside it."""
    return tempfile.mkdtemp(prefix="tenor-", dir="/tmp")


def launch(*options):
    """A platform of a test's own, for tests that break things. Use as a context manager through `own_platform`."""
    return Platform(make_home(), *options).up()


def discard(platform):
    platform.tenor("down", check=False)
    shutil.rmtree(platform.home, ignore_errors=True)


@pytest.fixture(scope="session")
def platform():
    p = Platform(make_home(), "--lease", "3s", "--job-slots", "2")
    try:
        p.up()
        yield p
        p.doctor()
    finally:
        discard(p)


@pytest.fixture
def tenant(platform):
    return platform.tenant()


@pytest.fixture(scope="session")
def shared_tenant(platform):
    """For read-only checks that many tests make."""
    return platform.tenant("shared")
