#!/usr/bin/python3
"""Measures the predict road against a Flask + PyTorch service of the same network and against a bare libevent loop.

    bench.py --bin build/bin --helpers build/bench --out build/bench/predict.json [--quick] [--only TEXT] [--rounds N]

Everything runs on this machine. Each cell (form of the body, rows, connections, TLS) is driven by one generator against each side
in turn, round by round, so that whatever else the machine does meets all of them alike; what is reported are medians of the
rounds. Answers are compared before anything is timed, and our usage is compared with what was answered after.
"""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import signal
import socket
import statistics
import struct
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request

import numpy

from arrivals import arrive
from home import MODEL, Platform, pixels
from rows import write_rows

HERE = pathlib.Path(__file__).resolve().parent
BODIES = 16
QUICK_FROM = {"json": 1, "binary": 16}  # the fewest connections of a quick run
REFUSED_MAX = 0.1  # of a run of ours; more is not a benchmark of answers
TICK = os.sysconf("SC_CLK_TCK")


# ---- bodies ----

def json_body(rows):
    return json.dumps({"instances": [[float(f"{v:.4f}") for v in row] for row in rows]}, separators=(",", ":")).encode()


def oip_body(rows):
    """Open Inference Protocol with binary tensors both ways: its JSON part's length, and all of it."""
    head = json.dumps({"inputs": [{"name": "input", "shape": list(rows.shape), "datatype": "FP32", "parameters": {"binary_data_size": rows.nbytes}}],
                       "outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}]}, separators=(",", ":")).encode()
    return len(head), head + rows.tobytes()


class Form:
    """Bodies of one form and size, for both sides, in a folder that wrk reads."""

    def __init__(self, folder, kind, rows):
        self.kind, self.rows = kind, rows
        images = pixels("t10k")
        self.sets = [images[i * rows:(i + 1) * rows] for i in range(BODIES)]
        self.dirs = {side: pathlib.Path(folder) / f"{kind}-{rows}-{side}" for side in ("ours", "peer")}
        self.type = "application/json" if kind == "json" else "application/octet-stream"
        self.json_len = ""
        for side, path in self.dirs.items():
            path.mkdir()
            for i, chosen in enumerate(self.sets):
                (path / f"body.{i}").write_bytes(self.body(side, chosen))

    def body(self, side, rows):
        if self.kind == "json":
            return json_body(rows)
        if side == "peer":
            return rows.tobytes()
        length, body = oip_body(rows)
        self.json_len = str(length)
        return body


# ---- sides ----

class Side:
    """Something that answers: where, with what key, by which processes, and what it counts as refused (status → requests so far)."""

    def __init__(self, name, url, tls_url, paths, key, pids, bodies, refusals=collections.Counter):
        self.name, self.urls, self.paths, self.key, self.pids, self.bodies = name, {False: url, True: tls_url}, paths, key, pids, bodies
        self.refusals = refusals
        self.answered = self.cut = 0  # replies that arrived; requests that may have been under way when a run ended

    def url(self, form, tls):
        return self.urls[tls] + self.paths[form.kind]

    def headers(self, form):
        head = {"Content-Type": form.type}
        if self.key:
            head["Authorization"] = f"Bearer {self.key}"
        if self.bodies == "ours" and form.json_len:
            head["Inference-Header-Content-Length"] = form.json_len
        return head

    def answer(self, form, body):
        ask = urllib.request.Request(self.url(form, False), data=body, headers=self.headers(form))
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(ask, timeout=30) as reply:
            self.answered += 1
            return reply.read(), reply.headers


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_listening(port, process, seconds=60):
    deadline = time.monotonic() + seconds
    while True:
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"nothing listens on port {port}: {process.args}")
        time.sleep(0.05)


@contextlib.contextmanager
def running(*words, env=None):
    process = subprocess.Popen([str(w) for w in words], env={**os.environ, **(env or {})}, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def children(pid):
    """The process and all below it."""
    found, todo = [], [pid]
    while todo:
        at = todo.pop()
        found.append(at)
        for task in pathlib.Path(f"/proc/{at}/task").glob("*/children"):
            todo += map(int, task.read_text().split())
    return found


def start_peer(stack, weights, certificate):
    """One gunicorn master for plain HTTP and one for TLS, each with a worker process per core. Worker kind: see README.md."""
    ports, pids = {}, []
    for tls in (False, True):
        port = ports[tls] = free_port()
        words = ["gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", os.cpu_count(), "--worker-class", "gthread", "--threads", 4,
                 "--keep-alive", 75, "--backlog", 2048, "--log-level", "error", "--chdir", HERE]
        if tls:
            words += ["--certfile", certificate[0], "--keyfile", certificate[1]]
        process = stack.enter_context(running(*words, "peer:app", env={"MODEL": str(weights), "OMP_NUM_THREADS": "1"}))
        wait_listening(port, process)
        pids.append(process.pid)
    path = {"json": "/predict", "binary": "/predict"}
    return Side("flask", f"http://127.0.0.1:{ports[False]}", f"https://127.0.0.1:{ports[True]}", path, "", {"flask": pids}, "peer")


def start_ceiling(stack, helpers, certificate):
    ports, pids = {}, []
    for tls in (False, True):
        port = ports[tls] = free_port()
        process = stack.enter_context(running(helpers / "ceiling", port, 230, *(certificate if tls else ())))
        wait_listening(port, process)
        pids.append(process.pid)
    path = {"json": "/", "binary": "/"}
    return Side("libevent", f"http://127.0.0.1:{ports[False]}", f"https://127.0.0.1:{ports[True]}", path, "", {"libevent": pids}, "ours")


def our_side(platform):
    path = {"json": f"/v1/models/{MODEL}:predict", "binary": f"/v2/models/{MODEL}/infer"}
    return Side("tenor", platform.url, platform.tls_url, path, platform.key, platform.processes(), "ours", platform.refusals)


# ---- answers ----

def probabilities(side, form, rows):
    raw, headers = side.answer(form, form.body(side.bodies, rows))
    if form.kind == "json":
        return numpy.array([p["probabilities"] for p in json.loads(raw)["predictions"]], "f4")
    cut = int(headers.get("Inference-Header-Content-Length") or 0)
    return numpy.frombuffer(raw[cut:], "<f4").reshape(-1, 10)


def compare_answers(ours, peer, forms):
    worst = 0.0
    for form in forms:
        for rows in form.sets:
            a, b = probabilities(ours, form, rows), probabilities(peer, form, rows)
            if a.shape != b.shape or not numpy.allclose(a, b, atol=1e-5):
                raise SystemExit(f"{form.kind}, {form.rows} rows: the two sides answer differently\n{a}\n{b}")
            worst = max(worst, float(numpy.abs(a - b).max()))
    print(f"answers agree: {len(forms) * BODIES} requests, largest difference {worst:.1e}")


# ---- driving ----

def cpu_seconds(side):
    spent = {}
    for name, roots in side.pids.items():
        total = 0
        for root in roots:
            for pid in children(root):
                with contextlib.suppress(FileNotFoundError):
                    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
                    total += int(fields[11]) + int(fields[12])
        spent[name] = total / TICK
    return spent


def label_of(form, connections, tls):
    return f"{form.kind}, {form.rows} row{'s' * (form.rows > 1)}, {connections} conn{', TLS' * tls}"


def drive(side, form, connections, tls, seconds):
    """One closed-loop run of wrk: its figures, and CPU seconds per 1,000 requests of each of the side's processes."""
    env = {**os.environ, "BENCH_BODIES": str(form.dirs[side.bodies]), "BENCH_TYPE": form.type, "BENCH_KEY": side.key,
           "BENCH_JSON_LEN": form.json_len if side.bodies == "ours" else ""}
    told, before = side.refusals(), cpu_seconds(side)
    done = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", HERE / "load.lua", side.url(form, tls)],
                          capture_output=True, text=True, env=env, timeout=seconds * 4 + 60)
    line = next((l for l in done.stdout.splitlines() if l.startswith("RESULT ")), None)
    if line is None:
        raise SystemExit(f"wrk failed against {side.name}:\n{done.stdout}{done.stderr}")
    run = json.loads(line[7:])
    after = cpu_seconds(side)
    answered = run["requests"] - run["refused"]
    side.answered += answered
    side.cut += connections
    run["per_second"] = answered / run["seconds"]
    run["cpu"] = {name: (after[name] - before[name]) * 1000 / max(answered, 1) for name in after}
    if run["refused"] > REFUSED_MAX * run["requests"] and side.name != "flask":
        counts = side.refusals() - told
        said = ", ".join(f"{n} with {status}" for status, n in sorted(counts.items())) or "which status, it does not tell"
        raise SystemExit(f"{side.name} refused {run['refused']} of {run['requests']} requests ({said}): {label_of(form, connections, tls)}")
    return run


def request_text(side, form, index):
    body = (form.dirs[side.bodies] / f"body.{index}").read_bytes()
    at = urllib.parse.urlsplit(side.url(form, False))
    head = [f"POST {at.path} HTTP/1.1", f"Host: {at.netloc}", f"Content-Length: {len(body)}"]
    head += [f"{name}: {value}" for name, value in side.headers(form).items()]
    return ("\r\n".join(head) + "\r\n\r\n").encode() + body


def open_loop(helpers, side, form, rate, seconds, law, seed, folder):
    path = pathlib.Path(folder) / "request"
    path.write_bytes(request_text(side, form, 0))
    run = arrive(helpers, side.url(form, False), path, rate, seconds, 64, law, seed)
    side.answered += run["answered"]
    side.cut += run["failed"]
    return run


def compare_usage(platform, ours):
    """What is metered is what was answered, give or take the requests that a run's end cut off."""
    deadline = time.monotonic() + 30
    while (metered := platform.usage()) < ours.answered and time.monotonic() < deadline:
        time.sleep(0.2)
    if not ours.answered <= metered <= ours.answered + ours.cut:
        raise SystemExit(f"metered {metered} requests, answered {ours.answered} and at most {ours.cut} more")
    print(f"\nusage agrees: {metered} metered, {ours.answered} answered, at most {ours.cut} cut off by the ends of runs")


def median(runs, *keys):
    values = []
    for run in runs:
        for key in keys:
            run = run[key]
        values.append(run)
    return statistics.median(values)


# ---- the report ----

class Report:
    def __init__(self):
        self.rows = []

    def add(self, name, ours, peer, peer_name, unit, conditions, better_high=True):
        above, below = (ours, peer) if better_high else (peer, ours)
        self.rows.append({"name": name, "ours": round(ours, 4), "peer": round(peer, 4), "peer_name": peer_name, "ratio": round(above / below, 3) if below else None,
                          "unit": unit, "conditions": conditions})

    def cell(self, form, connections, tls, runs, conditions):
        label = label_of(form, connections, tls)
        ours, peer = runs["tenor"], runs["flask"]
        for name, unit, key, high in (("throughput", "requests/s", "per_second", True), ("p50", "µs", "p50_us", False), ("p99", "µs", "p99_us", False),
                                      ("p99.9", "µs", "p999_us", False)):
            self.add(f"predict {name}: {label}", median(ours, key), median(peer, key), "flask+pytorch", unit, conditions, high)
        cpu = {side: sum(median(r, "cpu", n) for n in r[0]["cpu"]) for side, r in runs.items()}
        self.add(f"predict CPU: {label}", cpu["tenor"], cpu["flask"], "flask+pytorch", "CPU s per 1,000 requests", conditions, False)
        if "libevent" in runs:
            self.add(f"predict of ceiling: {label}", median(ours, "per_second"), median(runs["libevent"], "per_second"), "bare libevent", "requests/s",
                     conditions)
        self.print_cell(label, runs)

    @staticmethod
    def print_cell(label, runs):
        print(f"\n{label}")
        for side, r in runs.items():
            cpu = " ".join(f"{n} {median(r, 'cpu', n):.4f}" for n in r[0]["cpu"] if median(r, "cpu", n) >= 0.0001)
            ratio = f"  tenor is {median(runs['tenor'], 'per_second') / median(r, 'per_second'):.2f}×" if side != "tenor" and median(r, "per_second") else ""
            if side != "tenor" and not median(r, "per_second"):
                ratio = "  answered nothing in its time"
            if refused := sum(x["refused"] for x in r):
                ratio += f"  refused {refused} of {sum(x['requests'] for x in r)}, not counted"
            print(f"  {side:9} {median(r, 'per_second'):9.0f}/s  p50 {median(r, 'p50_us'):8.0f}  p99 {median(r, 'p99_us'):8.0f}  "
                  f"p99.9 {median(r, 'p999_us'):8.0f} µs  CPU s/1,000: {cpu}{ratio}", flush=True)


def tails(report, helpers, sides, form, rounds, seconds, folder, conditions):
    """Open loop at half of what each side reached in a closed loop of 16 connections: Poisson and uniform arrivals in turn."""
    rates = {s.name: statistics.median(drive(s, form, 16, False, 1)["per_second"] for _ in range(3)) / 2 for s in sides}
    runs = {(s.name, law): [] for s in sides for law in ("poisson", "uniform")}
    for k in range(rounds):
        for side in sides:
            for law in ("poisson", "uniform"):
                runs[side.name, law].append(open_loop(helpers, side, form, rates[side.name], seconds, law, k + 1, folder))
    print(f"\nopen loop at half of the peak, {form.kind}, 1 row, 64 connections")
    for (name, law), r in runs.items():
        print(f"  {name:9} {law:8} {rates[name]:8.0f}/s  p50 {median(r, 'p50_us'):8.0f}  p99 {median(r, 'p99_us'):8.0f}  p99.9 "
              f"{median(r, 'p999_us'):8.0f} µs  failed {sum(x['failed'] for x in r)} of {sum(x['sent'] for x in r)}", flush=True)
    for key in ("p50_us", "p99_us", "p999_us"):
        report.add(f"predict open loop {key[:-3]}: {form.kind}, Poisson at half of each side's peak", median(runs["tenor", "poisson"], key),
                   median(runs["flask", "poisson"], key), "flask+pytorch", "µs", conditions, False)
    report.add(f"predict open loop p99, Poisson to uniform: {form.kind}", median(runs["tenor", "poisson"], "p99_us"),
               median(runs["tenor", "uniform"], "p99_us"), "tenor, uniform arrivals", "µs", conditions, False)


def cells(forms, quick):
    for form in forms:
        for tls in (False, True):
            for connections in (1, 16, 256):
                if not quick or (form.rows == 1 and connections >= QUICK_FROM[form.kind] and (not tls or (form.kind, connections) == ("json", 16))):
                    yield form, connections, tls


def measure(args, folder, report):
    with contextlib.ExitStack() as stack:
        platform = stack.enter_context(Platform(args.bin, args.helpers))
        version = platform.train()
        weights = pathlib.Path(folder) / "weights.safetensors"
        platform.export_weights(version, weights)
        certificate = (platform.home / "etc/tls.crt", platform.home / "etc/tls.key")
        ours = our_side(platform)
        peer = start_peer(stack, weights, certificate)
        ceiling = start_ceiling(stack, args.helpers, certificate)
        forms = [Form(folder, kind, rows) for kind in ("json", "binary") for rows in (1, 32)]
        compare_answers(ours, peer, forms)
        seconds = 1  # wrk takes whole seconds
        conditions = (f"{os.cpu_count()} CPUs, generator and all processes on them; keys, rate limit, metering on; 784-128-128-10 MLP; "
                      f"medians of {args.rounds} interleaved rounds of {seconds} s; load average {os.getloadavg()[0]:.1f} at the start")
        print(conditions)
        drive(ours, forms[0], 16, False, 1)
        drive(peer, forms[0], 16, False, 1)
        for form, connections, tls in cells(forms, args.quick):
            if args.only and args.only not in f"{form.kind}-{form.rows}-{connections}{'-tls' * tls}":
                continue
            sides = [ours, peer] + [ceiling] * (form.rows == 1)
            runs = {s.name: [] for s in sides}
            slow_start = connections > 16 and (tls or form.rows > 1)  # handshakes, or 40 MB of bodies: more than a second of a side's time
            for _ in range(args.rounds):
                for side in sides:
                    runs[side.name].append(drive(side, form, connections, tls, 3 if slow_start else seconds))
            report.cell(form, connections, tls, runs, conditions)
        if not args.only or "open" in args.only:
            for form in forms[0], forms[2]:
                tails(report, args.helpers, [ours, peer], form, args.rounds, 1 if args.quick else 2, folder, conditions)
        compare_usage(platform, ours)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, default="build/bin", help="folder of tenor and its daemons")
    parser.add_argument("--helpers", type=pathlib.Path, default="build/bench", help="folder of poisson, ceiling and export")
    parser.add_argument("--out", type=pathlib.Path, default="build/bench/predict.json")
    parser.add_argument("--quick", action="store_true", help="fewer cells and shorter runs: under two minutes")
    parser.add_argument("--only", default="", help="cells whose name contains this: json-1-16, binary-32, tls, open")
    parser.add_argument("--rounds", type=int, default=0, help="0: five, or three when quick")
    args = parser.parse_args()
    args.rounds = args.rounds or (3 if args.quick else 5)
    args.helpers = args.helpers.resolve()
    report = Report()
    try:
        with tempfile.TemporaryDirectory(prefix="tenor-bench-") as folder:
            measure(args, folder, report)
    finally:
        if report.rows:  # what was measured before a refusal ended it stays
            write_rows(args.out, "predict ", report.rows)


if __name__ == "__main__":
    main()
