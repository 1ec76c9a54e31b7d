-- The audit trail and the heads of its chains, one per tenant.
SET LOCAL ROLE tenor_owner;

CREATE TABLE tenor.audit_log (
    tenant_id tenor.id NOT NULL REFERENCES tenor.tenants,
    id tenor.id NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    type text COLLATE "C" NOT NULL CHECK (octet_length(type) BETWEEN 1 AND 47),
    actor_type text COLLATE "C" NOT NULL CHECK (octet_length(actor_type) BETWEEN 1 AND 15),
    actor_id text COLLATE "C" NOT NULL CHECK (octet_length(actor_id) <= 63),
    object_id text COLLATE "C" NOT NULL CHECK (octet_length(object_id) <= 63),
    data json NOT NULL, -- json keeps the text as it came: the hash covers these bytes
    seq bigint CHECK (seq >= 1),
    prev_hash bytea CHECK (octet_length(prev_hash) = 32),
    hash bytea CHECK (octet_length(hash) = 32),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, seq),
    CHECK (num_nulls(seq, prev_hash, hash) IN (0, 3))
);
CREATE INDEX audit_log_unsealed ON tenor.audit_log (tenant_id, id) WHERE seq IS NULL;
SELECT tenor.isolate('tenor.audit_log');

-- The one change there is: the seal of an unsealed row, everything else as it was.
CREATE FUNCTION tenor.audit_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.seq IS NOT NULL OR NEW.seq IS NULL OR NEW.tenant_id <> OLD.tenant_id OR NEW.id <> OLD.id
       OR NEW.created_at <> OLD.created_at OR NEW.type <> OLD.type OR NEW.actor_type <> OLD.actor_type
       OR NEW.actor_id <> OLD.actor_id OR NEW.object_id <> OLD.object_id OR NEW.data::text <> OLD.data::text THEN
        RAISE EXCEPTION 'audit_log is append-only: UPDATE refused' USING ERRCODE = 'TN002';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER audit_guard BEFORE UPDATE ON tenor.audit_log FOR EACH ROW EXECUTE FUNCTION tenor.audit_guard();
CREATE TRIGGER never_deleted BEFORE DELETE ON tenor.audit_log FOR EACH ROW EXECUTE FUNCTION tenor.refuse_change();
CREATE TRIGGER never_truncated BEFORE TRUNCATE ON tenor.audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION tenor.refuse_change();

CREATE TABLE tenor.audit_heads (
    tenant_id tenor.id PRIMARY KEY REFERENCES tenor.tenants,
    seq bigint NOT NULL CHECK (seq >= 0),
    hash bytea NOT NULL CHECK (octet_length(hash) = 32)
) WITH (fillfactor = 80);
SELECT tenor.isolate('tenor.audit_heads');

-- Nobody may write a row that is sealed from the start; only the sealer's role may seal.
GRANT SELECT, INSERT (tenant_id, id, type, actor_type, actor_id, object_id, data) ON tenor.audit_log
    TO tenor_app, tenor_system;
GRANT UPDATE (seq, prev_hash, hash) ON tenor.audit_log TO tenor_system;
GRANT SELECT ON tenor.audit_heads TO tenor_app;
GRANT SELECT, INSERT, UPDATE ON tenor.audit_heads TO tenor_system;
