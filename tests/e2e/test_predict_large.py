"""Large bodies on the predict road, which are not copied on their way: however they come, and whatever ends meanwhile, each row has its own answer."""

import concurrent.futures
import json
import random
import socket
import ssl
import struct
import threading
import time

import pytest

import wire
from conftest import discard, launch, wait_until
from data import mixed_csv
from fleet import Worker, holders, workers

WIDTH = 32
HONEST = {429, 503, 504}
INFER = "/v2/models/wide/infer"


def wide_csv(rows=300, seed=1):
    """Many numbers, each of its own weight."""
    rng = random.Random(seed)
    lines = [",".join(f"x{i}" for i in range(WIDTH)) + ",y"]
    for _ in range(rows):
        row = [rng.randrange(-40, 40) / 4 for _ in range(WIDTH)]
        lines.append(",".join(map(str, row)) + f",{sum((i + 1) * x for i, x in enumerate(row))}")
    return "\n".join(lines) + "\n"


class Wide:
    """The model `wide` of a tenant, rows to ask it for, and what it says to each of them alone."""

    def __init__(self, platform):
        self.platform = platform
        self.tenant = platform.tenant("large", platform.plan(requests_per_second=100000, request_burst=100000, max_request_rows=65536))
        data = self.tenant.upload_csv(wide_csv())["id"]
        spec = {"family": "linear_regression", "target": "y"}
        self.version = self.tenant.train("wide", data, spec)["result"]["version_id"]
        self.tenant.train("wide", data, spec)  # another that answers the same
        self.tenant.ok("PUT", "/v1/models/wide/aliases/live", json={"version": 1})
        rng = random.Random(7)
        self.rows = [[rng.randrange(-400, 400) / 8 for _ in range(WIDTH)] for _ in range(200)]
        self.alone = [self.tenant.ok("POST", INFER, json={"inputs": [self.input([row])]})["outputs"][0]["data"][0] for row in self.rows]
        assert len({round(y, 2) for y in self.alone}) == len(self.rows)

    @staticmethod
    def input(rows):
        return {"name": "input", "datatype": "FP32", "shape": [len(rows), WIDTH], "data": rows}

    def request(self, which, binary, head=None, **more):
        """A request of those rows as bytes, and what the body is."""
        rows = [self.rows[i] for i in which]
        headers = {"Content_Type": "application/json"}
        if binary:
            raw = b"".join(struct.pack(f"<{WIDTH}f", *row) for row in rows)
            text = json.dumps({"inputs": [{**self.input(rows), "data": None, "parameters": {"binary_data_size": len(raw)}}], **more}
                              ).replace('"data": null, ', "").encode()
            headers = {"Inference_Header_Content_Length": len(text)}
            body = text + raw
        else:
            body = json.dumps({"inputs": [self.input(rows)], **more}).encode()
        return wire.head("POST", INFER, self.tenant.key, Content_Length=len(body), **headers, **(head or {})) + body

    def check(self, which, answer):
        (output,) = answer["outputs"]
        assert len(output["data"]) == len(which)
        for i, y in zip(which, output["data"]):
            assert y == pytest.approx(self.alone[i], rel=1e-4, abs=1e-2)


@pytest.fixture(scope="module")
def own():
    p = launch("--lease", "2s")
    try:
        yield p
        p.doctor()
    finally:
        discard(p)


@pytest.fixture(scope="module")
def wide(own):
    return Wide(own)


@pytest.fixture(scope="module")
def trusting(own):
    return ssl.create_default_context(cafile=str(own.home / "etc/tls.crt"))


def connect(platform, context=None):
    sock = wire.connect(platform.tls_url if context else platform.url, context)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def send_slowly(sock, data, rng):
    """In pieces, with pauses in which the gateway finds no more."""
    at = 0
    while at < len(data):
        n = rng.choice((rng.randrange(1, 3000), rng.randrange(1, 200000)))
        sock.sendall(data[at:at + n])
        at += n
        if rng.random() < 0.3:
            time.sleep(0.001)


