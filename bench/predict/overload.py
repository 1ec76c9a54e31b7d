#!/usr/bin/python3
"""What more load than the platform can serve does to it, and one tenant's excess to another.

    overload.py --bin build/bin --helpers build/bench --out build/bench/overload.json [--quick]

The model is a network that takes some milliseconds of a core for a request of 4 KiB, so that serving, not refusing, is what
the machine is busy with: the generator runs on it too. Capacity is what a closed loop of 256 connections reaches. Then an open
loop offers three times as much. Last, one tenant asks for a quarter of the capacity while its neighbour, with a plan of as much,
keeps to it or asks for ten times as much, in turns.
"""

import argparse
import concurrent.futures
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time
import urllib.parse

import numpy

from home import Platform

MODEL, WIDTH, ROWS = "heavy", 16, 64
SPEC = {"family": "mlp", "architecture": [{"layer": "Dense", "units": 2048, "activation": "relu"}, {"layer": "Dense", "units": 2048, "activation": "relu"},
                                          {"layer": "Dense", "units": 4}],
        "training": {"epochs": 1, "batch_size": 64, "seed": 1}}
SERVED, LATE_MS, MOVED = 0.9, 1000, 1.2  # what is asked: of the peak; p99 of what is served at 3 times it; a neighbour's p99


