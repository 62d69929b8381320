-- The persons whose data an activity event concerns, where they are several: a JSON array in order. With one person it is
-- principal_id, as before.
ALTER TABLE audit_events ADD COLUMN principal_ids TEXT;

-- Finds the events about several persons by each of them.
CREATE TABLE audit_event_principals (
    principal_id  TEXT COLLATE "C" NOT NULL,
    event_id      TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (principal_id, event_id)
);
CREATE TRIGGER audit_event_principals_refuse_change BEFORE UPDATE OR DELETE ON audit_event_principals
    FOR EACH ROW EXECUTE FUNCTION audit_refuse('audit events');
CREATE TRIGGER audit_event_principals_refuse_truncate BEFORE TRUNCATE ON audit_event_principals
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse('audit events');
