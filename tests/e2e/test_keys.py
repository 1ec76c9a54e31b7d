"""API keys: who is refused, what a scope allows, rotation, and that taking a key away takes effect at once."""

import time
import zlib

import pytest

from conftest import Tenant, wait_until
from data import line_csv

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
CALLS = {  # each scope with requests that need it
    "datasets:read": [("GET", "/v1/datasets"), ("GET", "/v1/datasets/ds_01jd8x00000000000000000000")],
    "datasets:write": [("POST", "/v1/datasets?name=x"), ("DELETE", "/v1/datasets/ds_01jd8x00000000000000000000")],
    "jobs:read": [("GET", "/v1/jobs"), ("GET", "/v1/jobs/job_01jd8x00000000000000000000/events")],
    "jobs:write": [("POST", "/v1/jobs")],
    "models:read": [("GET", "/v1/models"), ("GET", "/v1/models/m/versions"), ("GET", "/v1/models/m/aliases"), ("GET", "/v1/models/m/aliases/live"), ("GET", "/v1/models/m/aliases/live/rollout")],
    "models:write": [("PUT", "/v1/models/m/aliases/live")],
    "predict": [("POST", "/v1/models/m:predict"), ("POST", "/v2/models/m/infer"), ("GET", "/v2/models/m"), ("GET", "/v2/models/m/ready"), ("POST", "/v1/models/m:classify"), ("POST", "/v1/models/m/labels/live:regress")],
    "billing:read": [("GET", "/v1/usage"), ("GET", "/v1/invoices/2026-01")],
    "audit:read": [("GET", "/v1/audit"), ("GET", "/v1/audit/verify")],
    "keys:write": [("GET", "/v1/keys"), ("POST", "/v1/keys"), ("DELETE", "/v1/keys/key_01jd8x00000000000000000000")],
}


def key_id(key):
    return "key_" + key[9:35]


def make(tenant, name="extra", scopes=("datasets:read",), **more):
    return tenant.ok("POST", "/v1/keys", json={"name": name, "scopes": list(scopes), **more})


def with_key(tenant, secret):
    return Tenant(tenant.platform, tenant.name, secret)


def sealed(body):
    """A key's text with the checksum that belongs to it: only a look-up can tell that it is wrong."""
    crc, out = zlib.crc32(body.encode()), ""
    for _ in range(6):
        crc, digit = divmod(crc, 62)
        out = DIGITS[digit] + out
    return body + out


def status_with(tenant, authorization, path="/v1/datasets"):
    headers = {"Authorization": authorization} if authorization is not None else {"Authorization": None}
    return tenant.get(path, headers=headers)


# ---- who is refused ----

def test_requests_without_a_key_are_refused_on_every_route(platform, tenant):
    paths = tenant.ok("GET", "/openapi.json")["paths"]
    seen = 0
    for path, operations in paths.items():
        for method, operation in operations.items():
            at = path.replace("{", "").replace("}", "")
            reply = tenant.call(method.upper(), at, headers={"Authorization": None})
            if operation["security"]:
                seen += 1
                assert reply.status_code == 401, f"{method} {at}: {reply.status_code}"
            else:
                assert reply.status_code == 200, f"{method} {at}: {reply.status_code}"
    assert seen > 25


def test_garbage_is_refused_with_what_was_expected(tenant):
    key = tenant.key
    flipped = key[:40] + ("a" if key[40] != "a" else "b") + key[41:]
    for value in (None, "", "Bearer", "Bearer ", "Bearer x", "Basic dXNlcjpwYXNz", key, f"Bearer {key}x", f"Bearer {key[:-1]}", f"Bearer {flipped}",
                  f"Bearer {key} {key}", "Bearer " + "x" * 20000, f"Bearer tnr_live_{'0' * 26}_{'!' * 43}000000"):
        reply = status_with(tenant, value)
        assert reply.status_code in ((401, 431) if value and len(value) > 9000 else (401,)), (value, reply.text)
        if reply.status_code == 401:
            error = reply.json()["error"]
            assert error["type"] == "authentication_error" and error["code"] == "unauthorized"
            assert "tnr_live_" in error["message"] and key not in reply.text
    assert status_with(tenant, f"Bearer {key}").status_code == status_with(tenant, f"bearer  {key}").status_code == 200


