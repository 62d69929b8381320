DELETE FROM mail_jobs WHERE consultant_id IS NULL;
ALTER TABLE mail_jobs ALTER COLUMN consultant_id SET NOT NULL;
ALTER TABLE magic_links DROP COLUMN session_hours;
DROP TABLE tenant_policies;
