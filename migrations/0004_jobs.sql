-- Jobs, their events and their holds.
SET LOCAL ROLE tenor_owner;

CREATE TABLE tenor.jobs (
    tenant_id tenor.id NOT NULL REFERENCES tenor.tenants,
    id tenor.id NOT NULL,
    type text NOT NULL CHECK (type IN ('train')),
    state text COLLATE "C" NOT NULL DEFAULT 'queued'
        CHECK (state IN ('queued', 'running', 'retry_wait', 'succeeded', 'failed', 'cancelled', 'dead')),
    model tenor.label NOT NULL,
    dataset_id tenor.id NOT NULL,
    test_dataset_id tenor.id,
    priority integer NOT NULL CHECK (priority BETWEEN -10 AND 10),
    max_seconds bigint NOT NULL CHECK (max_seconds BETWEEN 1 AND 31536000),
    memory_bytes bigint NOT NULL CHECK (memory_bytes >= 0),
    threads integer NOT NULL CHECK (threads BETWEEN 1 AND 1024),
    spec json NOT NULL,
    price_micros bigint NOT NULL CHECK (price_micros >= 0),
    hold_micros bigint NOT NULL CHECK (hold_micros >= 0),
    cost_micros bigint NOT NULL DEFAULT 0 CHECK (cost_micros BETWEEN 0 AND hold_micros),
    attempt integer NOT NULL DEFAULT 0,
    crashes integer NOT NULL DEFAULT 0 CHECK (crashes BETWEEN 0 AND 3),
    fence bigint NOT NULL DEFAULT 0,
    worker tenor.id,
    lease_until timestamptz,
    run_after timestamptz,
    cancel_requested boolean NOT NULL DEFAULT false,
    event_seq bigint NOT NULL DEFAULT 0,
    progress json,
    result json,
    error_code text CHECK (octet_length(error_code) BETWEEN 1 AND 31),
    error_message text,
    error_param text,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, dataset_id) REFERENCES tenor.datasets,
    FOREIGN KEY (tenant_id, test_dataset_id) REFERENCES tenor.datasets,
    CHECK ((state = 'running') = (lease_until IS NOT NULL)),
    CHECK ((state = 'running') = (worker IS NOT NULL)),
    CHECK ((state = 'retry_wait') = (run_after IS NOT NULL)),
    CHECK ((state IN ('succeeded', 'failed', 'cancelled', 'dead')) = (finished_at IS NOT NULL))
) WITH (fillfactor = 80);

-- What the quotas count, and what the scheduler sweeps. lease_until stands in no index, so that renewals stay cheap.
CREATE INDEX jobs_active ON tenor.jobs (tenant_id, state) WHERE state IN ('queued', 'retry_wait', 'running');
CREATE INDEX jobs_queued ON tenor.jobs (id) WHERE state = 'queued';
CREATE INDEX jobs_running ON tenor.jobs (id) WHERE state = 'running';
CREATE INDEX jobs_retry ON tenor.jobs (run_after) WHERE state = 'retry_wait';
CREATE INDEX jobs_dataset ON tenor.jobs (tenant_id, dataset_id);
CREATE INDEX jobs_test_dataset ON tenor.jobs (tenant_id, test_dataset_id) WHERE test_dataset_id IS NOT NULL;
SELECT tenor.isolate('tenor.jobs');

