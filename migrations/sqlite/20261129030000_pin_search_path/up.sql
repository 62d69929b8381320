-- Nothing changes here: SQLite has no functions of ours, and a trigger of a table refers to the tables of its own file.
INSERT INTO tolerated_migrations (version, known_since) VALUES ('20261129030000', '20261128020000');
