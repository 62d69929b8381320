-- Extensions that wait for an approval. One that is approved becomes a row of `link_extensions` with the same id.
CREATE TABLE extension_requests (
    id                   TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    magic_link_id        TEXT NOT NULL REFERENCES magic_links (id),
    previous_expires_at  TIMESTAMP NOT NULL,
    hours                INTEGER NOT NULL,
    reason               TEXT NOT NULL,
    asked_by_id          TEXT NOT NULL,
    asked_by_name        TEXT NOT NULL,
    asked_by_email       TEXT NOT NULL,
    client_id            TEXT,
    created_at           TIMESTAMP NOT NULL,
    lapses_at            TIMESTAMP NOT NULL,
    state                TEXT NOT NULL,
    decided_at           TIMESTAMP,
    -- Who decided and why, as JSON.
    decision             TEXT
);
CREATE UNIQUE INDEX extension_requests_one_pending ON extension_requests (magic_link_id) WHERE state = 'pending';
CREATE INDEX extension_requests_pending ON extension_requests (lapses_at, id) WHERE state = 'pending';
