-- A log that was restored twice has checkpoints outside of several names, whose trees are not one: a restore names each. As
-- JSON; those of an older version named one, which is told by its size alone.
ALTER TABLE audit_restores ADD COLUMN checkpoints TEXT COLLATE "C";
INSERT INTO tolerated_migrations (version, known_since) VALUES ('20261129040200', '20261128020000');
