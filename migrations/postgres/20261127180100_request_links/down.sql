ALTER TABLE revocations DROP COLUMN requests;
DROP TABLE link_requests;
