DROP INDEX mail_jobs_by_recipient;
CREATE INDEX mail_jobs_by_recipient ON mail_jobs (recipient, id) WHERE recipient IS NOT NULL;
