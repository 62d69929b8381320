DROP TABLE link_devices;
DROP INDEX sessions_one_per_visit;
DELETE FROM session_sources WHERE session_id IN (SELECT id FROM sessions WHERE visit > 1);
DELETE FROM sessions WHERE visit > 1;
CREATE UNIQUE INDEX sessions_one_per_generation ON sessions (magic_link_id, generation);
ALTER TABLE sessions DROP COLUMN visit;
ALTER TABLE magic_links DROP COLUMN reentry;
ALTER TABLE magic_links DROP COLUMN visit;
