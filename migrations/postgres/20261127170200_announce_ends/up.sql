-- The last link whose end was announced: 1 a quarter of an hour before, 2 a day before.
CREATE TABLE announced_ends (
    id          INTEGER PRIMARY KEY NOT NULL,
    expires_at  TIMESTAMP NOT NULL,
    link_id     TEXT NOT NULL
);
INSERT INTO announced_ends (id, expires_at, link_id) VALUES (1, '1970-01-01 00:00:00', ''), (2, '1970-01-01 00:00:00', '');
