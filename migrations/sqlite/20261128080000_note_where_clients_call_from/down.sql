ALTER TABLE client_uses DROP COLUMN address;
DELETE FROM tolerated_migrations WHERE version = '20261128080000';
