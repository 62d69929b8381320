DROP TABLE key_revocations;
DROP TABLE link_keys;
ALTER TABLE sessions DROP COLUMN code_kid;
ALTER TABLE sessions DROP COLUMN link_kid;
