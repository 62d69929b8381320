-- When the newest of the reported activity events happened.
ALTER TABLE session_sources ADD COLUMN last_event_at TIMESTAMP;
