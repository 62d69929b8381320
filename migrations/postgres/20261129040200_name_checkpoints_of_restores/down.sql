DELETE FROM tolerated_migrations WHERE version = '20261129040200';
ALTER TABLE audit_restores DROP COLUMN checkpoints;
