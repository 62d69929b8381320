DELETE FROM tolerated_migrations WHERE version = '20261129010000';
ALTER TABLE clients DROP COLUMN changed_at;
