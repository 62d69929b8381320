ALTER TABLE tenant_approval_keys DROP COLUMN cancelled_by;
DELETE FROM tolerated_migrations WHERE version = '20261128050000';
