#!/usr/bin/python3
"""What more load than the platform can serve does to it, and one tenant's excess to another.

    overload.py --bin build/bin --helpers build/bench --out build/bench/overload.json [--quick]

The model is a network that takes some milliseconds of a core for a request of 4 KiB, so that serving, not refusing, is what
the machine is busy with: the generator runs on it too. Capacity is what a closed loop of 64 connections reaches. Then an open
loop offers three times as much, and the same with requests that allow 100 and 50 ms for their answer: how late are the refusals of those
that could not be had in time, and what was computed for nobody? Last, one tenant asks for a quarter of the capacity while its
neighbour, with a plan of as much, keeps to it or asks for ten times as much, in turns.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import json
import os
import pathlib
import statistics
import tempfile
import time
import urllib.parse

import numpy

import bench
from arrivals import OUTCOME, arrive
from home import Platform

MODEL, WIDTH, ROWS = "heavy", 16, 64
SPEC = {"family": "mlp", "architecture": [{"layer": "Dense", "units": 2048, "activation": "relu"}, {"layer": "Dense", "units": 2048, "activation": "relu"},
                                          {"layer": "Dense", "units": 4}],
        "training": {"epochs": 1, "batch_size": 64, "seed": 1}}
SERVED, LATE_MS, MOVED = 0.9, 2000, 1.2  # what is asked: of the peak; p99 of what is served at 3 times it; a neighbour's p99
DEADLINES_MS = (100, 50)
# What is asked: so long after its deadline a request is refused at the latest (p99), and answered never; the worker's CPU an answer beside what it is where
# no deadline passes. The platform promises no figure. 10 ms are a fifth of the shortest deadline here, and room for what cannot be had for less beside
# threads that compute: the loop's timers of whole milliseconds, a slice of 3 ms each of two others, and the generator's own lateness.
PUNCTUAL_MS, VAIN = 10, 1.25


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

    def request_file(self, name, folder, deadline_ms=None):
        rows = numpy.random.default_rng(2).standard_normal((ROWS, WIDTH)).astype("<f4")
        ask = {"inputs": [{"name": "input", "shape": [ROWS, WIDTH], "datatype": "FP32", "parameters": {"binary_data_size": rows.nbytes}}]}
        if deadline_ms:
            ask["parameters"] = {"timeout": deadline_ms * 1000}
        head = json.dumps(ask).encode()
        at = urllib.parse.urlsplit(self.url)
        lines = [f"POST /v2/models/{MODEL}/infer HTTP/1.1", f"Host: {at.netloc}", f"Content-Length: {len(head) + rows.nbytes}",
                 "Content-Type: application/octet-stream", f"Inference-Header-Content-Length: {len(head)}", f"Authorization: Bearer {self.keys[name]}"]
        path = pathlib.Path(folder) / f"request.{name}.{deadline_ms or 0}"
        path.write_bytes("\r\n".join(lines).encode() + b"\r\n\r\n" + head + rows.tobytes())
        return path


class Accounts:
    """CPU seconds by phase and process, of all rounds."""

    def __init__(self, platform):
        self.side, self.phases, self.answered = bench.our_side(platform), {}, collections.Counter()

    @contextlib.contextmanager
    def phase(self, name):
        """Yields a list, for the runs of the generator that it consists of."""
        runs, spent, before, began = [], self.phases.setdefault(name, collections.Counter()), bench.cpu_seconds(self.side), time.monotonic()
        yield runs
        spent["all"] += (time.monotonic() - began) * os.cpu_count()
        spent.update({n: after - before[n] for n, after in bench.cpu_seconds(self.side).items()})
        spent["generator"] += sum(r["cpu_s"] for r in runs)
        self.answered[name] += sum(r["answered"] for r in runs)

    def worker_ms(self, name):
        """Of the worker's CPU, for each answer."""
        return 1000 * self.phases[name]["worker"] / max(self.answered[name], 1)

    def print(self):
        columns = ["gateway", "worker", "redis", "scheduler", "postgres", "generator", "all"]
        print("CPU seconds".ljust(26) + "".join(c.rjust(10) for c in columns[:-1]) + "     CPUs x s   worker's ms an answer")
        for name, spent in self.phases.items():
            print(name.ljust(26) + "".join(f"{spent[c]:10.2f}" for c in columns[:-1]) + f"{spent['all']:13.2f}{self.worker_ms(name):24.2f}")


