-- The incarnation is a random number that `magic-link restore` replaces: what was cached from the database as it was
-- before never counts for the one that was restored. While `restoring_at` is set, a restore is not complete.
ALTER TABLE service_state ADD COLUMN incarnation BIGINT NOT NULL DEFAULT 0;
ALTER TABLE service_state ADD COLUMN restoring_at TIMESTAMP;
-- Every bit of the status lists below this one is set.
ALTER TABLE service_state ADD COLUMN first_status_list BIGINT NOT NULL DEFAULT 1;
UPDATE service_state SET incarnation = CAST(random() * 9007199254740991 AS BIGINT);

-- Set while a restore keeps it disabled or suspended, and nobody has confirmed it.
ALTER TABLE clients ADD COLUMN unconfirmed_since TIMESTAMP;
ALTER TABLE consultants ADD COLUMN unconfirmed_since TIMESTAMP;

-- What the last restore added to the name of the log.
ALTER TABLE audit_logs ADD COLUMN suffix TEXT;

-- Restores of a log, each with the checkpoint that was kept outside, if there was one: what it covers and the log lacks
-- is lost.
CREATE TABLE audit_restores (
    tenant_id        TEXT COLLATE "C" NOT NULL,
    suffix           TEXT COLLATE "C" NOT NULL,
    restored_at      TIMESTAMP NOT NULL,
    checkpoint_size  BIGINT,
    checkpoint_root  BYTEA,
    PRIMARY KEY (tenant_id, suffix)
);
