-- When clients were last seen, to the minute. Not in `clients`: each change of that empties every cache of access.
CREATE TABLE client_uses (
    client_id     TEXT PRIMARY KEY NOT NULL,
    last_used_at  TIMESTAMP NOT NULL
);
