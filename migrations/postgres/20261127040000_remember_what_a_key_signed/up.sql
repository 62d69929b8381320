-- The keys that signed the link token and the code with which the session was opened.
ALTER TABLE sessions ADD COLUMN link_kid TEXT;
ALTER TABLE sessions ADD COLUMN code_kid TEXT;

-- Keys that signed link tokens: a mail that is tried again may carry a token of another key.
CREATE TABLE link_keys (
    kid            TEXT NOT NULL,
    magic_link_id  TEXT NOT NULL REFERENCES magic_links (id),
    generation     INTEGER NOT NULL,
    PRIMARY KEY (kid, magic_link_id, generation)
);
INSERT INTO link_keys (kid, magic_link_id, generation)
    SELECT DISTINCT kid, magic_link_id, generation FROM mail_jobs
    WHERE template = 'magic_link' AND kid IS NOT NULL AND magic_link_id IS NOT NULL AND generation IS NOT NULL;

-- Revoked signing keys: what a key signed is refused as soon as its row is here, and ended range by range.
CREATE TABLE key_revocations (
    kid         TEXT PRIMARY KEY NOT NULL,
    reason      TEXT NOT NULL,
    actor_type  TEXT NOT NULL,
    actor_id    TEXT NOT NULL,
    actor_name  TEXT,
    client_id   TEXT,
    created_at  TIMESTAMP NOT NULL,
    links       BIGINT NOT NULL,
    sessions    BIGINT NOT NULL,
    -- When the last link and session had ended.
    done_at     TIMESTAMP,
    -- The key that was created because no other could sign.
    replaced_by TEXT
);
