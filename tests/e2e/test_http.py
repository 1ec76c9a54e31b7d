"""The gateway's HTTP from outside: framing, TLS, what every answer carries, health, metrics, and the API's own description."""

import json
import pathlib
import re
import socket
import ssl
import urllib.parse

import pytest
import requests

import corpus_http
import wire
from conftest import wait_until
from data import line_csv

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def at(platform):
    """Host and port of the plain listener."""
    url = urllib.parse.urlsplit(platform.url)
    return url.hostname, url.port


def get(path, key=None, **headers):
    return wire.head("GET", path, key, **headers)


# ---- framing ----

@pytest.mark.parametrize("case", corpus_http.REFUSED, ids=lambda case: case.name)
def test_doubtful_framing_is_refused_once_and_the_connection_closed(at, case):
    corpus_http.check(case, *at)


@pytest.mark.parametrize("case", corpus_http.REFUSED_IN_BODY, ids=lambda case: case.name)
def test_a_doubtful_body_is_refused_where_it_is_read(at, shared_tenant, case):
    keyed = case._replace(bytes=case.bytes.replace(b"Host: a\r\n", b"Host: a\r\nContent-Type: application/json\r\nAuthorization: Bearer "
                                                   + shared_tenant.key.encode() + b"\r\n", 1))
    corpus_http.check(keyed, *at, path="/v1/jobs")


def test_a_sound_request_is_still_served_after_all_that(shared_tenant):
    assert shared_tenant.get("/v1/datasets").status_code == 200


def test_pipelined_requests_are_answered_in_order(platform, shared_tenant):
    with wire.connect(platform.url) as sock:
        sock.sendall(get("/v1/jobs", shared_tenant.key) + get("/v2") + get("/nowhere") + get("/v1/datasets", shared_tenant.key) + get("/openapi.json", Connection="close"))
        answers = re.findall(rb"HTTP/1\.1 (\d\d\d) ", wire.read_to_end(sock))
    assert answers == [b"200", b"200", b"404", b"200", b"200"]


def test_a_connection_serves_many_requests(platform, shared_tenant):
    with wire.connect(platform.url) as sock:
        for _ in range(50):
            sock.sendall(get("/v1/datasets", shared_tenant.key))
            assert wire.Reply(sock).status == 200


def test_100_continue_comes_before_a_body_that_is_wanted_and_not_before_one_that_is_not(platform, shared_tenant):
    body = line_csv(5).encode()
    with wire.connect(platform.url) as sock:
        sock.sendall(wire.head("POST", "/v1/datasets?name=expected", shared_tenant.key, Content_Type="text/csv", Content_Length=len(body), Expect="100-continue"))
        assert sock.recv(1024).startswith(b"HTTP/1.1 100 ")
        sock.sendall(body)
        assert wire.Reply(sock).status == 201
    with wire.connect(platform.url) as sock:
        sock.sendall(wire.head("POST", "/v1/datasets?name=expected", None, Content_Type="text/csv", Content_Length=len(body), Expect="100-continue"))
        assert wire.Reply(sock).status == 401


def test_head_gets_the_headers_of_get_and_no_body(platform, shared_tenant):
    with wire.connect(platform.url) as sock:
        sock.sendall(wire.head("HEAD", "/openapi.json") + get("/openapi.json", Connection="close"))
        answer = wire.read_to_end(sock)
    first, _, rest = answer.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 200") and rest.startswith(b"HTTP/1.1 200")
    lengths = re.findall(rb"(?i)content-length: (\d+)", answer)
    assert len(lengths) == 2 and lengths[0] == lengths[1]


def test_a_client_that_leaves_in_the_middle_is_forgotten(platform, shared_tenant):
    def open_connections():
        return next(float(v) for n, _, v in samples(platform) if n == "tenor_gateway_connections")

    before = open_connections()
    socks = [wire.connect(platform.url) for _ in range(20)]
    for sock in socks:
        sock.sendall(wire.head("POST", "/v1/jobs", shared_tenant.key, Content_Type="application/json", Content_Length=100) + b"{")
    wait_until(lambda: open_connections() >= before + 20, "the connections to be counted")
    for sock in socks:
        sock.close()
    wait_until(lambda: open_connections() <= before + 1, "the connections to be forgotten")


