"""docker-compose.yml is valid, and every command, option and environment name in it is one that the binaries know."""

import os
import pathlib
import re
import subprocess

import pytest
import yaml

from conftest import BIN

ROOT = pathlib.Path(__file__).parents[2]
PASSWORDS = {f"{n}_PASSWORD": n.lower() for n in ("OWNER", "GATEWAY", "WORKER", "SCHEDULER", "ADMIN", "REDIS")}


@pytest.fixture(scope="module")
def compose():
    done = subprocess.run(["docker-compose", "-f", str(ROOT / "docker-compose.yml"), "config"], capture_output=True, text=True, timeout=60,
                          env={**os.environ, **PASSWORDS})
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


def ours(compose):
    return {name: s for name, s in compose["services"].items() if s["image"].startswith("tenor")}


def help_of(command):
    words = [str(BIN / command[0])]
    if command[0] == "tenor":
        words += [w for w in command[1:] if not w.startswith("-")]
    done = subprocess.run([*words, "--help"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_services_are_there(compose):
    assert {"postgres", "redis", "migrate", "gateway", "scheduler", "worker"} <= set(compose["services"])


def test_every_option_is_known(compose):
    for name, service in ours(compose).items():
        text = help_of(service["command"])
        for word in service["command"]:
            if word.startswith("--"):
                assert re.search(rf"{re.escape(word)}\b", text), f"{name}: {word}"


def test_every_environment_name_is_known(compose):
    for name, service in ours(compose).items():
        command = service["command"] if service["command"] != ["tenor", "help"] else ["tenor", "bootstrap"]
        text = help_of(command) + (help_of(["tenor", "usage"]) if name == "admin" else "")
        for variable in service.get("environment", {}):
            assert re.search(rf"\b{variable}\b", text), f"{name}: {variable}"


def test_the_worker_can_be_scaled(compose):
    worker = compose["services"]["worker"]
    assert "container_name" not in worker and "ports" not in worker


def test_a_missing_password_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "empty").write_text("")
    env = {k: v for k, v in os.environ.items() if not k.endswith("_PASSWORD")}
    done = subprocess.run(["docker-compose", "-f", str(ROOT / "docker-compose.yml"), "--env-file", str(tmp_path / "empty"), "config"], capture_output=True,
                          text=True, timeout=60, env=env)
    assert done.returncode != 0 and "make-secrets.sh" in done.stderr


def test_the_image_installs_what_the_binaries_load():
    """Each library of the second stage is one that a binary really needs, and none that it needs is missing."""
    stage = (ROOT / "deploy/Dockerfile").read_text().split("FROM debian:12-slim\n")[1]
    needed = set()
    for binary in ("tenor", "tenor-gateway", "tenor-scheduler", "tenor-worker", "tenor-runner"):
        done = subprocess.run(["objdump", "-p", str(BIN / binary)], capture_output=True, text=True, timeout=20)
        needed |= set(re.findall(r"NEEDED\s+(\S+)", done.stdout))
    assert needed
    base = {"libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2"}
    package_of = {"libpq.so.5": "libpq5", "libhiredis.so.0.14": "libhiredis0.14", "libevent-2.1.so.7": "libevent-2.1-7",
                  "libevent_pthreads-2.1.so.7": "libevent-pthreads-2.1-7",
                  "libssl.so.3": "libssl3", "libcrypto.so.3": "libssl3", "libcjson.so.1": "libcjson1", "libopenblas.so.0": "libopenblas0-pthread",
                  "libz.so.1": "zlib1g", "libseccomp.so.2": "libseccomp2", "libcurl.so.4": "libcurl4"}
    for library in needed - base:
        assert package_of[library] in stage, library
