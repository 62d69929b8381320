DROP INDEX mail_jobs_by_recipient_in_lower_case;
CREATE INDEX mail_jobs_by_recipient ON mail_jobs (recipient, id) WHERE recipient IS NOT NULL;
