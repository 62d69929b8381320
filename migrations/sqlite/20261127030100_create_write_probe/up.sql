-- One row, which readiness writes now and then: whether the database takes a write is known by writing.
CREATE TABLE write_probe (
    id          INTEGER PRIMARY KEY NOT NULL CHECK (id = 1),
    written_at  TIMESTAMP NOT NULL
);
INSERT INTO write_probe (id, written_at) VALUES (1, '1970-01-01 00:00:00');
