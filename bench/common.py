"""What the benchmarks of training and inference share: the data that both sides read, the sides as processes, weights, the report."""

import argparse
import contextlib
import json
import os
import pathlib
import platform
import statistics
import struct
import subprocess
import sys

import numpy

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "predict"))
from home import idx_images, idx_labels  # noqa: E402

ROWS = 8192  # NET_DATA_ROWS of nets.h
WORDS, VOCABULARY = 64, 8000


def write_data(folder):
    """Fashion-MNIST's first pictures, and token ids that a network can learn from: in each second kind of text some words differ."""
    folder = pathlib.Path(folder)
    (idx_images("train")[:ROWS].astype("<f4") / numpy.float32(255)).tofile(folder / "images.f32")
    idx_labels("train")[:ROWS].astype("<i4").tofile(folder / "labels.i32")
    draw = numpy.random.RandomState(1)
    label = draw.randint(0, 2, ROWS)
    words = (VOCABULARY ** draw.random_sample((ROWS, WORDS))).astype("i8") - 1  # as often as words of a language: p(rank) ~ 1/rank
    odd = (draw.random_sample(words.shape) < 0.3) & (label[:, None] == 1)
    numpy.where(odd, words | 1, words).astype("<i4").tofile(folder / "tokens.i32")
    label.astype("<i4").tofile(folder / "token_labels.i32")


def load_weights(path):
    """Tensors of a safetensors file by name, as numpy arrays."""
    raw = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    tensors = {}
    for name, info in json.loads(raw[8:8 + length]).items():
        if name != "__metadata__":
            begin, end = (8 + length + at for at in info["data_offsets"])
            tensors[name] = numpy.frombuffer(raw[begin:end], "<f4").reshape(info["shape"])
    return tensors


class Side:
    """A process that waits for a line of work and answers with a line of JSON. `why_not` tells what it cannot do here."""

    def __init__(self, label, words, env=None):
        self.label = label
        self.process = subprocess.Popen([str(w) for w in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env={**os.environ, **(env or {})}, start_new_session=True)
        self.hello = self.reply()
        self.why_not = self.hello.get("unsupported")
        self.runs = []

    def reply(self):
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise SystemExit(f"{self.label} ended with status {self.process.returncode}: {' '.join(self.process.args)}")
        return json.loads(line)

    def ask(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        return self.reply()

    def timed(self, text, samples):
        """One more run; samples a second by the clock and by CPU time."""
        run = self.ask(text)
        run["rate"], run["cpu_rate"] = samples / run["seconds"], samples / max(run["cpu"], 1e-9)
        self.runs.append(run)

    def median(self, key="rate"):
        return statistics.median(r[key] for r in self.runs)

    def close(self):
        with contextlib.suppress(OSError):
            self.process.stdin.close()  # the end of its input ends it
        try:
            self.process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def sides():
    """A list that takes sides as they start; all are closed at the end, also after Ctrl-C."""
    started = []
    try:
        yield started
    finally:
        for side in started:
            side.close()


def progress(text):
    """A line that the next one replaces, for whoever watches."""
    if sys.stderr.isatty():
        print(f"\r\033[K  {text}" if text else "\r\033[K", end="", file=sys.stderr, flush=True)


def best(candidates):
    """The fastest of those that ran, by their medians; None when none did."""
    ran = [s for s in candidates if s.runs]
    return max(ran, key=Side.median) if ran else None


class Report:
    def __init__(self, path):
        self.path, self.rows = pathlib.Path(path), []

    def add(self, name, ours, peer, peer_name, unit, conditions, less_is_better=False):
        above, below = (peer, ours) if less_is_better else (ours, peer)
        self.rows.append({"name": name, "ours": float(f"{ours:.5g}"), "peer": float(f"{peer:.5g}"), "peer_name": peer_name,
                          "ratio": round(above / below, 3), "unit": unit, "conditions": conditions})

    def write(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps({"machine": machine(), "rows": self.rows}, indent=1, ensure_ascii=False) + "\n")
        print(f"\n{len(self.rows)} rows in {self.path}")


def machine():
    """The processor, its count, and what of its vector units matters here."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    of = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    units = [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8") if f in of.get("flags", "").split()]
    return f"{os.cpu_count()} CPUs, {of.get('model name', platform.machine())} ({' '.join(units)}), Linux {platform.release()}"


def parse_arguments(doc, nets, precisions, **more):
    """The flags that both benchmarks have; `more` adds some."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--helper", type=pathlib.Path, required=True, help="our side's program")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the JSON file to write")
    parser.add_argument("--quick", action="store_true", help="three short rounds instead of five")
    parser.add_argument("--rounds", type=int, default=0, help="0: five, or three when quick")
    parser.add_argument("--rows", default="", help=f"only these, separated by commas: {', '.join(nets)}, or one of them with a precision: cnn-bf16")
    for name, what in more.items():
        parser.add_argument(f"--{name}", **what)
    args = parser.parse_args()
    known = {*nets, *(f"{n}-{p}" for n in nets for p in precisions)}
    for row in filter(None, args.rows.split(",")):
        if row not in known:
            parser.error(f"no row '{row}'; expected {', '.join(sorted(known))}")
    args.rounds = args.rounds or (3 if args.quick else 5)
    return args


def plural(count, noun):
    return f"{count} {noun}{'s' * (count != 1)}"


def wanted(args, net, precision):
    names = [r for r in args.rows.split(",") if r]
    return not names or net in names or f"{net}-{precision}" in names


def run(main):
    """main(), with an interrupt as one line instead of a traceback."""
    try:
        main()
    except KeyboardInterrupt:
        progress("")
        raise SystemExit("\ninterrupted; nothing was written") from None
