"""An operator's plans: prices and quotas that take effect for the tenants on them."""

from conftest import wait_until
from data import line_csv


def test_a_plan_s_quota_binds_its_tenants(platform, tenant):
    platform.tenor("plan", "set", "tiny", "max-datasets=1")
    platform.tenor("tenant", "plan", tenant.name, "tiny")
    tenant.upload_csv(line_csv(), "first")
    refused = tenant.post("/v1/datasets?name=second&format=csv", data=line_csv(), headers={"Content-Type": "text/csv"})
    assert refused.status_code == 429 and "1" in refused.json()["error"]["message"]
    platform.tenor("plan", "set", "tiny", "max-datasets=2")
    tenant.upload_csv(line_csv(), "second")
    assert "tiny" in platform.tenor("plan", "list").stdout
    shown = platform.tenor("plan", "show", "tiny").stdout
    assert next(line.split()[1] for line in shown.splitlines() if line.startswith("max-datasets")) == "2"


def test_a_plan_s_price_is_what_a_job_costs(platform, tenant):
    platform.tenor("plan", "set", "dear", "train-second-micros=1000000")
    platform.tenor("tenant", "plan", tenant.name, "dear")
    ds = tenant.upload_csv(line_csv())
    job = tenant.train("line", ds["id"], {"family": "linear_regression", "target": "y"}, max_seconds=30)
    assert int(job["cost_micros"]) % 1000000 == 0 and int(job["cost_micros"]) >= 1000000
    assert int(tenant.invoice()["total_micros"]) == int(job["cost_micros"])


def test_changing_a_plan_is_in_its_tenants_audit_trail(platform, tenant):
    platform.tenor("plan", "set", "watched", "weight=7")
    platform.tenor("tenant", "plan", tenant.name, "watched")
    platform.tenor("plan", "set", "watched", "weight=8")
    types = wait_until(lambda: [r["type"] for r in tenant.ok("GET", "/v1/audit?limit=100")["data"] if r["type"].startswith(("plan.", "tenant."))], "audit rows")
    assert "plan.changed" in types


def test_what_is_wrong_with_a_plan_is_said(platform):
    for words, says in ((["set", "p", "wieght=3"], "wieght"), (["set", "p", "weight=x"], "weight=<whole number>"), (["set", "P P", "weight=3"], "name"),
                        (["show", "nosuch"], "nosuch")):
        done = platform.tenor("plan", *words, check=False)
        assert done.returncode == 1 and says in done.stderr