CREATE FUNCTION tenor.job_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state IN ('succeeded', 'failed', 'cancelled', 'dead') THEN
        RAISE EXCEPTION 'job % has ended (%)', OLD.id, OLD.state USING ERRCODE = 'TN001';
    END IF;
    IF NEW.tenant_id <> OLD.tenant_id OR NEW.id <> OLD.id OR NEW.fence < OLD.fence OR NEW.attempt < OLD.attempt
       OR NEW.crashes < OLD.crashes OR NEW.spec::text <> OLD.spec::text OR NEW.hold_micros <> OLD.hold_micros THEN
        RAISE EXCEPTION 'job %: fence, counters and terms never go back', OLD.id USING ERRCODE = 'TN001';
    END IF;
    IF NEW.state <> OLD.state AND NOT (
           (OLD.state = 'queued' AND NEW.state IN ('running', 'cancelled'))
        OR (OLD.state = 'running' AND NEW.state IN ('queued', 'retry_wait', 'succeeded', 'failed', 'cancelled', 'dead'))
        OR (OLD.state = 'retry_wait' AND NEW.state IN ('queued', 'cancelled'))) THEN
        RAISE EXCEPTION 'job %: no way from % to %', OLD.id, OLD.state, NEW.state USING ERRCODE = 'TN001';
    END IF;
    -- Every claim and every loss of a claim raises the fence, but for the end: nothing comes after it.
    IF (OLD.state = 'running') <> (NEW.state = 'running') AND NEW.finished_at IS NULL AND NEW.fence = OLD.fence THEN
        RAISE EXCEPTION 'job %: % to % without a new fence', OLD.id, OLD.state, NEW.state USING ERRCODE = 'TN001';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER job_guard BEFORE UPDATE ON tenor.jobs FOR EACH ROW EXECUTE FUNCTION tenor.job_guard();
CREATE TRIGGER never_deleted BEFORE DELETE ON tenor.jobs FOR EACH ROW EXECUTE FUNCTION tenor.refuse_change();

CREATE TABLE tenor.job_events (
    tenant_id tenor.id NOT NULL,
    job_id tenor.id NOT NULL,
    seq bigint NOT NULL CHECK (seq >= 1),
    id tenor.id NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    level text NOT NULL CHECK (level IN ('info', 'warn', 'error')),
    type text NOT NULL CHECK (type IN ('status', 'metrics', 'message')),
    message text NOT NULL,
    data json,
    PRIMARY KEY (tenant_id, job_id, seq),
    UNIQUE (tenant_id, id),
    FOREIGN KEY (tenant_id, job_id) REFERENCES tenor.jobs
);
SELECT tenor.isolate('tenor.job_events');
SELECT tenor.append_only('tenor.job_events');

CREATE TABLE tenor.holds (
    tenant_id tenor.id NOT NULL,
    job_id tenor.id NOT NULL,
    amount_micros bigint NOT NULL CHECK (amount_micros >= 0),
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'captured', 'voided')),
    captured_micros bigint CHECK (captured_micros BETWEEN 0 AND amount_micros),
    created_at timestamptz NOT NULL DEFAULT now(),
    resolved_at timestamptz,
    PRIMARY KEY (tenant_id, job_id),
    FOREIGN KEY (tenant_id, job_id) REFERENCES tenor.jobs,
    CHECK ((state = 'captured') = (captured_micros IS NOT NULL)),
    CHECK ((state = 'open') = (resolved_at IS NULL))
);
CREATE INDEX holds_open ON tenor.holds (tenant_id) WHERE state = 'open';
SELECT tenor.isolate('tenor.holds');

CREATE FUNCTION tenor.hold_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state <> 'open' OR NEW.amount_micros <> OLD.amount_micros THEN
        RAISE EXCEPTION 'the hold of job % is % already', OLD.job_id, OLD.state USING ERRCODE = 'TN001';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER hold_guard BEFORE UPDATE ON tenor.holds FOR EACH ROW EXECUTE FUNCTION tenor.hold_guard();
CREATE TRIGGER never_deleted BEFORE DELETE ON tenor.holds FOR EACH ROW EXECUTE FUNCTION tenor.refuse_change();

GRANT SELECT, INSERT, UPDATE ON tenor.jobs TO tenor_app;
GRANT SELECT, UPDATE ON tenor.jobs TO tenor_system;
GRANT SELECT, INSERT ON tenor.job_events TO tenor_app, tenor_system;
GRANT SELECT, INSERT, UPDATE (state, captured_micros, resolved_at) ON tenor.holds TO tenor_app;
GRANT SELECT, UPDATE (state, captured_micros, resolved_at) ON tenor.holds TO tenor_system;
