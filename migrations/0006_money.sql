-- The ledger, and the usage that is billed into it.
SET LOCAL ROLE tenor_owner;

CREATE TABLE tenor.ledger_entries (
    tenant_id tenor.id NOT NULL REFERENCES tenor.tenants,
    id tenor.id NOT NULL,
    txn_id tenor.id NOT NULL,
    source text COLLATE "C" NOT NULL CHECK (octet_length(source) BETWEEN 1 AND 255),
    account text NOT NULL CHECK (account IN ('receivable', 'revenue')),
    kind text NOT NULL CHECK (kind IN ('train', 'predict')),
    model tenor.label NOT NULL,
    quantity bigint NOT NULL CHECK (quantity >= 0),
    unit_price_micros bigint NOT NULL CHECK (unit_price_micros >= 0),
    amount_micros bigint NOT NULL, -- a debit is positive
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, source, account), -- nothing posts twice
    CHECK ((account = 'receivable' AND amount_micros >= 0) OR (account = 'revenue' AND amount_micros <= 0))
);
CREATE INDEX ledger_entries_time ON tenor.ledger_entries (tenant_id, created_at);
SELECT tenor.isolate('tenor.ledger_entries');
SELECT tenor.append_only('tenor.ledger_entries');

-- Both legs of a transaction come in one statement, and cancel out.
CREATE FUNCTION tenor.ledger_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM added GROUP BY tenant_id, txn_id HAVING sum(amount_micros) <> 0 OR count(*) <> 2) THEN
        RAISE EXCEPTION 'a ledger transaction must have two entries that sum to zero' USING ERRCODE = 'TN003';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER ledger_guard AFTER INSERT ON tenor.ledger_entries
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION tenor.ledger_guard();

-- How much of each worker incarnation's cumulative counters has been billed.
CREATE TABLE tenor.usage_totals (
    tenant_id tenor.id NOT NULL,
    incarnation tenor.id NOT NULL,
    version_id tenor.id NOT NULL,
    requests bigint NOT NULL DEFAULT 0,
    rows bigint NOT NULL DEFAULT 0,
    compute_us bigint NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, version_id, incarnation),
    FOREIGN KEY (tenant_id, version_id) REFERENCES tenor.model_versions
) WITH (fillfactor = 80);
SELECT tenor.isolate('tenor.usage_totals');

-- Thousandths of a micro-unit that a version's rows have cost beyond what was posted.
CREATE TABLE tenor.usage_carries (
    tenant_id tenor.id NOT NULL,
    version_id tenor.id NOT NULL,
    thousandths bigint NOT NULL DEFAULT 0 CHECK (thousandths BETWEEN 0 AND 999),
    PRIMARY KEY (tenant_id, version_id),
    FOREIGN KEY (tenant_id, version_id) REFERENCES tenor.model_versions
) WITH (fillfactor = 80);
SELECT tenor.isolate('tenor.usage_carries');

CREATE TABLE tenor.usage_hours (
    tenant_id tenor.id NOT NULL REFERENCES tenor.tenants,
    hour timestamptz NOT NULL,
    model tenor.label NOT NULL,
    version bigint NOT NULL,
    requests bigint NOT NULL DEFAULT 0,
    rows bigint NOT NULL DEFAULT 0,
    compute_us bigint NOT NULL DEFAULT 0,
    train_seconds bigint NOT NULL DEFAULT 0,
    amount_micros bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, hour, model, version)
) WITH (fillfactor = 80);
SELECT tenor.isolate('tenor.usage_hours');

GRANT SELECT, INSERT ON tenor.ledger_entries TO tenor_app, tenor_system;
GRANT SELECT, INSERT, UPDATE ON tenor.usage_totals, tenor.usage_carries TO tenor_system;
GRANT SELECT, INSERT, UPDATE ON tenor.usage_hours TO tenor_app, tenor_system;
