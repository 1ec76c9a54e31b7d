-- Blobs and the datasets made of them.
SET LOCAL ROLE tenor_owner;

CREATE TABLE tenor.blobs (
    tenant_id tenor.id NOT NULL REFERENCES tenor.tenants,
    sha256 tenor.hex_digest NOT NULL,
    bytes bigint NOT NULL CHECK (bytes >= 0),
    file text NOT NULL CHECK (octet_length(file) BETWEEN 1 AND 95),
    wrapped_key bytea NOT NULL CHECK (octet_length(wrapped_key) = 60),
    created_at timestamptz NOT NULL DEFAULT now(),
    touched_at timestamptz NOT NULL DEFAULT now(), -- last put: the collector waits from here
    PRIMARY KEY (tenant_id, sha256)
);
SELECT tenor.isolate('tenor.blobs');

CREATE TABLE tenor.datasets (
    tenant_id tenor.id NOT NULL REFERENCES tenor.tenants,
    id tenor.id NOT NULL,
    name text NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 64),
    format text NOT NULL CHECK (format IN ('csv', 'idx', 'npy')),
    rows bigint NOT NULL CHECK (rows >= 0),
    bytes bigint NOT NULL CHECK (bytes >= 0),
    schema json NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz, -- the row stays for the jobs that tell of it; its parts go
    PRIMARY KEY (tenant_id, id)
);
SELECT tenor.isolate('tenor.datasets');

CREATE TABLE tenor.dataset_parts (
    tenant_id tenor.id NOT NULL,
    dataset_id tenor.id NOT NULL,
    role text NOT NULL CHECK (role IN ('table', 'features', 'labels')),
    sha256 tenor.hex_digest NOT NULL,
    bytes bigint NOT NULL CHECK (bytes >= 0),
    PRIMARY KEY (tenant_id, dataset_id, role),
    FOREIGN KEY (tenant_id, dataset_id) REFERENCES tenor.datasets,
    FOREIGN KEY (tenant_id, sha256) REFERENCES tenor.blobs
);
CREATE INDEX dataset_parts_blob ON tenor.dataset_parts (tenant_id, sha256);
SELECT tenor.isolate('tenor.dataset_parts');

GRANT SELECT, INSERT, UPDATE (touched_at) ON tenor.blobs TO tenor_app;
GRANT SELECT, DELETE ON tenor.blobs TO tenor_system;
GRANT SELECT, INSERT, UPDATE (deleted_at) ON tenor.datasets TO tenor_app;
GRANT SELECT ON tenor.datasets TO tenor_system;
GRANT SELECT, INSERT, DELETE ON tenor.dataset_parts TO tenor_app;
GRANT SELECT ON tenor.dataset_parts TO tenor_system;
