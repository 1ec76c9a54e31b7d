"""Two tenants, every endpoint, each other's ids: what is somebody else's answers byte for byte as what does not exist."""

import re

import pytest

from data import flowers_csv, line_csv, slow_spec

PREDICT = {"instances": [[1.0]]}
EXAMPLES = {"examples": [{"input": 1.0}]}
INFER = {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 1], "data": [1.0]}]}
TRAIN = {"type": "train", "model": "mine", "spec": {"family": "linear_regression", "target": "y"}}

# Method, path as in the route table, body, and which of the owner's things fills each {name}.
ENDPOINTS = [
    ("GET", "/v1/datasets/{dataset}", None),
    ("DELETE", "/v1/datasets/{dataset}", None),
    ("GET", "/v1/jobs/{job}", None),
    ("POST", "/v1/jobs/{job}/cancel", {}),
    ("GET", "/v1/jobs/{job}/events", None),
    ("GET", "/v1/jobs/{job}/result", None),
    ("GET", "/v1/models/{model}", None),
    ("PATCH", "/v1/models/{model}", {"batching": {"max_batch_rows": 1}}),
    ("GET", "/v1/models/{model}/versions", None),
    ("GET", "/v1/models/{model}/versions/{version}", None),
    ("DELETE", "/v1/models/{model}/versions/{version}", None),
    ("GET", "/v1/models/{model}/aliases", None),
    ("GET", "/v1/models/{model}/aliases/{alias}", None),
    ("GET", "/v1/models/{model}/aliases/{alias}/rollout", None),
    ("PUT", "/v1/models/{model}/aliases/{alias}", {"version": 1}),
    ("POST", "/v1/models/{model}/aliases/{alias}/rollback", None),
    ("POST", "/v1/models/{model}:predict", PREDICT),
    ("POST", "/v1/models/{model}/versions/{version}:predict", PREDICT),
    ("POST", "/v1/models/{model}/labels/{alias}:predict", PREDICT),
    *(("POST", f"/v1/models/{{model}}{at}:{verb}", EXAMPLES) for verb in ("classify", "regress") for at in ("", "/versions/{version}", "/labels/{alias}")),
    *(("GET", f"/v1/models/{{model}}{at}/metadata", None) for at in ("", "/versions/{version}", "/labels/{alias}")),
    ("GET", "/v1/models/{model}/labels/{alias}", None),
    ("GET", "/v2/models/{model}", None),
    ("GET", "/v2/models/{model}/ready", None),
    ("GET", "/v2/models/{model}/versions/{version}", None),
    ("GET", "/v2/models/{model}/versions/{version}/ready", None),
    ("POST", "/v2/models/{model}/infer", INFER),
    ("POST", "/v2/models/{model}/versions/{version}/infer", INFER),
    ("DELETE", "/v1/keys/{key}", None),
]
# Paths with a parameter that is no tenant's thing.
OTHERS = {("GET", "/v1/invoices/{month}")}


def last_changed(text):
    return text[:-1] + ("0" if text[-1] != "0" else "1")