def pick(rng, n):
    return [rng.randrange(200) for _ in range(n)]


# ---- whole bodies ----

@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("binary", [False, True], ids=["json", "binary"])
def test_each_row_of_a_large_body_has_its_own_answer(own, wide, trusting, binary, secure):
    rng = random.Random(1)
    with connect(own, trusting if secure else None) as sock:
        for n in (1, 50, 127, 128, 300, 1000, 1, 3000, 2, 2047, 500, 3000, 128, 1):
            which = pick(rng, n)
            send_slowly(sock, wide.request(which, binary), rng)
            reply = wire.Reply(sock)
            assert reply.status == 200, reply.body[:500]
            wide.check(which, reply.json())


def test_many_connections_at_once_get_their_own(own, wide, trusting):
    def client(number):
        rng = random.Random(number)
        with connect(own, trusting if number % 4 == 3 else None) as sock:
            for _ in range(25):
                which = pick(rng, rng.choice((1, 5, 150, 600, rng.randrange(1, 3000))))
                send_slowly(sock, wide.request(which, rng.random() < 0.6), rng)
                reply = wire.Reply(sock)
                assert reply.status == 200, reply.body[:500]
                wide.check(which, reply.json())
        return True

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(client, range(8)))


def test_large_bodies_behind_each_other_on_one_connection(own, wide):
    rng = random.Random(5)
    asked = [pick(rng, rng.choice((1, 3, 200, 800))) for _ in range(30)]
    with connect(own) as sock:
        sender = threading.Thread(target=lambda: [send_slowly(sock, wide.request(w, i % 3 > 0), random.Random(i)) for i, w in enumerate(asked)])
        sender.start()
        with sock.makefile("rb") as stream:
            for which in asked:
                status = int(stream.readline().split()[1])
                fields = dict(line.decode().rstrip().lower().split(": ", 1) for line in iter(stream.readline, b"\r\n"))
                body = stream.read(int(fields["content-length"]))
                assert status == 200, body[:500]
                wide.check(which, json.loads(body))
        sender.join()


def test_several_large_tensors_in_one_body(own):
    """Numbers and texts, each of them sent from where it lies, in either order of size."""
    tenant = own.tenant("mixed", own.plan(max_request_rows=65536))
    tenant.train("kind", tenant.upload_csv(mixed_csv())["id"],
                 {"family": "logistic_regression", "target": "kind", "preprocess": [{"op": "one_hot", "columns": ["colour"]}], "training": {"epochs": 5, "seed": 1}})
    rng = random.Random(3)
    colours = ["red", "green", "blue"]

    def ask(rows):
        size = b"".join(struct.pack("<f", s) for s, _ in rows)
        colour = b"".join(struct.pack("<I", len(c)) + c.encode() for _, c in rows)
        text = json.dumps({"inputs": [{"name": "size", "datatype": "FP32", "shape": [len(rows)], "parameters": {"binary_data_size": len(size)}},
                                      {"name": "colour", "datatype": "BYTES", "shape": [len(rows)], "parameters": {"binary_data_size": len(colour)}}],
                           "outputs": [{"name": "probabilities"}]}).encode()
        reply = tenant.post("/v2/models/kind/infer", data=text + size + colour, headers={"Inference-Header-Content-Length": str(len(text))})
        assert reply.status_code == 200, reply.text[:500]
        flat = reply.json()["outputs"][0]["data"]
        return flat[::2] if not isinstance(flat[0], list) else [pair[0] for pair in flat]

    known = [(s / 8, c) for s in range(-8, 9) for c in colours]
    alone = {row: ask([row])[0] for row in known}
    for n in (1, 2000, 4096, 6000, 20000):
        rows = [rng.choice(known) for _ in range(n)]
        assert ask(rows) == pytest.approx([alone[row] for row in rows], abs=1e-4)


