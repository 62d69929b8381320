ALTER TABLE audit_events DROP COLUMN approval;
DROP TABLE tenant_approval_keys;
