-- Where in a job of several trainings a checkpoint stands, for people: "trial 3 of 6".
SET LOCAL ROLE tenor_owner;

ALTER TABLE tenor.jobs
    ADD COLUMN checkpoint_part text CHECK (length(checkpoint_part) BETWEEN 1 AND 47);

-- Whoever drops a checkpoint drops this with it. (Triggers fire by name: after job_end_drops_checkpoint.)
CREATE FUNCTION tenor.job_part_follows_checkpoint() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.checkpoint_part := NULL;
    RETURN NEW;
END $$;
CREATE TRIGGER job_part_follows_checkpoint BEFORE UPDATE ON tenor.jobs FOR EACH ROW
    WHEN (NEW.checkpoint_sha256 IS NULL AND NEW.checkpoint_part IS NOT NULL) EXECUTE FUNCTION tenor.job_part_follows_checkpoint();
