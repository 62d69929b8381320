DROP TABLE kept_secrets;
ALTER TABLE service_state DROP COLUMN master_key_id;
