"""The platform under measurement: a home of its own, a tenant on a wide plan, and a trained 784-128-128-10 network."""

import collections
import contextlib
import functools
import gzip
import http.client
import json
import os
import pathlib
import re
import shutil
import socket
import struct
import subprocess
import tempfile
import time
import urllib.request

import numpy

DATA = pathlib.Path("/usr/share/datasets/fashion-mnist")
MODEL = "bench"
# Rate limiting and quotas are on, and wide enough that they refuse nothing.
PLAN = {"name": "bench", "requests_per_second": 1000000, "request_burst": 1000000, "max_inflight_requests": 100000}
SPEC = {"family": "mlp", "preprocess": [],  # none: the peer computes exactly what the weights say
        "architecture": [{"layer": "Dense", "units": 128, "activation": "relu"}, {"layer": "Dense", "units": 128, "activation": "relu"},
                         {"layer": "Dense", "units": 10}],
        "training": {"epochs": 2, "batch_size": 64, "seed": 1, "optimizer": {"name": "adam", "learning_rate": 0.001}}}


def idx_images(name):
    raw = gzip.decompress((DATA / f"{name}-images-idx3-ubyte.gz").read_bytes())
    (rows,) = struct.unpack(">I", raw[4:8])
    return numpy.frombuffer(raw, "u1", offset=16).reshape(rows, 784)


def idx_labels(name):
    return numpy.frombuffer(gzip.decompress((DATA / f"{name}-labels-idx1-ubyte.gz").read_bytes()), "u1", offset=8)


@functools.cache
def pixels(name):
    """Grey values from 0 to 1 with four decimals: what a client would put into JSON."""
    return numpy.round(idx_images(name) / 255.0, 4).astype("<f4")


def npy_bytes(array):
    with tempfile.TemporaryFile() as file:
        numpy.save(file, array)
        file.seek(0)
        return file.read()


