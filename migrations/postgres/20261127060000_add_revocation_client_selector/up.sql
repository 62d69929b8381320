-- Selects links that this client issued.
ALTER TABLE revocations ADD COLUMN issued_by_client_id TEXT;
