#!/usr/bin/python3
"""Thousands of small models of one worker under a Zipf mix: 5,000 registered, memory for 1,000.

    zipf.py --bin build/bin --helpers build/bench --out build/bench/predict.json [--quick] [--models N] [--resident N] [--rate R]

One model is trained and copied (zipf_fill.c); the worker gets the memory that --resident of them take. Then: what is accounted beside
what the process grew by, cold loads one at a time on the otherwise idle platform, and an open loop of Poisson arrivals whose models are drawn
by Zipf's law with exponent 1, popularity in no order of age. A request was a miss when the worker's log says that its model was loaded
between its arrival and its answer.
"""

import argparse
import datetime
import http.client as http_client
import json
import os
import pathlib
import re
import statistics
import tempfile
import time
import urllib.parse

import numpy

from arrivals import OUTCOME, arrive
from home import Platform, pixels
from rows import row, write_rows

SPEC = {"family": "mlp", "preprocess": [], "architecture": [{"layer": "Dense", "units": 32, "activation": "relu"}, {"layer": "Dense", "units": 10}],
        "training": {"epochs": 1, "batch_size": 64, "seed": 1, "optimizer": {"name": "adam", "learning_rate": 0.001}}}
LOADED = re.compile(r"^(\S+)Z .* model-loaded version=(\S+) ")


class Stock:
    """The registered models, and the requests for them in one file."""

    def __init__(self, platform, folder, version, count):
        begin = time.monotonic()
        lines = platform.as_worker("zipf_fill", version, count, capture_output=True).stdout.splitlines()
        self.seconds = time.monotonic() - begin
        self.names, self.versions = zip(*(line.split() for line in lines))
        at, body = urllib.parse.urlsplit(platform.url), json.dumps({"instances": [[float(f"{v:.4f}") for v in pixels("t10k")[0]]]}, separators=(",", ":"))
        texts = [(f"POST /v1/models/{name}:predict HTTP/1.1\r\nHost: {at.netloc}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
                  f"Authorization: Bearer {platform.key}\r\n\r\n{body}").encode() for name in self.names]
        lengths = numpy.array([len(t) for t in texts], "<u4")
        self.picks = numpy.stack([numpy.concatenate([[0], numpy.cumsum(lengths)[:-1]]), lengths], axis=1).astype("<u4")
        self.url, self.host, self.port, self.folder = platform.url, at.hostname, str(at.port), pathlib.Path(folder)
        (self.folder / "requests").write_bytes(b"".join(texts))

    def drive(self, helpers, models, rate, seconds, connections, law, seed=1):
        """One open loop that asks for these models (numbers) in turn: poisson's own figures, and each request's outcome with its model."""
        paths = [self.folder / name for name in ("requests", "picks", "outcomes")]
        paths[1].write_bytes(self.picks[models].tobytes())
        run = arrive(helpers, self.url, paths[0], rate, seconds, connections, law, seed, paths[2], paths[1])
        outcomes = numpy.fromfile(paths[2], OUTCOME)
        return run, outcomes, models[outcomes["request"] % len(models)]


def resident_set(platform):
    (pid,) = platform.processes()["worker"]
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * int(re.search(r"^Anonymous:\s+(\d+)", text, re.M).group(1))  # not the program's own text


def accounted(platform):
    beat = platform.heartbeat()
    return beat["model_bytes_max"] - beat["model_bytes_free"]


def settled_account(platform):
    """The heartbeat comes once a second: the figure once it stands still."""
    last, now = None, accounted(platform)
    while last != now:
        time.sleep(1.2)
        last, now = now, accounted(platform)
    return now


def loads(platform, since=0):
    """When each version was loaded, by wall ns: from the worker's log, from byte `since` on."""
    found = {}
    with open(platform.home / "log/worker.log", errors="replace") as file:
        file.seek(since)
        for line in file:
            m = LOADED.match(line)
            if m:
                at = datetime.datetime.fromisoformat(m.group(1)).replace(tzinfo=datetime.timezone.utc).timestamp()
                found.setdefault(m.group(2), []).append(int(at * 1e9))
    return found


def missed(outcomes, models, versions, loaded):
    """Whether each request's model was loaded while it waited; the log's clock has whole milliseconds."""
    begin, end = outcomes["due_ns"] - 1_000_000, outcomes["due_ns"] + outcomes["latency_ns"]
    return numpy.array([any(b <= at <= e for at in loaded.get(versions[m], ())) for b, e, m in zip(begin, end, models)], bool)


def quantiles_ms(ns):
    return tuple(float(numpy.quantile(ns, q)) / 1e6 if len(ns) else 0.0 for q in (0.5, 0.99, 1))


def refuse_failures(run, outcomes):
    if run["failed"]:
        late = outcomes["latency_ns"][outcomes["status"] != 200] / 1e9
        raise SystemExit(f"{run['failed']} of {run['sent']} requests failed: {len(late)} with an error, {run['failed'] - len(late)} never answered; {late[:10]} s")


