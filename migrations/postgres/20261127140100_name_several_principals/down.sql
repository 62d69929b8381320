DROP TABLE audit_event_principals;
ALTER TABLE audit_events DROP COLUMN principal_ids;