# ---- TLS ----

@pytest.fixture(scope="module")
def trusting(platform):
    """A context that trusts the generated certificate and nothing else."""
    return ssl.create_default_context(cafile=str(platform.home / "etc/tls.crt"))


def test_tls_with_the_generated_certificate_checks_out(platform, shared_tenant, trusting):
    with wire.connect(platform.tls_url, trusting) as sock:
        assert sock.version() in ("TLSv1.2", "TLSv1.3")
        sock.sendall(get("/v1/tenant", shared_tenant.key))
        assert wire.Reply(sock).json()["name"] == shared_tenant.name
        sock.sendall(get("/v1/datasets", shared_tenant.key))
        assert wire.Reply(sock).status == 200
    reply = requests.get(platform.tls_url + "/v2", verify=str(platform.home / "etc/tls.crt"), timeout=20)
    assert reply.status_code == 200


def test_the_private_key_is_nobody_else_s_to_read(platform):
    assert (platform.home / "etc/tls.key").stat().st_mode & 0o077 == 0


def test_a_client_that_does_not_trust_the_certificate_refuses_it(platform):
    with pytest.raises(ssl.SSLCertVerificationError):
        wire.connect(platform.tls_url, ssl.create_default_context())


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_tls_is_refused(platform):
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        wire.connect(platform.tls_url, old)


def test_an_upload_and_a_large_answer_pass_through_tls(platform, tenant, trusting):
    text = line_csv(20000).encode()
    with wire.connect(platform.tls_url, trusting) as sock:
        sock.sendall(wire.head("POST", "/v1/datasets?name=tls", tenant.key, Content_Type="text/csv", Content_Length=len(text)) + text)
        assert wire.Reply(sock).json()["rows"] == 20000
        sock.sendall(get("/openapi.json"))
        assert wire.Reply(sock).json()["openapi"]


def test_plain_text_on_the_tls_port_gets_no_http_answer(platform):
    with wire.connect(platform.tls_url) as sock:
        sock.sendall(get("/v2"))
        assert not wire.read_to_end(sock).startswith(b"HTTP/1.1 200")


# ---- what every answer carries ----

def test_every_answer_has_a_request_id_of_its_own(platform, tenant):
    paths = [("GET", "/v1/datasets"), ("GET", "/nowhere"), ("DELETE", "/v1/datasets"), ("GET", "/v1/jobs/job_x"), ("POST", "/v1/jobs"), ("GET", "/v2"),
             ("POST", "/v1/models/none:predict"), ("POST", "/v2/models/none/infer"), ("GET", "/openapi.json"), ("GET", "/v1/datasets?x=1")]
    ids = [tenant.call(method, path).headers["X-Request-Id"] for method, path in paths]
    ids += [tenant.get("/v1/datasets", headers={"Authorization": None}).headers["X-Request-Id"]]
    ids += [wire.ops(platform, p).headers["X-Request-Id"] for p in ("/livez", "/metrics", "/nowhere")]
    assert all(re.fullmatch(r"req_[0-9a-z]{26}", i) for i in ids) and len(set(ids)) == len(ids)


@pytest.mark.parametrize("method, path, allow", [
    ("PATCH", "/v1/datasets", {"GET", "HEAD", "POST"}), ("PUT", "/v1/datasets/ds_x", {"GET", "HEAD", "DELETE"}), ("DELETE", "/v1/jobs", {"GET", "HEAD", "POST"}),
    ("GET", "/v1/jobs/job_x/cancel", {"POST"}), ("POST", "/v1/usage", {"GET", "HEAD"}), ("DELETE", "/v1/models/m/aliases/live", {"GET", "HEAD", "PUT"}),
    ("GET", "/v2/models/m/infer", {"POST"}), ("POST", "/v2", {"GET", "HEAD"}), ("POST", "/openapi.json", {"GET", "HEAD"})])