def test_a_remembered_key_is_refused_with_any_character_changed(tenant):
    key, path = tenant.key, "/v1/datasets"
    for at in range(len(key)):
        assert status_with(tenant, f"Bearer {key}", path).status_code == 200  # it is remembered
        other = key[:at] + ("a" if key[at] != "a" else "b") + key[at + 1:]
        reply = status_with(tenant, f"Bearer {other}", path)
        assert reply.status_code == 401 and "this is not an API key" in reply.json()["error"]["message"], (at, reply.text)
    # the id of a remembered key with the secret of nobody, and its secret with the id of nobody
    for body in (key[:36] + key[36:79][::-1], "tnr_live_" + key[9:35][::-1] + key[35:79]):
        assert status_with(tenant, f"Bearer {sealed(body)}", path).status_code == 401
    assert status_with(tenant, f"Bearer {key}", path).status_code == 200


def test_a_wrong_secret_an_unknown_key_and_a_revoked_one_look_the_same(tenant):
    made = make(tenant)
    tenant.ok("DELETE", f"/v1/keys/{made['id']}")
    wrong = sealed(tenant.key[:36] + "1" * 43)
    unknown = sealed("tnr_live_" + "0" * 26 + "_" + "1" * 43)
    replies = [status_with(tenant, f"Bearer {k}") for k in (wrong, unknown, made["secret"])]
    assert [r.status_code for r in replies] == [401] * 3 and len({r.content for r in replies}) == 1
    assert status_with(tenant, f"Bearer {tenant.key}").status_code == 200


# ---- scopes ----

@pytest.fixture(scope="module")
def scoped(platform):
    tenant = platform.tenant("scopes")
    return {scope: with_key(tenant, make(tenant, scope.replace(":", "-"), [scope])["secret"]) for scope in CALLS}


@pytest.mark.parametrize("scope", CALLS)
def test_a_scope_opens_its_own_routes_and_no_other(scoped, scope):
    holder = scoped[scope]
    for other, calls in CALLS.items():
        for method, path in calls:
            reply = holder.call(method, path)
            if other == scope:
                assert reply.status_code not in (401, 403), f"{method} {path}: {reply.text}"
            else:
                assert reply.status_code == 403, f"{method} {path}: {reply.status_code} {reply.text}"
                assert other in reply.text
    own = holder.ok("GET", "/v1/tenant")
    assert own["key"]["scopes"] == [scope]


@pytest.mark.parametrize("method, path, scopes", [("GET", "", {"jobs:read", "predict"}), ("GET", "/result", {"jobs:read", "predict"}), ("POST", "/cancel", {"jobs:write", "predict"})])
def test_one_job_opens_to_either_of_two_scopes(scoped, method, path, scopes):
    for scope, holder in scoped.items():
        reply = holder.call(method, f"/v1/jobs/job_01jd8x00000000000000000000{path}")
        assert reply.status_code == (404 if scope in scopes else 403), f"{scope}: {reply.text}"


def test_the_refusal_has_the_shape_of_its_protocol(scoped):
    reader = scoped["datasets:read"]
    error = reader.get("/v1/jobs").json()["error"]
    assert error["type"] == "permission_error" and error["code"] == "forbidden" and "jobs:read" in error["message"]
    for path in ("/v2/models/m/infer", "/v1/models/m:predict"):
        reply = reader.post(path, json={})
        assert reply.status_code == 403 and set(reply.json()) == {"error"} and "predict" in reply.json()["error"]


