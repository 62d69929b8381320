-- A key that signs a link's token is noted by whatever statement stores it with the mail.
CREATE TRIGGER mail_jobs_note_key AFTER UPDATE OF kid ON mail_jobs
WHEN NEW.kid IS NOT NULL AND NEW.template = 'magic_link'
BEGIN
    INSERT INTO link_keys (kid, magic_link_id, generation)
    VALUES (NEW.kid, NEW.magic_link_id, NEW.generation) ON CONFLICT DO NOTHING;
END;
