-- After a restore somebody has to see which clients may have been narrowed since the backup: since when each is as it is.
ALTER TABLE clients ADD COLUMN changed_at TIMESTAMP;
INSERT INTO tolerated_migrations (version, known_since) VALUES ('20261129010000', '20261128020000');
