-- What is erased does not come back: a clock that jumps a year ahead is told from a year that has passed by the last time that
-- was taken for right, and a jump must last for a day.
ALTER TABLE service_state ADD COLUMN time_seen_at TIMESTAMP;
ALTER TABLE service_state ADD COLUMN time_jumped_at TIMESTAMP;
UPDATE service_state SET time_seen_at = (SELECT max(signed_at) FROM audit_checkpoints);
INSERT INTO tolerated_migrations (version, known_since) VALUES ('20261129000000', '20261128020000');