class Owner:
    """A tenant with one of everything."""

    def __init__(self, platform, name):
        self.tenant = platform.tenant(name)
        self.dataset = self.tenant.upload_csv(line_csv(), f"{name}-data")["id"]
        self.model, self.version, self.alias = f"{name}-model", "1", "live"
        self.trained = self.tenant.train(self.model, self.dataset, {"family": "linear_regression", "target": "y"})["id"]
        flowers = self.tenant.upload_csv(flowers_csv(), f"{name}-flowers")["id"]
        self.job = self.tenant.submit(f"{name}-slow", flowers, slow_spec())["id"]
        made = self.tenant.ok("POST", "/v1/keys", json={"name": "spare", "scopes": ["predict"]})
        self.key = made["id"]
        asked = self.tenant.post(f"/v1/models/{self.model}:predict", json=PREDICT, headers={"Prefer": "respond-async"}).json()
        self.answered = self.tenant.wait_job(asked["id"])["id"]

    @staticmethod
    def thing(pattern, name):
        """Only a predict job has a result of its own."""
        return "answered" if pattern == "/v1/jobs/{job}/result" else name

    def path(self, pattern):
        return re.sub(r"\{(\w+)\}", lambda m: getattr(self, self.thing(pattern, m[1])), pattern)

    def missing(self, pattern):
        """The same path for things that nobody has, of the same form."""
        def other(m):
            text = getattr(self, self.thing(pattern, m[1]))
            return text if m[1] in ("version", "alias") else last_changed(text)
        return re.sub(r"\{(\w+)\}", other, pattern)

    def state(self):
        """Everything that a stranger's request could have changed."""
        t = self.tenant
        jobs = [(j["id"], j["cancel_requested"]) for j in t.ok("GET", "/v1/jobs")["data"]]
        keys = [(k["id"], k["status"]) for k in t.ok("GET", "/v1/keys")["data"]]
        return t.ok("GET", "/v1/datasets"), t.ok("GET", "/v1/models"), t.ok("GET", f"/v1/models/{self.model}/aliases"), jobs, keys


@pytest.fixture(scope="module")
def owners(platform):
    pair = [Owner(platform, "red"), Owner(platform, "blue")]
    yield pair
    for o in pair:
        o.tenant.post(f"/v1/jobs/{o.job}/cancel")
        o.tenant.wait_job(o.job)


def visible(reply, name):
    """What a client can see of an answer, but for what differs between any two: the name that it asked for itself, and the clock."""
    headers = {k.lower(): v for k, v in reply.headers.items() if k.lower() not in ("date", "x-request-id", "ratelimit")}
    return reply.status_code, reply.content.replace(name.encode(), b"NAME"), headers


@pytest.mark.parametrize("method, pattern, body", ENDPOINTS, ids=[f"{m} {p}" for m, p, _ in ENDPOINTS])
def test_another_tenant_s_thing_is_answered_as_a_missing_one(owners, method, pattern, body):
    for stranger, owner in (owners, owners[::-1]):
        before = owner.state()
        theirs = stranger.tenant.call(method, owner.path(pattern), json=body)
        missing = stranger.tenant.call(method, owner.missing(pattern), json=body)
        assert theirs.status_code == 404, f"{theirs.status_code} {theirs.text}"
        assert visible(theirs, owner.model) == visible(missing, last_changed(owner.model))
        assert set(theirs.headers) == set(missing.headers)
        assert owner.state() == before


def test_the_owner_s_own_requests_are_answered(owners):
    """Without this the test above could pass on a gateway that knows nothing at all."""
    for owner in owners:
        for method, pattern, body in ENDPOINTS:
            if method == "GET" or ":predict" in pattern or "/infer" in pattern:
                reply = owner.tenant.call(method, owner.path(pattern), json=body)
                assert reply.status_code == 200, f"{method} {pattern}: {reply.text}"


def test_a_malformed_id_is_answered_as_a_missing_one(owners):
    tenant = owners[0].tenant
    for noun, path, missing in (("dataset", "/v1/datasets/", "ds_01jd8x00000000000000000000"), ("job", "/v1/jobs/", "job_01jd8x00000000000000000000")):
        answers = {tenant.get(path + i).content for i in (missing, "x", "ds_", "job_1", "%27%20OR%201=1", owners[0].key)}
        assert len(answers) == 1, noun


def test_no_path_with_an_id_is_left_out_here(owners):
    paths = owners[0].tenant.ok("GET", "/openapi.json")["paths"]
    with_ids = {(m.upper(), p) for p, operations in paths.items() for m in operations if "{" in p}
    assert with_ids == {(m, p) for m, p, _ in ENDPOINTS} | OTHERS


def test_another_tenant_s_dataset_cannot_be_trained_on(owners):
    for stranger, owner in (owners, owners[::-1]):
        replies = [stranger.tenant.post("/v1/jobs", json={**TRAIN, "dataset": i}) for i in (owner.dataset, last_changed(owner.dataset))]
        assert [r.status_code for r in replies] == [404, 404] and replies[0].content == replies[1].content
        own = stranger.tenant.post("/v1/jobs", json={**TRAIN, "dataset": stranger.dataset, "test_dataset": owner.dataset})
        assert own.status_code == 404 and own.json()["error"]["param"] == "test_dataset"