# ---- what ends meanwhile ----

def test_clients_that_leave_cost_the_others_nothing(own, wide):
    rng = random.Random(11)
    with connect(own) as stayer:
        for i in range(60):
            leaver = connect(own)
            data = wide.request(pick(rng, rng.choice((200, 3000))), i % 2 == 0)
            send_slowly(leaver, data[:rng.randrange(len(data))] if i % 3 else data, rng)
            if i % 4 == 0:
                leaver.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            leaver.close()
            which = pick(rng, 400)
            stayer.sendall(wide.request(which, i % 2 == 1))
            reply = wire.Reply(stayer)
            assert reply.status == 200
            wide.check(which, reply.json())


def test_a_worker_killed_with_large_bodies_on_their_way(own, wide):
    """Each gets its right answer, from the other worker if need be, or an honest error."""
    own.tenor("stop", "worker")
    first = Worker(own)
    rng = random.Random(2)
    assert wire.ask(own.url, wide.request(pick(rng, 3), True)).status == 200  # the victim has loaded the model
    assert first.inc in holders(own, wide.version)
    own.tenor("up")
    wait_until(lambda: len(workers(own)) == 2, "both workers")
    stop, told = threading.Event(), []

    def client(number):
        rng = random.Random(number)
        with connect(own) as sock:
            while not stop.is_set():
                which = pick(rng, rng.randrange(100, 3000))
                sock.sendall(wide.request(which, number % 3 > 0, parameters={"timeout": 8000000}))
                reply = wire.Reply(sock)
                if reply.status == 200:
                    wide.check(which, reply.json())
                else:
                    assert reply.status in HONEST and "error" in reply.json(), reply.body[:500]
                told.append(reply.status)
        return True

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        clients = [pool.submit(client, i) for i in range(6)]
        try:
            wait_until(lambda: told.count(200) > 100, "large bodies to be answered")
            first.process.kill()
            answered = told.count(200)
            wait_until(lambda: told.count(200) > answered + 200, "the other worker to answer")
        finally:
            stop.set()  # else the pool would wait for its clients for ever
        assert all(c.result() for c in clients)
    first.end()
    which = pick(rng, 3000)
    reply = wire.ask(own.url, wide.request(which, True))
    assert reply.status == 200
    wide.check(which, reply.json())


# ---- other ways of the same bodies ----

@pytest.mark.parametrize("binary", [False, True], ids=["json", "binary"])
def test_one_that_is_answered_later_is_answered_the_same(own, wide, binary):
    which = pick(random.Random(4), 3000)
    reply = wire.ask(own.url, wide.request(which, binary, {"Prefer": "respond-async"}))
    assert reply.status == 202, reply.body[:500]
    job = reply.json()["id"]
    assert wide.tenant.wait_job(job)["status"] == "succeeded"
    wide.check(which, wide.tenant.ok("GET", f"/v1/jobs/{job}/result"))


def test_a_shadow_sees_the_same_bytes(own, wide):
    alias = "/v1/models/wide/aliases/live"
    wide.tenant.ok("PUT", alias, json={"version": 1, "shadow": {"version": 2, "weight": 1}})
    rng = random.Random(6)

    def shadow():
        return next(a for a in wide.tenant.ok("GET", alias + "/rollout")["arms"] if a["arm"] == "shadow")

    def ask():
        for n in (1, 200, 1000, 3000):
            which = pick(rng, n)
            reply = wire.ask(own.url, wide.request(which, rng.random() < 0.5))
            assert reply.status == 200
            wide.check(which, reply.json())
        return shadow()["compared"] >= 40

    wait_until(ask, "copies to be compared")
    assert shadow()["disagreements"] == 0 and shadow()["largest_difference"] <= 1e-3
    wide.tenant.ok("PUT", alias, json={"version": 1})
