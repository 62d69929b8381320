-- Nothing changes here: PostgreSQL keeps old versions of a row, and its migration of this name finds the newest one.
INSERT INTO tolerated_migrations (version, known_since) VALUES ('20261128090000', '20261128020000');
