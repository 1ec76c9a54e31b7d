-- Jobs that search and jobs that measure. An evaluate job may name an existing version, which it reads; it makes none.
SET LOCAL ROLE tenor_owner;

ALTER TABLE tenor.jobs
    DROP CONSTRAINT jobs_type_check,
    ADD CONSTRAINT jobs_type_check CHECK (type IN ('train', 'tune', 'evaluate')),
    ADD COLUMN version_id tenor.id,
    ADD COLUMN estimate_ms bigint NOT NULL DEFAULT 0 CHECK (estimate_ms >= 0),
    ADD FOREIGN KEY (tenant_id, version_id) REFERENCES tenor.model_versions,
    ADD CONSTRAINT jobs_version_check CHECK (version_id IS NULL OR type = 'evaluate');
CREATE INDEX jobs_version ON tenor.jobs (tenant_id, version_id) WHERE version_id IS NOT NULL;