def test_a_key_never_makes_a_stronger_one(tenant):
    weak = with_key(tenant, make(tenant, "weak", ["keys:write", "datasets:read"], models=["a"])["secret"])
    for body, param in (({"name": "n", "scopes": ["datasets:read", "jobs:read"]}, "scopes[1]"),
                        ({"name": "n", "scopes": ["datasets:read"], "models": ["b"]}, "models[0]")):
        reply = weak.post("/v1/keys", json=body)
        assert reply.status_code == 403 and reply.json()["error"]["param"] == param, reply.text
    assert weak.ok("POST", "/v1/keys", json={"name": "n", "scopes": ["datasets:read"]})["models"] == ["a"]


# ---- making and listing ----

def test_a_secret_is_shown_once_and_stored_nowhere(platform, tenant):
    reply = tenant.post("/v1/keys", json={"name": "once", "scopes": ["predict"]}, headers={"Idempotency-Key": "k1"})
    made = reply.json()
    assert reply.status_code == 201 and made["secret"].startswith("tnr_live_") and key_id(made["secret"]) == made["id"]
    assert reply.headers["Cache-Control"] == "no-store"
    again = tenant.post("/v1/keys", json={"name": "once", "scopes": ["predict"]}, headers={"Idempotency-Key": "k1"})
    assert again.status_code == 201 and again.json()["id"] == made["id"] and again.json()["secret"] is None
    secret = made["secret"][36:79]
    assert secret not in tenant.get("/v1/keys?limit=100").text and secret not in tenant.get("/v1/audit?limit=100").text
    assert with_key(tenant, made["secret"]).get("/v1/tenant").status_code == 200
    assert platform.sql(f"SELECT count(*) FROM api_keys k WHERE k::text LIKE '%{secret}%'") == [["0"]]
    assert platform.sql(f"SELECT count(*) FROM idempotency_keys k WHERE k::text LIKE '%{secret}%'") == [["0"]]
    for log in (platform.home / "log").glob("*.log"):
        assert secret not in log.read_text(errors="replace"), log


def test_at_most_two_live_keys_share_a_name(tenant):
    first, _ = make(tenant, "rotating"), make(tenant, "rotating")
    reply = tenant.post("/v1/keys", json={"name": "rotating", "scopes": ["predict"]})
    assert reply.status_code == 409 and reply.json()["error"]["param"] == "name"
    tenant.ok("DELETE", f"/v1/keys/{first['id']}")
    make(tenant, "rotating")
    live = [k for k in tenant.ok("GET", "/v1/keys")["data"] if k["name"] == "rotating" and k["status"] == "active"]
    assert len(live) == 2


def test_the_plan_s_number_of_keys_is_kept(platform):
    tenant = platform.tenant(plan=platform.plan(max_keys=2))
    make(tenant, "second")
    reply = tenant.post("/v1/keys", json={"name": "third", "scopes": ["predict"]})
    assert reply.status_code == 429 and reply.json()["error"]["param"] == "keys"


@pytest.mark.parametrize("body, param", [
    ({"scopes": ["predict"]}, "name"), ({"name": "n"}, "scopes"), ({"name": "n", "scopes": []}, "scopes"), ({"name": "n", "scopes": ["fly"]}, "scopes[0]"),
    ({"name": "n", "scopes": "predict"}, "scopes"), ({"name": "N N", "scopes": ["predict"]}, "name"), ({"name": "n", "scopes": ["predict"], "colour": 1}, "colour"),
    ({"name": "n", "scopes": ["predict"], "expires_at": 1000}, "expires_at"), ({"name": "n", "scopes": ["predict"], "models": ["A B"]}, "models[0]")])
def test_a_wrong_request_for_a_key_is_refused_by_field(tenant, body, param):
    reply = tenant.post("/v1/keys", json=body)
    assert reply.status_code == 400 and reply.json()["error"]["param"] == param, reply.text
    assert len(tenant.ok("GET", "/v1/keys")["data"]) == 1


# ---- taking away ----

def warm(tenant):
    """Enough requests on connections of their own that every loop has the key in its cache."""
    for _ in range(12):
        assert tenant.get("/v1/datasets", headers={"Connection": "close"}).status_code == 200


def all_refused(tenant, status=401):
    return all(tenant.get("/v1/datasets", headers={"Connection": "close"}).status_code == status for _ in range(12))


