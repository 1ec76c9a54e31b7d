"""The workers of a platform: those that live, those that hold a version, and a second one."""

import json
import subprocess

from conftest import BIN, wait_until


class Worker:
    """A second worker of the platform."""

    def __init__(self, platform, *options):
        self.platform = platform
        known = set(workers(platform))
        self.log = open(platform.home / "log/second-worker.log", "ab")
        self.process = subprocess.Popen([str(BIN / "tenor-worker"), "--config", str(platform.home / "etc/worker.conf"), "--work-dir",
                                         str(platform.home / "second-work"), *options], stderr=self.log, stdout=self.log)
        self.inc = wait_until(lambda: next(iter(set(workers(platform)) - known), None), "the second worker's heartbeat")

    def end(self, seconds=30):
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(timeout=seconds)
        self.log.close()
        return code


def workers(platform):
    """The heartbeats of the living, by incarnation."""
    keys = platform.redis("KEYS", "tnr:hb:*").split()
    texts = [platform.redis("GET", key) for key in keys]
    return {key[len("tnr:hb:"):]: json.loads(text) for key, text in zip(keys, texts) if text}


def holders(platform, version):
    return set(platform.redis("SMEMBERS", f"tnr:place:{version}").split())
