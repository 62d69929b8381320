DROP TABLE audit_restores;
ALTER TABLE audit_logs DROP COLUMN suffix;
ALTER TABLE consultants DROP COLUMN unconfirmed_since;
ALTER TABLE clients DROP COLUMN unconfirmed_since;
ALTER TABLE service_state DROP COLUMN first_status_list;
ALTER TABLE service_state DROP COLUMN restoring_at;
ALTER TABLE service_state DROP COLUMN incarnation;
