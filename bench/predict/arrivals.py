"""Requests that arrive at their own pace: a run of poisson.c, and what it writes."""

import json
import subprocess
import urllib.parse

import numpy

OUTCOME = numpy.dtype([("request", "<u4"), ("status", "<u4"), ("due_ns", "<i8"), ("latency_ns", "<i8"), ("taken_ns", "<i8")])  # its struct outcome


def arrive(helpers, url, requests, rate, seconds, connections, law="poisson", seed=1, outcomes=None, picks=None):
    """One open loop against the server of url: the figures that poisson.c's head names. requests, outcomes and picks are files."""
    at = urllib.parse.urlsplit(url)
    words = [helpers / "poisson", at.hostname, at.port, requests, f"{rate:.1f}", seconds, connections, law, seed, *filter(None, [outcomes, picks])]
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=seconds * 3 + 60)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(done.args)} failed: {done.stderr.strip()}")
    return json.loads(done.stdout)
