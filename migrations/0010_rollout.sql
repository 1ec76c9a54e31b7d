-- Rollouts: what an alias pointed at before, and a canary that gets a share of its calls.
SET LOCAL ROLE tenor_owner;

ALTER TABLE tenor.aliases
    ADD COLUMN previous bigint,
    ADD COLUMN canary bigint,
    ADD COLUMN canary_ppm integer CHECK (canary_ppm BETWEEN 1 AND 999999),
    ADD CHECK ((canary IS NULL) = (canary_ppm IS NULL)),
    ADD CHECK (canary <> number),
    ADD FOREIGN KEY (tenant_id, model_id, previous) REFERENCES tenor.model_versions (tenant_id, model_id, number),
    ADD FOREIGN KEY (tenant_id, model_id, canary) REFERENCES tenor.model_versions (tenant_id, model_id, number);

GRANT UPDATE (previous, canary, canary_ppm) ON tenor.aliases TO tenor_app;
