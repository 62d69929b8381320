-- The oldest mails of each tenant, however long the queue of another one is.
CREATE INDEX mail_jobs_open_by_tenant ON mail_jobs (tenant_id, id) WHERE finished_at IS NULL;
CREATE INDEX mail_jobs_open_with_links ON mail_jobs (tenant_id, id) WHERE finished_at IS NULL AND (template = 'magic_link' OR template = 'step_up_code');
INSERT INTO tolerated_migrations (version, known_since) VALUES ('20261128040000', '20261128020000');
