#!/usr/bin/python3
"""A small model's latency while large ones are loaded into the same worker, one after another.

    neighbour.py --bin build/bin --helpers build/bench --out build/bench/predict.json [--quick] [--share 0.4] [--width 4096]

Poisson arrivals at a share of what the small model reached in a closed loop, in turn with and without a stream of loads: the worker
is ordered to load an 80 MB network (784-4096-4096-10) and to unload it as soon as it is announced, over and over, as the scheduler orders it. Nothing
asks the large one for predictions: what is measured is fetching, decrypting, unpacking, warming and freeing.
"""

import argparse
import os
import pathlib
import re
import socket
import statistics
import struct
import tempfile
import threading

import bench
from home import Platform
from rows import row, write_rows

HEADER = pathlib.Path(__file__).resolve().parents[2] / "queue/message.h"


class Redis:
    """Commands one after the other over one connection: a client program per command would be a load of its own."""

    def __init__(self, platform):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(platform.home / "run/redis.sock"))
        self.file = self.socket.makefile("rb")
        self.call("AUTH", platform.secret("redis-password"))

    def call(self, *words):
        words = [w if isinstance(w, bytes) else str(w).encode() for w in words]
        self.socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
        line = self.file.readline()
        if line[:1] == b"-":
            raise SystemExit(f"Redis: {line.decode()}")
        return int(line[1:]) if line[:1] == b":" else line


class Loads:
    """The stream of loads, in a thread of its own while it is entered."""

    def __init__(self, platform, version):
        numbers = {name: int(re.search(rf"\b{name} = (\d+)", HEADER.read_text()).group(1)) for name in ("MESSAGE_VERSION", "MESSAGE_MODEL_LOAD", "MESSAGE_MODEL_UNLOAD")}
        texts = b"".join(struct.pack("<H", len(t)) + t.encode() for t in (version, platform.tenant_of(version)))
        self.orders = [bytes([numbers[f"MESSAGE_MODEL_{what}"], numbers["MESSAGE_VERSION"]]) + texts + bytes(8) for what in ("LOAD", "UNLOAD")]
        self.redis, self.inbox, self.place = Redis(platform), f"tnr:in:{platform.heartbeat()['inc']}", f"tnr:place:{version}"
        self.count, self.stop = 0, threading.Event()

    def run(self):
        while not self.stop.is_set():
            for order, held in zip(self.orders, (1, 0)):
                self.redis.call("RPUSH", self.inbox, order)
                while self.redis.call("SCARD", self.place) != held:
                    self.stop.wait(0.005)
            self.count += 1

    def __enter__(self):
        self.stop.clear()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def large(width):
    layers = [{"layer": "Dense", "units": width, "activation": "relu"}, {"layer": "Dense", "units": width, "activation": "relu"}, {"layer": "Dense", "units": 10}]
    return {"family": "mlp", "preprocess": [], "architecture": layers, "training": {"epochs": 1, "batch_size": 64, "seed": 1}}


def measure(args, folder):
    with Platform(args.bin, args.helpers) as platform:
        platform.train()
        loads = Loads(platform, platform.train("large", large(args.width), 128))
        ours, form = bench.our_side(platform), bench.Form(folder, "binary", 1)
        rate = args.share * statistics.median(bench.drive(ours, form, 16, False, 1)["per_second"] for _ in range(3))
        conditions = (f"{os.cpu_count()} CPUs, generator and all processes on them; 784-128-128-10, binary, Poisson at {rate:.0f} requests/s, {args.share:.0%} of its peak, "
                      f"64 connections; loads of a 784-{args.width}-{args.width}-10; medians of {args.rounds} interleaved rounds of {args.seconds} s; "
                      f"load average {os.getloadavg()[0]:.1f} at the start")
        print(conditions)
        runs = {"alone": [], "loading": []}
        for k in range(args.rounds):
            runs["alone"].append(bench.open_loop(args.helpers, ours, form, rate, args.seconds, "poisson", k + 1, folder))
            with loads:
                runs["loading"].append(bench.open_loop(args.helpers, ours, form, rate, args.seconds, "poisson", k + 1, folder))
        for name, r in runs.items():
            print(f"  {name:8} p50 {bench.median(r, 'p50_us'):7.0f}  p99 {bench.median(r, 'p99_us'):7.0f}  p99.9 {bench.median(r, 'p999_us'):7.0f} µs  "
                  f"failed {sum(x['failed'] for x in r)} of {sum(x['sent'] for x in r)}")
        moved = statistics.median(b["p99_us"] / a["p99_us"] for a, b in zip(runs["alone"], runs["loading"]))
        print(f"  {loads.count} loads, {loads.count / args.rounds / args.seconds:.1f} a second; p99 of a round beside that of the one before it: {moved:.2f} times")
    rows = [row(f"neighbour {key[:-3]} while models load", bench.median(runs["loading"], key), bench.median(runs["alone"], key), "nothing loads", "µs", conditions)
            for key in ("p50_us", "p99_us", "p999_us")]
    return rows + [row("neighbour loads a second", loads.count / args.rounds / args.seconds, None, "", "loads/s", conditions, True)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, default="build/bin", help="folder of tenor and its daemons")
    parser.add_argument("--helpers", type=pathlib.Path, default="build/bench", help="folder of poisson")
    parser.add_argument("--out", type=pathlib.Path, default="build/bench/predict.json")
    parser.add_argument("--quick", action="store_true", help="half a minute: fewer and shorter rounds")
    parser.add_argument("--share", type=float, default=0.4, help="of the small model's peak")
    parser.add_argument("--width", type=int, default=4096, help="of the large model's layers")
    args = parser.parse_args()
    args.rounds, args.seconds = (3, 2) if args.quick else (9, 5)
    args.helpers = args.helpers.resolve()
    with tempfile.TemporaryDirectory(prefix="tenor-neighbour-") as folder:
        rows = measure(args, folder)
    write_rows(args.out, "neighbour ", rows)


if __name__ == "__main__":
    main()
