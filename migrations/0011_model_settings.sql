-- What a tenant sets about a model: how its calls are batched, and which of its versions are served.
SET LOCAL ROLE tenor_owner;

ALTER TABLE tenor.models
    ADD COLUMN etag bigint NOT NULL DEFAULT 1, -- grows with each change of what follows
    ADD COLUMN max_batch_rows integer CHECK (max_batch_rows BETWEEN 1 AND 4096),
    ADD COLUMN max_queue_delay_us integer CHECK (max_queue_delay_us BETWEEN 0 AND 100000),
    ADD COLUMN policy_latest integer CHECK (policy_latest >= 1), -- the newest so many are served
    ADD COLUMN policy_versions bigint[] CHECK (cardinality(policy_versions) BETWEEN 1 AND 100), -- or these
    ADD CHECK (policy_latest IS NULL OR policy_versions IS NULL); -- neither: all are

-- A deleted version keeps its number and its story; its weights go.
ALTER TABLE tenor.model_versions
    ADD COLUMN deleted_at timestamptz,
    ALTER COLUMN sha256 DROP NOT NULL,
    ADD CHECK ((deleted_at IS NULL) = (sha256 IS NOT NULL));

-- Everything else about a version stays as it was made, and deleting is for good.
CREATE FUNCTION tenor.only_delete_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL
       AND to_jsonb(NEW) - 'deleted_at' - 'sha256' = to_jsonb(OLD) - 'deleted_at' - 'sha256' THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'a model version is immutable' USING ERRCODE = 'TN002';
END $$;
DROP TRIGGER append_only ON tenor.model_versions;
CREATE TRIGGER append_only BEFORE DELETE ON tenor.model_versions
    FOR EACH ROW EXECUTE FUNCTION tenor.refuse_change();
CREATE TRIGGER only_deleted BEFORE UPDATE ON tenor.model_versions
    FOR EACH ROW EXECUTE FUNCTION tenor.only_delete_version();

GRANT UPDATE (deleted_at, sha256) ON tenor.model_versions TO tenor_app;
GRANT UPDATE (etag, max_batch_rows, max_queue_delay_us, policy_latest, policy_versions) ON tenor.models TO tenor_app;
