-- Links that wait for an approval. One that is approved becomes a row of `magic_links` with the same id.
CREATE TABLE link_requests (
    id               TEXT PRIMARY KEY NOT NULL,
    tenant_id        TEXT NOT NULL,
    portal           TEXT NOT NULL,
    consultant_id    TEXT NOT NULL REFERENCES consultants (id),
    profile_id       TEXT NOT NULL,
    profile_name     TEXT NOT NULL,
    profile_email    TEXT,
    reason           TEXT NOT NULL,
    ticket           TEXT,
    access           TEXT NOT NULL,
    reentry          TEXT NOT NULL,
    starts_at        TIMESTAMP NOT NULL,
    hours            INTEGER NOT NULL,
    issued_by_id     TEXT NOT NULL,
    issued_by_name   TEXT NOT NULL,
    issued_by_email  TEXT NOT NULL,
    -- The person who sent the request, if it is another one.
    requested_by_id  TEXT,
    client_id        TEXT,
    created_at       TIMESTAMP NOT NULL,
    lapses_at        TIMESTAMP NOT NULL,
    -- Whether it is to take the place of the link that gives the same access.
    replaces         BOOLEAN NOT NULL,
    -- Number of the newest bulk revocation when it was requested: that one and earlier ones do not apply to it.
    issued_after     BIGINT,
    state            TEXT NOT NULL,
    decided_at       TIMESTAMP,
    -- Who decided and why, as JSON.
    decision         TEXT
);
CREATE INDEX link_requests_by_tenant ON link_requests (tenant_id, id);
CREATE INDEX link_requests_pending ON link_requests (lapses_at, id) WHERE state = 'pending';
-- How many requests a bulk revocation has withdrawn.
ALTER TABLE revocations ADD COLUMN requests BIGINT NOT NULL DEFAULT 0;
