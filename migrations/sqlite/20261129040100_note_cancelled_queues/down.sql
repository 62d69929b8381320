DELETE FROM tolerated_migrations WHERE version = '20261129040100';
ALTER TABLE service_state DROP COLUMN queues_cancelled;
