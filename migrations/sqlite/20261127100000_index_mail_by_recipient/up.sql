-- Counts the notices of an hour to one address.
CREATE INDEX mail_jobs_by_recipient ON mail_jobs (recipient, id) WHERE recipient IS NOT NULL;
