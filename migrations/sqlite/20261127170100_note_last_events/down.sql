ALTER TABLE session_sources DROP COLUMN last_event_at;
