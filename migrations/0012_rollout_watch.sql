-- Rollouts that are watched: a shadow of an alias, the limits under which it goes back by itself, and why it last did.
SET LOCAL ROLE tenor_owner;

ALTER TABLE tenor.aliases
    ADD COLUMN shadow bigint,
    ADD COLUMN shadow_ppm integer CHECK (shadow_ppm BETWEEN 1 AND 1000000),
    ADD COLUMN shadow_tolerance double precision CHECK (shadow_tolerance >= 0 AND shadow_tolerance < 'Infinity'),
    ADD COLUMN moved_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN watch_error_ppm integer CHECK (watch_error_ppm BETWEEN 0 AND 999999),
    ADD COLUMN watch_latency_us bigint CHECK (watch_latency_us BETWEEN 1 AND 3600000000),
    ADD COLUMN watch_disagreement_ppm integer CHECK (watch_disagreement_ppm BETWEEN 0 AND 999999),
    ADD COLUMN watch_min_requests bigint CHECK (watch_min_requests BETWEEN 1 AND 1000000000),
    ADD COLUMN watch_window_s integer CHECK (watch_window_s BETWEEN 1 AND 86400),
    ADD COLUMN ended jsonb,
    ADD CHECK ((shadow IS NULL) = (shadow_ppm IS NULL) AND (shadow IS NULL) = (shadow_tolerance IS NULL)),
    ADD CHECK (shadow <> number),
    ADD CHECK ((watch_window_s IS NULL) = (watch_min_requests IS NULL)),
    ADD CHECK (watch_window_s IS NOT NULL OR coalesce(watch_error_ppm, watch_latency_us, watch_disagreement_ppm) IS NULL),
    ADD FOREIGN KEY (tenant_id, model_id, shadow) REFERENCES tenor.model_versions (tenant_id, model_id, number);

-- What the watching scheduler reads each second.
CREATE INDEX aliases_watched ON tenor.aliases (tenant_id) WHERE watch_window_s IS NOT NULL;

GRANT UPDATE (shadow, shadow_ppm, shadow_tolerance, moved_at, watch_error_ppm, watch_latency_us, watch_disagreement_ppm,
              watch_min_requests, watch_window_s, ended) ON tenor.aliases TO tenor_app;
GRANT UPDATE (number, previous, canary, canary_ppm, shadow, shadow_ppm, shadow_tolerance, moved_at, etag, updated_at, ended)
    ON tenor.aliases TO tenor_system;
