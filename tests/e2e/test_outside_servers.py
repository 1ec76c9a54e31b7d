"""The binaries against a Postgres and a Redis that the launcher did not start: over TCP, with passwords, told by environment names."""

import os
import pathlib
import pwd
import secrets
import signal
import socket
import subprocess

import pytest

from conftest import BIN, Tenant, wait_until
from data import line_csv

PG = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))[-1]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def as_server_user(command):
    """initdb and postgres refuse root."""
    if os.geteuid() != 0:
        return command
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]


class Outside:
    """Two servers and our three daemons, each started by hand."""

    def __init__(self, folder):
        self.folder, self.children, self.home = folder, [], folder
        self.pg_port, self.redis_port, port = free_port(), free_port(), free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.ops = f"127.0.0.1:{free_port()}"
        self.passwords = {n: secrets.token_hex(8) for n in ("gateway", "worker", "scheduler", "admin")}
        for name, text in (("root.key", secrets.token_hex(32)), ("pepper", f"1:{secrets.token_hex(32)}\n")):
            (folder / name).write_text(text)
            (folder / name).chmod(0o600)
        self.port = port

    def start(self, command, **env):
        log = open(self.folder / f"{pathlib.Path(command[0]).name}-{len(self.children)}.log", "w")
        child = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, env={"PATH": os.environ["PATH"], **env})
        self.children.append(child)
        return child

    def start_servers(self):
        data = self.folder / "pg"
        data.mkdir()
        (self.folder / "pw").write_text("ownerpw")
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            for path in (data, self.folder / "pw"):
                os.chown(path, user.pw_uid, user.pw_gid)
        subprocess.run(as_server_user([str(PG / "initdb"), "-D", str(data), "-U", "owner", "-A", "scram-sha-256", f"--pwfile={self.folder}/pw", "--no-sync"]),
                       check=True, capture_output=True, cwd="/")
        self.start(as_server_user([str(PG / "postgres"), "-D", str(data), "-p", str(self.pg_port), "-c", "listen_addresses=127.0.0.1",
                                   "-c", "unix_socket_directories=", "-c", "fsync=off"]))
        self.start(["redis-server", "--port", str(self.redis_port), "--bind", "127.0.0.1", "--requirepass", "redispw", "--save", "",
                    "--maxmemory-policy", "noeviction"])
        wait_until(lambda: subprocess.run([str(PG / "pg_isready"), "-h", "127.0.0.1", "-p", str(self.pg_port)], capture_output=True).returncode == 0, "Postgres")
        subprocess.run([str(PG / "createdb"), "-h", "127.0.0.1", "-p", str(self.pg_port), "-U", "owner", "tenor"], check=True,
                       env={**os.environ, "PGPASSWORD": "ownerpw"})

    def conninfo(self, user, password):
        return f"host=127.0.0.1 port={self.pg_port} dbname=tenor user={user} password={password}"

    def shared(self, name):
        return {"TENOR_POSTGRES_URL": self.conninfo(f"tenor_{name}", self.passwords[name]), "TENOR_REDIS_URL": f"redis://127.0.0.1:{self.redis_port}",
                "TENOR_REDIS_PASSWORD": "redispw"}

    def start_daemons(self):
        keys = {"TENOR_BLOB_DIR": str(self.folder / "blobs"), "TENOR_ROOT_KEY_FILE": str(self.folder / "root.key")}
        (self.folder / "blobs").mkdir()
        self.start([str(BIN / "tenor-gateway"), "--listen", f"127.0.0.1:{self.port}", "--ops-listen", self.ops],
                   **self.shared("gateway"), **keys, TENOR_PEPPER_FILE=str(self.folder / "pepper"))
        self.start([str(BIN / "tenor-scheduler")], **self.shared("scheduler"))
        self.start([str(BIN / "tenor-worker"), "--work-dir", str(self.folder / "work")], **self.shared("worker"), **keys)

    def tenor(self, *words, **env):
        done = subprocess.run([str(BIN / "tenor"), *words], capture_output=True, text=True, timeout=60, env={"PATH": os.environ["PATH"], **env}, cwd=self.folder)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def stop(self):
        for child in reversed(self.children):
            if child.poll() is None:
                child.send_signal(signal.SIGINT if "postgres" in child.args[-1] or "postgres" in str(child.args) else signal.SIGTERM)
                try:
                    child.wait(20)
                except subprocess.TimeoutExpired:
                    child.kill()


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outside")
    for path in (folder, *folder.parents[:3]):
        if path != pathlib.Path("/tmp") and os.access(path, os.W_OK):
            path.chmod(0o755)
    o = Outside(folder)
    try:
        o.start_servers()
        yield o
    finally:
        o.stop()


def test_the_whole_road_on_servers_of_somebody_else_s(outside):
    logins = {f"TENOR_{n.upper()}_PASSWORD": p for n, p in outside.passwords.items()}
    owner = {"TENOR_POSTGRES_URL": outside.conninfo("owner", "ownerpw")}
    assert "applied" in outside.tenor("migrate", **owner, **logins)
    assert outside.tenor("migrate", **owner).startswith("0 applied")
    outside.start_daemons()
    admin = {**outside.shared("admin"), "TENOR_ROOT_KEY_FILE": str(outside.folder / "root.key"), "TENOR_PEPPER_FILE": str(outside.folder / "pepper")}
    key = outside.tenor("bootstrap", "acme", **admin).split("TENOR_API_KEY=")[1].strip()
    tenant = Tenant(outside, "acme", key)

    def answers():
        try:
            return tenant.get("/v2/health/ready").status_code == 200
        except OSError:
            return False

    wait_until(answers, "the gateway")
    ds = tenant.upload_csv(line_csv())
    job = tenant.train("line", ds["id"], {"family": "linear_regression", "target": "y"})
    assert abs(job["result"]["metrics"]["coefficients"]["x"] - 3) < 0.05
    predicted = tenant.ok("POST", "/v1/models/line:predict", json={"instances": [[4.0]]})["predictions"]
    assert abs(predicted[0] - 14) < 0.3
    outside.tenor("key", "list", "acme", **admin)
    assert "BROKEN" not in outside.tenor("doctor", **admin)
