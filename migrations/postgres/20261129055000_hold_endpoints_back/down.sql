DELETE FROM tolerated_migrations WHERE version = '20261129055000';
ALTER TABLE webhook_endpoints DROP COLUMN held_until;
