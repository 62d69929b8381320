-- The same person gets the same limit, however the address is spelled.
DROP INDEX mail_jobs_by_recipient;
CREATE INDEX mail_jobs_by_recipient ON mail_jobs (lower(recipient), id) WHERE recipient IS NOT NULL;