def test_a_key_that_is_revoked_over_the_api_is_refused_at_once(tenant):
    other = with_key(tenant, make(tenant)["secret"])
    warm(other)
    assert tenant.ok("DELETE", f"/v1/keys/{key_id(other.key)}") == {"id": key_id(other.key), "object": "api_key", "deleted": True}
    assert all_refused(other)
    listed = next(k for k in tenant.ok("GET", "/v1/keys")["data"] if k["id"] == key_id(other.key))
    assert listed["status"] == "revoked" and listed["revoked_at"]


def test_a_key_that_is_revoked_from_the_shell_is_refused_at_once(platform, tenant):
    other = with_key(tenant, make(tenant)["secret"])
    warm(other)
    assert "revoked" in platform.tenor("key", "revoke", tenant.name, key_id(other.key)).stdout
    wait_until(lambda: all_refused(other), "the revocation to reach the gateway", 2)
    assert "already" in platform.tenor("key", "revoke", tenant.name, key_id(other.key)).stdout


def test_a_key_can_revoke_itself(tenant):
    other = with_key(tenant, make(tenant, "self", ["keys:write"])["secret"])
    other.ok("DELETE", f"/v1/keys/{key_id(other.key)}")
    assert other.get("/v1/keys").status_code == 401


def test_an_expired_key_is_refused_even_from_the_cache(tenant):
    until = int(time.time()) + 2
    other = with_key(tenant, make(tenant, expires_at=until)["secret"])
    warm(other)
    wait_until(lambda: other.get("/v1/datasets").status_code == 401, "the key to expire", 6)
    assert time.time() >= until
    listed = next(k for k in tenant.ok("GET", "/v1/keys")["data"] if k["id"] == key_id(other.key))
    assert listed["status"] == "expired" and listed["expires_at"] == until


def test_a_suspended_tenant_s_keys_are_refused_until_it_is_resumed(platform, tenant):
    warm(tenant)
    platform.tenor("tenant", "suspend", tenant.name)
    wait_until(lambda: all_refused(tenant, 403), "the suspension to reach the gateway", 2)
    error = tenant.get("/v1/datasets").json()["error"]
    assert error["type"] == "permission_error" and "suspended" in error["message"]
    platform.tenor("tenant", "resume", tenant.name)
    wait_until(lambda: tenant.get("/v1/datasets").status_code == 200, "the resumption to reach the gateway", 2)


def test_a_key_bound_to_models_knows_no_other(tenant):
    ds = tenant.upload_csv(line_csv())["id"]
    spec = {"family": "linear_regression", "target": "y"}
    for model in ("one", "two"):
        tenant.train(model, ds, spec)
    bound = with_key(tenant, make(tenant, "bound", ["predict", "models:read"], models=["one"])["secret"])
    row = {"instances": [[1.0]]}
    assert bound.post("/v1/models/one:predict", json=row).status_code == 200
    for method, path in (("POST", "/v1/models/two:predict"), ("GET", "/v1/models/two"), ("GET", "/v1/models/two/versions"), ("GET", "/v2/models/two"),
                         ("GET", "/v2/models/two/ready")):
        theirs, missing = (bound.call(method, p, json=row if method == "POST" else None) for p in (path, path.replace("two", "six")))
        assert theirs.status_code == missing.status_code == 404, path
        assert theirs.content.replace(b"two", b"six") == missing.content, path
    assert [m["name"] for m in bound.ok("GET", "/v1/models")["data"]] == ["one"]


def test_making_and_revoking_are_on_record(tenant):
    made = make(tenant, "recorded")
    tenant.ok("DELETE", f"/v1/keys/{made['id']}")
    rows = [r for r in tenant.ok("GET", "/v1/audit?limit=100")["data"] if r["object_id"] == made["id"]]
    assert {r["type"] for r in rows} == {"key.created", "key.revoked"}
    assert all(r["actor"] == {"type": "key", "id": key_id(tenant.key)} for r in rows)
    assert tenant.ok("GET", "/v1/audit?type=key.revoked")["data"][0]["object_id"] == made["id"]
