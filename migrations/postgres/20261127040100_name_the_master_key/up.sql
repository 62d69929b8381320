-- Names the master key under which secrets are sealed here: an instance with another one does not start.
ALTER TABLE service_state ADD COLUMN master_key_id TEXT;

-- What was derived from an earlier master key and must outlive it, sealed under the present one.
CREATE TABLE kept_secrets (
    name    TEXT PRIMARY KEY NOT NULL,
    sealed  TEXT NOT NULL
);
