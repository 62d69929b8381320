ALTER TABLE service_state DROP COLUMN erasing_held;
DELETE FROM tolerated_migrations WHERE version = '20261128100000';