def offer(platform, path, rate, seconds, connections, seed=1, outcomes=None):
    began = time.monotonic()
    run = arrive(platform.helpers, platform.url, path, rate, seconds, connections, seed=seed, outcomes=outcomes)
    run["served"] = run["answered"] / (time.monotonic() - began)  # it waits for the last answers, two seconds at most
    return run


def peak(platform, path, seconds):
    """Where many more requests are due than can be served, the connections are a closed loop: each sends its next when it has its answer.
    64 fill the batches, and are as many as a loop always lets in (CROWD_FLOOR): more would be refused, and refusing take the time of serving."""
    return offer(platform, path, 20000, seconds, 64)


def refused(run):
    other = run["failed"] - run["limited"] - run["busy"] - run["expired"]
    return (f"429 {run['limited']}, 503 {run['busy']} (untold {run['untold']}, Retry-After at most {run['retry_most_s']} s), 504 {run['expired']}, "
            f"other {other} of {run['sent']}")


def overload(platform, accounts, path, seconds, seed):
    with accounts.phase("peak") as runs:
        runs.append(peak(platform, path, seconds))
    top, shed = runs[0]["served"], runs[0]["limited"] + runs[0]["busy"]
    with accounts.phase("3 times") as runs:
        runs.append(offer(platform, path, 3 * top, seconds, 1024, seed))
    run = {**runs[0], "peak": top, "of_peak": runs[0]["served"] / top}
    print(f"  peak {top:6.0f}/s (refused {shed}); at 3 times: served {run['served']:6.0f}/s ({run['of_peak']:.2f}), p50 {run['p50_us'] / 1e3:.0f} ms, "
          f"p99 {run['p99_us'] / 1e3:.0f} ms, max {run['max_us'] / 1e3:.0f} ms; {refused(run)}", flush=True)
    return run


def deadlines(platform, accounts, path, ms, rate, seconds, seed):
    """Adds to the run how late its 504s were, and its answers of 200, by the time from a request's first byte written."""
    outcomes = path.with_name("outcomes")
    with accounts.phase(f"3 times, within {ms} ms") as runs:
        runs.append(offer(platform, path, rate, seconds, 1024, seed, outcomes))
    (run,), each = runs, numpy.fromfile(outcomes, OUTCOME)
    run["late_ms"] = {q: run[f"expired_{q}_us"] / 1e3 - ms if run["expired"] else 0 for q in ("p50", "p99", "max")}
    run["answers_late_ms"] = each["taken_ns"][each["status"] == 200] / 1e6 - ms
    late, answers = run["late_ms"], run["answers_late_ms"]
    print(f"  within {ms:3} ms: served {run['served']:6.0f}/s; 504s late by p50 {late['p50']:.1f}, p99 {late['p99']:.1f}, max {late['max']:.1f} ms "
          f"(the generator itself: p50 {run['own_late_p50_us'] / 1e3:.1f}, p99 {run['own_late_p99_us'] / 1e3:.1f}, "
          f"max {run['own_late_max_us'] / 1e3:.1f}); answered after the deadline {int((answers > 0).sum())} of {len(answers)}, "
          f"the last by {answers.max(initial=0):.1f} ms; {refused(run)}", flush=True)
    return run


def neighbours(platform, accounts, files, share, rounds, seconds):
    """p99 of the steady tenant while the other offers its share, and ten times its share."""
    p99 = {1: [], 10: []}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for k in range(rounds):
            for times in p99:
                with accounts.phase(f"neighbour at {times} times") as runs:
                    other = pool.submit(offer, platform, files["greedy"], times * share, seconds, 512, k + 11)
                    own = offer(platform, files["steady"], share, seconds, 256, k + 1)
                    greedy = other.result()
                    runs += [own, greedy]
                p99[times].append(own["p99_us"] / 1e3)
                print(f"  neighbour at {times:2} times its {share:.0f}/s: p99 {own['p99_us'] / 1e3:6.1f} ms, failed {own['failed']} of {own['sent']}; "
                      f"it was served {greedy['served']:.0f}/s, 429 {greedy['limited']}, 503 {greedy['busy']}", flush=True)
    return p99


