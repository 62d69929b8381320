-- Who cancelled a change of a key is told to the contacts, beside who ordered it.
ALTER TABLE tenant_approval_keys ADD COLUMN cancelled_by TEXT COLLATE "C";
INSERT INTO tolerated_migrations (version, known_since) VALUES ('20261128050000', '20261128020000');
