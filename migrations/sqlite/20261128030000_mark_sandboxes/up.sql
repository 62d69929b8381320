-- Set in a sandbox: by how many microseconds its clock is ahead of the true time. `magic-link sandbox init` makes an
-- empty database one, and takes the row below away: an older program, which knows no sandbox, must not run on it.
ALTER TABLE service_state ADD COLUMN sandbox_moved_micros BIGINT;
CREATE TRIGGER service_state_refuse_moving_back BEFORE UPDATE OF sandbox_moved_micros ON service_state
WHEN OLD.sandbox_moved_micros IS NOT NULL
    AND (NEW.sandbox_moved_micros IS NULL OR NEW.sandbox_moved_micros < OLD.sandbox_moved_micros)
BEGIN
    SELECT RAISE(ABORT, 'the clock of a sandbox only moves forward');
END;
INSERT INTO tolerated_migrations (version, known_since) VALUES ('20261128030000', '20261128020000');
