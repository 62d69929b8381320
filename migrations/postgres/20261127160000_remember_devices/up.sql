-- How often the newest mail of a link was used, and how the next visit begins: with another mail, or on the device that
-- the consultant had remembered.
ALTER TABLE magic_links ADD COLUMN visit INTEGER NOT NULL DEFAULT 0;
ALTER TABLE magic_links ADD COLUMN reentry TEXT NOT NULL DEFAULT 'mail';
ALTER TABLE sessions ADD COLUMN visit INTEGER NOT NULL DEFAULT 1;
DROP INDEX sessions_one_per_generation;
CREATE UNIQUE INDEX sessions_one_per_visit ON sessions (magic_link_id, generation, visit);

-- The browser that may open a link again: by a key that never leaves it. One for each generation of a link.
CREATE TABLE link_devices (
    magic_link_id  TEXT NOT NULL REFERENCES magic_links (id),
    generation     INTEGER NOT NULL,
    -- JWK thumbprint of the key (RFC 7638).
    thumbprint     TEXT NOT NULL,
    -- Number of proofs that were taken: each is good once.
    proofs         INTEGER NOT NULL,
    remembered_at  TIMESTAMP NOT NULL,
    forgotten_at   TIMESTAMP,
    PRIMARY KEY (magic_link_id, generation)
);
