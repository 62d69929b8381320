DELETE FROM tolerated_migrations WHERE version = '20261129000000';
ALTER TABLE service_state DROP COLUMN time_jumped_at;
ALTER TABLE service_state DROP COLUMN time_seen_at;
