DROP TRIGGER mail_jobs_note_key ON mail_jobs;
DROP FUNCTION mail_jobs_note_key();
