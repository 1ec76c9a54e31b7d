"""`tenor up`, `down`, `status` and `stop` as an operator meets them: twice, side by side, in odd places, as root and as nobody."""

import os
import pathlib
import pwd
import re
import shutil
import socket
import stat
import subprocess
import urllib.parse

import pytest

from conftest import BIN, Platform, Tenant, discard, make_home, wait_until
from data import line_csv
from test_demo import processes_of

ROOT = pathlib.Path(__file__).parents[2]
NAMES = ("postgres", "redis", "gateway", "scheduler", "worker")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")


def pids(platform):
    return {name: platform.pid(name) for name in NAMES}


def status_of(platform):
    """The table of `tenor status`: name → state, and its exit status."""
    done = platform.tenor("status", check=False)
    rows = [line.split() for line in done.stdout.splitlines() if line.split()[:1] and line.split()[0] in NAMES]
    return {row[0]: "stopped" if "stopped" in row else "not ready" if "ready" in row else "running" for row in rows}, done


def runs(platform):
    return requests_ok(platform.url)


def requests_ok(url):
    at = urllib.parse.urlsplit(url)
    with socket.create_connection((at.hostname, at.port), timeout=20) as sock:
        sock.sendall(b"GET /v2/health/ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return sock.recv(64).startswith(b"HTTP/1.1 200")


def written_outside(home):
    """Files outside the home that its processes hold open for writing or share as memory."""
    found = set()
    for pid in processes_of(home):
        try:
            links = [(os.readlink(fd), int((fd.parents[1] / "fdinfo" / fd.name).read_text().split()[3], 8)) for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir()]
            maps = [row.split(maxsplit=5) for row in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines()]
        except OSError:
            continue  # it has just ended
        found |= {path for path, flags in links if flags & os.O_ACCMODE} | {m[5] for m in maps if len(m) == 6 and m[1][1] == "w" and m[1][3] == "s"}
    return {p for p in found if p.startswith("/") and not p.startswith((str(home), "/dev/null", "/dev/zero", "/memfd:", "/SYSV"))}


def sockets_of(home):
    """The folder of the home's unix sockets."""
    return pathlib.Path(re.search(r'(?m)^unixsocket "(.*)"', (home / "etc/redis.conf").read_text())[1]).parent


@pytest.fixture(scope="module")
def own():
    platform = Platform(make_home())
    try:
        yield platform.up()
    finally:
        discard(platform)


# ---- one home ----

def test_a_second_up_changes_nothing(own):
    before, text = pids(own), (own.home / "etc/url").read_text()
    done = own.tenor("up")
    assert pids(own) == before and (own.home / "etc/url").read_text() == text
    assert own.url in done.stdout and own.tls_url in done.stdout


def test_up_tells_the_addresses_and_what_to_do_next(own):
    text = own.tenor("up").stdout
    assert str(own.home) in text and "tenor bootstrap" in text and "tenor down" in text
    assert runs(own)


def test_status_tells_each_process_and_the_addresses(own):
    states, done = status_of(own)
    assert states == dict.fromkeys(NAMES, "running") and done.returncode == 0
    assert own.url in done.stdout and str(own.home) in done.stdout
    for name, pid in pids(own).items():
        assert str(pid) in done.stdout, name


@pytest.mark.parametrize("name", NAMES)
def test_a_stopped_process_is_told_and_started_again_by_up(own, name):
    before = pids(own)
    assert own.tenor("stop", name).stdout == f"stopped {name}\n"
    states, done = status_of(own)
    assert states[name] == "stopped" and done.returncode == 1 and "tenor up" in done.stderr
    own.up()
    after = pids(own)
    assert after[name] != before[name] and {n: p for n, p in after.items() if n != name} == {n: p for n, p in before.items() if n != name}
    assert status_of(own)[1].returncode == 0 and runs(own)


def test_killed_processes_are_started_again_by_up(own):
    for name in ("gateway", "redis", "worker"):
        own.kill(name)
    assert [status_of(own)[0][n] for n in NAMES] == ["running", "stopped", "stopped", "running", "stopped"]
    own.up()
    assert status_of(own)[1].returncode == 0 and runs(own)


def test_a_pid_that_belongs_to_somebody_else_now_is_not_ours(own):
    path = own.home / "run/worker.pid"
    own.tenor("stop", "worker")
    path.write_text(f"{os.getpid()} 1\n")
    assert status_of(own)[0]["worker"] == "stopped"
    own.up()
    assert own.pid("worker") != os.getpid()


def test_an_unknown_process_and_a_process_s_log_are_told(own):
    done = own.tenor("stop", "database", check=False)
    assert done.returncode == 1 and "'database'" in done.stderr and "postgres" in done.stderr
    assert "listening" in own.tenor("logs", "gateway").stdout


def test_secrets_are_for_their_owner_alone(own):
    for path in (own.home / "etc").iterdir():
        if path.name != "tls.crt":
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    secrets = [p.read_text().strip() for p in (own.home / "etc").glob("postgres-*")] + [own.secret("redis-password"), own.secret("root.key")]
    assert len(set(secrets)) == len(secrets) and all(len(s) == 64 for s in secrets)
    for proc in [pathlib.Path(f"/proc/{p}/cmdline") for p in pids(own).values()]:
        line = proc.read_bytes().decode(errors="replace")
        assert not any(s in line for s in secrets), line
    for kind in ("blobs", "redis", "etc", "log", "pg"):
        assert stat.S_IMODE((own.home / kind).stat().st_mode) & 0o077 == 0, kind


def test_nothing_listens_on_the_network_but_the_gateway(own):
    inodes = set()
    for name, pid in pids(own).items():
        if name != "gateway":
            for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
                try:
                    target = os.readlink(fd)
                except OSError:
                    continue
                if target.startswith("socket:["):
                    inodes.add(target[8:-1])
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for row in pathlib.Path(table).read_text().splitlines()[1:]:
            cells = row.split()
            assert not (cells[3] == "0A" and cells[9] in inodes), row


def test_a_taken_port_is_said_plainly(own):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        other = Platform(make_home())
        try:
            done = other.tenor("up", "--listen", f"127.0.0.1:{port}", "--tls-listen", "", check=False)
            assert done.returncode == 1 and f"port {port} is taken" in done.stderr and "--listen" in done.stderr, done.stderr
            done = other.tenor("up", "--listen", own.url.removeprefix("http://"), "--tls-listen", "", check=False)
            assert done.returncode == 1 and "is taken" in done.stderr
            other.up()  # and nothing was spoilt by the two attempts
            assert runs(other) and runs(own)
        finally:
            discard(other)


@pytest.mark.parametrize("words, part", [(("--listen", "nonsense"), "nonsense"), (("--listen", "127.0.0.1:99999"), "99999"), (("--listen", "203.0.113.7:0"), "203.0.113.7"),
                                         (("--tls-cert", "/nowhere/x.crt", "--tls-key", "/nowhere/x.key"), "/nowhere/x")])
def test_what_cannot_be_listened_on_is_said_plainly(own, words, part):
    own.tenor("stop", "gateway")
    try:
        done = own.tenor("up", *words, *([] if "--listen" in words else ["--listen", "127.0.0.1:0"]), "--tls-listen", "127.0.0.1:0", check=False)
        assert done.returncode in (1, 2) and part in done.stderr, done.stderr
    finally:
        own.up()


def test_a_home_that_cannot_be_is_said_plainly(tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    for home in (file, file / "below", pathlib.Path("/proc/tenor")):
        done = Platform(home).tenor("up", "--listen", "127.0.0.1:0", check=False)
        assert done.returncode == 1 and str(home) in done.stderr, done.stderr


def test_two_ups_at_once_do_not_hurt_each_other(own):
    own.tenor("stop", "worker")
    commands = [subprocess.Popen([str(BIN / "tenor"), "up", "--home", str(own.home)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    ends = [(p.communicate(timeout=60), p.returncode) for p in commands]
    assert any(code == 0 for _, code in ends)
    for (_, errors), code in ends:
        assert code == 0 or "at work" in errors, errors
    assert status_of(own)[1].returncode == 0
    mine = [line for line in processes_of(own.home).values() if "tenor-worker" in line]
    assert len(mine) == 1, mine


def test_what_was_there_is_there_after_down_and_up(own):
    tenant = own.tenant()
    dataset = tenant.upload_csv(line_csv())["id"]
    tenant.train("line", dataset, {"family": "linear_regression", "target": "y"})
    before = tenant.ok("POST", "/v1/models/line:predict", json={"instances": [[4.0]]})
    shared = written_outside(own.home)
    assert not [p for p in shared if not p.startswith("/dev/shm/")], shared
    out = own.tenor("down")
    assert "is down" in out.stdout and "killed" not in out.stdout
    wait_until(lambda: not processes_of(own.home), "all processes to end", 5)
    assert not list((own.home / "run").glob("*.pid")) and not [p for p in own.home.rglob("*") if p.is_socket()]
    assert not [p for p in shared if os.path.exists(p)]
    states, done = status_of(own)
    assert set(states.values()) == {"stopped"} and done.returncode == 1
    assert own.tenor("down").returncode == 0  # a second time is fine
    own.up()
    again = Tenant(own, tenant.name, tenant.key)  # the port is another one
    assert again.ok("GET", f"/v1/datasets/{dataset}")["rows"] == 200
    assert again.ok("POST", "/v1/models/line:predict", json={"instances": [[4.0]]}) == before
    own.doctor()


def test_a_server_that_will_not_start_is_said_plainly(own):
    own.tenor("down")
    version = own.home / "pg/PG_VERSION"
    text = version.read_text()
    try:
        version.write_text("9\n")
        done = own.tenor("up", check=False)
        assert done.returncode == 1 and "Postgres" in done.stderr and "9" in done.stderr, done.stderr
    finally:
        version.write_text(text)
    own.up()
    assert runs(own)


def test_down_where_nothing_ever_ran_is_fine_and_makes_nothing(tmp_path):
    home = tmp_path / "never"
    assert Platform(home).tenor("down").returncode == 0 and not home.exists()
    done = Platform(home).tenor("status", check=False)
    assert done.returncode == 1 and "tenor up" in done.stderr and not home.exists()


# ---- odd places ----

def test_a_home_whose_path_is_too_long_for_sockets(own):
    base = pathlib.Path(make_home())
    home = base / ("deep-" + "x" * 60) / ("deeper-" + "y" * 60)
    platform = Platform(home)
    try:
        platform.up()
        assert runs(platform) and runs(own)  # two homes at once
        tenant = platform.tenant()
        tenant.train("line", tenant.upload_csv(line_csv())["id"], {"family": "linear_regression", "target": "y"})
        beside = sockets_of(home)
        assert home not in beside.parents and stat.S_IMODE(beside.stat().st_mode) & 0o066 == 0
        platform.tenor("down")
        assert not beside.exists()
        wait_until(lambda: not processes_of(home), "all processes to end", 5)
    finally:
        platform.tenor("down", check=False)
        shutil.rmtree(base, ignore_errors=True)


@as_root
def test_root_s_home_below_a_private_folder(own):
    """Postgres runs as a user who may not enter the folder above its data."""
    base = pathlib.Path(make_home())
    base.chmod(0o700)
    platform = Platform(base / "private" / "home")
    (base / "private").mkdir(mode=0o700)
    try:
        platform.up()
        assert runs(platform)
        tenant = platform.tenant()
        tenant.train("line", tenant.upload_csv(line_csv())["id"], {"family": "linear_regression", "target": "y"})
        assert pathlib.Path(f"/proc/{platform.pid('postgres')}").stat().st_uid != 0
        assert stat.S_IMODE((base / "private").stat().st_mode) == 0o700
        platform.doctor()
        platform.tenor("down")
        assert not processes_of(base)
    finally:
        discard(platform)
        shutil.rmtree(base, ignore_errors=True)


class AsNobody(Platform):
    """A platform of an ordinary user, run from programs that were installed where that user can read them."""

    def __init__(self, base):
        self.programs = base / "programs"
        shutil.copytree(BIN, self.programs / "bin")
        shutil.copytree(ROOT / "migrations", self.programs / "share/tenor/migrations")
        subprocess.run(["chmod", "-R", "a+rX", str(self.programs)], check=True)
        (base / "nobody").mkdir()
        os.chown(base / "nobody", pwd.getpwnam("nobody").pw_uid, -1)
        super().__init__(base / "nobody/home")

    def tenor(self, *words, check=True, env=None, timeout=120, stdin=None):
        clean = {k: v for k, v in os.environ.items() if not k.startswith("TENOR_")}
        done = subprocess.run(["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--inh-caps=-all", str(self.programs / "bin/tenor"), *words],
                              capture_output=True, text=True, timeout=timeout, input=stdin, cwd="/",
                              env={**clean, "HOME": str(self.home.parent), "TENOR_HOME": str(self.home), **(env or {})})
        if check:
            assert done.returncode == 0, f"tenor {' '.join(words)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done


@as_root
def test_an_ordinary_user_runs_a_platform_of_their_own():
    base = pathlib.Path(make_home())
    base.chmod(0o755)
    platform = AsNobody(base)
    try:
        platform.up()
        assert runs(platform)
        nobody = pwd.getpwnam("nobody").pw_uid
        for name, pid in pids(platform).items():
            assert pathlib.Path(f"/proc/{pid}").stat().st_uid == nobody, name
        tenant = platform.tenant()
        tenant.train("line", tenant.upload_csv(line_csv())["id"], {"family": "linear_regression", "target": "y"})
        (value,) = tenant.ok("POST", "/v1/models/line:predict", json={"instances": [[4.0]]})["predictions"]
        assert abs(value - 14) < 0.3
        platform.tenor("doctor")
        platform.tenor("down")
        assert not processes_of(platform.home)
        assert {p.lstat().st_uid for p in platform.home.rglob("*")} == {nobody}
    finally:
        platform.tenor("down", check=False)
        shutil.rmtree(base, ignore_errors=True)
