-- Whether the restore that holds erasing has cancelled what the backup had queued: what is queued since tells people of that
-- restore, and no repetition may cancel it.
ALTER TABLE service_state ADD COLUMN queues_cancelled BOOLEAN NOT NULL DEFAULT FALSE;
INSERT INTO tolerated_migrations (version, known_since) VALUES ('20261129040100', '20261128020000');