def fill_cache(platform, stock, count):
    """Models asked for once each: what the worker accounts and what it grew by, after a tenth of them that its own working memory comes with."""
    cold_one_by_one(platform, stock, 0, count // 10)
    before, grown = settled_account(platform), resident_set(platform)
    cold_one_by_one(platform, stock, count // 10, count - count // 10)
    account = settled_account(platform)
    return account - before, resident_set(platform) - grown


def cold_one_by_one(platform, stock, first, count):
    """Models that nobody asked for yet, each when the one before is answered."""
    body, head, taken = json.dumps({"instances": pixels("t10k")[:1].tolist()}), {"Authorization": f"Bearer {platform.key}"}, []
    http = http_client.HTTPConnection(stock.host, int(stock.port), timeout=30)
    for name in stock.names[first:first + count]:
        begin = time.monotonic_ns()
        http.request("POST", f"/v1/models/{name}:predict", body, head)
        reply = http.getresponse()
        text = reply.read()
        taken.append(time.monotonic_ns() - begin)
        if reply.status != 200:
            raise SystemExit(f"{name}: {reply.status} {text[:300]}")
    return numpy.array(taken)


def measure(args, folder):
    with Platform(args.bin, args.helpers) as platform:
        version = platform.train("small", SPEC, 2000)
        platform.call_json("POST", "/v1/models/small:predict", {"instances": pixels("t10k")[:1].tolist()})
        each = settled_account(platform)
        platform.own_worker("--model-memory", each * args.resident)
        stock = Stock(platform, folder, version, args.models)
        conditions = (f"{os.cpu_count()} CPUs, generator and all processes on them; {args.models} versions of a 784-32-10 network, memory for {args.resident}; "
                      f"load average {os.getloadavg()[0]:.1f} at the start")
        print(f"{conditions}\nregistered in {stock.seconds:.1f} s; {each:,} bytes of memory each")
        rows = []

        account, grown = fill_cache(platform, stock, min(args.resident, args.models) * 9 // 10)
        print(f"accounted {account / 2**20:.1f} MiB, the process grew by {grown / 2**20:.1f} MiB ({grown / account:.2f})")
        rows.append(row("zipf memory accounted", account / 2**20, grown / 2**20, "what the worker grew by", "MiB", conditions))

        cold = quantiles_ms(cold_one_by_one(platform, stock, args.models - args.cold, args.cold))
        print(f"cold, one at a time: p50 {cold[0]:.2f} ms, p99 {cold[1]:.2f}, max {cold[2]:.2f}")
        rows.append(row("zipf cold load p50: idle", cold[0], 5, "aim", "ms", conditions))

        rng = numpy.random.default_rng(1)
        popularity = rng.permutation(args.models)  # rank → model
        weights = 1 / numpy.arange(1, args.models + 1)
        runs = []
        for k in range(args.rounds + 1):
            models = popularity[rng.choice(args.models, int(args.rate * args.seconds * 2), p=weights / weights.sum())]
            mark = (platform.home / "log/worker.log").stat().st_size
            run, outcomes, asked = stock.drive(args.helpers, models, args.rate, args.seconds, 64, "poisson", k + 1)
            refuse_failures(run, outcomes)
            miss = missed(outcomes, asked, stock.versions, loads(platform, mark))
            hits, misses = quantiles_ms(outcomes["latency_ns"][~miss]), quantiles_ms(outcomes["latency_ns"][miss])
            figures = {"per_second": run["answered"] / args.seconds, "hit_rate": 1 - miss.mean(), "hit_p50": hits[0], "hit_p99": hits[1], "miss_p50": misses[0],
                       "miss_p99": misses[1]}
            print(f"{'warming' if k == 0 else f'round {k}'}: " + "  ".join(f"{n} {v:.2f}" for n, v in figures.items()), flush=True)
            runs += [figures] if k else []
        for name, unit, high in (("per_second", "requests/s", True), ("hit_rate", "of 1", True), ("hit_p50", "ms", False), ("hit_p99", "ms", False),
                                 ("miss_p50", "ms", False), ("miss_p99", "ms", False)):
            rows.append(row(f"zipf {name.replace('_', ' ')}: {args.rate:.0f} requests/s", statistics.median(r[name] for r in runs), None, "", unit, conditions, high))
        account, grown = settled_account(platform), resident_set(platform)
        print(f"after the mix: {account / 2**20:.1f} MiB accounted, {grown / 2**20:.1f} MiB in the process")
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, default="build/bin", help="folder of tenor and its daemons")
    parser.add_argument("--helpers", type=pathlib.Path, default="build/bench", help="folder of poisson and zipf_fill")
    parser.add_argument("--out", type=pathlib.Path, default="build/bench/predict.json")
    parser.add_argument("--quick", action="store_true", help="a minute: shorter rounds, fewer of them")
    parser.add_argument("--models", type=int, default=5000)
    parser.add_argument("--resident", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=400)
    args = parser.parse_args()
    args.rounds, args.seconds, args.cold = (2, 5, 100) if args.quick else (5, 20, 400)
    with tempfile.TemporaryDirectory(prefix="tenor-zipf-") as folder:
        rows = measure(args, folder)
    write_rows(args.out, "zipf ", rows)


if __name__ == "__main__":
    main()
