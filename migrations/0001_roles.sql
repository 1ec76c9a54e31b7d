-- Roles (cluster-wide, so they may exist already), the schema, and what every later table builds on.
DO $$
DECLARE
    r text;
BEGIN
    FOREACH r IN ARRAY ARRAY['tenor_owner', 'tenor_app', 'tenor_system', 'tenor_lookup'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE', r);
        END IF;
    END LOOP;
    -- Whoever migrates acts as the owner; the owner hands one function to tenor_lookup.
    EXECUTE format('GRANT tenor_owner TO %I', current_user);
    -- An owner of a schema must be allowed to make one.
    EXECUTE format('GRANT CREATE ON DATABASE %I TO tenor_owner', current_database());
    GRANT tenor_lookup TO tenor_owner;
END $$;

ALTER SCHEMA tenor OWNER TO tenor_owner;
ALTER TABLE tenor.schema_migrations OWNER TO tenor_owner;
REVOKE ALL ON SCHEMA tenor FROM PUBLIC;
GRANT USAGE ON SCHEMA tenor TO tenor_app, tenor_system, tenor_lookup;

SET LOCAL ROLE tenor_owner;

GRANT SELECT ON tenor.schema_migrations TO tenor_app, tenor_system;

-- Ids sort by creation time, byte by byte. Names are what id_name_valid accepts.
CREATE DOMAIN tenor.id AS text COLLATE "C" CHECK (VALUE ~ '^[a-z]{2,4}_[0-9a-z]{26}$');
CREATE DOMAIN tenor.label AS text COLLATE "C" CHECK (VALUE ~ '^[a-z0-9][a-z0-9._-]{0,63}$');
CREATE DOMAIN tenor.hex_digest AS text COLLATE "C" CHECK (VALUE ~ '^[0-9a-f]{64}$');

-- Microseconds since the Unix epoch; null stays null.
CREATE FUNCTION tenor.us(t timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT (extract(epoch FROM t) * 1000000)::bigint $$;

-- The first instant of the current calendar month, UTC: what budgets and "this month" count from.
CREATE FUNCTION tenor.month_start() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' $$;

-- Every tenant table goes through here: the application sees its transaction's tenant, the system role everything, anybody else
-- (the owner too) nothing. The sub-select makes the setting a constant of the query, so that indexes apply.
CREATE FUNCTION tenor.isolate(t regclass, tenant_column text DEFAULT 'tenant_id') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', t);
    EXECUTE format('CREATE POLICY tenant_rows ON %s FOR ALL TO tenor_app '
                   'USING (%I = (SELECT current_setting(''tenor.tenant'', true))) '
                   'WITH CHECK (%I = (SELECT current_setting(''tenor.tenant'', true)))', t, tenant_column, tenant_column);
    EXECUTE format('CREATE POLICY system_rows ON %s FOR ALL TO tenor_system USING (true) WITH CHECK (true)', t);
END $$;

-- A trigger for tables whose rows never change and never go.
CREATE FUNCTION tenor.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'TN002';
END $$;

CREATE FUNCTION tenor.append_only(t regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON %s '
                   'FOR EACH ROW EXECUTE FUNCTION tenor.refuse_change()', t);
    EXECUTE format('CREATE TRIGGER never_truncated BEFORE TRUNCATE ON %s '
                   'FOR EACH STATEMENT EXECUTE FUNCTION tenor.refuse_change()', t);
END $$;
