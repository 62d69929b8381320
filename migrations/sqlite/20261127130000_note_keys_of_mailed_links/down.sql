DROP TRIGGER mail_jobs_note_key;