def row(name, ours, asked, unit, good, conditions):
    print(f"{name}: {ours:.3f} {unit}" + ("" if asked is None else f" (asked: {asked}) {'ok' if good else 'MISSED'}"))
    return {"name": name, "ours": round(ours, 4), "peer": asked, "peer_name": "" if asked is None else "asked", "ratio": None, "unit": unit, "conditions": conditions}


def most(name, ours, asked, unit, conditions):
    return row(name, ours, asked, unit, ours <= asked, conditions)


def rows_of_deadlines(timed, accounts, conditions):
    rows, runs = [], [r for each in timed.values() for r in each]
    for ms, each in timed.items():
        if late := [r["late_ms"]["p99"] for r in each if r["expired"]]:
            rows.append(most(f"overload: a 504's lateness, p99, within {ms} ms", statistics.median(late), PUNCTUAL_MS, "ms", conditions))
    rows.append(row("overload: a 504's lateness: the generator's own, p99", statistics.median(r["own_late_p99_us"] for r in runs) / 1e3, None, "ms", True, conditions))
    rows.append(most(f"overload: answers more than {PUNCTUAL_MS} ms after their deadline", sum(int((r["answers_late_ms"] > PUNCTUAL_MS).sum()) for r in runs), 0,
                     "answers", conditions))
    for ms in timed:
        rows.append(most(f"overload: the worker's CPU an answer, within {ms} ms to without deadlines",
                         accounts.worker_ms(f"3 times, within {ms} ms") / accounts.worker_ms("3 times"), VAIN, "", conditions))
    return rows


def measure(args, folder):
    seconds, rounds = (2, 2) if args.quick else (4, 5)
    with Overload(args.bin, args.helpers) as platform:
        platform.learn("heavy")
        path, limited = platform.request_file("heavy", folder), {ms: platform.request_file("heavy", folder, ms) for ms in DEADLINES_MS}
        offer(platform, path, 200, 1, 64)
        conditions = (f"{os.cpu_count()} CPUs, generator and all processes on them; 16-2048-2048-4 MLP, {ROWS} rows a request; medians of {rounds} rounds "
                      f"of {seconds} s; load average {os.getloadavg()[0]:.1f} at the start")
        print(conditions)
        accounts, runs, timed = Accounts(platform), [], {ms: [] for ms in DEADLINES_MS}
        for k in range(rounds):
            runs.append(overload(platform, accounts, path, seconds, k + 1))
            for ms, file in limited.items():
                timed[ms].append(deadlines(platform, accounts, file, ms, 3 * runs[-1]["peak"], seconds, k + 1))
        share = statistics.median(r["peak"] for r in runs) / 4
        for name in ("steady", "greedy"):
            platform.tenant(name, f"plan-of-{name}", int(share * 1.2))
            platform.learn(name)
        files = {name: platform.request_file(name, folder) for name in ("steady", "greedy")}
        for file in files.values():
            offer(platform, file, share / 4, 1, 64)
        p99 = neighbours(platform, accounts, files, share, rounds, seconds)
    accounts.print()
    of_peak, late = statistics.median(r["of_peak"] for r in runs), statistics.median(r["p99_us"] for r in runs) / 1e3
    untold = sum(r["untold"] for r in [*runs, *(r for each in timed.values() for r in each)])
    if untold:
        raise SystemExit(f"{untold} refusals without a Retry-After")
    return [row("overload: served at 3 times capacity, of the peak", of_peak, SERVED, "", of_peak >= SERVED, conditions),
            most("overload: p99 of what is served at 3 times capacity", late, LATE_MS, "ms", conditions),
            *rows_of_deadlines(timed, accounts, conditions),
            most("overload: p99 with a neighbour at 10 times its share, to at its share", statistics.median(p99[10]) / statistics.median(p99[1]), MOVED, "", conditions)]


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