@pytest.mark.parametrize("path", ["/v1/datasets", "/v1/jobs", "/v1/models", "/v1/keys", "/v1/audit"])
def test_lists_show_one_s_own_things_only(owners, path):
    for stranger, owner in (owners, owners[::-1]):
        text = stranger.tenant.get(f"{path}?limit=100").text
        assert '"id"' in text
        for thing in (owner.dataset, owner.job, owner.trained, owner.model, owner.key, owner.tenant.name):
            assert thing not in text


def test_a_cursor_of_another_tenant_shows_nothing_of_theirs(owners):
    red, blue = owners
    for i in (blue.dataset, red.dataset):
        page = red.tenant.ok("GET", f"/v1/datasets?before={i}&limit=100")
        assert {d["name"] for d in page["data"]} <= {"red-data", "red-flowers"}


def test_usage_and_invoices_are_one_s_own(platform, owners):
    fresh = platform.tenant("fresh")
    assert fresh.invoice()["lines"] == [] and fresh.invoice()["total_micros"] == "0"
    assert all(b["results"] == [] for b in fresh.ok("GET", "/v1/usage?bucket_width=1h")["data"])
    for owner in owners:
        assert {line["model"] for line in owner.tenant.invoice()["lines"]} == {owner.model}


def test_the_same_idempotency_key_of_two_tenants_is_two_keys(owners):
    replies = [o.tenant.post("/v1/keys", json={"name": "idem", "scopes": ["predict"]}, headers={"Idempotency-Key": "shared"}) for o in owners]
    assert [r.status_code for r in replies] == [201, 201] and replies[0].json()["id"] != replies[1].json()["id"]


def test_the_database_keeps_tenants_apart_by_itself(platform, owners):
    """As the gateway's login: without a tenant no row, with one tenant only that one's, and no way to write for another."""
    red, blue = (o.tenant.ok("GET", "/v1/tenant")["id"] for o in owners)
    tables = [r[0] for r in platform.sql("SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' "
                                         "WHERE c.relnamespace = 'tenor'::regnamespace AND c.relkind = 'r' "
                                         "AND has_table_privilege('tenor_gateway', c.oid, 'SELECT')")]
    assert {"jobs", "datasets", "models", "model_versions", "api_keys", "audit_log", "ledger_entries"} <= set(tables)
    counts = " UNION ALL ".join(f"SELECT count(*) FROM {t}" for t in tables)
    assert {r[0] for r in platform.sql(counts, "tenor_gateway")} == {"0"}
    mine = " UNION ALL ".join(f"SELECT DISTINCT tenant_id FROM {t}" for t in tables)
    seen = platform.sql(f"SET tenor.tenant = '{red}'; {mine}", "tenor_gateway")
    assert {r[0] for r in seen} == {red}
    assert platform.sql(f"SET tenor.tenant = '{red}'; WITH x AS (UPDATE api_keys SET revoked_at = now() WHERE tenant_id = '{blue}' RETURNING 1) SELECT count(*) FROM x",
                        "tenor_gateway")[-1] == ["0"]


def test_no_application_login_may_pass_the_row_security(platform):
    rows = platform.sql("SELECT rolname, rolsuper, rolbypassrls FROM pg_roles WHERE rolname LIKE 'tenor\\_%' AND rolcanlogin AND rolname <> 'tenor_root'")
    assert {r[0] for r in rows} == {"tenor_gateway", "tenor_worker", "tenor_scheduler", "tenor_admin"}
    assert all(r[1:] == ["f", "f"] for r in rows)
    unforced = platform.sql("SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' "
                            "WHERE c.relnamespace = 'tenor'::regnamespace AND c.relkind = 'r' AND NOT (c.relrowsecurity AND c.relforcerowsecurity)")
    assert unforced == []
