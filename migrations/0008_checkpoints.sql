-- Checkpoints: where a job's next attempt goes on, and how much running time it stands for.
SET LOCAL ROLE tenor_owner;

ALTER TABLE tenor.jobs
    ADD COLUMN checkpoint_sha256 tenor.hex_digest,
    ADD COLUMN checkpoint_epoch bigint CHECK (checkpoint_epoch >= 1),
    ADD COLUMN checkpoint_step bigint CHECK (checkpoint_step >= 0),
    ADD COLUMN checkpoint_attempt integer,
    -- Running time that counts: what the checkpoint stands for, of all attempts; and the same as the newest attempt found it.
    ADD COLUMN used_ms bigint NOT NULL DEFAULT 0 CHECK (used_ms >= 0),
    ADD COLUMN used_before_ms bigint NOT NULL DEFAULT 0 CHECK (used_before_ms >= 0),
    ADD FOREIGN KEY (tenant_id, checkpoint_sha256) REFERENCES tenor.blobs,
    ADD CHECK ((checkpoint_sha256 IS NULL) = (checkpoint_epoch IS NULL)
        AND (checkpoint_sha256 IS NULL) = (checkpoint_step IS NULL)
        AND (checkpoint_sha256 IS NULL) = (checkpoint_attempt IS NULL)),
    ADD CHECK (finished_at IS NULL OR checkpoint_sha256 IS NULL),
    ADD CHECK (checkpoint_sha256 IS NOT NULL OR used_ms = 0);
CREATE INDEX jobs_checkpoint ON tenor.jobs (tenant_id, checkpoint_sha256) WHERE checkpoint_sha256 IS NOT NULL;

-- However a job ends, its checkpoint goes, and no time counts without one.
CREATE FUNCTION tenor.job_end_drops_checkpoint() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.checkpoint_sha256 := NULL;
    NEW.checkpoint_epoch := NULL;
    NEW.checkpoint_step := NULL;
    NEW.checkpoint_attempt := NULL;
    NEW.used_ms := 0;
    RETURN NEW;
END $$;
CREATE TRIGGER job_end_drops_checkpoint BEFORE UPDATE ON tenor.jobs FOR EACH ROW
    WHEN (NEW.finished_at IS NOT NULL) EXECUTE FUNCTION tenor.job_end_drops_checkpoint();

-- A checkpoint that nothing refers to any more need not wait out the grace of an upload: the collector may take it at once.
CREATE FUNCTION tenor.checkpoint_replaced() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE tenor.blobs SET touched_at = '-infinity' WHERE tenant_id = OLD.tenant_id AND sha256 = OLD.checkpoint_sha256;
    RETURN NULL;
END $$;
CREATE TRIGGER checkpoint_replaced AFTER UPDATE ON tenor.jobs FOR EACH ROW
    WHEN (OLD.checkpoint_sha256 IS NOT NULL AND OLD.checkpoint_sha256 IS DISTINCT FROM NEW.checkpoint_sha256)
    EXECUTE FUNCTION tenor.checkpoint_replaced();
GRANT UPDATE (touched_at) ON tenor.blobs TO tenor_system;
