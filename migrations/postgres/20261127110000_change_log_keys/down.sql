ALTER TABLE audit_logs DROP COLUMN key_id;