class Platform:
    """Up on entry, down and gone on exit."""

    def __init__(self, bin_dir, helper_dir):
        self.bin, self.helpers = pathlib.Path(bin_dir).resolve(), pathlib.Path(helper_dir).resolve()
        self.worker = None  # one of our own, beside the launcher
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="tenor-bench-", dir="/tmp"))  # short enough for unix sockets

    def tenor(self, *words):
        env = {**os.environ, "TENOR_HOME": str(self.home), "TENOR_CONNECTIONS_PER_ADDRESS": "4096"}
        done = subprocess.run([str(self.bin / "tenor"), *words], capture_output=True, text=True, timeout=120, env=env)
        if done.returncode != 0:
            raise SystemExit(f"tenor {' '.join(words)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def __enter__(self):
        try:
            self.tenor("up", "--listen", "127.0.0.1:0", "--tls-listen", "127.0.0.1:0")
            self.url, self.tls_url = (self.home / "etc/url").read_text().split()
            self.sql(f"INSERT INTO plans SELECT (jsonb_populate_record(p, '{json.dumps(PLAN)}')).* FROM plans p WHERE name = 'standard'")
            out = self.tenor("bootstrap", "bench", "--plan", PLAN["name"])
            self.key = next(line.split("=", 1)[1] for line in out.splitlines() if line.startswith("export TENOR_API_KEY="))
            return self
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_):
        try:
            if self.worker:
                self.worker.terminate()
                self.worker.wait(timeout=30)
            self.tenor("down")
        finally:
            shutil.rmtree(self.home, ignore_errors=True)

    def sql(self, query):
        psql = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/psql"))[-1]
        done = subprocess.run([str(psql), "-h", str(self.home / "run/pg"), "-U", "tenor_root", "-d", "tenor", "-XAtqc", query],
                              capture_output=True, text=True, timeout=30, check=True,
                              env={**os.environ, "PGPASSWORD": self.secret("postgres-tenor_root"), "PGOPTIONS": "-c search_path=tenor"})
        return [line.split("|") for line in done.stdout.splitlines()]

    def secret(self, name):
        return (self.home / "etc" / name).read_text().strip()

    def call(self, method, path, body=None, content_type="application/json", headers=None):
        ask = urllib.request.Request(self.url + path, method=method, data=body,
                                     headers={"Authorization": f"Bearer {self.key}", "Content-Type": content_type, **(headers or {})})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(ask, timeout=60) as reply:
            return reply.read(), reply.headers

    def call_json(self, method, path, body=None, **kw):
        return json.loads(self.call(method, path, json.dumps(body).encode() if body is not None else None, **kw)[0])

    def upload(self, features, labels):
        mark, parts = "boundary-of-the-upload", []
        for name, file, data in (("name", None, b"fashion"), ("features", "x.npy", npy_bytes(features)), ("labels", "y.npy", npy_bytes(labels))):
            leaf = f'; filename="{file}"' if file else ""
            parts.append(f'--{mark}\r\nContent-Disposition: form-data; name="{name}"{leaf}\r\n\r\n'.encode() + data + b"\r\n")
        body = b"".join(parts) + f"--{mark}--\r\n".encode()
        return json.loads(self.call("POST", "/v1/datasets", body, f"multipart/form-data; boundary={mark}")[0])["id"]

    def train(self, model=MODEL, spec=None, rows=10000):
        """Two epochs on the test images: the weights need not be good, only the same on both sides."""
        dataset = self.upload(pixels("t10k")[:rows], idx_labels("t10k")[:rows].astype("<i8"))
        job = self.call_json("POST", "/v1/jobs", {"type": "train", "model": model, "dataset": dataset, "spec": spec or SPEC})
        deadline = time.monotonic() + 120
        while job["status"] not in ("succeeded", "failed", "cancelled", "dead"):
            if time.monotonic() > deadline:
                raise SystemExit(f"the training did not end: {job}")
            time.sleep(0.1)
            job = self.call_json("GET", f"/v1/jobs/{job['id']}")
        if job["status"] != "succeeded":
            raise SystemExit(f"the training failed: {job['error']}")
        return job["result"]["version_id"]

    def export_weights(self, version_id, path):
        """The version's artifact as the worker would load it, with the worker's configuration."""
        with open(path, "wb") as file:
            self.as_worker("export", version_id, stdout=file)

    def as_worker(self, helper, version_id, *more, **how):
        """Runs a helper on a version, with the worker's configuration."""
        lines = (self.home / "etc/worker.conf").read_text().splitlines()
        conf = dict(line.split(" = ", 1) for line in lines if " = " in line and not line.startswith("#"))
        words = [conf["postgres-url"], conf["blob-dir"], conf["root-key-file"], self.tenant_of(version_id), version_id, *more]
        return subprocess.run([str(self.helpers / helper), *map(str, words)], check=True, timeout=600, text=True, **how)

    def tenant_of(self, version_id):
        ((tenant,),) = self.sql(f"SELECT tenant_id FROM model_versions WHERE id = '{version_id}'")
        return tenant

    def redis(self, *words, stdin=None):
        done = subprocess.run(["redis-cli", "-s", str(self.home / "run/redis.sock"), "-a", self.secret("redis-password"), "--no-auth-warning", *words],
                              input=stdin, capture_output=True, timeout=30, check=True)
        return done.stdout.decode().strip()

    def heartbeat(self):
        """The only worker's. One that ended takes its own away."""
        (key,) = self.redis("KEYS", "tnr:hb:*").split()
        return json.loads(self.redis("GET", key))

    def own_worker(self, *options):
        """A worker in place of the launcher's, with options that the launcher does not offer."""
        self.tenor("stop", "worker")
        with open(self.home / "log/worker.log", "ab") as log:
            self.worker = subprocess.Popen([str(self.bin / "tenor-worker"), "--config", str(self.home / "etc/worker.conf"), *map(str, options)], stderr=log)
        deadline = time.monotonic() + 30
        while not self.redis("KEYS", "tnr:hb:*"):
            if self.worker.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("the worker did not start: " + (self.home / "log/worker.log").read_text()[-500:])
            time.sleep(0.05)

    def processes(self):
        """Name → pids, for counting CPU time."""
        named = {}
        for name in ("gateway", "worker", "scheduler", "redis", "postgres"):
            own = self.worker if name == "worker" else None
            named[name] = [own.pid if own else int((self.home / f"run/{name}.pid").read_text().split()[0])]
        return named

    def refusals(self):
        """Status → requests that the gateway refused so far; without those whose clients left (499)."""
        ops = http.client.HTTPConnection("tenor")
        ops.sock = socket.socket(socket.AF_UNIX)
        with contextlib.closing(ops):
            ops.sock.connect(str(self.home / "run/ops.sock"))
            ops.request("GET", "/metrics")
            text = ops.getresponse().read().decode()
        counts = collections.Counter()
        for status, n in re.findall(r'^tenor_gateway_requests_total{.*code="([45]\d\d)"} (\d+)$', text, re.M):
            counts[int(status)] += int(n)
        del counts[499]
        return counts

    def usage(self):
        results = [r for b in self.call_json("GET", "/v1/usage?bucket_width=1d")["data"] for r in b["results"] if r["model"] == MODEL]
        return sum(r["requests"] for r in results)
