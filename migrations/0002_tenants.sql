-- Plans, tenants, API keys with the one look-up that may happen before a tenant is known, idempotency keys.
SET LOCAL ROLE tenor_owner;

CREATE TABLE tenor.plans (
    name tenor.label PRIMARY KEY,
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    weight bigint NOT NULL CHECK (weight BETWEEN 1 AND 1000000),
    train_second_micros bigint NOT NULL CHECK (train_second_micros BETWEEN 0 AND 1000000000000),
    predict_krows_micros bigint NOT NULL CHECK (predict_krows_micros BETWEEN 0 AND 1000000000000),
    max_hold_micros bigint NOT NULL CHECK (max_hold_micros >= 0),
    month_budget_micros bigint NOT NULL CHECK (month_budget_micros >= 0),
    max_queued_jobs bigint NOT NULL CHECK (max_queued_jobs >= 0),
    max_running_jobs bigint NOT NULL CHECK (max_running_jobs >= 0),
    max_job_seconds bigint NOT NULL CHECK (max_job_seconds BETWEEN 1 AND 31536000),
    max_job_memory_bytes bigint NOT NULL CHECK (max_job_memory_bytes >= 0),
    max_datasets bigint NOT NULL CHECK (max_datasets >= 0),
    max_dataset_bytes bigint NOT NULL CHECK (max_dataset_bytes >= 0),
    max_storage_bytes bigint NOT NULL CHECK (max_storage_bytes >= 0),
    max_models bigint NOT NULL CHECK (max_models >= 0),
    max_keys bigint NOT NULL CHECK (max_keys >= 0),
    requests_per_second bigint NOT NULL CHECK (requests_per_second >= 1),
    request_burst bigint NOT NULL CHECK (request_burst >= 1),
    max_inflight_requests bigint NOT NULL CHECK (max_inflight_requests >= 1),
    max_request_rows bigint NOT NULL CHECK (max_request_rows >= 1),
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- The plan that a fresh platform starts with: 0.0005 a second of training, 0.0002 per 1,000 predicted rows, no budget; what a
-- small team needs without asking. The same numbers stand in store/plan.c (plan_init); a test compares them.
INSERT INTO tenor.plans VALUES
    ('standard', 'EUR', 100, 500, 200, 50000000, 0,
     1000, 8, 86400, 8589934592, 1000, 17179869184, 68719476736, 1000, 100, 2000, 4000, 4096, 10000, now());

CREATE TABLE tenor.tenants (
    id tenor.id PRIMARY KEY,
    name tenor.label NOT NULL UNIQUE,
    plan tenor.label NOT NULL REFERENCES tenor.plans,
    suspended boolean NOT NULL DEFAULT false,
    wrapped_key bytea NOT NULL CHECK (octet_length(wrapped_key) = 60),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX tenants_plan ON tenor.tenants (plan);
SELECT tenor.isolate('tenor.tenants', 'id');

CREATE TABLE tenor.api_keys (
    tenant_id tenor.id NOT NULL REFERENCES tenor.tenants,
    id tenor.id NOT NULL UNIQUE, -- globally: the look-up below has nothing else
    name tenor.label NOT NULL,
    scopes integer NOT NULL CHECK (scopes > 0),
    models text[] CHECK (cardinality(models) BETWEEN 1 AND 64),
    pepper integer NOT NULL,
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX api_keys_live ON tenor.api_keys (tenant_id, name) WHERE revoked_at IS NULL;
SELECT tenor.isolate('tenor.api_keys');

CREATE TABLE tenor.idempotency_keys (
    tenant_id tenor.id NOT NULL REFERENCES tenor.tenants,
    key text COLLATE "C" NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 255),
    request bytea NOT NULL CHECK (octet_length(request) = 32),
    token tenor.id NOT NULL,
    taken_until timestamptz NOT NULL,
    status integer CHECK (status BETWEEN 100 AND 599), -- null: in flight
    body text,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, key)
);
CREATE INDEX idempotency_keys_age ON tenor.idempotency_keys (created_at);
SELECT tenor.isolate('tenor.idempotency_keys');

-- Platform data, without a tenant.
GRANT SELECT ON tenor.plans TO tenor_app, tenor_system, tenor_lookup;
GRANT INSERT, UPDATE ON tenor.plans TO tenor_system;

GRANT SELECT ON tenor.tenants TO tenor_app, tenor_system;
GRANT INSERT, UPDATE (plan, suspended) ON tenor.tenants TO tenor_system;

GRANT SELECT, INSERT, UPDATE (revoked_at) ON tenor.api_keys TO tenor_app, tenor_system;

GRANT SELECT, INSERT, UPDATE, DELETE ON tenor.idempotency_keys TO tenor_app;
GRANT SELECT, DELETE ON tenor.idempotency_keys TO tenor_system;

-- Who does this key belong to? tenor_lookup may read keys and tenants of everybody and can do nothing else; nobody logs in as it.
CREATE POLICY lookup_rows ON tenor.api_keys FOR SELECT TO tenor_lookup USING (true);
CREATE POLICY lookup_rows ON tenor.tenants FOR SELECT TO tenor_lookup USING (true);
GRANT SELECT ON tenor.api_keys TO tenor_lookup;
GRANT SELECT (id, name, plan, suspended, created_at) ON tenor.tenants TO tenor_lookup;

CREATE FUNCTION tenor.key_lookup(key_id text)
    RETURNS TABLE (tenant_id text, id text, name text, scopes integer, models text[], created_at bigint, expires_at bigint,
                   revoked_at bigint, expired boolean, pepper integer, hash text, tenant_name text, suspended boolean,
                   tenant_created_at bigint, plan text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = tenor, pg_temp
    AS $$
        SELECT k.tenant_id, k.id, k.name, k.scopes, k.models, us(k.created_at), us(k.expires_at), us(k.revoked_at),
               coalesce(k.expires_at <= now(), false), k.pepper, encode(k.hash, 'hex'), t.name, t.suspended,
               us(t.created_at), t.plan
        FROM api_keys k JOIN tenants t ON t.id = k.tenant_id
        WHERE k.id = key_id
    $$;
REVOKE ALL ON FUNCTION tenor.key_lookup(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenor.key_lookup(text) TO tenor_app, tenor_system;
GRANT CREATE ON SCHEMA tenor TO tenor_lookup; -- a function's new owner needs it at that moment only
ALTER FUNCTION tenor.key_lookup(text) OWNER TO tenor_lookup;
REVOKE CREATE ON SCHEMA tenor FROM tenor_lookup;
