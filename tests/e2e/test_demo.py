"""`tenor demo`, as a person runs it: what its last line says, and that it leaves nothing running."""

import json
import pathlib
import shutil
import subprocess
import time

import pytest

from conftest import Platform, make_home, wait_until

FIELDS = ["accuracy", "linear", "train_seconds", "predictions", "invoice_micros", "audit", "total_seconds"]


def processes_of(home):
    """Processes that have the home's path in their command line or work inside it: pid → command line."""
    found = {}
    for proc in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            line = (proc / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            inside = str((proc / "cwd").readlink()).startswith(str(home))
        except OSError:
            continue
        if str(home) in line or inside:
            found[int(proc.name)] = line
    return found


@pytest.fixture(scope="module")
def shown():
    home = pathlib.Path(make_home())
    platform = Platform(home)
    began = time.monotonic()
    try:
        done = platform.tenor("demo", "--listen", "127.0.0.1:0", timeout=170)
        yield home, done.stdout, time.monotonic() - began
    finally:
        platform.tenor("down", check=False)
        shutil.rmtree(home, ignore_errors=True)


def test_the_last_line_reports_what_was_measured(shown):
    _, text, seconds = shown
    report = json.loads(text.splitlines()[-1])
    assert list(report) == FIELDS
    assert 0.87 <= report["accuracy"] < 0.95
    assert abs(report["linear"][0] - 3) < 0.05 and abs(report["linear"][1] - 2) < 0.05
    assert report["linear"] != [3, 2], "a fit to noisy data is never exact"
    assert 0 < report["train_seconds"] < report["total_seconds"] <= seconds
    assert report["predictions"] >= 10 and int(report["invoice_micros"]) > 0 and report["audit"] == "verified"


def test_it_shows_the_whole_road(shown):
    _, text, _ = shown
    for part in ("60000", "10000", "epoch", "version 1", "sha256", "verified", "total"):
        assert part in text, part
    assert text.count("ds_") >= 3 and "\033[" not in text, "no colours off a terminal"
    assert sum(line.startswith(("  ", " ")) and len(line) > 100 for line in text.splitlines()) >= 14, "pictures of the images"


def test_nothing_is_left_running_and_the_books_are_closed(shown):
    home, _, _ = shown
    wait_until(lambda: not processes_of(home), "the demo's processes to end", 5)
    assert not list((home / "run").glob("*.pid"))
    done = subprocess.run(["ss", "-xl"], capture_output=True, text=True)
    assert str(home) not in done.stdout
