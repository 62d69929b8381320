-- A key that signs a link's token is noted by whatever statement stores it with the mail.
CREATE FUNCTION mail_jobs_note_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO link_keys (kid, magic_link_id, generation)
    VALUES (NEW.kid, NEW.magic_link_id, NEW.generation) ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
CREATE TRIGGER mail_jobs_note_key AFTER UPDATE OF kid ON mail_jobs FOR EACH ROW
    WHEN (NEW.kid IS NOT NULL AND NEW.template = 'magic_link') EXECUTE FUNCTION mail_jobs_note_key();