def test_another_method_is_405_with_those_that_are_allowed(shared_tenant, method, path, allow):
    reply = shared_tenant.call(method, path)
    assert reply.status_code == 405 and set(re.split(r",\s*", reply.headers["Allow"])) == allow, reply.headers
    error = reply.json()["error"]
    message = error if "/v2" in path else error["message"]
    assert method in message and ("/v2" in path or error["code"] == "method_not_allowed")


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/", "/v1/datasets/", "/v1/datasets/a/b", "/v3/models", "//v1/datasets", "/V1/datasets", "/metrics", "/readyz", "/livez",
                                  "/admin/v1/tenants"])
def test_an_unknown_path_is_404_with_an_envelope(shared_tenant, path):
    reply = shared_tenant.get(path)
    assert reply.status_code == 404 and reply.json()["error"]["code"] == "not_found"


def test_a_body_where_none_is_taken_is_refused(shared_tenant):
    reply = shared_tenant.call("DELETE", "/v1/datasets/ds_01jd8x00000000000000000000", data=b"{}", headers={"Content-Type": "application/json"})
    assert reply.status_code == 400 and reply.json()["error"]["param"] == "body"


def test_an_internal_fault_tells_nothing_of_the_inside(platform, shared_tenant):
    for path in ("/v1/datasets?limit=99999999999999999999", "/v1/invoices/2026-99", "/v1/invoices/%E2%98%83", "/v1/usage?start_time=-1", "/v1/usage?start_time=9&end_time=3"):
        reply = shared_tenant.get(path)
        assert reply.status_code in (400, 404), f"{path}: {reply.text}"
        assert "SELECT" not in reply.text and str(platform.home) not in reply.text


# ---- health and metrics ----

def test_liveness_and_readiness_are_told_to_the_operator_and_to_clients(platform):
    assert wire.ops(platform, "/livez").json() == {"live": True} and wire.ops(platform, "/readyz").json() == {"ready": True}
    for path, body in (("/v2/health/live", {"live": True}), ("/v2/health/ready", {"ready": True})):
        reply = requests.get(platform.url + path, timeout=20)
        assert reply.status_code == 200 and reply.json() == body
    assert wire.ops(platform, "/v1/datasets").status == 404


SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_]\w*="(?:[^"\\]|\\.)*",?)*)\})? ([-+]?(?:\d[\d.eE+-]*|Inf|NaN))')


def samples(platform):
    """(name, labels, value) of each sample; fails on a line that is no Prometheus text."""
    found = []
    for line in wire.ops(platform, "/metrics").body.decode().splitlines():
        if line.startswith("# HELP ") or line.startswith("# TYPE ") or not line:
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        found.append((match[1], dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match[2] or "")), match[3]))
    return found


def test_metrics_are_prometheus_text_and_count(platform, shared_tenant):
    def count(status):
        return sum(float(v) for n, labels, v in samples(platform)
                   if n == "tenor_gateway_requests_total" and "/v1/datasets" in str(labels) and labels.get("status", labels.get("code")) in (status, status[0] + "xx"))

    text = wire.ops(platform, "/metrics")
    assert text.headers["Content-Type"].startswith("text/plain")
    before = count("200")
    for _ in range(5):
        shared_tenant.ok("GET", "/v1/datasets")
    assert count("200") == before + 5
    types = dict(re.findall(r"(?m)^# TYPE (\S+) (\S+)$", text.body.decode()))
    for name, kind in types.items():
        assert kind in ("counter", "gauge", "histogram"), name
        assert kind != "counter" or name.endswith("_total"), name
    names = {n for n, _, _ in samples(platform)}
    for name in names:
        assert name in types or re.sub(r"_(bucket|sum|count)$", "", name) in types, name
    assert not any(shared_tenant.key in line for line in text.body.decode().splitlines())


