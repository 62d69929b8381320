ALTER TABLE key_revocations DROP COLUMN renewed;
ALTER TABLE key_revocations DROP COLUMN renews;
