-- The persons whose data an activity event concerns, where they are several: a JSON array in order. With one person it is
-- principal_id, as before.
ALTER TABLE audit_events ADD COLUMN principal_ids TEXT;

-- Finds the events about several persons by each of them.
CREATE TABLE audit_event_principals (
    principal_id  TEXT NOT NULL,
    event_id      TEXT NOT NULL,
    PRIMARY KEY (principal_id, event_id)
);
CREATE TRIGGER audit_event_principals_refuse_update BEFORE UPDATE ON audit_event_principals
BEGIN
    SELECT RAISE(ABORT, 'audit events cannot be changed');
END;
CREATE TRIGGER audit_event_principals_refuse_delete BEFORE DELETE ON audit_event_principals
BEGIN
    SELECT RAISE(ABORT, 'audit events cannot be removed');
END;
