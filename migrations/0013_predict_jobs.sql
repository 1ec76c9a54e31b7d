-- Predictions that are answered later: jobs that have a version and an encrypted request instead of a dataset, and whose result is a blob.
SET LOCAL ROLE tenor_owner;

ALTER TABLE tenor.jobs
    DROP CONSTRAINT jobs_type_check,
    ADD CONSTRAINT jobs_type_check CHECK (type IN ('train', 'tune', 'evaluate', 'predict')),
    DROP CONSTRAINT jobs_version_check,
    ADD CONSTRAINT jobs_version_check CHECK (version_id IS NULL OR type IN ('evaluate', 'predict')),
    ALTER COLUMN dataset_id DROP NOT NULL,
    ADD CONSTRAINT jobs_dataset_check CHECK ((dataset_id IS NULL) = (type = 'predict'));

-- What such a job reads and what it has answered. The row goes when the answer has been kept for long enough; the job stays.
CREATE TABLE tenor.predict_jobs (
    tenant_id tenor.id NOT NULL,
    job_id tenor.id NOT NULL,
    rows bigint NOT NULL CHECK (rows >= 1),
    input_sha256 tenor.hex_digest NOT NULL,
    output_sha256 tenor.hex_digest, -- null: not answered
    PRIMARY KEY (tenant_id, job_id),
    FOREIGN KEY (tenant_id, job_id) REFERENCES tenor.jobs,
    FOREIGN KEY (tenant_id, input_sha256) REFERENCES tenor.blobs,
    FOREIGN KEY (tenant_id, output_sha256) REFERENCES tenor.blobs
);
CREATE INDEX predict_jobs_input ON tenor.predict_jobs (tenant_id, input_sha256);
CREATE INDEX predict_jobs_output ON tenor.predict_jobs (tenant_id, output_sha256) WHERE output_sha256 IS NOT NULL;
SELECT tenor.isolate('tenor.predict_jobs');

GRANT SELECT, INSERT, UPDATE (output_sha256) ON tenor.predict_jobs TO tenor_app;
GRANT SELECT, DELETE ON tenor.predict_jobs TO tenor_system;

-- A predict job's rows are billed by whoever ends it, in the same transaction, fractions of a micro-unit included.
GRANT SELECT, INSERT, UPDATE ON tenor.usage_carries TO tenor_app;