class Overload(Platform):
    def __enter__(self):
        super().__enter__()
        self.keys = {"heavy": self.key}
        return self

    def tenant(self, name, plan, rate):
        columns = {"name": plan, "requests_per_second": rate, "request_burst": max(rate // 10, 1), "max_inflight_requests": 100000}
        self.sql(f"INSERT INTO plans SELECT (jsonb_populate_record(p, '{json.dumps(columns)}')).* FROM plans p WHERE name = 'standard'")
        out = self.tenor("bootstrap", name, "--plan", plan)
        self.keys[name] = next(line.split("=", 1)[1] for line in out.splitlines() if line.startswith("export TENOR_API_KEY="))

    @contextlib.contextmanager
    def acting_as(self, name):
        before, self.key = self.key, self.keys[name]
        yield
        self.key = before

    def learn(self, name):
        with self.acting_as(name):
            noise = numpy.random.default_rng(1)
            dataset = self.upload(noise.standard_normal((256, WIDTH)).astype("<f4"), noise.integers(0, 4, 256).astype("<i8"))
            job = self.call_json("POST", "/v1/jobs", {"type": "train", "model": MODEL, "dataset": dataset, "spec": SPEC})
            while job["status"] not in ("succeeded", "failed", "cancelled", "dead"):
                time.sleep(0.1)  # its plan's rate may be small
                job = self.call_json("GET", f"/v1/jobs/{job['id']}")
            if job["status"] != "succeeded":
                raise SystemExit(f"the training failed: {job['error']}")

    def request_file(self, name, folder):
        rows = numpy.random.default_rng(2).standard_normal((ROWS, WIDTH)).astype("<f4")
        head = json.dumps({"inputs": [{"name": "input", "shape": [ROWS, WIDTH], "datatype": "FP32", "parameters": {"binary_data_size": rows.nbytes}}]}).encode()
        at = urllib.parse.urlsplit(self.url)
        lines = [f"POST /v2/models/{MODEL}/infer HTTP/1.1", f"Host: {at.netloc}", f"Content-Length: {len(head) + rows.nbytes}",
                 "Content-Type: application/octet-stream", f"Inference-Header-Content-Length: {len(head)}", f"Authorization: Bearer {self.keys[name]}"]
        path = pathlib.Path(folder) / f"request.{name}"
        path.write_bytes("\r\n".join(lines).encode() + b"\r\n\r\n" + head + rows.tobytes())
        return path


def offer(platform, path, rate, seconds, connections, seed=1):
    at = urllib.parse.urlsplit(platform.url)
    began = time.monotonic()
    done = subprocess.run([str(platform.helpers / "poisson"), at.hostname, str(at.port), str(path), f"{rate:.1f}", str(seconds), str(connections),
                           "poisson", str(seed)], capture_output=True, text=True, timeout=seconds + 60, check=True)
    run = json.loads(done.stdout)
    run["served"] = run["answered"] / (time.monotonic() - began)  # it waits for the last answers, two seconds at most
    return run


def peak(platform, path, seconds):
    """Where many more requests are due than can be served, 256 connections are a closed loop: each sends its next when it has its answer."""
    return offer(platform, path, 20000, seconds, 256)["served"]


def overload(platform, path, rounds, seconds):
    rows = []
    for k in range(rounds):
        top = peak(platform, path, seconds)
        run = offer(platform, path, 3 * top, seconds, 1024, k + 1)
        run["peak"], run["of_peak"] = top, run["served"] / top
        rows.append(run)
        print(f"  peak {top:6.0f}/s; at 3 times: served {run['served']:6.0f}/s ({run['of_peak']:.2f}), p50 {run['p50_us'] / 1e3:.0f} ms, p99 {run['p99_us'] / 1e3:.0f} ms, "
              f"max {run['max_us'] / 1e3:.0f} ms; 429 {run['limited']}, 503 {run['busy']} (untold {run['untold']}, Retry-After at most {run['retry_most_s']} s), "
              f"other {run['failed'] - run['limited'] - run['busy']} of {run['sent']}", flush=True)
    return rows


def neighbours(platform, files, share, rounds, seconds):
    """p99 of the steady tenant while the other offers its share, and ten times its share."""
    p99 = {1: [], 10: []}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for k in range(rounds):
            for times in p99:
                other = pool.submit(offer, platform, files["greedy"], times * share, seconds, 512, k + 11)
                own = offer(platform, files["steady"], share, seconds, 256, k + 1)
                greedy = other.result()
                p99[times].append(own["p99_us"] / 1e3)
                print(f"  neighbour at {times:2} times its {share:.0f}/s: p99 {own['p99_us'] / 1e3:6.1f} ms, failed {own['failed']} of {own['sent']}; "
                      f"it was served {greedy['served']:.0f}/s, 429 {greedy['limited']}, 503 {greedy['busy']}", flush=True)
    return p99


def row(name, ours, asked, unit, good, conditions):
    print(f"{name}: {ours:.3f} {unit} (asked: {asked}) {'ok' if good else 'MISSED'}")
    return {"name": name, "ours": round(ours, 4), "peer": asked, "peer_name": "asked", "ratio": None, "unit": unit, "conditions": conditions}


def measure(args, folder):
    seconds, rounds = (2, 2) if args.quick else (4, 5)
    with Overload(args.bin, args.helpers) as platform:
        platform.learn("heavy")
        path = platform.request_file("heavy", folder)
        offer(platform, path, 200, 1, 64)
        conditions = (f"{os.cpu_count()} CPUs, generator and all processes on them; 16-2048-2048-4 MLP, {ROWS} rows a request; medians of {rounds} rounds "
                      f"of {seconds} s; load average {os.getloadavg()[0]:.1f} at the start")
        print(conditions)
        runs = overload(platform, path, rounds, seconds)
        share = statistics.median(r["peak"] for r in runs) / 4
        for name in ("steady", "greedy"):
            platform.tenant(name, f"plan-of-{name}", int(share * 1.2))
            platform.learn(name)
        files = {name: platform.request_file(name, folder) for name in ("steady", "greedy")}
        for file in files.values():
            offer(platform, file, share / 4, 1, 64)
        p99 = neighbours(platform, files, share, rounds, seconds)
    of_peak, late = statistics.median(r["of_peak"] for r in runs), statistics.median(r["p99_us"] for r in runs) / 1e3
    moved = statistics.median(p99[10]) / statistics.median(p99[1])
    untold = sum(r["untold"] for r in runs)
    if untold:
        raise SystemExit(f"{untold} refusals without a Retry-After")
    return [row("overload: served at 3 times capacity, of the peak", of_peak, SERVED, "", of_peak >= SERVED, conditions),
            row("overload: p99 of what is served at 3 times capacity", late, LATE_MS, "ms", late <= LATE_MS, conditions),
            row("overload: p99 with a neighbour at 10 times its share, to at its share", moved, MOVED, "", moved <= MOVED, conditions)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, default="build/bin", help="folder of tenor and its daemons")
    parser.add_argument("--helpers", type=pathlib.Path, default="build/bench", help="folder of poisson")
    parser.add_argument("--out", type=pathlib.Path, default="build/bench/overload.json")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tenor-bench-") as folder:
        rows = measure(args, folder)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
