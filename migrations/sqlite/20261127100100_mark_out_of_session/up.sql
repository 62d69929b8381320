-- An activity event whose own time lies outside its session.
ALTER TABLE audit_events ADD COLUMN out_of_session BOOLEAN NOT NULL DEFAULT FALSE;
CREATE INDEX audit_events_out_of_session ON audit_events (tenant_id, id) WHERE out_of_session;
-- The sessions in which somebody acted as a person.
CREATE INDEX sessions_by_profile ON sessions (tenant_id, profile_id, id);
