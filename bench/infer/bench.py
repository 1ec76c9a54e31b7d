#!/usr/bin/python3
"""Measures answers of one network, one thread, against ONNX Runtime on this machine: the same weights and the same rows.

    bench.py --helper build/bench/infer-side --out build/bench/infer.json [--quick] [--rows cnn,mlp-bf16] [--rounds N]

Our side writes its weights; PyTorch makes the ONNX file of the same network from them. Each side is a process that waits its turn,
round by round, so that whatever else the machine does meets all of them alike. Answers are compared before anything is timed.
"""

import os
import pathlib
import sys
import tempfile
import warnings

import numpy
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from common import Report, Side, load_weights, parse_arguments, progress, run, sides, wanted, write_data  # noqa: E402
from torch_nets import X_SHAPE, build, load_x  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
NETS = ("mlp", "cnn", "lstm")
PRECISIONS = {"f32": 1e-5, "bf16x3": 1e-5, "bf16": 2e-2, "int8": 5e-2}  # and how far a probability may be off
BATCHES = (1, 8, 32)
SECONDS = 0.5  # of one run, about


def write_onnx(net, weights, folder, path):
    """The network with its softmax, for any number of rows."""
    whole = torch.nn.Sequential(build(net, load_weights(weights)), torch.nn.Softmax(1)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it says of LSTMs and the number of rows: 1, 8 and 32 are compared below
        torch.onnx.export(whole, load_x(net, folder)[:2], str(path), input_names=["x"], output_names=["y"], opset_version=13,
                          dynamic_axes={"x": {0: "rows"}, "y": {0: "rows"}})


def start_peer(net, onnx, folder):
    kind, file = ("i64", "tokens.i32") if net == "transformer" else ("f32", "images.f32")
    return Side("ONNX Runtime", ["node", HERE / "peer.js", onnx, f"{folder}/{file}", kind, *X_SHAPE[net]])


def compare(side, batch, theirs, tolerance):
    ours = numpy.array(side.ask(f"batch {batch}")["answers"])
    worst = float(numpy.abs(ours - theirs).max()) if ours.shape == theirs.shape else numpy.inf
    if not worst <= tolerance:
        raise SystemExit(f"{side.label}, batch {batch}: answers differ by {worst:.3g}")
    return worst


def measure_batch(args, net, batch, ours, peer, report):
    theirs = numpy.array(peer.ask(f"batch {batch}")["answers"])
    worst = {s.label: compare(s, batch, theirs, PRECISIONS[p]) for p, s in ours}
    running = [s for _, s in ours] + [peer]
    runs = {}
    for side in running:
        once = side.ask("runs 20")["seconds"] / 20
        runs[side.label] = max(int(SECONDS / (3 if args.quick else 1) / once), 10)
        side.ask(f"runs {runs[side.label]}")  # until node has compiled what it runs
        side.runs = []
    for number in range(args.rounds):
        for side in running:
            progress(f"{net}, batch {batch}, round {number + 1} of {args.rounds}: {side.label}")
            side.timed(f"runs {runs[side.label]}", runs[side.label])
    progress("")
    print(f"  batch {batch}\n    {peer.label:13} {1e6 / peer.median():9.1f} µs", flush=True)
    for precision, side in ours:
        ratio, cpu = side.median() / peer.median(), side.median("cpu_rate") / peer.median("cpu_rate")
        print(f"    {side.label:13} {1e6 / side.median():9.1f} µs  {ratio:6.2f}× ({cpu:.2f}× by CPU time), answers within {worst[side.label]:.1e}", flush=True)
        conditions = (f"batch {batch}, one thread, the same weights and rows; medians of {args.rounds} interleaved rounds; answers within {worst[side.label]:.1e}; "
                      f"{cpu:.2f} times by CPU time; load average {os.getloadavg()[0]:.1f}")
        report.add(f"infer {net}, batch {batch}, {precision}", 1e6 / side.median(), 1e6 / peer.median(), "ONNX Runtime f32 (onnxruntime-node 1.30.0)", "µs a batch",
                   conditions, less_is_better=True)


def measure_net(args, net, folder, report):
    weights, onnx = pathlib.Path(folder) / f"{net}.safetensors", pathlib.Path(folder) / f"{net}.onnx"
    with sides() as started:
        started.append(Side("tenor f32", [args.helper, net, "f32", folder, weights]))  # writes the weights
        write_onnx(net, weights, folder, onnx)
        ours = [(p, Side(f"tenor {p}", [args.helper, net, p, folder])) for p in PRECISIONS if wanted(args, net, p)]
        started += [side for _, side in ours]
        peer = start_peer(net, onnx, folder)
        started.append(peer)
        print(f"\n{net}", flush=True)
        for _, side in ours:
            if side.why_not is not None:
                print(f"  {side.label:13} unsupported: {side.why_not}", flush=True)
        ours = [(p, side) for p, side in ours if side.why_not is None]
        for batch in BATCHES if ours else ():
            measure_batch(args, net, batch, ours, peer, report)


def main():
    args = parse_arguments(__doc__, NETS, PRECISIONS)
    report = Report(args.out)
    with tempfile.TemporaryDirectory(prefix="tenor-bench-") as folder:
        write_data(folder)
        for net in NETS:
            if any(wanted(args, net, p) for p in PRECISIONS):
                measure_net(args, net, folder, report)
    report.write()


run(main)
