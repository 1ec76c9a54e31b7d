#!/usr/bin/python3
"""Measures training steps against PyTorch on this machine: the same network, initial weights, batches and number of steps.

    bench.py --helper build/bench/train-side --out build/bench/train.json [--quick] [--rows cnn,lstm-bf16] [--rounds N] [--threads 1]

Each configuration (side, precision, threads) is a process that waits its turn; a round gives each of them one run of the same
steps from the initial weights, so that whatever else the machine does meets all of them alike. A side's figure is the better of 1
and 2 threads by the medians of the rounds. The losses of the first and of the tenth batch are compared before anything is timed.
"""

import math
import os
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from common import Report, Side, best, parse_arguments, plural, progress, run, sides, wanted, write_data  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
BATCH = 32
STEPS = {"mlp": 800, "cnn": 120, "lstm": 60, "transformer": 24}  # of one run: about a second of PyTorch
PRECISIONS = ("f32", "bf16x3", "bf16")
# Relative differences of the first and the tenth loss at which it is still the same network, trained in the same way. Later
# ones differ more with any change of rounding, between PyTorch's own thread counts too.
FIRST, TENTH = {"f32": 1e-3, "bf16x3": 1e-3, "bf16": 2e-2}, {"f32": 1e-3, "bf16x3": 1e-3, "bf16": 1e-1}


class TrainSide(Side):
    def __init__(self, name, threads, words, env=None):
        super().__init__(f"{name}, {plural(threads, 'thread')}", words, env)
        self.threads = threads


def start_ours(args, net, precision, threads, folder, weights):
    backend = args.backend if precision == "f32" and args.backend else precision
    return TrainSide(f"tenor {precision}", threads, [args.helper, net, backend, threads, BATCH, folder, weights])


def start_peer(net, threads, folder, weights):
    return TrainSide("PyTorch", threads, [HERE / "peer.py", net, threads, BATCH, folder, weights], {"OMP_NUM_THREADS": str(threads)})


def check_losses(side, peer, precision):
    side.tenth = side.ask("steps 10")["loss"]
    for what, ours, theirs, tolerance in (("first", side.hello["loss"], peer.hello["loss"], FIRST[precision]), ("tenth", side.tenth, peer.tenth, TENTH[precision])):
        if not math.isclose(ours, theirs, rel_tol=tolerance):
            raise SystemExit(f"{side.label}: the {what} loss is {ours:.6g}, PyTorch's {theirs:.6g}: this is not the same training")


def print_side(side, peer):
    ratio = f"  {side.median() / peer.median():6.2f}× ({side.median('cpu_rate') / peer.median('cpu_rate'):.2f}× by CPU time)" if side is not peer else ""
    used = f"  (on {side.hello['threads']})" if side.hello.get("threads", side.threads) != side.threads else ""
    print(f"  {side.label:22} {side.median():9.0f} samples/s  loss {side.hello['loss']:.5f}, {side.tenth:.5f} … {side.runs[-1]['loss']:.5f}{ratio}{used}", flush=True)


def measure_net(args, net, folder, report):
    weights = pathlib.Path(folder) / f"{net}.safetensors"
    steps = STEPS[net] // (3 if args.quick else 1)
    threads = [t for t in (1, 2) if not args.threads or t == args.threads]
    with sides() as started:
        first = start_ours(args, net, "f32", 1, folder, weights)  # writes the weights
        started.append(first)
        ours = [(p, start_ours(args, net, p, t, folder, weights)) for p in PRECISIONS if wanted(args, net, p) for t in threads]
        started += [side for _, side in ours]
        peers = [start_peer(net, t, folder, weights) for t in threads]
        started += peers
        for side in peers:
            side.tenth = side.ask("steps 10")["loss"]
        for precision, side in ours:
            if side.why_not is None:
                check_losses(side, peers[0], precision)
        running = [side for _, side in ours if side.why_not is None] + peers
        print(f"\n{net}: {args.rounds} rounds of {steps} steps of {BATCH}", flush=True)
        for number in range(args.rounds):
            for side in running:
                progress(f"round {number + 1} of {args.rounds}: {side.label}")
                side.timed(f"steps {steps}", steps * BATCH)
        progress("")
        conclude(args, net, steps, ours, peers, report)


def conclude(args, net, steps, ours, peers, report):
    peer = best(peers)
    for side in peers:
        print_side(side, peer)
    for _, side in ours:
        if side.why_not is None:
            print_side(side, peer)
        else:
            print(f"  {side.label:22} unsupported: {side.why_not}", flush=True)
    for precision in PRECISIONS:
        side = best([s for p, s in ours if p == precision])
        if side is None:
            continue
        threads = f"{plural(args.threads, 'thread')} each" if args.threads else f"best of 1 and 2 threads (ours {side.threads}, peer {peer.threads})"
        conditions = (f"batch {BATCH}, {steps} steps of Adam from the same weights on the same data; {threads}; "
                      f"medians of {args.rounds} interleaved rounds; last loss {side.runs[-1]['loss']:.5f}, peer's "
                      f"{peer.runs[-1]['loss']:.5f}; {side.median('cpu_rate') / peer.median('cpu_rate'):.2f} times by CPU time; load average {os.getloadavg()[0]:.1f}")
        report.add(f"train {net}, {precision}", side.median(), peer.median(), "PyTorch f32 (Debian python3-torch)", "samples/s", conditions)


def main():
    args = parse_arguments(__doc__, STEPS, PRECISIONS, threads={"type": int, "default": 0, "choices": (0, 1, 2), "help": "only so many, for each side; 0: 1 and 2"},
                           backend={"default": "", "help": "our f32 rows on this backend instead of the automatic one"})
    report = Report(args.out)
    with tempfile.TemporaryDirectory(prefix="tenor-bench-") as folder:
        write_data(folder)
        for net in STEPS:
            if any(wanted(args, net, p) for p in PRECISIONS):
                measure_net(args, net, folder, report)
    report.write()


run(main)
