ALTER TABLE revocations DROP COLUMN issued_by_client_id;
