-- From where a client was last seen.
ALTER TABLE client_uses ADD COLUMN address TEXT COLLATE "C";
INSERT INTO tolerated_migrations (version, known_since) VALUES ('20261128080000', '20261128020000');
