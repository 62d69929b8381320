DROP INDEX mail_jobs_by_recipient;
