DELETE FROM tolerated_migrations WHERE version = '20261128030000';
DROP TRIGGER service_state_refuse_moving_back;
ALTER TABLE service_state DROP COLUMN sandbox_moved_micros;