def test_a_histogram_s_buckets_grow_and_end_with_its_count(platform):
    series = {}
    for name, labels, value in samples(platform):
        if name == "tenor_gateway_request_duration_seconds_bucket":
            rest = tuple(sorted((k, v) for k, v in labels.items() if k != "le"))
            series.setdefault(rest, []).append((float(labels["le"].replace("+Inf", "inf")), float(value)))
    assert series
    for buckets in series.values():
        assert buckets == sorted(buckets) and [v for _, v in buckets] == sorted(v for _, v in buckets) and buckets[-1][0] == float("inf")


# ---- the API's own description ----

def routes_of_docs():
    rows = re.findall(r"(?m)^\| `([A-Z]+) (/\S*)`( \(ops\))? \|", (ROOT / "docs/api.md").read_text())
    return {(method, path) for method, path, ops in rows if not ops}


def test_openapi_lists_each_route_of_the_docs(shared_tenant):
    document = shared_tenant.ok("GET", "/openapi.json")
    listed = {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}
    assert listed == routes_of_docs() and len(listed) > 30


def test_openapi_refers_to_nothing_that_is_not_there(shared_tenant):
    document = shared_tenant.ok("GET", "/openapi.json")
    assert document["openapi"].startswith("3.1")
    text = json.dumps(document)
    references = set(re.findall(r'"\$ref": "#/components/schemas/(\w+)"', text))
    assert references and references <= set(document["components"]["schemas"])
    for path, operations in document["paths"].items():
        for operation in operations.values():
            named = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
            assert named == set(re.findall(r"\{(\w+)\}", path)) and all(p["required"] for p in operation["parameters"] if p["in"] == "path")


def test_answers_have_the_fields_that_openapi_promises(shared_tenant):
    """Every required property of the described shape is there, in real answers."""
    document = shared_tenant.ok("GET", "/openapi.json")
    shapes = document["components"]["schemas"]
    dataset = shared_tenant.upload_csv(line_csv(30))
    job = shared_tenant.train("described", dataset["id"], {"family": "linear_regression", "target": "y"})
    answers = {"Dataset": dataset, "Job": job, "JobResult": job["result"], "JobEvent": shared_tenant.events(job["id"])[0],
               "Model": shared_tenant.ok("GET", "/v1/models/described"), "ModelVersion": shared_tenant.ok("GET", "/v1/models/described/versions/1"),
               "Alias": shared_tenant.ok("GET", "/v1/models/described/aliases/live"), "Rollout": shared_tenant.ok("GET", "/v1/models/described/aliases/live/rollout"),
               "Invoice": shared_tenant.invoice(),
               "InvoiceLine": shared_tenant.invoice()["lines"][0], "UsagePage": shared_tenant.ok("GET", "/v1/usage"),
               "UsageBucket": shared_tenant.ok("GET", "/v1/usage")["data"][0], "AuditEntry": shared_tenant.ok("GET", "/v1/audit")["data"][0],
               "AuditVerification": shared_tenant.ok("GET", "/v1/audit/verify"), "Key": shared_tenant.ok("GET", "/v1/keys")["data"][0],
               "Tenant": shared_tenant.ok("GET", "/v1/tenant"), "Column": dataset["columns"][0],
               "ModelMetadata": shared_tenant.ok("GET", "/v2/models/described"), "ModelReady": shared_tenant.ok("GET", "/v2/models/described/ready")}
    kinds = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "object": dict, "array": list, "null": type(None)}
    for name, answer in answers.items():
        assert set(shapes[name]["required"]) <= set(answer), name
        for field, value in answer.items():
            types = shapes[name]["properties"].get(field, {}).get("type")
            if types:
                allowed = tuple(k for t in ([types] if isinstance(types, str) else types) for k in (kinds[t] if isinstance(kinds[t], tuple) else (kinds[t],)))
                assert isinstance(value, allowed), f"{name}.{field}: {value!r} is no {types}"


def test_many_connections_at_once_are_served(platform):
    socks = [socket.create_connection(tuple(urllib.parse.urlsplit(platform.url).netloc.split(":")), timeout=20) for _ in range(100)]
    try:
        for sock in socks:
            sock.sendall(get("/v2"))
        assert [wire.Reply(sock).status for sock in socks] == [200] * 100
    finally:
        for sock in socks:
            sock.close()
