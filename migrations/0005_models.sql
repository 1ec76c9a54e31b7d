-- Models, their immutable versions, their movable aliases.
SET LOCAL ROLE tenor_owner;

CREATE TABLE tenor.models (
    tenant_id tenor.id NOT NULL REFERENCES tenor.tenants,
    id tenor.id NOT NULL,
    name tenor.label NOT NULL,
    latest_version bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name)
);
SELECT tenor.isolate('tenor.models');

CREATE TABLE tenor.model_versions (
    tenant_id tenor.id NOT NULL,
    id tenor.id NOT NULL,
    model_id tenor.id NOT NULL,
    number bigint NOT NULL CHECK (number >= 1),
    sha256 tenor.hex_digest NOT NULL,
    bytes bigint NOT NULL CHECK (bytes >= 0),
    memory_bytes bigint NOT NULL CHECK (memory_bytes >= 0),
    job_id tenor.id,
    metrics json NOT NULL,
    signature json NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, model_id, number),
    FOREIGN KEY (tenant_id, model_id) REFERENCES tenor.models,
    FOREIGN KEY (tenant_id, sha256) REFERENCES tenor.blobs,
    FOREIGN KEY (tenant_id, job_id) REFERENCES tenor.jobs
);
CREATE UNIQUE INDEX model_versions_job ON tenor.model_versions (tenant_id, job_id) WHERE job_id IS NOT NULL;
CREATE INDEX model_versions_blob ON tenor.model_versions (tenant_id, sha256);
SELECT tenor.isolate('tenor.model_versions');
SELECT tenor.append_only('tenor.model_versions');

CREATE TABLE tenor.aliases (
    tenant_id tenor.id NOT NULL,
    model_id tenor.id NOT NULL,
    name tenor.label NOT NULL,
    number bigint NOT NULL,
    etag bigint NOT NULL DEFAULT 1,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, model_id, name),
    FOREIGN KEY (tenant_id, model_id, number) REFERENCES tenor.model_versions (tenant_id, model_id, number)
);
SELECT tenor.isolate('tenor.aliases');

GRANT SELECT, INSERT, UPDATE (latest_version) ON tenor.models TO tenor_app;
GRANT SELECT, INSERT ON tenor.model_versions TO tenor_app;
GRANT SELECT, INSERT, UPDATE (number, etag, updated_at) ON tenor.aliases TO tenor_app;
GRANT SELECT ON tenor.models, tenor.model_versions, tenor.aliases TO tenor_system;
