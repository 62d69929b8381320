-- The address that the last attempt of a mail went to, where it has none of its own: its consultant may have another one by
-- now. And when a mail left: `finished_at` is when a provider last reported on it.
ALTER TABLE mail_jobs ADD COLUMN sent_to TEXT;
ALTER TABLE mail_jobs ADD COLUMN left_at TIMESTAMP;
INSERT INTO tolerated_migrations (version, known_since) VALUES ('20261129020000', '20261128020000');
