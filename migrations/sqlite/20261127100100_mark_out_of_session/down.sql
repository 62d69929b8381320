DROP INDEX sessions_by_profile;
DROP INDEX audit_events_out_of_session;
ALTER TABLE audit_events DROP COLUMN out_of_session;
